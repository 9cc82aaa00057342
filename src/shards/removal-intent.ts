import { join } from 'node:path';
import type { Disk } from './disk.js';
import { clearNote, readNote, writeNote } from './durable-note.js';
import type { RemovalTarget } from './removal-scan.js';

/**
 * Removal intent: that a removal has been asked for and found its content, durable before anything is removed. A start
 * finishes what it names. At most one at a time, for the whole data directory.
 */
export interface RemovalIntent {
  /** Of the removal; the shards' plans and records bear it too. */
  readonly id: string;
  readonly target: RemovalTarget;
  readonly reason: string;
  /** RFC 3339, as it will stand in the transparency log: by it a start knows whether the entry is there already. */
  readonly ts: string;
  /** As found before anything was removed; for the case that nothing else is left to tell. */
  readonly contentHash: string;
}

const FILE_NAME = 'removal.json';

export function loadIntent(disk: Disk, dataDir: string): Promise<RemovalIntent | null> {
  return readNote(disk, join(dataDir, FILE_NAME));
}

/** Durable on return. */
export function storeIntent(disk: Disk, dataDir: string, intent: RemovalIntent): Promise<void> {
  return writeNote(disk, join(dataDir, FILE_NAME), intent);
}

export function clearIntent(disk: Disk, dataDir: string): Promise<void> {
  return clearNote(disk, join(dataDir, FILE_NAME));
}
