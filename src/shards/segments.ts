import { join } from 'node:path';
import type { Disk } from './disk.js';

/**
 * Segments: the files of one shard's event log, numbered from 1 without gaps. A place in the log is one number,
 * exact up to 2^53: segment number * 2^32 + byte offset. Offsets are those of the plain file, also when it is archived.
 */
export const OFFSETS_PER_SEGMENT = 2 ** 32;

export type LogPosition = number;

export function logPosition(segment: number, offsetBytes: number): LogPosition {
  return segment * OFFSETS_PER_SEGMENT + offsetBytes;
}

export function segmentOf(position: LogPosition): number {
  return Math.floor(position / OFFSETS_PER_SEGMENT);
}

export function offsetOf(position: LogPosition): number {
  return position % OFFSETS_PER_SEGMENT;
}

export function segmentPath(logDir: string, segment: number): string {
  return join(logDir, `${String(segment).padStart(8, '0')}.ndjson`);
}

/** A sealed segment, compressed; see archived-segment.ts. */
export function archivedSegmentPath(logDir: string, segment: number): string {
  return `${segmentPath(logDir, segment)}.gz`;
}

const SEGMENT_NAME = /^(\d{8})\.ndjson(\.gz)?$/;

/** Numbers of the segments in a log directory, plain and archived, each once, rising. */
export function listSegments(disk: Pick<Disk, 'list'>, logDir: string): number[] {
  const segments = new Set<number>();
  for (const name of disk.list(logDir)) {
    const match = SEGMENT_NAME.exec(name);
    if (match) segments.add(Number(match[1]));
  }
  return [...segments].sort((a, b) => a - b);
}
