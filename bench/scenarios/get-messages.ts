/** How fast do agents empty full queues? In pages of 50, beside a bare handler that returns such a page. */
import { AGENTS, VALUE_BYTES } from '../dataset.js';
import { drainQueues } from '../drain.js';
import { fillQueues } from '../fill.js';
import { expectSuccess, onConnections } from '../load/http-connection.js';
import type { LoadRequest, LoadResult } from '../load/load.js';
import { compare, measureInTurn, type Side } from '../measure.js';
import { startBareServer } from '../reference/bare.js';
import { type BenchContext, check, noFailures, type Scenario, warmUp } from '../scenario.js';
import { percentiles } from '../statistics.js';
import { Subject } from '../subject.js';

const PAGE = 50;
const CONNECTIONS_PER_AGENT = 2;

export const getMessages: Scenario = { name: 'get-messages', run };

async function run(context: BenchContext) {
  const messagesPerRound = context.smoke ? 1_600 : 40_000;
  const subject = await Subject.start(context, { name: 'kernel', agents: AGENTS });
  await fillQueues(subject, messagesPerRound);
  const firstPage: LoadRequest = { method: 'GET', path: `/v1/messages?limit=${PAGE}`, token: subject.agent(0).token };
  const bare = await startBareServer(context, await subject.sampleOf(firstPage));
  await drainQueues(subject, { connectionsPerAgent: 1, limit: 100 });

  let received = 0;
  let repeated = 0;
  const ours: Side = {
    name: `GET /v1/messages?limit=${PAGE}`,
    pid: subject.pid,
    prepare: () => fillQueues(subject, messagesPerRound),
    run: async () => {
      const drained = await drainQueues(subject, { connectionsPerAgent: CONNECTIONS_PER_AGENT, limit: PAGE });
      received += drained.messages;
      repeated += drained.repeated;
      return { ...drained, completed: drained.requests, failed: 0, ratePerSecond: drained.requests / drained.seconds };
    },
  };
  const pages = Math.ceil(messagesPerRound / PAGE);
  const reference: Side = {
    name: 'bare handler, same page',
    pid: bare.pid,
    run: () => fetchPages(bare.url, firstPage, pages),
  };
  await warmUp(context, reference, ours);
  const runs = context.rounds + (context.smoke ? 0 : 1);
  const rounds = await measureInTurn(ours, reference, context.rounds);
  const sent = runs * messagesPerRound;
  return {
    dataset: `${messagesPerRound} messages of ${VALUE_BYTES} bytes a round, ${AGENTS} agents with ${CONNECTIONS_PER_AGENT} connections each, a page of ${PAGE} per request`,
    rows: [compare(`GET messages, ${PAGE} a page`, 'rate', ours, reference, rounds, null)],
    checks: [
      noFailures(ours, rounds.ours),
      check('every message sent is delivered', received === sent, `${received} of ${sent}`),
      check('nothing is delivered twice', repeated === 0, repeated),
    ],
  };
}

/** The same client, the same number of requests, each page parsed as a drain parses it. */
async function fetchPages(url: string, request: LoadRequest, count: number): Promise<LoadResult> {
  const latenciesMs: number[] = [];
  let left = count;
  const startedMs = performance.now();
  await onConnections(url, AGENTS * CONNECTIONS_PER_AGENT, async (connection) => {
    while (left-- > 0) {
      const sentMs = performance.now();
      const answer = expectSuccess(request, await connection.send(request));
      latenciesMs.push(performance.now() - sentMs);
      JSON.parse(answer.body);
    }
  });
  const ratePerSecond = (count * 1000) / (performance.now() - startedMs);
  return { completed: count, failed: 0, ratePerSecond, ...percentiles(latenciesMs) };
}
