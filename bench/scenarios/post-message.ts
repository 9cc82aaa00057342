/** How fast can agents leave durable messages, beside the field's measure for durable queues? */
import { AGENTS, postRequests, VALUE_BYTES } from '../dataset.js';
import { drainQueues } from '../drain.js';
import { compare, measureInTurn, type Side } from '../measure.js';
import { startRedis } from '../reference/redis.js';
import { type BenchContext, check, loadedSide, noFailures, type Scenario, warmUp } from '../scenario.js';
import { Subject } from '../subject.js';

export const postMessage: Scenario = { name: 'post-message', run };

async function run(context: BenchContext) {
  const subject = await Subject.start(context, { name: 'kernel', agents: AGENTS });
  const requests = postRequests(subject);
  const plan = { url: subject.url, connections: context.connections, seconds: context.seconds, requests };
  let sent = 0;
  let runs = 0;
  const loaded = loadedSide(context, 'POST /v1/messages', subject.pid, plan);
  const ours: Side = {
    ...loaded,
    run: async () => {
      const result = await loaded.run();
      sent += result.completed;
      runs++;
      return result;
    },
  };
  const reference = context.redisInstalled ? await startRedis(context, 'lpush') : null;
  await warmUp(context, reference, ours);
  const rounds = await measureInTurn(ours, reference, context.rounds);

  const drained = await drainQueues(subject, { connectionsPerAgent: 2, limit: 100 });
  // When time is up, the load generator leaves: what was in flight was sent, but not counted by it.
  const inFlight = runs * context.connections;
  return {
    dataset: `messages of ${VALUE_BYTES} bytes, ${AGENTS} agents in a ring, ${context.connections} connections`,
    rows: [compare('POST message, durable', 'rate', ours, reference, rounds, { floor: 0.6, aim: 1 })],
    checks: [
      noFailures(ours, rounds.ours),
      check('nothing acknowledged is lost', drained.messages >= sent, `${drained.messages} received of ${sent}`),
      check(
        'nothing is there that was not sent',
        drained.messages <= sent + inFlight,
        `${drained.messages - sent} more`,
      ),
      check('nothing is delivered twice', drained.repeated === 0, drained.repeated),
    ],
  };
}
