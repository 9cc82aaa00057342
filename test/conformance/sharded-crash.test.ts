/** The sharded engine keeps its promises when its process is killed with SIGKILL, with one shard and with three. */
import { describeReopening } from './engine-suite.js';
import { killableShardedRig } from './sharded-rig.js';

for (const shards of [1, 3]) {
  const factory = (limits: Parameters<typeof killableShardedRig>[1]) => killableShardedRig(shards, limits);
  describeReopening(`sharded, ${shards} shard(s)`, factory, 'crash', { histories: 2, operations: 60 });
}
