import type { Buffer } from 'node:buffer';
import { ArchiveDamagedError, ArchivedSegment } from './archived-segment.js';
import type { Disk, ReadableFile } from './disk.js';
import { archivedSegmentPath, segmentPath } from './segments.js';

/**
 * Segment reader: opens a segment of the event log for reading, whether it lies there plain or archived.
 * Never: creates a file, changes one, or knows what a line is.
 */
export interface SegmentFile {
  /** Of the plain form. The last segment grows, and may have zeros filled in behind its last line. */
  readonly sizeBytes: number;
  readonly isArchived: boolean;
  /**
   * Up to `lengthBytes` bytes at `offsetBytes` of the plain form; fewer at its end. A damaged block of an archive reads
   * as question marks, so that the lines in it count as damaged and those behind it can be read. Rejects on an I/O error.
   * Cost for an archive: decompressing each block of 1 MiB that is touched; the last two are kept.
   */
  read(offsetBytes: number, lengthBytes: number): Promise<Buffer>;
  close(): Promise<void>;
}

/**
 * Opens a segment. What is open stays readable when the segment is archived or rewritten meanwhile: it shows the bytes
 * as of the opening, so open it anew after a content was removed.
 * Rejects with `code: 'ENOENT'` when there is no such segment, with ArchiveDamagedError when an archive has lost its index.
 */
export async function openSegment(
  disk: Pick<Disk, 'openToRead'>,
  logDir: string,
  segment: number,
): Promise<SegmentFile> {
  // The plain one counts while both are there: an archive is complete when the plain one is gone.
  const plain = openIfPresent(disk, segmentPath(logDir, segment));
  if (plain !== null && plain.size() > 0) return new PlainSegment(plain);
  const path = archivedSegmentPath(logDir, segment);
  // No archive is made of an empty segment: one that is there beside an archive is nobody's, and must not hide it.
  const file = openIfPresent(disk, path);
  if (file === null) return new PlainSegment(plain ?? disk.openToRead(path));
  await plain?.close();
  try {
    return await ArchivedSegment.open(file, path);
  } catch (error) {
    await file.close();
    throw error;
  }
}

/** True for an error of `openSegment` that says the segment is not there or its archive is damaged. */
export function isSegmentUnreadable(error: unknown): boolean {
  return error instanceof ArchiveDamagedError || isMissing(error);
}

function openIfPresent(disk: Pick<Disk, 'openToRead'>, path: string): ReadableFile | null {
  try {
    return disk.openToRead(path);
  } catch (error) {
    if (isMissing(error)) return null;
    throw error;
  }
}

function isMissing(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'ENOENT';
}

class PlainSegment implements SegmentFile {
  readonly isArchived = false;

  constructor(private readonly file: ReadableFile) {}

  get sizeBytes(): number {
    return this.file.size();
  }

  read(offsetBytes: number, lengthBytes: number): Promise<Buffer> {
    return this.file.read(offsetBytes, lengthBytes);
  }

  close(): Promise<void> {
    return this.file.close();
  }
}
