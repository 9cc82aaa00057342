import { mkdirSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { DataDirectoryError, lockDataDirectory, type Manifest, refuseUnfinished } from '../data-directory.js';
import { realDisk } from '../disk.js';
import { BACKUP_MANIFEST, generationName, listGenerations, readBackupManifest } from './backup-files.js';
import { type MadeGeneration, NewGeneration } from './backup-generation.js';
import { forgetBackups, listBackups, recordBackup } from './backup-records.js';
import { closed, existingManifest } from './open-directory.js';
import type { Progress } from './progress.js';

/**
 * Backup of a data directory, also while a server uses it.
 *
 * What makes it consistent: the stores are copied first, each as of some checkpoint. Then S is the highest `seq` in any
 * log, and from every shard exactly the lines up to S are taken. Whatever was answered before something with a `seq` up
 * to S was asked for has a lower `seq` and was in its log by then: so the backup holds no effect without its cause. Of
 * registrations behind a store's checkpoint the credentials are added to its copy, as pending.
 *
 * Never:     writes into the data directory, but the record of the backup in `backups.json`.
 * Invariant: a generation with a `backup.json` is complete and on the disk; earlier ones are not touched until then.
 */
export interface BackupReport extends MadeGeneration {
  readonly generation: string;
  /** Generations removed. */
  readonly pruned: readonly string[];
}

export interface BackupOptions {
  readonly dataDir: string;
  readonly backupDir: string;
  /** Generations that stay, with the new one; at least 1. */
  readonly keep: number;
  readonly progress: Progress;
}

/** Rejects with DataDirectoryError or the system's error; an interrupted generation is removed by the next run. */
export async function backupDirectory(options: BackupOptions): Promise<BackupReport> {
  const dataDir = resolve(options.dataDir);
  const backupDir = resolve(options.backupDir);
  const manifest = existingManifest(dataDir);
  refuseUnfinished(dataDir);
  if (backupDir === dataDir || backupDir.startsWith(`${dataDir}/`)) {
    throw new DataDirectoryError('a backup can not lie in the data directory itself');
  }
  mkdirSync(backupDir, { recursive: true, mode: 0o700 });
  const lock = await lockDataDirectory(backupDir);
  try {
    await forgetRemoved(dataDir, backupDir);
    const before = generationBefore(backupDir, manifest);
    const interrupted = listGenerations(backupDir, false).filter((path) => readBackupManifest(path) === null);
    await removeGenerations(
      dataDir,
      backupDir,
      interrupted.filter((path) => path !== before),
    );
    const createdAt = new Date();
    const generation = join(backupDir, generationName(createdAt));
    const record = { path: generation, createdAt: createdAt.toISOString() };
    // Before the first byte is there: a removal must know of it.
    await recordBackup(dataDir, { ...record, lastSeq: null });
    const backup = new NewGeneration(dataDir, generation, before, manifest, options.progress);
    const made = await backup.make(createdAt);
    await recordBackup(dataDir, { ...record, lastSeq: made.lastSeq });
    const pruned = await prune(dataDir, backupDir, generation, options.keep);
    return { generation, ...made, pruned };
  } finally {
    await closed(lock);
  }
}

/** The newest generation, whose unchanged files are taken over. @throws DataDirectoryError when it is of another server. */
function generationBefore(backupDir: string, manifest: Manifest): string | null {
  const complete = listGenerations(backupDir, true).at(-1);
  const found = complete === undefined ? null : readBackupManifest(complete);
  if (found !== null && found.origin !== (manifest.origin ?? manifest.id)) {
    throw new DataDirectoryError(`${backupDir} holds backups of another data directory`);
  }
  // One that was interrupted has whole files too, and most of the newest.
  return listGenerations(backupDir, false).at(-1) ?? null;
}

/** Removes interrupted generations, and the oldest beyond `keep`. */
async function prune(dataDir: string, backupDir: string, newest: string, keep: number): Promise<string[]> {
  const complete = listGenerations(backupDir, true);
  const kept = new Set([newest, ...complete.slice(-keep)]);
  const pruned = listGenerations(backupDir, false).filter((generation) => !kept.has(generation));
  await removeGenerations(dataDir, backupDir, pruned);
  return pruned;
}

/** Records of interrupted generations that a run removed, and ended before it could say so. */
async function forgetRemoved(dataDir: string, backupDir: string): Promise<void> {
  const removed = listBackups(dataDir)
    .filter(({ path, lastSeq, isPresent }) => lastSeq === null && !isPresent && dirname(path) === backupDir)
    .map(({ path }) => path);
  await forgetBackups(dataDir, removed);
}

async function removeGenerations(dataDir: string, backupDir: string, generations: readonly string[]): Promise<void> {
  for (const generation of generations) {
    // First what makes it count: a crash in between leaves it interrupted, not damaged.
    await rm(join(generation, BACKUP_MANIFEST), { force: true });
    await realDisk.syncDirectory(generation);
    await rm(generation, { recursive: true, force: true });
  }
  await realDisk.syncDirectory(backupDir);
  await forgetBackups(dataDir, generations);
}
