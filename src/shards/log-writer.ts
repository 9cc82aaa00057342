import { Buffer } from 'node:buffer';
import type { Logger } from '../log.js';
import type { Disk, LogFile } from './disk.js';
import { RecentLog } from './recent-log.js';
import { type LogPosition, logPosition, segmentPath } from './segments.js';

/**
 * Log writer: the only code that changes a shard's event log.
 * Owns:      the open segment, its size, the buffer of the batch being written.
 * Never:     reads the log, decides what is written, or calls `sync` again after it failed.
 * Invariant: bytes past `sizeBytes` were never promised to anybody; a failed `write` leaves them zeros or nothing.
 *
 * The file is filled with zeros ahead of the log, aside and synced, so that a batch overwrites allocated blocks: its
 * fdatasync then needs no commit of the file system's journal, which is a third of its time (bench, single connection)
 * and half of its CPU. Readers take zeros to the end of a segment for its end.
 */

/** How far ahead of the log a segment is filled, and the part of it that may be used up before more is filled. */
const FILL_BYTES = 4 * 1024 * 1024;
const REFILL_BELOW_BYTES = 2 * 1024 * 1024;

/** More than one batch can have, and so more than a failed sync can have left unwritten. */
const REWRITTEN_BYTES = 64 * 1024 * 1024;
const REWRITE_CHUNK_BYTES = 1024 * 1024;

/**
 * The shard's thread itself waits for a disk whose quickest of the last flushes took less than this: handing a flush to
 * another thread and back costs more than it takes, and two changes of thread on a busy machine. The quickest, since on
 * such a machine most of what the others took was waiting for a processor. A slower disk never holds up the thread.
 */
const QUICK_SYNC_MS = 1;
const JUDGED_SYNCS = 16;
/** A flush that takes longer holds up reads too. It is the last one to do so for a while: stalls come in rows. */
const STALLED_SYNC_MS = 50;
const DISTRUSTED_SYNCS = 256;

const RECENT_BYTES = 16 * 1024 * 1024;
const INITIAL_BUFFER_BYTES = 64 * 1024;
/** A buffer that one huge batch made larger than this is given back. */
const KEPT_BUFFER_BYTES = 8 * 1024 * 1024;
/** UTF-8 takes at most three bytes for one UTF-16 unit. */
const MAX_BYTES_PER_UNIT = 3;

/** There was no room; nothing was written, and writing may succeed later. */
export class DiskFullError extends Error {
  constructor(cause: unknown) {
    super('no space left on the device of the event log', { cause });
    this.name = 'DiskFullError';
  }
}

export class LogWriter {
  private readonly disk: Disk;
  private readonly logger: Logger;
  private readonly logDir: string;
  private readonly maxSegmentBytes: number;
  private segment: number;
  private file: LogFile;
  private sizeBytes: number;
  private buffer = Buffer.allocUnsafe(INITIAL_BUFFER_BYTES);
  private pendingBytes = 0;
  /** The file has zeros, on disk, from `sizeBytes` to here. */
  private filledToBytes: number;
  /** The fill under way: nothing may be written past `filledToBytes` before it settles. */
  private filling: Promise<void> | null = null;
  private fillFailed = false;
  /** Flushes since one took less than `QUICK_SYNC_MS`. */
  private slowSyncs = JUDGED_SYNCS;
  /** Flushes to come before one may hold up the thread again. */
  private distrustedSyncs = 0;
  /** What was written last. */
  readonly recent = new RecentLog(RECENT_BYTES);
  /** Bytes of the line appended last. */
  lastLineBytes = 0;

  private constructor(
    disk: Disk,
    logDir: string,
    maxSegmentBytes: number,
    segment: number,
    sizeBytes: number,
    logger: Logger,
  ) {
    this.logger = logger;
    this.disk = disk;
    this.logDir = logDir;
    this.maxSegmentBytes = maxSegmentBytes;
    this.segment = segment;
    this.file = disk.openFile(segmentPath(logDir, segment));
    this.sizeBytes = sizeBytes;
    this.filledToBytes = sizeBytes;
  }

  /**
   * Opens the last segment for appending at `sizeBytes`, cuts off what lies beyond, and makes what lies before durable:
   * it is about to be visible. What was read from `rewriteFromBytes` on is written again for that. After a failed fsync
   * the system shows bytes that are not on the disk, and calls them clean: no later fsync would write them.
   */
  static async open(
    disk: Disk,
    logDir: string,
    maxSegmentBytes: number,
    segment: number,
    sizeBytes: number,
    logger: Logger,
    rewriteFromBytes: number = sizeBytes,
  ): Promise<LogWriter> {
    const writer = new LogWriter(disk, logDir, maxSegmentBytes, segment, sizeBytes, logger);
    try {
      writer.file.truncate(sizeBytes);
      await writer.rewrite(Math.max(rewriteFromBytes, sizeBytes - REWRITTEN_BYTES));
      await writer.file.sync();
      await disk.syncDirectory(logDir);
    } catch (error) {
      await writer.file.close();
      throw error;
    }
    return writer;
  }

  /** Where the next appended line will begin. */
  get position(): LogPosition {
    return logPosition(this.segment, this.sizeBytes + this.pendingBytes);
  }

  get bufferedBytes(): number {
    return this.pendingBytes;
  }

  /** Puts one line (with its newline) behind the others of this batch; returns its place. Promises nothing yet. */
  append(line: string): LogPosition {
    const position = this.position;
    const neededBytes = this.pendingBytes + line.length * MAX_BYTES_PER_UNIT;
    if (neededBytes > this.buffer.length) this.grow(neededBytes);
    this.lastLineBytes = this.buffer.write(line, this.pendingBytes, 'utf8');
    this.pendingBytes += this.lastLineBytes;
    return position;
  }

  /**
   * Hands the batch to the system. Throws DiskFullError when there is no room; the log is then as it was, for good.
   * Throws the system's error otherwise; what is on the disk is then for a reopening to find out.
   */
  async write(): Promise<void> {
    if (this.filling !== null && this.sizeBytes + this.pendingBytes > this.filledToBytes) await this.filling;
    const bytes = this.buffer.subarray(0, this.pendingBytes);
    let written = 0;
    try {
      while (written < bytes.length) {
        written += this.file.write(bytes.subarray(written), this.sizeBytes + written);
      }
    } catch (error) {
      this.discard();
      await this.filling;
      this.file.truncate(this.sizeBytes);
      this.filledToBytes = this.sizeBytes;
      if (!isDiskFull(error)) throw error;
      // Whoever is told that there was no room must not find it done after a power cut.
      await this.file.sync();
      throw new DiskFullError(error);
    }
    this.recent.add(logPosition(this.segment, this.sizeBytes), bytes);
    this.sizeBytes += bytes.length;
    this.filledToBytes = Math.max(this.filledToBytes, this.sizeBytes);
    this.discard();
  }

  /** Forgets the batch that was appended but not written. */
  discard(): void {
    this.pendingBytes = 0;
    if (this.buffer.length > KEPT_BUFFER_BYTES) this.buffer = Buffer.allocUnsafe(INITIAL_BUFFER_BYTES);
  }

  /** Resolves when everything written survives power loss. A rejection is final: the disk may have dropped the bytes. */
  async sync(): Promise<void> {
    const sinceMs = performance.now();
    if (this.waitsInPlace && this.file.syncNow !== undefined) this.file.syncNow();
    else await this.file.sync();
    this.judge(performance.now() - sinceMs);
    this.fillAhead();
  }

  private get waitsInPlace(): boolean {
    return this.slowSyncs < JUDGED_SYNCS && this.distrustedSyncs === 0;
  }

  private judge(syncMs: number): void {
    this.slowSyncs = syncMs < QUICK_SYNC_MS ? 0 : this.slowSyncs + 1;
    if (syncMs > STALLED_SYNC_MS) this.distrustedSyncs = DISTRUSTED_SYNCS;
    else if (this.distrustedSyncs > 0) this.distrustedSyncs -= 1;
  }

  get isSegmentFull(): boolean {
    return this.sizeBytes >= this.maxSegmentBytes;
  }

  /**
   * Starts the next segment. Everything in the old one must be synced; the new file's name is durable on return.
   * Throws DiskFullError when there is no room for the new file; the old one goes on.
   */
  async rotate(): Promise<void> {
    let next: LogFile;
    try {
      next = this.disk.openFile(segmentPath(this.logDir, this.segment + 1));
    } catch (error) {
      throw isDiskFull(error) ? new DiskFullError(error) : error;
    }
    await this.disk.syncDirectory(this.logDir);
    await this.finishSegment();
    this.file = next;
    this.segment += 1;
    this.sizeBytes = 0;
    this.filledToBytes = 0;
    this.fillFailed = false;
  }

  async close(): Promise<void> {
    await this.finishSegment();
  }

  /** Cuts off the zeros that were not needed. If a crash comes first they stay, and mean nothing. */
  private async finishSegment(): Promise<void> {
    await this.filling;
    try {
      this.file.truncate(this.sizeBytes);
    } catch (error) {
      this.logger.warn({ logDir: this.logDir, err: error }, 'event log: unused zeros stay at the end of a segment');
    }
    await this.file.close();
  }

  /** The same bytes to the same places: a crash within leaves what was there. */
  private async rewrite(fromBytes: number): Promise<void> {
    for (let position = fromBytes; position < this.sizeBytes; ) {
      const bytes = await this.file.read(position, Math.min(REWRITE_CHUNK_BYTES, this.sizeBytes - position));
      if (bytes.length === 0) throw new Error(`event log in ${this.logDir} became shorter while it was opened`);
      try {
        for (let written = 0; written < bytes.length; ) {
          written += this.file.write(bytes.subarray(written), position + written);
        }
      } catch (error) {
        if (!isDiskFull(error)) throw error;
        // A file system that needs room to overwrite. The bytes are as durable as they were.
        this.logger.warn({ logDir: this.logDir, err: error }, 'event log: no room to write its end again');
        return;
      }
      position += bytes.length;
    }
  }

  private fillAhead(): void {
    const wantedBytes = Math.min(this.sizeBytes + FILL_BYTES, this.maxSegmentBytes);
    if (this.filling !== null || this.fillFailed || this.filledToBytes >= wantedBytes) return;
    if (this.filledToBytes - this.sizeBytes >= REFILL_BELOW_BYTES) return;
    this.filling = this.fill(wantedBytes).finally(() => {
      this.filling = null;
    });
  }

  /** Only speed depends on it: when there is no room for zeros, batches go to the end of the file as they come. */
  private async fill(toBytes: number): Promise<void> {
    // A file handle of its own: a failed sync here must not use up the error that the batches' sync has to see.
    let file: LogFile | null = null;
    try {
      file = this.disk.openFile(segmentPath(this.logDir, this.segment));
      await file.fillZeros(this.filledToBytes, toBytes);
      await file.sync();
      this.filledToBytes = toBytes;
    } catch (error) {
      this.fillFailed = true;
      this.logger.warn({ logDir: this.logDir, err: error }, 'event log: not filled ahead; batches go on, slower');
    } finally {
      await file?.close();
    }
  }

  private grow(neededBytes: number): void {
    const larger = Buffer.allocUnsafe(Math.max(neededBytes, this.buffer.length * 2));
    this.buffer.copy(larger, 0, 0, this.pendingBytes);
    this.buffer = larger;
  }
}

export function isDiskFull(error: unknown): boolean {
  return error instanceof Error && 'code' in error && (error.code === 'ENOSPC' || error.code === 'EDQUOT');
}
