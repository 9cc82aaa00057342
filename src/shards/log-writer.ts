import type { Disk, LogFile } from './disk.js';
import { type LogPosition, logPosition, segmentPath } from './segments.js';

/**
 * Log writer: the only code that changes a shard's event log.
 * Owns:      the open segment, its size, the buffer of the batch being written.
 * Never:     reads the log, decides what is written, or calls `sync` again after it failed.
 * Invariant: bytes past `sizeBytes` were never promised to anybody; a failed `write` leaves the file as it was.
 */

const INITIAL_BUFFER_BYTES = 1024 * 1024;
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
  private readonly logDir: string;
  private readonly maxSegmentBytes: number;
  private segment: number;
  private file: LogFile;
  private sizeBytes: number;
  private buffer = Buffer.allocUnsafe(INITIAL_BUFFER_BYTES);
  private filledBytes = 0;
  /** Bytes of the line appended last. */
  lastLineBytes = 0;

  private constructor(disk: Disk, logDir: string, maxSegmentBytes: number, segment: number, sizeBytes: number) {
    this.disk = disk;
    this.logDir = logDir;
    this.maxSegmentBytes = maxSegmentBytes;
    this.segment = segment;
    this.file = disk.openFile(segmentPath(logDir, segment));
    this.sizeBytes = sizeBytes;
  }

  /** Opens the last segment for appending at `sizeBytes`, and cuts off what lies beyond. */
  static async open(
    disk: Disk,
    logDir: string,
    maxSegmentBytes: number,
    segment: number,
    sizeBytes: number,
  ): Promise<LogWriter> {
    const writer = new LogWriter(disk, logDir, maxSegmentBytes, segment, sizeBytes);
    writer.file.truncate(sizeBytes);
    await writer.file.sync();
    await disk.syncDirectory(logDir);
    return writer;
  }

  /** Where the next appended line will begin. */
  get position(): LogPosition {
    return logPosition(this.segment, this.sizeBytes + this.filledBytes);
  }

  get bufferedBytes(): number {
    return this.filledBytes;
  }

  /** Puts one line (with its newline) behind the others of this batch; returns its place. Promises nothing yet. */
  append(line: string): LogPosition {
    const position = this.position;
    const neededBytes = this.filledBytes + line.length * MAX_BYTES_PER_UNIT;
    if (neededBytes > this.buffer.length) this.grow(neededBytes);
    this.lastLineBytes = this.buffer.write(line, this.filledBytes, 'utf8');
    this.filledBytes += this.lastLineBytes;
    return position;
  }

  /** Hands the batch to the system. Throws DiskFullError, or the system's error; the log is then as it was before. */
  write(): void {
    const bytes = this.buffer.subarray(0, this.filledBytes);
    let written = 0;
    try {
      while (written < bytes.length) {
        written += this.file.write(bytes.subarray(written), this.sizeBytes + written);
      }
    } catch (error) {
      this.discard();
      this.file.truncate(this.sizeBytes);
      throw isDiskFull(error) ? new DiskFullError(error) : error;
    }
    this.sizeBytes += bytes.length;
    this.discard();
  }

  /** Forgets the batch that was appended but not written. */
  discard(): void {
    this.filledBytes = 0;
    if (this.buffer.length > KEPT_BUFFER_BYTES) this.buffer = Buffer.allocUnsafe(INITIAL_BUFFER_BYTES);
  }

  /** Resolves when everything written survives power loss. A rejection is final: the disk may have dropped the bytes. */
  async sync(): Promise<void> {
    await this.file.sync();
  }

  get isSegmentFull(): boolean {
    return this.sizeBytes >= this.maxSegmentBytes;
  }

  /** Starts the next segment. Everything in the old one must be synced; the new file's name is durable on return. */
  async rotate(): Promise<void> {
    const next = this.disk.openFile(segmentPath(this.logDir, this.segment + 1));
    await this.disk.syncDirectory(this.logDir);
    const old = this.file;
    this.file = next;
    this.segment += 1;
    this.sizeBytes = 0;
    await old.close();
  }

  async close(): Promise<void> {
    await this.file.close();
  }

  private grow(neededBytes: number): void {
    const larger = Buffer.allocUnsafe(Math.max(neededBytes, this.buffer.length * 2));
    this.buffer.copy(larger, 0, 0, this.filledBytes);
    this.buffer = larger;
  }
}

function isDiskFull(error: unknown): boolean {
  return error instanceof Error && 'code' in error && (error.code === 'ENOSPC' || error.code === 'EDQUOT');
}
