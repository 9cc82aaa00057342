import { Buffer } from 'node:buffer';
import { createHash } from 'node:crypto';
import { mkdirSync, statfsSync } from 'node:fs';
import { type FileHandle, open, rename, rm, utimes } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { DataDirectoryError } from '../data-directory.js';
import { realDisk } from '../disk.js';
import type { Progress } from './progress.js';

/**
 * Files that tools write: complete and on the disk under their name, or not there.
 */
const CHUNK_BYTES = 1024 * 1024;

export interface CopiedFile {
  readonly bytes: number;
  readonly sha256: string;
}

export interface CopyOptions {
  /** Copies only so many bytes from the beginning. */
  readonly maxBytes?: number;
  /** Of the copy; as the source's when left out. */
  readonly modifiedAtMs?: number;
  /** Nothing is put in place when the copy has another checksum. */
  readonly expectedSha256?: string;
}

/** Rejects with DataDirectoryError when the checksum is not as expected, or with the system's error. */
export async function copyDurably(
  from: string,
  to: string,
  progress: Progress,
  { maxBytes = Number.POSITIVE_INFINITY, modifiedAtMs, expectedSha256 }: CopyOptions = {},
): Promise<CopiedFile> {
  const draft = `${to}.part`;
  const source = await open(from, 'r');
  try {
    const { mode, mtimeMs } = await source.stat();
    await rm(draft, { force: true });
    const target = await open(draft, 'wx', mode & 0o777);
    let copied: CopiedFile;
    try {
      copied = await pump(source, target, maxBytes, progress);
      await target.sync();
    } finally {
      await target.close();
    }
    if (expectedSha256 !== undefined && copied.sha256 !== expectedSha256) {
      await rm(draft);
      throw new DataDirectoryError(`${from} is damaged: its checksum is not what was recorded`);
    }
    const modifiedAt = (modifiedAtMs ?? mtimeMs) / 1_000;
    await utimes(draft, modifiedAt, modifiedAt);
    await rename(draft, to);
    return copied;
  } finally {
    await source.close();
  }
}

export async function sha256Of(path: string, progress: Progress): Promise<CopiedFile> {
  const file = await open(path, 'r');
  try {
    return await pump(file, null, Number.POSITIVE_INFINITY, progress);
  } finally {
    await file.close();
  }
}

/** Replaces a small file in one step; durable when it resolves. */
export async function writeDurably(path: string, text: string): Promise<void> {
  const draft = `${path}.new`;
  const file = await open(draft, 'w', 0o600);
  try {
    await file.writeFile(text);
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(draft, path);
  await realDisk.syncDirectory(dirname(path));
}

/** Makes `directory` below `root`, and their names durable. */
export async function makeDirectory(root: string, directory: string): Promise<string> {
  const path = join(root, directory);
  mkdirSync(path, { recursive: true });
  for (let at = path; at !== root; at = dirname(at)) await realDisk.syncDirectory(dirname(at));
  return path;
}

/** @throws DataDirectoryError when the disk that holds `directory` has less room. */
export function requireRoom(directory: string, bytes: number): void {
  const { bavail, bsize } = statfsSync(directory);
  if (bavail * bsize >= bytes) return;
  const mebibytes = (count: number): string => `${Math.ceil(count / 1024 / 1024)} MiB`;
  throw new DataDirectoryError(
    `${directory} needs room for ${mebibytes(bytes)}, and its disk has ${mebibytes(bavail * bsize)}`,
  );
}

async function pump(
  source: FileHandle,
  target: FileHandle | null,
  maxBytes: number,
  progress: Progress,
): Promise<CopiedFile> {
  const hash = createHash('sha256');
  const buffer = Buffer.allocUnsafe(CHUNK_BYTES);
  let bytes = 0;
  while (bytes < maxBytes) {
    const { bytesRead } = await source.read(buffer, 0, Math.min(CHUNK_BYTES, maxBytes - bytes), bytes);
    if (bytesRead === 0) break;
    const chunk = buffer.subarray(0, bytesRead);
    hash.update(chunk);
    for (let written = 0; target !== null && written < bytesRead; ) {
      written += (await target.write(chunk, written)).bytesWritten;
    }
    bytes += bytesRead;
    progress.advance(bytesRead);
  }
  return { bytes, sha256: hash.digest('hex') };
}
