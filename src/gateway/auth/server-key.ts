/**
 * The server's secret key, under which `auth.scheme: hmac` stores tokens.
 * Owns:      `server.key` in the data directory. Losing it makes every hmac token invalid, so it is never replaced.
 */
import { randomBytes } from 'node:crypto';
import { closeSync, fsyncSync, openSync, readFileSync, renameSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';

const KEY_FILE = 'server.key';
const KEY_BYTES = 32;

/**
 * Reads the key, or makes it on the first start: durable (file and directory synced) before it is returned, readable by
 * the owner only. Blocks; call once, at start, by the owner of the data directory.
 * @throws Error with one clear line when the file is there but not a key, or can't be read or written.
 */
export function loadServerKey(dataDir: string): Buffer {
  const path = join(dataDir, KEY_FILE);
  const existing = readIfPresent(path);
  if (existing !== null) {
    if (existing.length !== KEY_BYTES) {
      throw new Error(
        `${path} holds ${existing.length} bytes instead of ${KEY_BYTES}: restore it from a backup, or delete it if no token was issued with auth.scheme hmac`,
      );
    }
    return existing;
  }
  const key = randomBytes(KEY_BYTES);
  // Written aside and renamed, so that a crash never leaves half a key under the real name.
  const draft = `${path}.new`;
  rmSync(draft, { force: true }); // a crash may have left one, with whatever mode
  const file = openSync(draft, 'wx', 0o600);
  try {
    if (writeSync(file, key) !== KEY_BYTES) throw new Error(`${draft} could not be written whole`);
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
  renameSync(draft, path);
  const directory = openSync(dataDir, 'r');
  try {
    fsyncSync(directory);
  } finally {
    closeSync(directory);
  }
  return key;
}

function readIfPresent(path: string): Buffer | null {
  try {
    return readFileSync(path);
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return null;
    throw error;
  }
}
