/** The sharded engine passes the conformance suite, with one shard and with three. */
import { DELIVERY_CHECKS, describeEngine, ENGINE_CHECKS } from './engine-suite.js';
import { IDEMPOTENCY_CHECKS } from './idempotency-checks.js';
import { shardedRig } from './sharded-rig.js';

// The rules of delivery are one shard's affair, but for idempotency keys: sender and receiver may live in two. Every
// check opens an engine of its own, and one of three shards takes three times as long.
const ONE_SHARDS_AFFAIR = DELIVERY_CHECKS.filter((check) => !IDEMPOTENCY_CHECKS.includes(check));

for (const shards of [1, 3]) {
  const counts = { histories: 6, operations: 60 };
  const checks = shards === 1 ? ENGINE_CHECKS : ENGINE_CHECKS.filter((check) => !ONE_SHARDS_AFFAIR.includes(check));
  // A crash takes a process of its own: sharded-crash.test.ts.
  describeEngine(`sharded, ${shards} shard(s)`, (limits) => shardedRig(shards, limits), counts, ['crash'], checks);
}
