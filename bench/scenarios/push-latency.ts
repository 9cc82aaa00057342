/** On a quiet server, how long from a send to its arrival at a subscribed recipient, beside the durable send alone? */
import { postRequests, VALUE_BYTES } from '../dataset.js';
import { expectSuccess, HttpConnection } from '../load/http-connection.js';
import type { LoadResult } from '../load/load.js';
import { RpcConnection } from '../load/rpc-connection.js';
import { compare, measureInTurn, type Side } from '../measure.js';
import { type BenchContext, check, noFailures, type Scenario, warmUp } from '../scenario.js';
import { percentiles } from '../statistics.js';
import { Subject } from '../subject.js';

/** A message that takes longer than this is taken for lost. */
const ARRIVAL_LIMIT_MS = 10_000;

export const pushLatency: Scenario = { name: 'push-latency', run };

async function run(context: BenchContext) {
  const subject = await Subject.start(context, { name: 'kernel', agents: 3 });
  let strangers = 0;
  // Every agent writes to the next one: the first to the subscriber, the second to one that never fetches.
  const ours: Side = {
    name: 'send to push, one at a time',
    pid: subject.pid,
    run: async () => {
      const journeys = await oneAtATime(context, subject, 0, true);
      strangers += journeys.strangers;
      return journeys;
    },
  };
  const reference: Side = {
    name: 'POST /v1/messages, one at a time',
    pid: subject.pid,
    run: () => oneAtATime(context, subject, 1, false),
  };
  await warmUp(context, reference, ours);
  const rounds = await measureInTurn(ours, reference, context.rounds);
  return {
    dataset: `messages of ${VALUE_BYTES} bytes, each sent when the one before is acknowledged, one subscribed recipient`,
    rows: [
      compare('from send to push', 'p50', ours, reference, rounds, { floor: 2, aim: 1.2 }),
      compare('from send to push', 'p99', ours, reference, rounds, null),
    ],
    checks: [noFailures(ours, rounds.ours), check('nothing arrives twice or unsent', strangers === 0, strangers)],
  };
}

/** @param untilArrival the time ends with the arrival, else with the answer to the send. */
async function oneAtATime(
  context: BenchContext,
  subject: Subject,
  sender: number,
  untilArrival: boolean,
): Promise<LoadResult & { strangers: number }> {
  const request = postRequests(subject)[sender];
  if (request === undefined) throw new Error('nothing to send');
  let arrived: ((atMs: number) => void) | null = null;
  let strangers = 0;
  const subscriber = await RpcConnection.subscribe(subject.url, subject.agent(1).token, 100, () => {
    if (arrived === null) strangers++;
    arrived?.(performance.now());
    arrived = null;
  });
  const connection = await HttpConnection.open(subject.url);
  const latenciesMs: number[] = [];
  const startedMs = performance.now();
  const endMs = startedMs + context.seconds * 1000;
  let failed = 0;
  while (performance.now() < endMs) {
    const arrival = new Promise<number>((resolve, reject) => {
      arrived = resolve;
      if (untilArrival) setTimeout(() => reject(new Error('a message did not arrive')), ARRIVAL_LIMIT_MS).unref();
    });
    const sentMs = performance.now();
    expectSuccess(request, await connection.send(request));
    if (!untilArrival) {
      latenciesMs.push(performance.now() - sentMs);
      continue;
    }
    try {
      latenciesMs.push((await arrival) - sentMs);
      await subscriber.acknowledged();
    } catch {
      failed++;
    }
  }
  connection.close();
  subscriber.close();
  const completed = latenciesMs.length;
  const ratePerSecond = (completed * 1000) / (performance.now() - startedMs);
  return { completed, failed, ratePerSecond, strangers, ...percentiles(latenciesMs) };
}
