import { Buffer } from 'node:buffer';
import { basename, dirname } from 'node:path';
import { crc32 } from 'node:zlib';
import type { Disk } from './disk.js';

/**
 * Durable note: a small file that holds one JSON value, or nothing; what a process must remember to finish if it dies.
 * Owns:      the form of such files: eight hex digits (CRC-32 of the rest), a blank, JSON, a newline.
 * Invariant: after any crash it reads as nothing or as what was written, never as a part of it.
 */
const CHECK_DIGITS = 8;

/** The value, or null when there is none, or it was not written to its end. Creates nothing. */
export async function readNote<Value>(disk: Disk, path: string): Promise<Value | null> {
  if (!disk.list(dirname(path)).includes(basename(path))) return null;
  const file = disk.openFile(path);
  try {
    const text = await file.read(0, file.size());
    const end = text.indexOf('\n', CHECK_DIGITS + 1);
    if (end < 0) return null;
    const json = text.subarray(CHECK_DIGITS + 1, end);
    if (checkOf(json) !== text.toString('latin1', 0, CHECK_DIGITS)) return null;
    return JSON.parse(json.toString('utf8')) as Value;
  } finally {
    await file.close();
  }
}

/** Durable on return. The note must be empty. Rejects with the system's error; the note is then as good as empty. */
export async function writeNote(disk: Disk, path: string, value: unknown): Promise<void> {
  const json = Buffer.from(JSON.stringify(value), 'utf8');
  const bytes = Buffer.concat([Buffer.from(`${checkOf(json)} `), json, Buffer.from('\n')]);
  const file = disk.openFile(path);
  try {
    file.truncate(0);
    for (let written = 0; written < bytes.length; ) written += file.write(bytes.subarray(written), written);
    await file.sync();
    await disk.syncDirectory(dirname(path));
  } finally {
    await file.close();
  }
}

/** Empties the note; durable on return. Creates nothing. */
export async function clearNote(disk: Disk, path: string): Promise<void> {
  if (!disk.list(dirname(path)).includes(basename(path))) return;
  const file = disk.openFile(path);
  try {
    file.truncate(0);
    await file.sync();
  } finally {
    await file.close();
  }
}

function checkOf(json: Buffer): string {
  return crc32(json).toString(16).padStart(CHECK_DIGITS, '0');
}
