/** Alone on the server, how long does one durable write take beside the machine's own write + fdatasync? */
import { putRequests, VALUE_BYTES } from '../dataset.js';
import { compare, measureInTurn } from '../measure.js';
import { writeAndSyncSide } from '../reference/write-fdatasync.js';
import { type BenchContext, noFailures, type Scenario, timedSide, warmUp } from '../scenario.js';
import { Subject } from '../subject.js';

export const singleConnectionPut: Scenario = { name: 'single-connection-put', run };

async function run(context: BenchContext) {
  const subject = await Subject.start(context, { name: 'kernel', agents: 1 });
  const plan = { url: subject.url, connections: 1, seconds: context.seconds, requests: putRequests(subject) };
  const ours = timedSide(context, 'PUT /v1/state/{key}, one connection', subject.pid, plan);
  const reference = writeAndSyncSide(context.workDir, context.seconds);
  await warmUp(context, reference, ours);
  const rounds = await measureInTurn(ours, reference, context.rounds);
  return {
    dataset: `values of ${VALUE_BYTES} bytes, one agent, one connection`,
    rows: [compare('PUT on one connection', 'p50', ours, reference, rounds, { floor: 3, aim: 1.5 })],
    checks: [noFailures(ours, rounds.ours)],
  };
}
