import { Buffer } from 'node:buffer';
import { createHash } from 'node:crypto';
import { ArchiveDamagedError } from './archived-segment.js';
import type { Disk } from './disk.js';
import { decodeLine, type LoggedEvent } from './log-line.js';
import { type ContentPlace, contentPlace } from './redact-line.js';
import { openSegment, type SegmentFile } from './segment-reader.js';
import { type LogPosition, listSegments, logPosition, offsetOf, segmentOf } from './segments.js';

/**
 * Finding what is to be removed from one shard's log.
 * Never: changes a file, or decodes a line that can't hold the content: the log is searched as bytes, a quarter of
 *        a mebibyte at a time, so that the shard goes on serving between two of them.
 */
export type RemovalTarget =
  | { readonly kind: 'state'; readonly key: string }
  | { readonly kind: 'message'; readonly messageId: string };

/** One line that holds content to be removed. */
export interface FoundLine extends ContentPlace {
  readonly position: LogPosition;
  /** With its newline. */
  readonly lineBytes: number;
  /** Its checksum fails: it goes on failing. */
  readonly isDamaged: boolean;
}

export interface FoundContent {
  /** In the order of the log. */
  readonly lines: readonly FoundLine[];
  /** `seq` of the first of them; 0 when it is damaged, `Number.MAX_SAFE_INTEGER` when there is none. */
  readonly firstSeq: number;
  /** Where the record of this very removal lies, if it has been logged. */
  readonly markerPosition: LogPosition | null;
  /** Archives that can't be read. */
  readonly unreadable: readonly string[];
}

export interface SearchedRange {
  readonly from: LogPosition;
  /** Everything before it must have been written. */
  readonly to: LogPosition;
}

/** The search was asked to stop. */
export class RemovalInterrupted extends Error {
  constructor() {
    super('the removal was interrupted');
    this.name = 'RemovalInterrupted';
  }
}

const CHUNK_BYTES = 256 * 1024;
const NEWLINE = 0x0a;

/**
 * Lines within `range` whose content is still there, and the record of the removal `removalId`.
 * Cost: reading that part of the log; memory of a chunk or the longest line, and some 100 bytes for each line found.
 * Rejects with RemovalInterrupted once `isStopped` says so, or with the system's error.
 */
export async function findContent(
  disk: Disk,
  logDir: string,
  target: RemovalTarget,
  removalId: string,
  range: SearchedRange,
  isStopped: () => boolean,
): Promise<FoundContent> {
  const search = new Search(target, removalId, isStopped);
  for (const segment of listSegments(disk, logDir)) {
    if (segment < segmentOf(range.from) || segment > segmentOf(range.to)) continue;
    const from = segment === segmentOf(range.from) ? offsetOf(range.from) : 0;
    const to = segment === segmentOf(range.to) ? offsetOf(range.to) : Number.POSITIVE_INFINITY;
    let file: SegmentFile;
    try {
      file = await openSegment(disk, logDir, segment);
    } catch (error) {
      if (!(error instanceof ArchiveDamagedError)) throw error;
      search.unreadable.push(error.path);
      continue;
    }
    try {
      await search.segment(file, segment, from, to);
    } finally {
      await file.close();
    }
  }
  return search;
}

/** SHA-256 in lowercase hex. */
export function contentHash(content: string): string {
  return createHash('sha256').update(content, 'utf8').digest('hex');
}

/** The content of a line that `findContent` found, for its hash; null for any other. */
export function contentOf(event: LoggedEvent | null): string | null {
  if (event === null || event.redacted === true) return null;
  const { value, content } = event.data as { value?: unknown; content?: unknown };
  if (event.type === 'state_written' && typeof value === 'string') return value;
  return event.type === 'message_sent' && typeof content === 'string' ? content : null;
}

class Search implements FoundContent {
  readonly lines: FoundLine[] = [];
  readonly unreadable: string[] = [];
  firstSeq = Number.MAX_SAFE_INTEGER;
  markerPosition: LogPosition | null = null;
  /** Stands in every line that may hold the content. Its quotes are not escaped: no agent can have written it. */
  private readonly needle: Buffer;
  private readonly marker: Buffer;

  constructor(
    private readonly target: RemovalTarget,
    private readonly removalId: string,
    private readonly isStopped: () => boolean,
  ) {
    const needle =
      target.kind === 'state'
        ? `"key":${JSON.stringify(target.key)},"value":`
        : `"message_id":${JSON.stringify(target.messageId)},"from":`;
    this.needle = Buffer.from(needle, 'utf8');
    this.marker = Buffer.from(`"removal_id":${JSON.stringify(removalId)}`, 'utf8');
  }

  async segment(file: SegmentFile, segment: number, from: number, to: number): Promise<void> {
    let pending: Buffer = Buffer.alloc(0);
    let pendingOffset = from;
    for (;;) {
      if (this.isStopped()) throw new RemovalInterrupted();
      const readFrom = pendingOffset + pending.length;
      const chunk = await file.read(readFrom, Math.min(CHUNK_BYTES, to - readFrom));
      if (chunk.length === 0) return;
      pending = pending.length === 0 ? chunk : Buffer.concat([pending, chunk]);
      const end = pending.lastIndexOf(NEWLINE) + 1;
      const lines = pending.subarray(0, end);
      this.search(lines, this.needle, segment, pendingOffset, (line, position) => this.found(line, position));
      this.search(lines, this.marker, segment, pendingOffset, (line, position) => this.foundMarker(line, position));
      pending = pending.subarray(end);
      pendingOffset += end;
    }
  }

  private search(
    lines: Buffer,
    needle: Buffer,
    segment: number,
    offsetBytes: number,
    take: (line: Buffer, position: LogPosition) => void,
  ): void {
    for (let at = lines.indexOf(needle); at >= 0; ) {
      const start = lines.lastIndexOf(NEWLINE, at) + 1;
      const end = lines.indexOf(NEWLINE, at);
      take(lines.subarray(start, end), logPosition(segment, offsetBytes + start));
      at = lines.indexOf(needle, end);
    }
  }

  private found(line: Buffer, position: LogPosition): void {
    const event = decodeLine(line);
    if (event !== null && (contentOf(event) === null || !this.isMeant(event))) return;
    const place = contentPlace(line);
    if (place === null) return;
    this.firstSeq = Math.min(this.firstSeq, event?.seq ?? 0);
    this.lines.push({ position, lineBytes: line.length + 1, ...place, isDamaged: event === null });
  }

  private isMeant(event: LoggedEvent): boolean {
    const { key, message_id } = event.data as { key?: unknown; message_id?: unknown };
    return this.target.kind === 'state' ? key === this.target.key : message_id === this.target.messageId;
  }

  private foundMarker(line: Buffer, position: LogPosition): void {
    const event = decodeLine(line);
    const isMarker = event !== null && (event.data as { removal_id?: unknown }).removal_id === this.removalId;
    if (isMarker) this.markerPosition = position;
  }
}
