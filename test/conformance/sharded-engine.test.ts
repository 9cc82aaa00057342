/** The sharded engine passes the conformance suite, with one shard and with three. */
import { describeEngine } from './engine-suite.js';
import { shardedRig } from './sharded-rig.js';

for (const shards of [1, 3]) {
  describeEngine(`sharded, ${shards} shard(s)`, (limits) => shardedRig(shards, limits), {
    histories: 30,
    operations: 60,
  });
}
