/** The sharded engine passes the conformance suite, with one shard and with three. */
import { DELIVERY_CHECKS, describeEngine, ENGINE_CHECKS } from './engine-suite.js';
import { shardedRig } from './sharded-rig.js';

for (const shards of [1, 3]) {
  const counts = { histories: 6, operations: 60 };
  // The rules of delivery are one shard's affair but for idempotency keys: with three shards they are all checked, and
  // once is enough for a run in which every check opens an engine of its own.
  const checks = shards === 1 ? ENGINE_CHECKS.filter((check) => !DELIVERY_CHECKS.includes(check)) : ENGINE_CHECKS;
  // A crash takes a process of its own: sharded-crash.test.ts.
  describeEngine(`sharded, ${shards} shard(s)`, (limits) => shardedRig(shards, limits), counts, ['crash'], checks);
}
