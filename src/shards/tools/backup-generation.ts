import { existsSync, readdirSync, statSync } from 'node:fs';
import { link, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { VERSION } from '../../contract/version.js';
import { DataDirectoryError, type Manifest, shardDirectory } from '../data-directory.js';
import { realDisk } from '../disk.js';
import { archivedSegmentPath, type LogPosition, listSegments, offsetOf, segmentOf, segmentPath } from '../segments.js';
import { completeRegistrations, type LogCut, lastSeqOf, logCut } from './backup-cut.js';
import {
  BACKUP_MANIFEST,
  type BackedUpFile,
  type BackupManifest,
  generationName,
  readBackupManifest,
} from './backup-files.js';
import { type CopiedFile, copyDurably, makeDirectory, requireRoom, sha256Of, writeDurably } from './durable-files.js';
import { logDirOf } from './log-source.js';
import type { Progress } from './progress.js';
import { storePath } from './store-snapshots.js';
import { StoredRows } from './stored-rows.js';

/**
 * One generation of a backup, while it is made.
 * Never:     writes into the data directory, or into another generation.
 * Invariant: files get their names when they are complete and on the disk; `backup.json` when all of them are.
 */
export interface MadeGeneration {
  readonly lastSeq: number;
  readonly files: number;
  readonly bytes: number;
  /** Of which this many were in the generation before. */
  readonly linkedBytes: number;
}

/** A file changed so shortly before it was copied might change again without its time showing it. */
const UNSETTLED_MS = 2_000;
/** How often a removal may come in between before the backup gives up. */
const MAX_ROUNDS = 5;
/** In the data directory, and worth nothing elsewhere. */
const NOT_BACKED_UP = /^(watermark|.*\.new|.*\.part|.*-unfinished\.json)$/;

interface CopiedSource extends CopiedFile {
  readonly sourceMs: number;
  readonly sourceBytes: number;
}

interface Moment {
  readonly lastSeq: number;
  readonly stores: ReadonlyMap<number, CopiedFile>;
  readonly lastSegments: ReadonlyMap<string, CopiedFile>;
}

export class NewGeneration {
  private readonly copied = new Map<string, CopiedSource>();
  private readonly known: ReadonlyMap<string, BackedUpFile>;
  private linkedBytes = 0;

  constructor(
    private readonly dataDir: string,
    private readonly generation: string,
    private readonly before: string | null,
    private readonly manifest: Manifest,
    private readonly progress: Progress,
  ) {
    const files = before === null ? [] : (readBackupManifest(before)?.files ?? []);
    this.known = new Map(files.map((file) => [file.path, file]));
  }

  async make(createdAt: Date): Promise<MadeGeneration> {
    const { dataDir, generation, manifest } = this;
    const shards = Array.from({ length: manifest.shards }, (_, shard) => shard);
    await makeDirectory(join(generation, '..'), generationName(createdAt));
    for (const shard of shards) await makeDirectory(generation, join(this.shardName(shard), 'log'));
    this.progress.stage('backup', this.sourceBytes(shards));
    requireRoom(generation, this.newBytes(shards));

    let moment = await this.copyMoment(shards);
    for (let round = 1; await this.hasChanged(shards); round++) {
      if (round === MAX_ROUNDS) throw new DataDirectoryError(`${dataDir} changes all the time: try again later`);
      // Content was removed by law meanwhile: what was copied before would bring it back.
      moment = await this.copyMoment(shards);
    }
    const { lastSeq, stores, lastSegments } = moment;

    const files: BackedUpFile[] = [];
    for (const [path, { bytes, sha256 }] of [...this.copied, ...lastSegments]) files.push({ path, bytes, sha256 });
    for (const [shard, copy] of stores) files.push({ path: join(this.shardName(shard), 'store.mdb'), ...copy });
    for (const shard of shards) await realDisk.syncDirectory(join(generation, this.shardName(shard), 'log'));
    for (const shard of shards) await realDisk.syncDirectory(join(generation, this.shardName(shard)));
    const backupManifest: BackupManifest = {
      format: 1,
      version: VERSION,
      created_at: createdAt.toISOString(),
      id: manifest.id,
      origin: manifest.origin ?? manifest.id,
      shards: manifest.shards,
      last_seq: lastSeq,
      files: files.sort((a, b) => (a.path < b.path ? -1 : 1)),
    };
    await writeDurably(join(generation, BACKUP_MANIFEST), `${JSON.stringify(backupManifest, null, 2)}\n`);
    const bytes = files.reduce((sum, file) => sum + file.bytes, 0);
    return { lastSeq, files: files.length, bytes, linkedBytes: this.linkedBytes };
  }

  /** Everything as of one moment. Repeated, it copies only what is not copied as it is now. */
  private async copyMoment(shards: readonly number[]): Promise<Moment> {
    const { dataDir } = this;
    for (const path of this.smallFiles(shards)) await this.copy(path);
    // The bulk, before the moment that counts, so that this moment is short.
    for (const shard of shards) {
      const last = listSegments(realDisk, logDirOf(dataDir, shard)).at(-1) ?? 0;
      await this.copySegments(shard, last);
    }
    for (const shard of shards) await this.copyStore(shard);
    const ends = await Promise.all(shards.map((shard) => lastSeqOf(dataDir, shard, this.storeCopy(shard))));
    const lastSeq = Math.max(...ends);
    const stores = new Map<number, CopiedFile>();
    const lastSegments = new Map<string, CopiedFile>();
    for (const shard of shards) {
      const cut = await logCut(dataDir, shard, this.storeCopy(shard), lastSeq);
      lastSegments.set(...(await this.copyLog(shard, cut)));
      await completeRegistrations(storePath(dataDir, shard), this.storeCopy(shard), cut.registered);
      stores.set(shard, await this.sealStore(shard));
    }
    return { lastSeq, stores, lastSegments };
  }

  /** Some file that is not appended to is not as it was copied, or there is one more. */
  private async hasChanged(shards: readonly number[]): Promise<boolean> {
    for (const path of new Set([...this.copied.keys(), ...this.smallFiles(shards)])) {
      const from = join(this.dataDir, path);
      // Archived meanwhile.
      if (!existsSync(from)) continue;
      const { size, mtimeMs } = await stat(from);
      const copied = this.copied.get(path);
      if (copied === undefined || copied.sourceMs !== mtimeMs || copied.sourceBytes !== size) return true;
    }
    return false;
  }

  private shardName(shard: number): string {
    return shardDirectory('.', shard);
  }

  private storeCopy(shard: number): string {
    return join(this.generation, this.shardName(shard), 'store.mdb');
  }

  /** Files beside the shards, and beside each shard's store: the manifest, the server's key, removals. */
  private smallFiles(shards: readonly number[]): string[] {
    const files: string[] = [];
    for (const directory of ['.', ...shards.map((shard) => this.shardName(shard))]) {
      for (const entry of readdirSync(join(this.dataDir, directory), { withFileTypes: true })) {
        if (!entry.isFile() || NOT_BACKED_UP.test(entry.name) || entry.name.startsWith('store.mdb')) continue;
        files.push(join(directory, entry.name));
      }
    }
    return files;
  }

  /** Sealed segments below `end`. */
  private async copySegments(shard: number, end: number): Promise<void> {
    for (const segment of listSegments(realDisk, logDirOf(this.dataDir, shard))) {
      if (segment < end) await this.copySegment(shard, segment);
    }
  }

  private async copySegment(shard: number, segment: number): Promise<void> {
    const logDir = join(this.shardName(shard), 'log');
    const plain = segmentPath(logDir, segment);
    const archived = archivedSegmentPath(logDir, segment);
    try {
      await this.copy(plain);
    } catch (error) {
      if (!(error instanceof Error && 'code' in error && error.code === 'ENOENT')) throw error;
      await this.drop(plain);
      await this.copy(archived);
    }
  }

  /** One file that is not being appended to: linked when the generation before has it as it is, else copied. */
  private async copy(path: string): Promise<void> {
    const from = join(this.dataDir, path);
    const to = join(this.generation, path);
    for (let round = 1; ; round++) {
      const source = await stat(from);
      const already = this.copied.get(path);
      if (already !== undefined && already.sourceMs === source.mtimeMs && already.sourceBytes === source.size) return;
      const isSettled = source.mtimeMs < Date.now() - UNSETTLED_MS;
      const state = { sourceMs: source.mtimeMs, sourceBytes: source.size };
      const linked = isSettled && already === undefined ? await this.link(path, source.size, source.mtimeMs) : null;
      if (linked !== null) {
        this.copied.set(path, { ...linked, ...state });
        return;
      }
      const copied = await copyDurably(from, to, this.progress, isSettled ? {} : { modifiedAtMs: 0 });
      this.copied.set(path, { ...copied, ...state });
      const after = await stat(from);
      if (after.mtimeMs === source.mtimeMs && after.size === source.size) return;
      if (round === MAX_ROUNDS) throw new DataDirectoryError(`${from} changes all the time: try again later`);
    }
  }

  /** Null when the generation before does not have this very file. */
  private async link(path: string, bytes: number, modifiedMs: number): Promise<CopiedFile | null> {
    if (this.before === null) return null;
    const earlier = join(this.before, path);
    if (!existsSync(earlier)) return null;
    const found = statSync(earlier);
    // Times are kept to a microsecond or better.
    if (found.size !== bytes || Math.abs(found.mtimeMs - modifiedMs) >= 0.5) return null;
    const to = join(this.generation, path);
    try {
      await link(earlier, to);
    } catch (error) {
      // A file system without hard links, or the most links that one file may have.
      const code = error instanceof Error && 'code' in error ? error.code : '';
      if (code === 'EPERM' || code === 'EMLINK' || code === 'ENOTSUP') return null;
      throw error;
    }
    this.linkedBytes += bytes;
    const known = this.known.get(path);
    if (known === undefined || known.bytes !== bytes) return sha256Of(to, this.progress);
    this.progress.advance(bytes);
    return { bytes, sha256: known.sha256 };
  }

  private async drop(path: string): Promise<void> {
    this.copied.delete(path);
    await rm(join(this.generation, path), { force: true });
  }

  private async copyStore(shard: number): Promise<void> {
    await rm(this.storeCopy(shard), { force: true });
    const rows = StoredRows.open(storePath(this.dataDir, shard));
    try {
      await rows.copyTo(this.storeCopy(shard));
    } finally {
      await rows.close();
    }
  }

  private async sealStore(shard: number): Promise<CopiedFile> {
    const path = this.storeCopy(shard);
    await rm(`${path}-lock`, { force: true });
    const file = realDisk.openFile(path);
    await file.sync();
    await file.close();
    return sha256Of(path, this.progress);
  }

  /** All that is left of the log up to `cut`; returns the copy of the segment that it lies in. */
  private async copyLog(shard: number, { end }: LogCut): Promise<[string, CopiedFile]> {
    const logDir = join(this.shardName(shard), 'log');
    await this.copySegments(shard, segmentOf(end));
    for (const segment of listSegments(realDisk, join(this.generation, logDir))) {
      // The bulk may have gone further than the moment that counts.
      if (segment < segmentOf(end)) continue;
      await this.drop(segmentPath(logDir, segment));
      await this.drop(archivedSegmentPath(logDir, segment));
    }
    return this.copyLastSegment(logDir, end);
  }

  private async copyLastSegment(logDir: string, end: LogPosition): Promise<[string, CopiedFile]> {
    const path = segmentPath(logDir, segmentOf(end));
    const options = { maxBytes: offsetOf(end), modifiedAtMs: 0 };
    return [path, await copyDurably(join(this.dataDir, path), join(this.generation, path), this.progress, options)];
  }

  private sourceBytes(shards: readonly number[]): number {
    let bytes = 0;
    for (const shard of shards) {
      bytes += statSync(storePath(this.dataDir, shard)).size;
      bytes += sizeOfFiles(logDirOf(this.dataDir, shard));
    }
    return bytes;
  }

  /** What will have to be written, at most: all that the generation before does not have under the same name and size. */
  private newBytes(shards: readonly number[]): number {
    let bytes = 0;
    for (const shard of shards) {
      bytes += statSync(storePath(this.dataDir, shard)).size;
      for (const name of readdirSync(logDirOf(this.dataDir, shard))) {
        const { size } = statSync(join(logDirOf(this.dataDir, shard), name));
        const earlier = this.before === null ? '' : join(this.before, this.shardName(shard), 'log', name);
        if (earlier === '' || !existsSync(earlier) || statSync(earlier).size !== size) bytes += size;
      }
    }
    return bytes;
  }
}

function sizeOfFiles(directory: string): number {
  return readdirSync(directory).reduce((sum, name) => sum + statSync(join(directory, name)).size, 0);
}
