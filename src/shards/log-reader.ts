import { Buffer } from 'node:buffer';
import type { Disk } from './disk.js';
import { decodeLine, type LoggedEvent } from './log-line.js';
import type { RecentLog } from './recent-log.js';
import { isSegmentUnreadable, openSegment, type SegmentFile } from './segment-reader.js';
import { type LogPosition, listSegments, logPosition, offsetOf, segmentOf } from './segments.js';

/**
 * Log reader: reads back what a log writer wrote.
 * Never: changes a file, or stops at damage: a damaged line is handed out as such, with its place.
 */

const CHUNK_BYTES = 1024 * 1024;
const NEWLINE = 0x0a;
/** Segments kept open for reading single lines. */
const MAX_OPEN_SEGMENTS = 32;

/**
 * One complete line, or the incomplete rest (`torn`) at the end of a segment. `bytes` counts the newline, `line` is without
 * it; who keeps `line` keeps a mebibyte.
 */
export type ScannedLine =
  | {
      readonly kind: 'event';
      readonly position: LogPosition;
      readonly bytes: number;
      readonly event: LoggedEvent;
      readonly line: Buffer;
    }
  | { readonly kind: 'damaged'; readonly position: LogPosition; readonly bytes: number; readonly line: Buffer }
  | { readonly kind: 'torn'; readonly position: LogPosition; readonly bytes: number };

/** Lines from `from` to the end of the last segment, in order. Memory: one chunk, or the longest line. */
export async function* scanLog(disk: Disk, logDir: string, from: LogPosition): AsyncGenerator<ScannedLine> {
  for (const segment of listSegments(disk, logDir)) {
    if (segment < segmentOf(from)) continue;
    const startBytes = segment === segmentOf(from) ? offsetOf(from) : 0;
    const file = await openSegment(disk, logDir, segment);
    try {
      yield* scanSegment(file, segment, startBytes);
    } finally {
      await file.close();
    }
  }
}

/** As `scanLog`, of one open segment. */
export async function* scanSegment(
  file: Pick<SegmentFile, 'read'>,
  segment: number,
  startBytes: number,
): AsyncGenerator<ScannedLine> {
  let pending: Buffer = Buffer.alloc(0);
  let pendingOffset = startBytes;
  for (;;) {
    const chunk = await file.read(pendingOffset + pending.length, CHUNK_BYTES);
    if (chunk.length === 0) break;
    pending = pending.length === 0 ? chunk : Buffer.concat([pending, chunk]);
    let lineStart = 0;
    for (;;) {
      const lineEnd = pending.indexOf(NEWLINE, lineStart);
      if (lineEnd < 0) break;
      const position = logPosition(segment, pendingOffset + lineStart);
      const line = pending.subarray(lineStart, lineEnd);
      const event = decodeLine(line);
      const bytes = lineEnd + 1 - lineStart;
      yield event === null
        ? { kind: 'damaged', position, bytes, line }
        : { kind: 'event', position, bytes, event, line };
      lineStart = lineEnd + 1;
    }
    pending = pending.subarray(lineStart);
    pendingOffset += lineStart;
  }
  const tornBytes = bytesBeforeZeros(pending);
  if (tornBytes > 0) yield { kind: 'torn', position: logPosition(segment, pendingOffset), bytes: tornBytes };
}

/** Zeros up to the end were filled in ahead of the log and never used. */
function bytesBeforeZeros(rest: Buffer): number {
  let bytes = rest.length;
  while (bytes > 0 && rest[bytes - 1] === 0) bytes--;
  return bytes;
}

/** An open segment, and how many reads need it: it is closed when it is given up and nobody reads it. */
interface OpenSegment {
  readonly file: Promise<SegmentFile>;
  reads: number;
  isGivenUp: boolean;
}

/** Reads single lines at known places, for messages that have left memory. */
export class LineReader {
  private readonly disk: Disk;
  private readonly logDir: string;
  private readonly recent: RecentLog;
  /** Least recently used first. */
  private readonly open = new Map<number, OpenSegment>();

  constructor(disk: Disk, logDir: string, recent: RecentLog) {
    this.disk = disk;
    this.logDir = logDir;
    this.recent = recent;
  }

  /** As `read`, at once and from memory; undefined when only the file still has it. */
  readRecent(position: LogPosition, bytes: number): LoggedEvent | null | undefined {
    const line = this.recent.read(position, bytes);
    return line === undefined ? undefined : decodeLine(line.subarray(0, bytes - 1));
  }

  /** The event at `position`, or null when the line there is damaged or gone. Rejects on an I/O error. */
  async read(position: LogPosition, bytes: number): Promise<LoggedEvent | null> {
    // Content may be removed from the line while it is read, but by this thread, and so not while it is read again.
    return (await this.readOnce(position, bytes)) ?? this.readOnce(position, bytes);
  }

  private async readOnce(position: LogPosition, bytes: number): Promise<LoggedEvent | null> {
    const segment = this.segment(segmentOf(position));
    segment.reads += 1;
    try {
      const line = await (await segment.file).read(offsetOf(position), bytes);
      if (line.length !== bytes || line[bytes - 1] !== NEWLINE) return null;
      return decodeLine(line.subarray(0, bytes - 1));
    } catch (error) {
      this.forget(segmentOf(position));
      if (isSegmentUnreadable(error)) return null;
      throw error;
    } finally {
      segment.reads -= 1;
      if (segment.isGivenUp && segment.reads === 0) await closeSegment(segment);
    }
  }

  /** The segment's file was replaced: the next read opens it anew. Reads under way may still see the old one. */
  forget(segment: number): void {
    const known = this.open.get(segment);
    if (known === undefined) return;
    this.open.delete(segment);
    known.isGivenUp = true;
    if (known.reads === 0) void closeSegment(known);
  }

  async close(): Promise<void> {
    const segments = [...this.open.values()];
    this.open.clear();
    await Promise.all(segments.map(closeSegment));
  }

  private segment(segment: number): OpenSegment {
    const known = this.open.get(segment);
    if (known !== undefined) {
      this.open.delete(segment);
      this.open.set(segment, known);
      return known;
    }
    const opened: OpenSegment = { file: openSegment(this.disk, this.logDir, segment), reads: 0, isGivenUp: false };
    this.open.set(segment, opened);
    if (this.open.size > MAX_OPEN_SEGMENTS) this.forget(this.open.keys().next().value as number);
    return opened;
  }
}

/** One that could not be opened needs no closing; whoever read it has been told. */
async function closeSegment({ file }: OpenSegment): Promise<void> {
  const [opened] = await Promise.allSettled([file]);
  if (opened.status === 'fulfilled') await opened.value.close();
}
