/**
 * Read-only access to the event log of one shard, for observers.
 * Owns:      a few open segments.
 * Never:     creates or changes a file, or uses the I/O threads for a plain segment: the shards' flushes run there, and a
 *            spectator must not stand in their queue. A plain segment is read synchronously, mostly from the page cache.
 */
import { Buffer } from 'node:buffer';
import { closeSync, openSync, readSync } from 'node:fs';
import { realDisk } from '../shards/disk.js';
import { decodeLine, type LoggedEvent } from '../shards/log-line.js';
import { isSegmentUnreadable, openSegment, type SegmentFile } from '../shards/segment-reader.js';
import { type LogPosition, offsetOf, segmentOf, segmentPath } from '../shards/segments.js';

const MAX_OPEN_SEGMENTS = 8;
const NEWLINE = 0x0a;
/** Lines this close to each other are read with one call. */
const READ_TOGETHER_GAP_BYTES = 4 * 1024;
const READ_TOGETHER_BYTES = 1024 * 1024;

/** Where a line lies. */
export interface LinePlace {
  readonly position: LogPosition;
  readonly bytes: number;
}

/** An archive is read in the background: it is closed when it is given up and nobody reads it. */
interface OpenArchive {
  readonly archived: SegmentFile;
  reads: number;
  isGivenUp: boolean;
}

type OpenSegment = { readonly fd: number } | OpenArchive;

export class SegmentFiles {
  /** Least recently used first. */
  private readonly open = new Map<number, OpenSegment>();

  constructor(readonly logDir: string) {}

  /** Up to `bytes` bytes; fewer at the end of the segment. Rejects when it is not there; see `isSegmentUnreadable`. */
  async read(segment: number, offsetBytes: number, bytes: number): Promise<Buffer> {
    const file = this.open.get(segment) ?? (await this.openSegment(segment));
    this.open.delete(segment);
    this.open.set(segment, file);
    if ('archived' in file) return readArchive(file, offsetBytes, bytes);
    const buffer = Buffer.allocUnsafe(bytes);
    let filled = 0;
    while (filled < bytes) {
      const read = readSync(file.fd, buffer, filled, bytes - filled, offsetBytes + filled);
      if (read === 0) break;
      filled += read;
    }
    return buffer.subarray(0, filled);
  }

  /** The event of each line, in the given order; null for one that is damaged or gone. Neighbours are read together. */
  async readLines(places: readonly LinePlace[]): Promise<(LoggedEvent | null)[]> {
    const events: (LoggedEvent | null)[] = [];
    for (let first = 0; first < places.length; ) {
      const start = places[first] as LinePlace;
      let end = start.position + start.bytes;
      let next = first + 1;
      for (; next < places.length; next++) {
        const place = places[next] as LinePlace;
        const gapBytes = place.position - end;
        const isNear = gapBytes >= 0 && gapBytes <= READ_TOGETHER_GAP_BYTES;
        if (!isNear || place.position + place.bytes - start.position > READ_TOGETHER_BYTES) break;
        end = place.position + place.bytes;
      }
      const chunk = await this.readOrNothing(start.position, end - start.position);
      for (; first < next; first++) {
        const { position, bytes } = places[first] as LinePlace;
        const offset = position - start.position;
        const line = chunk.subarray(offset, offset + bytes);
        events.push(line.length === bytes && line[bytes - 1] === NEWLINE ? decodeLine(line.subarray(0, -1)) : null);
      }
    }
    return events;
  }

  /** A line was overwritten, or a segment replaced: what is open may show what must not be shown any more. */
  forget(): void {
    for (const file of this.open.values()) closeSegment(file);
    this.open.clear();
  }

  private async readOrNothing(position: LogPosition, bytes: number): Promise<Buffer> {
    try {
      return await this.read(segmentOf(position), offsetOf(position), bytes);
    } catch (error) {
      if (isSegmentUnreadable(error)) return Buffer.alloc(0);
      throw error;
    }
  }

  private async openSegment(segment: number): Promise<OpenSegment> {
    const plain = openPlain(segmentPath(this.logDir, segment));
    const opened = plain ?? {
      archived: await openSegment(realDisk, this.logDir, segment),
      reads: 0,
      isGivenUp: false,
    };
    const meanwhile = this.open.get(segment);
    if (meanwhile !== undefined) {
      closeSegment(opened);
      return meanwhile;
    }
    if (this.open.size >= MAX_OPEN_SEGMENTS) this.closeOldest();
    return opened;
  }

  private closeOldest(): void {
    const [oldest] = this.open;
    if (oldest === undefined) return;
    this.open.delete(oldest[0]);
    closeSegment(oldest[1]);
  }
}

function openPlain(path: string): { readonly fd: number } | null {
  try {
    return { fd: openSync(path, 'r') };
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return null;
    throw error;
  }
}

function closeSegment(file: OpenSegment): void {
  if ('fd' in file) {
    closeSync(file.fd);
    return;
  }
  file.isGivenUp = true;
  if (file.reads === 0) void file.archived.close();
}

async function readArchive(file: OpenArchive, offsetBytes: number, bytes: number): Promise<Buffer> {
  file.reads += 1;
  try {
    return await file.archived.read(offsetBytes, bytes);
  } finally {
    file.reads -= 1;
    if (file.isGivenUp && file.reads === 0) void file.archived.close();
  }
}
