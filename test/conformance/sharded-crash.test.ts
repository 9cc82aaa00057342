/** The sharded engine keeps its promises when its process is killed with SIGKILL, with one shard and with two. */
import { DELIVERY_CHECKS, describeReopening, ENGINE_CHECKS } from './engine-suite.js';
import { IDEMPOTENCY_CHECKS } from './idempotency-checks.js';
import { killableShardedRig } from './sharded-rig.js';

// As in sharded-engine.test.ts: leases, waits and pushes are one shard's affair.
const ONE_SHARDS_AFFAIR = DELIVERY_CHECKS.filter((check) => !IDEMPOTENCY_CHECKS.includes(check));

for (const shards of [1, 2]) {
  const factory = (limits: Parameters<typeof killableShardedRig>[1]) => killableShardedRig(shards, limits);
  const checks = shards === 1 ? ENGINE_CHECKS : ENGINE_CHECKS.filter((check) => !ONE_SHARDS_AFFAIR.includes(check));
  describeReopening(`sharded, ${shards} shard(s)`, factory, 'crash', { histories: 2, operations: 60 }, checks);
}
