import { existsSync, readFileSync } from 'node:fs';
import { join, resolve, sep } from 'node:path';
import { writeDurably } from './durable-files.js';

/**
 * Which backups of a data directory were made, so that a removal by law can name those that still hold the content.
 * Owns: `backups.json` in the data directory.
 */
export interface BackupRecord {
  /** Absolute path of one backup, as it was made. */
  readonly path: string;
  /** RFC 3339 UTC. What was removed from the log after this moment may still be in the backup. */
  readonly createdAt: string;
  /** The backup holds events up to this `seq`; null while it is being made, or if that was interrupted. */
  readonly lastSeq: number | null;
  /** It is still where it was made; a copy of it may be anywhere. */
  readonly isPresent: boolean;
}

interface StoredRecord {
  readonly path: string;
  readonly created_at: string;
  readonly last_seq: number | null;
}

export function backupRecordsPath(dataDir: string): string {
  return join(dataDir, 'backups.json');
}

/** Every backup that was made and not pruned by the command `backup`, oldest first. Reads one small file. */
export function listBackups(dataDir: string): BackupRecord[] {
  return readRecords(dataDir).map(({ path, created_at, last_seq }) => {
    return { path, createdAt: created_at, lastSeq: last_seq, isPresent: existsSync(path) };
  });
}

/**
 * Paths of those that may hold what was logged with `firstSeq` or later. A backup of which nobody knows where it ends may
 * hold anything. One that is not where it was made may lie elsewhere, on a disk that was taken away; but not an original
 * that `reshard` kept in the data directory itself.
 */
export function backupsHolding(dataDir: string, firstSeq: number): string[] {
  const within = `${resolve(dataDir)}${sep}`;
  return listBackups(dataDir)
    .filter(({ path, isPresent }) => isPresent || !path.startsWith(within))
    .filter(({ lastSeq }) => lastSeq === null || lastSeq >= firstSeq)
    .map(({ path }) => path);
}

/** Adds a record, or replaces the one of the same path; durable when it resolves. */
export async function recordBackup(dataDir: string, backup: Omit<BackupRecord, 'isPresent'>): Promise<void> {
  const others = readRecords(dataDir).filter(({ path }) => path !== backup.path);
  await writeRecords(dataDir, [
    ...others,
    { path: backup.path, created_at: backup.createdAt, last_seq: backup.lastSeq },
  ]);
}

export async function forgetBackups(dataDir: string, paths: readonly string[]): Promise<void> {
  const records = readRecords(dataDir);
  const left = records.filter(({ path }) => !paths.includes(path));
  if (left.length < records.length) await writeRecords(dataDir, left);
}

async function writeRecords(dataDir: string, backups: readonly StoredRecord[]): Promise<void> {
  await writeDurably(backupRecordsPath(dataDir), `${JSON.stringify({ backups }, null, 2)}\n`);
}

function readRecords(dataDir: string): readonly StoredRecord[] {
  let text: string;
  try {
    text = readFileSync(backupRecordsPath(dataDir), 'utf8');
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return [];
    throw error;
  }
  return (JSON.parse(text) as { backups: StoredRecord[] }).backups;
}
