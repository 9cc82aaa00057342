import { existsSync } from 'node:fs';
import { join, relative } from 'node:path';
import { shardDirectory } from '../data-directory.js';
import type { Findings } from './findings.js';
import { StoreDamagedError, StoredRows } from './stored-rows.js';

/**
 * The stores of all shards as of one checkpoint each. On a stopped server's directory these are the files themselves; on
 * a running one's, copies made at once, so that reading on does not keep the server from using its free pages.
 */
export interface StoreSnapshot {
  readonly shard: number;
  /** Within the data directory: the store that this is a snapshot of. */
  readonly file: string;
  /** Null when it can't be read; a finding says why. */
  readonly rows: StoredRows | null;
}

export function storePath(dataDir: string, shard: number): string {
  return join(shardDirectory(dataDir, shard), 'store.mdb');
}

/** @param copyDir for copies; null reads the files themselves. */
export async function openSnapshots(
  dataDir: string,
  shards: number,
  copyDir: string | null,
  findings: Findings,
): Promise<StoreSnapshot[]> {
  const snapshots: StoreSnapshot[] = [];
  for (let shard = 0; shard < shards; shard++) {
    const path = storePath(dataDir, shard);
    const file = relative(dataDir, path);
    let rows: StoredRows | null = null;
    try {
      if (!existsSync(path)) throw new StoreDamagedError(path, 'is missing');
      rows = StoredRows.open(path);
      if (copyDir !== null) {
        const copy = join(copyDir, `snapshot-${shard}.mdb`);
        await rows.copyTo(copy);
        await rows.close();
        rows = StoredRows.open(copy);
      }
    } catch (error) {
      if (!(error instanceof StoreDamagedError)) throw error;
      rows = null;
      findings.add({ kind: 'file', shard, file, offsetBytes: null, detail: error.reason });
    }
    snapshots.push({ shard, file, rows });
  }
  return snapshots;
}

export async function closeSnapshots(snapshots: readonly StoreSnapshot[]): Promise<void> {
  for (const { rows } of snapshots) await rows?.close();
}
