import { Buffer } from 'node:buffer';
import { type FileHandle, open, rename, rm } from 'node:fs/promises';
import { promisify } from 'node:util';
import { crc32, gunzip, gzip } from 'node:zlib';
import type { Disk, ReadableFile } from './disk.js';
import type { SegmentFile } from './segment-reader.js';
import { archivedSegmentPath } from './segments.js';

/**
 * Archived segment: a sealed segment as a gzip file that `gunzip` turns back into the plain one, and of which any part
 * can be read by decompressing no more than that part.
 * Owns:      the format; how an archive is written and replaced.
 * Never:     decides which segment is archived, or removes a plain one.
 * Invariant: a file under an archive's name is complete and on the disk; offsets are those of the plain file.
 *
 *   member 0..n-1   one gzip member for each block of 1 MiB of the plain file; the last may be shorter
 *   member n        empty; its FEXTRA field (RFC 1952, 2.3.1.1), subfield "TB", is the index:
 *                   u32 × n    compressed bytes of each member
 *                   u32        n
 *                   u32        block size, 1 MiB
 *                   f64        bytes of the plain file
 *                   u32        CRC-32 of the index up to here
 *                   4 bytes    "TBSX"
 *   All numbers are little-endian. What comes behind the index is fixed, so it is found from the end of the file.
 */
export const ARCHIVE_BLOCK_BYTES = 1024 * 1024;
/** Open archives keep this many decompressed blocks: lines may lie across two. */
const KEPT_BLOCKS = 2;
const COMPRESSION_LEVEL = 6;

const INDEX_MAGIC = Buffer.from('TBSX', 'latin1');
const INDEX_TAIL_BYTES = 24;
/** gzip header with FEXTRA: magic, deflate, flags, no time, no extra flags, unknown system. */
const INDEX_MEMBER_HEADER = Buffer.from([0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 255]);
/** An empty deflate block, CRC-32 and size of nothing. */
const INDEX_MEMBER_END = Buffer.from([3, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
const SUBFIELD_ID = Buffer.from('TB', 'latin1');
/** What a damaged block reads as; no line of a log looks like it. */
const DAMAGED_BYTE = '?';

const gzipAsync = promisify<Buffer, { level: number }, Buffer>(gzip);
const gunzipAsync = promisify<Buffer, Buffer>(gunzip);

/** The archive can't be read at all: its index is not what was written. `gunzip` may still get at the lines. */
export class ArchiveDamagedError extends Error {
  constructor(
    readonly path: string,
    readonly reason: string,
  ) {
    super(`${path}: ${reason}`);
    this.name = 'ArchiveDamagedError';
  }
}

export class ArchivedSegment implements SegmentFile {
  readonly isArchived = true;
  private readonly kept = new Map<number, Promise<Buffer | null>>();
  /** Of those read so far. */
  readonly damagedBlocks = new Set<number>();

  private constructor(
    private readonly file: ReadableFile,
    readonly sizeBytes: number,
    /** Where each block's member begins, and where the last one ends. */
    private readonly memberOffsets: readonly number[],
  ) {}

  /** Takes over `file` unless it rejects: with ArchiveDamagedError, or the system's error. */
  static async open(file: ReadableFile, path: string): Promise<ArchivedSegment> {
    const fileBytes = file.size();
    const tailBytes = INDEX_TAIL_BYTES + INDEX_MEMBER_END.length;
    if (fileBytes < tailBytes) throw new ArchiveDamagedError(path, 'too short for an archive');
    const tail = await file.read(fileBytes - tailBytes, tailBytes);
    const isArchive =
      tail.subarray(INDEX_TAIL_BYTES - INDEX_MAGIC.length, INDEX_TAIL_BYTES).equals(INDEX_MAGIC) &&
      tail.subarray(INDEX_TAIL_BYTES).equals(INDEX_MEMBER_END);
    if (!isArchive) throw new ArchiveDamagedError(path, 'no index at the end of the file');
    const blocks = tail.readUInt32LE(0);
    const sizeBytes = tail.readDoubleLE(8);
    const indexBytes = blocks * 4 + INDEX_TAIL_BYTES;
    const indexOffset = fileBytes - INDEX_MEMBER_END.length - indexBytes;
    if (indexOffset < 0) throw new ArchiveDamagedError(path, 'the index is damaged');
    const index = await file.read(indexOffset, indexBytes);
    const checkedBytes = indexBytes - INDEX_MAGIC.length - 4;
    const memberOffsets = [0];
    for (let block = 0; block < blocks; block++) {
      memberOffsets.push((memberOffsets[block] as number) + index.readUInt32LE(block * 4));
    }
    const isSound =
      crc32(index.subarray(0, checkedBytes)) === index.readUInt32LE(checkedBytes) &&
      tail.readUInt32LE(4) === ARCHIVE_BLOCK_BYTES &&
      blocks === Math.ceil(sizeBytes / ARCHIVE_BLOCK_BYTES) &&
      memberOffsets[blocks] === indexOffset - SUBFIELD_ID.length - 2 - 2 - INDEX_MEMBER_HEADER.length;
    if (!isSound) throw new ArchiveDamagedError(path, 'the index is damaged');
    return new ArchivedSegment(file, sizeBytes, memberOffsets);
  }

  get blocks(): number {
    return this.memberOffsets.length - 1;
  }

  async read(offsetBytes: number, lengthBytes: number): Promise<Buffer> {
    const endBytes = Math.min(offsetBytes + lengthBytes, this.sizeBytes);
    if (offsetBytes >= endBytes) return Buffer.alloc(0);
    const parts: Buffer[] = [];
    for (let at = offsetBytes; at < endBytes; ) {
      const number = Math.floor(at / ARCHIVE_BLOCK_BYTES);
      const startBytes = number * ARCHIVE_BLOCK_BYTES;
      const block = (await this.block(number)) ?? Buffer.alloc(this.blockBytes(number), DAMAGED_BYTE);
      const part = block.subarray(at - startBytes, endBytes - startBytes);
      parts.push(part);
      at += part.length;
    }
    return parts.length === 1 ? (parts[0] as Buffer) : Buffer.concat(parts);
  }

  /** The plain bytes of one block, or null when they are damaged. Nobody may change them. */
  block(number: number): Promise<Buffer | null> {
    const kept = this.kept.get(number);
    if (kept !== undefined) return kept;
    const block = this.decompress(number);
    this.kept.set(number, block);
    for (const oldest of this.kept.keys()) {
      if (this.kept.size <= KEPT_BLOCKS) break;
      this.kept.delete(oldest);
    }
    // A failed read says nothing about the next one.
    block.catch(() => this.kept.delete(number));
    return block;
  }

  /** One block as it lies in the file. */
  member(number: number): Promise<Buffer> {
    const from = this.memberOffsets[number] as number;
    return this.file.read(from, (this.memberOffsets[number + 1] as number) - from);
  }

  /** Where one block's member begins in the file. */
  memberOffset(number: number): number {
    return this.memberOffsets[number] as number;
  }

  close(): Promise<void> {
    this.kept.clear();
    return this.file.close();
  }

  private blockBytes(number: number): number {
    return Math.min(ARCHIVE_BLOCK_BYTES, this.sizeBytes - number * ARCHIVE_BLOCK_BYTES);
  }

  private async decompress(number: number): Promise<Buffer | null> {
    const member = await this.member(number);
    let plain: Buffer;
    try {
      plain = await gunzipAsync(member);
    } catch {
      // gunzip checks its own CRC-32: whatever it says, the block is not what was written.
      plain = Buffer.alloc(0);
    }
    if (plain.length === this.blockBytes(number)) return plain;
    this.damagedBlocks.add(number);
    return null;
  }
}

/** What an archive is made of; every block but the last has `ARCHIVE_BLOCK_BYTES`. */
export interface ArchiveBlock {
  readonly plainBytes: number;
  /** One gzip member. */
  readonly member: Buffer;
}

export async function compressBlock(plain: Buffer): Promise<ArchiveBlock> {
  return { plainBytes: plain.length, member: await gzipAsync(plain, { level: COMPRESSION_LEVEL }) };
}

/** Where an archive is prepared; a crash may leave it behind, meaning nothing. */
export function archiveDraftPath(logDir: string, segment: number): string {
  return `${archivedSegmentPath(logDir, segment)}.new`;
}

/** Writes an archive beside its place, and returns when it is on the disk. Returns its size in bytes. */
export async function writeArchiveDraft(
  logDir: string,
  segment: number,
  blocks: AsyncIterable<ArchiveBlock>,
): Promise<number> {
  const draft = archiveDraftPath(logDir, segment);
  await rm(draft, { force: true });
  const file = await open(draft, 'wx', 0o644);
  try {
    const memberBytes: number[] = [];
    let sizeBytes = 0;
    let fileBytes = 0;
    for await (const { plainBytes, member } of blocks) {
      await writeAll(file, member);
      memberBytes.push(member.length);
      sizeBytes += plainBytes;
      fileBytes += member.length;
    }
    const index = indexMember(memberBytes, sizeBytes);
    await writeAll(file, index);
    await file.sync();
    return fileBytes + index.length;
  } finally {
    await file.close();
  }
}

/** Puts the draft into its place, in one step, also after a power loss. */
export async function placeArchive(disk: Pick<Disk, 'syncDirectory'>, logDir: string, segment: number): Promise<void> {
  await rename(archiveDraftPath(logDir, segment), archivedSegmentPath(logDir, segment));
  await disk.syncDirectory(logDir);
}

/**
 * Changes bytes of an archived segment, all of them or none, whenever a crash comes; offsets stay as they are.
 * @param edit is given whole lines, `lines.length` bytes at `offsetBytes` of the plain form, from the first to the last;
 *   changes them in place, and returns whether it did. It must not keep them. A rest without a newline comes last.
 *   One call for the same log directory at a time.
 * @returns whether anything changed; durable then.
 * Rejects with ArchiveDamagedError when a block is damaged (nothing is changed then), or the system's error.
 * Cost: decompresses the segment (about 200 MB/s), compresses what changed, writes and syncs the whole archive.
 * Files that others have open still show the old bytes: they must open it again (`LineReader.forget`).
 */
export async function rewriteArchivedSegment(
  disk: Pick<Disk, 'openToRead' | 'syncDirectory'>,
  logDir: string,
  segment: number,
  edit: (lines: Buffer, offsetBytes: number) => boolean,
): Promise<boolean> {
  const path = archivedSegmentPath(logDir, segment);
  const file = disk.openToRead(path);
  try {
    const archive = await ArchivedSegment.open(file, path);
    let hasChanged = false;
    const blocks = editedBlocks(archive, path, (lines, offsetBytes) => {
      const changed = edit(lines, offsetBytes);
      hasChanged ||= changed;
      return changed;
    });
    await writeArchiveDraft(logDir, segment, blocks);
    if (hasChanged) await placeArchive(disk, logDir, segment);
    else await rm(archiveDraftPath(logDir, segment));
    return hasChanged;
  } finally {
    await file.close();
  }
}

async function* editedBlocks(
  archive: ArchivedSegment,
  path: string,
  edit: (lines: Buffer, offsetBytes: number) => boolean,
): AsyncGenerator<ArchiveBlock> {
  /** The first block that is not handed on, and those after it, as far as they are read. */
  let firstBlock = 0;
  let window: Buffer = Buffer.alloc(0);
  /** Plain bytes before it have been edited: the end of a line. */
  let editedTo = 0;
  const changedBlocks = new Set<number>();
  for (let number = 0; number < archive.blocks; number++) {
    const block = await archive.block(number);
    if (block === null) {
      throw new ArchiveDamagedError(path, `damaged block at byte ${archive.memberOffset(number)} of the archive`);
    }
    // Also a copy: what is edited must not be what the archive keeps.
    window = Buffer.concat([window, block]);
    const windowOffset = firstBlock * ARCHIVE_BLOCK_BYTES;
    const isLast = number === archive.blocks - 1;
    const linesEnd = windowOffset + (isLast ? window.length : window.lastIndexOf(NEWLINE) + 1);
    if (linesEnd > editedTo) {
      const lines = window.subarray(editedTo - windowOffset, linesEnd - windowOffset);
      if (edit(lines, editedTo)) {
        const lastTouched = Math.floor((linesEnd - 1) / ARCHIVE_BLOCK_BYTES);
        for (let touched = Math.floor(editedTo / ARCHIVE_BLOCK_BYTES); touched <= lastTouched; touched++) {
          changedBlocks.add(touched);
        }
      }
      editedTo = linesEnd;
    }
    const handedOnTo = isLast ? number + 1 : Math.floor(editedTo / ARCHIVE_BLOCK_BYTES);
    for (; firstBlock < handedOnTo; firstBlock++) {
      const plain = window.subarray(0, ARCHIVE_BLOCK_BYTES);
      window = window.subarray(plain.length);
      if (changedBlocks.delete(firstBlock)) yield await compressBlock(plain);
      else yield { plainBytes: plain.length, member: await archive.member(firstBlock) };
    }
  }
}

const NEWLINE = 0x0a;

function indexMember(memberBytes: readonly number[], sizeBytes: number): Buffer {
  const index = Buffer.alloc(memberBytes.length * 4 + INDEX_TAIL_BYTES);
  let at = 0;
  for (const bytes of memberBytes) at = index.writeUInt32LE(bytes, at);
  at = index.writeUInt32LE(memberBytes.length, at);
  at = index.writeUInt32LE(ARCHIVE_BLOCK_BYTES, at);
  at = index.writeDoubleLE(sizeBytes, at);
  at = index.writeUInt32LE(crc32(index.subarray(0, at)), at);
  INDEX_MAGIC.copy(index, at);
  const lengths = Buffer.alloc(6);
  lengths.writeUInt16LE(index.length + 4, 0);
  SUBFIELD_ID.copy(lengths, 2);
  lengths.writeUInt16LE(index.length, 4);
  return Buffer.concat([INDEX_MEMBER_HEADER, lengths, index, INDEX_MEMBER_END]);
}

async function writeAll(file: FileHandle, bytes: Buffer): Promise<void> {
  for (let written = 0; written < bytes.length; ) {
    written += (await file.write(bytes, written)).bytesWritten;
  }
}
