/** How fast are durable writes, beside the field's measure for them? */
import { AGENTS, KEYS, putRequests, VALUE_BYTES } from '../dataset.js';
import { fillState } from '../fill.js';
import { compare, measureInTurn } from '../measure.js';
import { startRedis } from '../reference/redis.js';
import { type BenchContext, check, loadedSide, noFailures, type Scenario, warmUp } from '../scenario.js';
import { Subject } from '../subject.js';

export const putState: Scenario = { name: 'put-state', run };

async function run(context: BenchContext) {
  const subject = await Subject.start(context, { name: 'kernel', agents: AGENTS });
  await fillState(subject); // every write replaces a value, so the store is the same size all along
  const requests = putRequests(subject);
  const plan = { url: subject.url, connections: context.connections, seconds: context.seconds, requests };
  const ours = loadedSide(context, 'PUT /v1/state/{key}', subject.pid, plan);
  const reference = context.redisInstalled ? await startRedis(context, 'set') : null;
  await warmUp(context, reference, ours);
  const rounds = await measureInTurn(ours, reference, context.rounds);

  const [first] = requests;
  if (first === undefined) throw new Error('nothing to ask');
  const capacity = (await subject.ask({ method: 'GET', path: '/v1/state/_capacity', token: first.token })) as {
    key_count: number;
    used_bytes: number;
  };
  const keyBytes = Buffer.byteLength('bench/key-000000');
  return {
    dataset: `${KEYS} keys, values of ${VALUE_BYTES} bytes, ${AGENTS} agents, ${context.connections} connections`,
    rows: [compare('PUT state, durable', 'rate', ours, reference, rounds, { floor: 0.6, aim: 1 })],
    checks: [
      noFailures(ours, rounds.ours),
      check('every key written is there, once', capacity.key_count === KEYS, capacity.key_count),
      check(
        'the bytes used are those of the keys and values',
        capacity.used_bytes === KEYS * (keyBytes + VALUE_BYTES),
        capacity.used_bytes,
      ),
    ],
  };
}
