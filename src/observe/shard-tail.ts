/**
 * Shard tail: reads one shard's log forward, line by line, up to where it is durable.
 * Owns:      the place of the next line, one chunk of the file.
 * Never:     reads past the end it is given, or stops at damage: a damaged line is logged, counted and passed over.
 */
import { Buffer } from 'node:buffer';
import type { Logger } from '../log.js';
import { decodeLine, type LoggedEvent } from '../shards/log-line.js';
import { isSegmentUnreadable } from '../shards/segment-reader.js';
import { type LogPosition, logPosition, offsetOf, segmentOf } from '../shards/segments.js';
import type { LinePlace, SegmentFiles } from './segment-files.js';

const CHUNK_BYTES = 256 * 1024;
const NEWLINE = 0x0a;

export interface TailLine extends LinePlace {
  readonly shard: number;
  readonly event: LoggedEvent;
}

export class ShardTail {
  /** The next line, when it has been read. */
  head: TailLine | null = null;
  damagedLines = 0;
  private nextPosition: LogPosition;
  private lastSeq: number;
  private seqBeforeHead = 0;
  private chunk: Buffer = Buffer.alloc(0);
  private chunkStart: LogPosition = 0;
  /** A line that looked damaged here is read a second time: a removal may have been overwriting it. */
  private readAgainAt: LogPosition = -1;

  /** @param lastSeq of the line before `from`; 0 at the very beginning */
  constructor(
    private readonly shard: number,
    private readonly files: SegmentFiles,
    private readonly logger: Logger,
    from: LogPosition,
    lastSeq: number,
  ) {
    this.nextPosition = from;
    this.lastSeq = lastSeq;
  }

  /** Where the log goes on behind all that was taken. */
  get position(): LogPosition {
    return this.head?.position ?? this.nextPosition;
  }

  /** Takes the line that `head` shows. */
  take(): TailLine | null {
    const line = this.head;
    this.head = null;
    return line;
  }

  /** Lines were overwritten: what was read ahead is read again. */
  forget(): void {
    this.chunk = Buffer.alloc(0);
    if (this.head === null) return;
    this.nextPosition = this.head.position;
    this.lastSeq = this.seqBeforeHead;
    this.head = null;
  }

  /** Puts the next line into `head`, unless it is there, as far as it is in memory. False: call `fill`. */
  fillFromMemory(end: LogPosition): boolean {
    while (this.head === null && this.nextPosition < end) {
      const line = this.lineInChunk(end);
      if (line === null) return false;
      this.accept(line);
    }
    return true;
  }

  /** As `fillFromMemory`, and reads on; leaves `head` null when there is no line before `end`. */
  async fill(end: LogPosition): Promise<void> {
    while (!this.fillFromMemory(end)) await this.readOn(end);
  }

  /** The bytes of the next line with its newline, if the chunk has all of it. */
  private lineInChunk(end: LogPosition): Buffer | null {
    const start = this.nextPosition - this.chunkStart;
    if (start < 0 || start >= this.chunk.length) return null;
    const newline = this.chunk.indexOf(NEWLINE, start);
    if (newline < 0 || this.chunkStart + newline >= end) return null;
    return this.chunk.subarray(start, newline + 1);
  }

  private accept(line: Buffer): void {
    const position = this.nextPosition;
    const event = decodeLine(line.subarray(0, -1));
    if (event === null && this.readAgainAt !== position) {
      this.readAgainAt = position;
      this.chunk = Buffer.alloc(0);
      return;
    }
    this.nextPosition += line.length;
    if (event === null || event.seq <= this.lastSeq) {
      this.damaged(position, line.length, 'damaged line');
      return;
    }
    this.seqBeforeHead = this.lastSeq;
    this.lastSeq = event.seq;
    this.head = { shard: this.shard, position, bytes: line.length, event };
  }

  /** Reads more of the segment; goes on to the next one where this one ends. */
  private async readOn(end: LogPosition): Promise<void> {
    const position = this.nextPosition;
    const segment = segmentOf(position);
    const isLast = segment === segmentOf(end);
    const knownBytes = Math.max(0, this.chunkStart + this.chunk.length - position);
    const wantedBytes = Math.max(knownBytes * 2, CHUNK_BYTES);
    const bytes = isLast ? Math.min(wantedBytes, end - position) : wantedBytes;
    let chunk: Buffer;
    try {
      chunk = await this.files.read(segment, offsetOf(position), bytes);
    } catch (error) {
      if (!isSegmentUnreadable(error)) throw error;
      this.logger.error({ logDir: this.files.logDir, segment, err: error }, 'event log: a segment is missing');
      this.skipTo(isLast ? end : logPosition(segment + 1, 0), 0);
      return;
    }
    this.chunk = chunk;
    this.chunkStart = position;
    if (this.lineInChunk(end) !== null || (chunk.length === bytes && !(isLast && bytes === end - position))) return;
    // No line begins here any more: zeros filled in ahead, or the rest of a line that was never finished.
    this.skipTo(isLast ? end : logPosition(segment + 1, 0), bytesBeforeZeros(chunk));
  }

  private skipTo(position: LogPosition, lostBytes: number): void {
    if (lostBytes > 0) this.damaged(this.nextPosition, lostBytes, 'incomplete line');
    this.nextPosition = position;
    this.chunk = Buffer.alloc(0);
  }

  private damaged(position: LogPosition, bytes: number, what: string): void {
    this.damagedLines += 1;
    const place = { segment: segmentOf(position), offsetBytes: offsetOf(position), bytes };
    this.logger.error({ logDir: this.files.logDir, ...place }, `event log: ${what}, not shown to observers`);
  }
}

function bytesBeforeZeros(rest: Buffer): number {
  let bytes = rest.length;
  while (bytes > 0 && rest[bytes - 1] === 0) bytes--;
  return bytes;
}
