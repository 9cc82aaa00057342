/** A removal on one shard whose disk loses power: what `Removals` needs of the shards, over a `ShardRig`. */
import assert from 'node:assert/strict';
import type { RemovalOptions } from '../../src/admin/removals.js';
import { Removals } from '../../src/admin/removals.js';
import type { EngineReply } from '../../src/contract/engine.js';
import type { FoundPart, RemovedPart } from '../../src/shards/shard-removal.js';
import { OPS, type Op } from '../../src/shards/wire.js';
import { recordingLogger, type ShardRig } from '../shards/shard-rig.js';
import type { FaultyDisk } from '../support/faulty-disk.js';

export const DATA_DIR = '/data';

async function part<T>(rig: ShardRig, op: Op, a: unknown, b: unknown, c: unknown): Promise<EngineReply<T>> {
  const { code, x } = await rig.call(op, a, b, c);
  return code === null ? { ok: true, value: x as T } : { ok: false, code };
}

/** As `Removals.open` on a server with this one shard. */
export function openRemovals(rig: ShardRig, startLimitMs?: number): Promise<Removals> {
  const engine: RemovalOptions['engine'] = {
    findContent: (id, target) => part<FoundPart>(rig, OPS.findContent, id, target, null),
    removeContent: (id, target) => part<RemovedPart>(rig, OPS.removeContent, id, target, target.kind === 'state'),
    settleRemoval: (id) => part<null>(rig, OPS.settleRemoval, id, null, null),
  };
  const { logger } = recordingLogger();
  return Removals.open({ dataDir: DATA_DIR, engine, disk: rig.disk, logger, onRemoved: () => {} }, startLimitMs);
}

/** Paths of the files in which the text stands, as a running process sees them. */
export function filesWith(disk: FaultyDisk, text: string): string[] {
  return disk.paths.filter((path) => disk.live(path).includes(text));
}

export function assertNowhere(disk: FaultyDisk, text: string): void {
  assert.deepEqual(filesWith(disk, text), []);
}
