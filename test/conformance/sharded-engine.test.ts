/** The sharded engine passes the conformance suite, with one shard and with three. */
import { describeEngine } from './engine-suite.js';
import { shardedRig } from './sharded-rig.js';

for (const shards of [1, 3]) {
  const counts = { histories: 8, operations: 60 };
  // A crash takes a process of its own: sharded-crash.test.ts.
  describeEngine(`sharded, ${shards} shard(s)`, (limits) => shardedRig(shards, limits), counts, ['crash']);
}
