import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { DataDirectoryError } from '../data-directory.js';

/**
 * The form of backups. A backup directory holds generations, each a complete data directory in a directory named by its
 * time; what did not change between two of them is one file with two names (hard links), so a further generation costs
 * what is new. A generation counts once its `backup.json` is there: that is written last.
 */
export interface BackupManifest {
  readonly format: 1;
  readonly version: string;
  readonly created_at: string;
  /** Of the data directory; `origin` stays when a reshard or restore gives it a new id. */
  readonly id: string;
  readonly origin: string;
  readonly shards: number;
  /** It holds exactly the events up to this `seq` that had been answered when it was made. */
  readonly last_seq: number;
  readonly files: readonly BackedUpFile[];
}

export interface BackedUpFile {
  /** Within the generation. */
  readonly path: string;
  readonly bytes: number;
  readonly sha256: string;
}

const GENERATION_NAME = /^\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d\.\d{3}Z$/;
export const BACKUP_MANIFEST = 'backup.json';

export function generationName(time: Date): string {
  return time.toISOString().replaceAll(':', '-');
}

/** Generations in a backup directory, oldest first; with `complete` false also those that were interrupted. */
export function listGenerations(backupDir: string, complete: boolean): string[] {
  if (!existsSync(backupDir)) return [];
  return readdirSync(backupDir)
    .filter((name) => GENERATION_NAME.test(name))
    .sort()
    .map((name) => join(backupDir, name))
    .filter((path) => !complete || existsSync(join(path, BACKUP_MANIFEST)));
}

/** Null for a generation that was interrupted. @throws DataDirectoryError when it can't be read by this version. */
export function readBackupManifest(generation: string): BackupManifest | null {
  const path = join(generation, BACKUP_MANIFEST);
  if (!existsSync(path)) return null;
  let parsed: Partial<BackupManifest>;
  try {
    parsed = JSON.parse(readFileSync(path, 'utf8')) as Partial<BackupManifest>;
  } catch {
    throw new DataDirectoryError(`${path} is not JSON`);
  }
  if (parsed.format !== 1) throw new DataDirectoryError(`${path} has format ${parsed.format}; this version reads 1`);
  return parsed as BackupManifest;
}

/** @param backup a backup directory, of which the newest complete generation is taken, or a generation. */
export function findBackup(backup: string): { readonly generation: string; readonly manifest: BackupManifest } {
  const generation = existsSync(join(backup, BACKUP_MANIFEST)) ? backup : listGenerations(backup, true).at(-1);
  const manifest = generation === undefined ? null : readBackupManifest(generation);
  if (generation === undefined || manifest === null) {
    throw new DataDirectoryError(`${backup} holds no complete backup`);
  }
  return { generation, manifest };
}
