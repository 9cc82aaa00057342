import { Buffer } from 'node:buffer';
import { rm } from 'node:fs/promises';
import type { LogFile } from '../disk.js';
import { realDisk } from '../disk.js';
import { type LogPosition, listSegments, logPosition, segmentPath } from '../segments.js';

/**
 * Segment writer: writes a shard's event log anew, from lines that are there already.
 * Owns:      the last segment of a log that no shard has open.
 * Never:     promises anything before `sync` has resolved.
 */
const BUFFER_BYTES = 1024 * 1024;
const NEWLINE = Buffer.from('\n');

export interface LogEnd {
  readonly segment: number;
  readonly sizeBytes: number;
}

export class SegmentWriter {
  private readonly pending: Buffer[] = [];
  private pendingBytes = 0;

  private constructor(
    private readonly logDir: string,
    private readonly maxSegmentBytes: number,
    private segment: number,
    private writtenBytes: number,
    private file: LogFile,
  ) {}

  /** Goes on at `end`; whatever the log holds beyond is removed. */
  static async open(logDir: string, maxSegmentBytes: number, end: LogEnd): Promise<SegmentWriter> {
    for (const segment of listSegments(realDisk, logDir)) {
      if (segment > end.segment) await rm(segmentPath(logDir, segment));
    }
    const file = realDisk.openFile(segmentPath(logDir, end.segment));
    file.truncate(end.sizeBytes);
    return new SegmentWriter(logDir, maxSegmentBytes, end.segment, end.sizeBytes, file);
  }

  get end(): LogEnd {
    return { segment: this.segment, sizeBytes: this.writtenBytes + this.pendingBytes };
  }

  /** Appends one line, given without its newline; returns its place. */
  async append(line: Buffer): Promise<LogPosition> {
    if (this.end.sizeBytes >= this.maxSegmentBytes) await this.rotate();
    const position = logPosition(this.segment, this.writtenBytes + this.pendingBytes);
    this.pending.push(line, NEWLINE);
    this.pendingBytes += line.length + 1;
    if (this.pendingBytes >= BUFFER_BYTES) this.write();
    return position;
  }

  /** Resolves when every line so far is on the disk, under a durable name. */
  async sync(): Promise<void> {
    this.write();
    await this.file.sync();
    await realDisk.syncDirectory(this.logDir);
  }

  async close(): Promise<void> {
    await this.file.close();
  }

  private write(): void {
    const bytes = Buffer.concat(this.pending);
    for (let written = 0; written < bytes.length; ) {
      written += this.file.write(bytes.subarray(written), this.writtenBytes + written);
    }
    this.writtenBytes += bytes.length;
    this.pending.length = 0;
    this.pendingBytes = 0;
  }

  private async rotate(): Promise<void> {
    this.write();
    await this.file.sync();
    await this.file.close();
    this.segment += 1;
    this.file = realDisk.openFile(segmentPath(this.logDir, this.segment));
    this.file.truncate(0);
    this.writtenBytes = 0;
  }
}
