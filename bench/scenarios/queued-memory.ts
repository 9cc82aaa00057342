/** How much memory do messages hold that nobody fetches, and how fast do they come out of cold segments afterwards? */
import { AGENTS } from '../dataset.js';
import { drainQueues } from '../drain.js';
import { expectSuccess, onConnections } from '../load/http-connection.js';
import type { LoadRequest } from '../load/load.js';
import { compare, type Measurement, measureOnce, type Side } from '../measure.js';
import { anonymousBytes } from '../process-memory.js';
import { type BenchContext, check, type Scenario } from '../scenario.js';
import { percentiles } from '../statistics.js';
import { Subject } from '../subject.js';

const CONTENT_BYTES = 10_240;
const SENDERS = 64;
/** DESIGN.md: 1,000,000 messages of 10 KB in at most this much anonymous memory; half of it is the aim's fivefold. */
const FLOOR_BYTES = 500 * 1024 * 1024;
const PROGRESS_EVERY = 100_000;

export const queuedMemory: Scenario = { name: 'queued-memory', run };

async function run(context: BenchContext) {
  const { messages } = context;
  const subject = await Subject.start(context, { name: 'kernel', agents: AGENTS });
  const emptyBytes = anonymousBytes(subject.pid);
  let peakBytes = emptyBytes;
  const sending: Side = {
    name: 'POST, 10 KB each, nobody fetches',
    pid: subject.pid,
    run: () =>
      fill(context, subject, (bytes) => {
        peakBytes = Math.max(peakBytes, bytes);
      }),
  };
  const sent = await measureOnce(sending);
  const queuedBytes = anonymousBytes(subject.pid);

  const startedMs = performance.now();
  await subject.restart();
  const restartMs = performance.now() - startedMs;
  const restartedBytes = anonymousBytes(subject.pid);

  let repeated = 0;
  const draining: Side = {
    name: 'GET, 100 a page, from segments after a restart',
    pid: subject.pid,
    run: async () => {
      const drained = await drainQueues(subject, { connectionsPerAgent: 1, limit: 100 });
      repeated += drained.repeated;
      const { messages: completed, seconds } = drained;
      return { ...drained, completed, failed: messages - completed, ratePerSecond: completed / seconds };
    },
  };
  const drained: Measurement = await measureOnce(draining);
  const drainedBytes = anonymousBytes(subject.pid);
  const mebibytes = (bytes: number): string => `${Math.round(bytes / 2 ** 20)} MiB`;
  return {
    dataset: `${messages} messages of ${CONTENT_BYTES} bytes to ${AGENTS} agents; restart ${Math.round(restartMs)} ms`,
    rows: [
      compare('messages of 10 KB sent', 'rate', sending, null, { ours: [sent], reference: [] }, null),
      compare('messages of 10 KB from cold segments', 'rate', draining, null, { ours: [drained], reference: [] }, null),
    ],
    checks: [
      check(
        `anonymous memory with ${messages} messages queued stays under ${mebibytes(FLOOR_BYTES)}`,
        Math.max(queuedBytes, restartedBytes) < FLOOR_BYTES,
        `empty ${mebibytes(emptyBytes)}, highest while sending ${mebibytes(peakBytes)}, queued ${mebibytes(queuedBytes)}, ` +
          `after a restart ${mebibytes(restartedBytes)}, drained ${mebibytes(drainedBytes)}`,
      ),
      check('every message is there', drained.completed === messages, `${drained.completed} of ${messages}`),
      check('nothing is delivered twice', repeated === 0, repeated),
    ],
  };
}

async function fill(context: BenchContext, subject: Subject, sample: (bytes: number) => void) {
  const { messages } = context;
  const requests: LoadRequest[] = subject.agents.map(({ token }, index) => ({
    method: 'POST',
    path: '/v1/messages',
    token,
    body: JSON.stringify({ to: subject.agent(index + 1).address, content: 'm'.repeat(CONTENT_BYTES) }),
  }));
  const latenciesMs: number[] = [];
  let next = 0;
  const startedMs = performance.now();
  await onConnections(subject.url, Math.min(SENDERS, messages), async (connection) => {
    while (next < messages) {
      const number = next++;
      const request = requests[number % requests.length];
      if (request === undefined) throw new Error('nothing to send');
      const sentMs = performance.now();
      expectSuccess(request, await connection.send(request));
      latenciesMs.push(performance.now() - sentMs);
      if (number % 1000 === 0) sample(anonymousBytes(subject.pid));
      if (number > 0 && number % PROGRESS_EVERY === 0) context.note(`${number} of ${messages} messages sent`);
    }
  });
  const ratePerSecond = (messages * 1000) / (performance.now() - startedMs);
  return { completed: messages, failed: 0, ratePerSecond, ...percentiles(latenciesMs) };
}
