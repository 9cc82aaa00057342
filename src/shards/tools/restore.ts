import { randomUUID } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import {
  DataDirectoryError,
  lockDataDirectory,
  type Manifest,
  readManifest,
  restoreMarkerPath,
  writeManifest,
} from '../data-directory.js';
import { realDisk } from '../disk.js';
import { findBackup } from './backup-files.js';
import { recordBackup } from './backup-records.js';
import { copyDurably, makeDirectory, requireRoom, sha256Of, writeDurably } from './durable-files.js';
import { closed } from './open-directory.js';
import type { Progress } from './progress.js';
import { type VerifyReport, verifyDirectory } from './verify.js';

/**
 * Restore: makes a data directory from a backup.
 * Never:     writes into the backup, or over a directory that holds anything else.
 * Invariant: until everything is there and checked the directory holds a mark, with which no server starts in it; the
 *            same restore may be run again and goes on.
 */
export interface RestoreReport {
  readonly generation: string;
  readonly lastSeq: number;
  readonly files: number;
  readonly bytes: number;
  /** Null when it was not asked for. When it is not ok, the directory keeps its mark. */
  readonly verification: VerifyReport | null;
}

export interface RestoreOptions {
  readonly backup: string;
  readonly dataDir: string;
  readonly verify: boolean;
  readonly tempDir?: string;
  readonly progress: Progress;
}

/** Rejects with DataDirectoryError when the target holds something, or a file of the backup is not what was written. */
export async function restoreBackup(options: RestoreOptions): Promise<RestoreReport> {
  const { progress } = options;
  const dataDir = resolve(options.dataDir);
  const { generation, manifest } = findBackup(resolve(options.backup));
  const bytes = manifest.files.reduce((sum, file) => sum + file.bytes, 0);
  mkdirSync(dataDir, { recursive: true, mode: 0o700 });
  const lock = await lockDataDirectory(dataDir);
  try {
    const isContinued = checkTarget(dataDir, generation);
    if (!isContinued) requireRoom(dataDir, bytes);
    await writeDurably(restoreMarkerPath(dataDir), `${JSON.stringify({ generation })}\n`);
    progress.stage('restore', bytes);
    for (const file of manifest.files) {
      const to = join(dataDir, file.path);
      if (isContinued && existsSync(to)) {
        const { sha256 } = await sha256Of(to, progress);
        if (sha256 === file.sha256) continue;
        await rm(to);
      }
      await makeDirectory(dataDir, dirname(file.path));
      await copyDurably(join(generation, file.path), to, progress, { expectedSha256: file.sha256 });
    }
    for (const directory of new Set(manifest.files.map((file) => dirname(join(dataDir, file.path))))) {
      await realDisk.syncDirectory(directory);
    }
    await renew(dataDir);
    await recordBackup(dataDir, { path: generation, createdAt: manifest.created_at, lastSeq: manifest.last_seq });
    const { tempDir } = options;
    const verification = options.verify
      ? await verifyDirectory({ dataDir, progress, isOwned: true, ...(tempDir === undefined ? {} : { tempDir }) })
      : null;
    if (verification === null || verification.ok) {
      await rm(restoreMarkerPath(dataDir));
      await realDisk.syncDirectory(dataDir);
    }
    return { generation, lastSeq: manifest.last_seq, files: manifest.files.length, bytes, verification };
  } finally {
    await closed(lock);
  }
}

/** True when an earlier restore of the same backup goes on. @throws DataDirectoryError for any other content. */
function checkTarget(dataDir: string, generation: string): boolean {
  const marker = restoreMarkerPath(dataDir);
  if (existsSync(marker)) {
    const started = JSON.parse(readFileSync(marker, 'utf8')) as { generation?: string };
    if (started.generation === generation) return true;
    throw new DataDirectoryError(
      `${dataDir} holds an unfinished restore of ${started.generation}: run that again, or remove the directory`,
    );
  }
  // One that died before its mark was in place.
  if (readdirSync(dataDir).every((name) => join(dataDir, name) === `${marker}.new`)) return false;
  throw new DataDirectoryError(`${dataDir} is not empty: restore into a new directory`);
}

/** What others derived from the log before, such as an index, may know of events that are gone: it gets a new id. */
async function renew(dataDir: string): Promise<void> {
  const manifest = readManifest(dataDir);
  if (manifest === null) throw new DataDirectoryError(`${dataDir}: the backup holds no manifest.json`);
  const renewed: Manifest = { ...manifest, id: randomUUID(), origin: manifest.origin ?? manifest.id };
  await writeManifest(realDisk, dataDir, renewed);
}
