import type { Buffer } from 'node:buffer';
import { existsSync, statSync, unlinkSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  ARCHIVE_BLOCK_BYTES,
  type ArchiveBlock,
  ArchivedSegment,
  archiveDraftPath,
  compressBlock,
  placeArchive,
  writeArchiveDraft,
} from '../archived-segment.js';
import { DataDirectoryError, shardDirectory } from '../data-directory.js';
import { realDisk } from '../disk.js';
import { queueCodec } from '../row-codecs.js';
import { openSegment, type SegmentFile } from '../segment-reader.js';
import { listSegments, segmentOf, segmentPath } from '../segments.js';
import { openForTool } from './open-directory.js';
import { NO_PROGRESS, type Progress } from './progress.js';
import { StoredRows } from './stored-rows.js';

/**
 * Archiving: compresses sealed segments that hold no undelivered message, also beside a running server.
 * Never:     touches the last segment, one that a start would replay, or one that a queue points into.
 * Invariant: a plain segment is removed only after its archive was read back, and is on the disk under its name. A crash
 *            in between leaves both, and the plain one counts; the next run does that segment again.
 *
 * A server reads sealed segments by name or by what it has open, and writes into them only to remove content by law.
 * That removal notes its intent on the disk, then overwrites the plain segment, then removes an archive's draft, then
 * rewrites the archive. So whatever it meets here, content that it removed stays removed: a draft that may hold it is
 * gone when it should be put in place (the segment is begun again), an archive in place is rewritten. And a plain
 * segment is not removed while an intent stands.
 */
export interface ArchiveReport {
  readonly archived: readonly ArchivedReport[];
  /** Sealed segments that stay plain, because messages in them are not delivered. */
  readonly kept: readonly { readonly shard: number; readonly segment: number }[];
  readonly plainBytes: number;
  readonly archiveBytes: number;
}

export interface ArchivedReport {
  readonly shard: number;
  readonly segment: number;
  readonly plainBytes: number;
  readonly archiveBytes: number;
}

/** The archive is not what the segment is now. */
class DraftDiffersError extends DataDirectoryError {
  constructor(path: string) {
    super(`${path} does not read back as it was written; the segment stays plain`);
    this.name = 'DraftDiffersError';
  }
}

const MAX_ATTEMPTS = 3;
const LOOK_AGAIN_MS = 100;
/** A minute. */
const MAX_LOOKS = 600;
/** Blocks compressed at a time: as many as the system's I/O threads are by default. */
const BLOCKS_AT_A_TIME = 4;

/**
 * Archives all segments that may be archived. Memory: a few blocks of 1 MiB.
 * Rejects with DataDirectoryError when another command is at work, or with the system's error: what was archived until
 * then stays archived.
 */
export async function archiveDirectory(dataDir: string, progress: Progress): Promise<ArchiveReport> {
  const directory = await openForTool(dataDir);
  try {
    const kept: { shard: number; segment: number }[] = [];
    const chosen: { shard: number; segment: number; sizeBytes: number }[] = [];
    for (let shard = 0; shard < directory.manifest.shards; shard++) {
      const logDir = join(shardDirectory(dataDir, shard), 'log');
      const { sealedBelow, needed } = await segmentsInUse(join(shardDirectory(dataDir, shard), 'store.mdb'));
      const lastSegment = listSegments(realDisk, logDir).at(-1) ?? 0;
      for (const segment of listSegments(realDisk, logDir)) {
        if (!directory.serverRuns) await rm(archiveDraftPath(logDir, segment), { force: true });
        if (segment >= Math.min(sealedBelow, lastSegment)) continue;
        const file = await openSegment(realDisk, logDir, segment);
        const { isArchived, sizeBytes } = file;
        await file.close();
        if (isArchived) continue;
        if (needed.has(segment)) kept.push({ shard, segment });
        else chosen.push({ shard, segment, sizeBytes });
      }
    }
    progress.stage(
      'archive',
      chosen.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0),
    );
    const archived: ArchivedReport[] = [];
    for (const { shard, segment } of chosen) {
      archived.push({ shard, segment, ...(await archiveSegment(dataDir, shard, segment, progress)) });
    }
    return {
      archived,
      kept,
      plainBytes: archived.reduce((sum, { plainBytes }) => sum + plainBytes, 0),
      archiveBytes: archived.reduce((sum, { archiveBytes }) => sum + archiveBytes, 0),
    };
  } finally {
    await directory.close();
  }
}

/** Segments that a start may replay begin at `sealedBelow`; into those `needed` a queue points. */
async function segmentsInUse(storePath: string): Promise<{ sealedBelow: number; needed: ReadonlySet<number> }> {
  const store = StoredRows.open(storePath);
  try {
    // First, as a server may go on: what is queued before this place of the log has a row for as long as it is.
    const meta = store.meta();
    const needed = new Set<number>();
    for (const { value } of store.rows('queues')) needed.add(segmentOf(queueCodec.decode(value).position));
    return { sealedBelow: meta === undefined ? 0 : segmentOf(meta.replayFrom), needed };
  } finally {
    await store.close();
  }
}

/** Replaces one sealed plain segment by its archive. About 25 MB/s and core. */
async function archiveSegment(
  dataDir: string,
  shard: number,
  segment: number,
  progress: Progress,
): Promise<{ plainBytes: number; archiveBytes: number }> {
  const logDir = join(shardDirectory(dataDir, shard), 'log');
  for (let attempt = 1; ; attempt++) {
    try {
      const archived = await writeArchive(logDir, segment, attempt === 1 ? progress : NO_PROGRESS);
      await removePlain(dataDir, shard, logDir, segment);
      return archived;
    } catch (error) {
      // A removal by law was here meanwhile.
      const isDraftGone = error instanceof Error && 'code' in error && error.code === 'ENOENT';
      if (attempt === MAX_ATTEMPTS || !(isDraftGone || error instanceof DraftDiffersError)) throw error;
    }
  }
}

async function writeArchive(
  logDir: string,
  segment: number,
  progress: Progress,
): Promise<{ plainBytes: number; archiveBytes: number }> {
  const plain = await openSegment(realDisk, logDir, segment);
  try {
    const plainBytes = await bytesBeforeZeros(plain);
    const archiveBytes = await writeArchiveDraft(logDir, segment, compressedBlocks(plain, plainBytes, progress));
    await compareDraft(plain, plainBytes, logDir, segment);
    await placeArchive(realDisk, logDir, segment);
    return { plainBytes, archiveBytes };
  } finally {
    await plain.close();
  }
}

async function removePlain(dataDir: string, shard: number, logDir: string, segment: number): Promise<void> {
  const path = segmentPath(logDir, segment);
  const notes = [dataDir, shardDirectory(dataDir, shard)].map((directory) => join(directory, 'removal.json'));
  // Between the look and the removal of the name nothing else of this process runs.
  for (let look = 0; ; look++) {
    if (notes.every((note) => !existsSync(note) || statSync(note).size === 0)) {
      unlinkSync(path);
      break;
    }
    if (look === MAX_LOOKS)
      throw new DataDirectoryError('a removal by law takes its time: archive again when it is done');
    await sleep(LOOK_AGAIN_MS);
  }
  await realDisk.syncDirectory(logDir);
}

/** A crash may have left zeros at the end, filled in ahead of the log; they mean nothing. */
async function bytesBeforeZeros(plain: SegmentFile): Promise<number> {
  let end = plain.sizeBytes;
  while (end > 0) {
    const start = Math.max(0, end - ARCHIVE_BLOCK_BYTES);
    const block = await plain.read(start, end - start);
    let bytes = block.length;
    while (bytes > 0 && block[bytes - 1] === 0) bytes--;
    if (bytes > 0) return start + bytes;
    end = start;
  }
  return 0;
}

async function* compressedBlocks(
  plain: SegmentFile,
  plainBytes: number,
  progress: Progress,
): AsyncGenerator<ArchiveBlock> {
  const underWay: Promise<ArchiveBlock>[] = [];
  for (let at = 0; at < plainBytes; at += ARCHIVE_BLOCK_BYTES) {
    const block = await plain.read(at, Math.min(ARCHIVE_BLOCK_BYTES, plainBytes - at));
    underWay.push(compressBlock(block));
    if (underWay.length < BLOCKS_AT_A_TIME) continue;
    const done = (await underWay.shift()) as ArchiveBlock;
    progress.advance(done.plainBytes);
    yield done;
  }
  for (const block of underWay) {
    const done = await block;
    progress.advance(done.plainBytes);
    yield done;
  }
}

/** Reads the draft back from its file. Rejects when it is not, byte for byte, what it was made of. */
async function compareDraft(plain: SegmentFile, plainBytes: number, logDir: string, segment: number): Promise<void> {
  const path = archiveDraftPath(logDir, segment);
  const file = realDisk.openToRead(path);
  try {
    const archive = await ArchivedSegment.open(file, path);
    let isSame = archive.sizeBytes === plainBytes;
    for (let block = 0; isSame && block < archive.blocks; block++) {
      const expected = await plain.read(
        block * ARCHIVE_BLOCK_BYTES,
        Math.min(ARCHIVE_BLOCK_BYTES, plainBytes - block * ARCHIVE_BLOCK_BYTES),
      );
      const found: Buffer | null = await archive.block(block);
      isSame = found?.equals(expected) ?? false;
    }
    if (!isSame) throw new DraftDiffersError(path);
  } finally {
    await file.close();
  }
}
