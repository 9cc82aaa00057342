import { Buffer } from 'node:buffer';
import type { Disk, LogFile } from './disk.js';
import { decodeLine, type LoggedEvent } from './log-line.js';
import type { RecentLog } from './recent-log.js';
import { type LogPosition, listSegments, logPosition, offsetOf, segmentOf, segmentPath } from './segments.js';

/**
 * Log reader: reads back what a log writer wrote.
 * Never: changes a file, or stops at damage: a damaged line is handed out as such, with its place.
 */

const CHUNK_BYTES = 1024 * 1024;
const NEWLINE = 0x0a;
/** Segments kept open for reading single lines. */
const MAX_OPEN_SEGMENTS = 32;

/** One complete line, or the incomplete rest (`torn`) at the end of a segment. */
export type ScannedLine =
  | { readonly kind: 'event'; readonly position: LogPosition; readonly bytes: number; readonly event: LoggedEvent }
  | { readonly kind: 'damaged'; readonly position: LogPosition; readonly bytes: number }
  | { readonly kind: 'torn'; readonly position: LogPosition; readonly bytes: number };

/** Lines from `from` to the end of the last segment, in order. Memory: one chunk, or the longest line. */
export async function* scanLog(disk: Disk, logDir: string, from: LogPosition): AsyncGenerator<ScannedLine> {
  for (const segment of listSegments(disk, logDir)) {
    if (segment < segmentOf(from)) continue;
    const startBytes = segment === segmentOf(from) ? offsetOf(from) : 0;
    const file = disk.openFile(segmentPath(logDir, segment));
    try {
      yield* scanSegment(file, segment, startBytes);
    } finally {
      await file.close();
    }
  }
}

async function* scanSegment(file: LogFile, segment: number, startBytes: number): AsyncGenerator<ScannedLine> {
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
      const event = decodeLine(pending.subarray(lineStart, lineEnd));
      const bytes = lineEnd + 1 - lineStart;
      yield event === null ? { kind: 'damaged', position, bytes } : { kind: 'event', position, bytes, event };
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

/** Reads single lines at known places, for messages that have left memory. */
export class LineReader {
  private readonly disk: Disk;
  private readonly logDir: string;
  private readonly recent: RecentLog;
  /** Least recently used first. */
  private readonly open = new Map<number, LogFile>();

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

  /** The event at `position`, or null when the line there is damaged. Rejects on an I/O error. */
  async read(position: LogPosition, bytes: number): Promise<LoggedEvent | null> {
    const line = await this.segment(segmentOf(position)).read(offsetOf(position), bytes);
    if (line.length !== bytes || line[bytes - 1] !== NEWLINE) return null;
    return decodeLine(line.subarray(0, bytes - 1));
  }

  async close(): Promise<void> {
    const files = [...this.open.values()];
    this.open.clear();
    await Promise.all(files.map((file) => file.close()));
  }

  private segment(segment: number): LogFile {
    const known = this.open.get(segment);
    if (known !== undefined) {
      this.open.delete(segment);
      this.open.set(segment, known);
      return known;
    }
    const file = this.disk.openFile(segmentPath(this.logDir, segment));
    this.open.set(segment, file);
    if (this.open.size > MAX_OPEN_SEGMENTS) this.closeOldest();
    return file;
  }

  private closeOldest(): void {
    const oldest = this.open.entries().next().value;
    if (oldest === undefined) return;
    this.open.delete(oldest[0]);
    // Reads under way hold the descriptor's number, not the file: let them finish first.
    setImmediate(() => void oldest[1].close());
  }
}
