/** Fresh directories for tests, gone when the test is over, however it ended. */
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** The part of node:test's context that a directory needs. */
export interface Cleanup {
  after(callback: () => Promise<void>): void;
}

/** A fresh, empty directory; the caller removes it with `removeTempDir`. */
export function makeTempDir(): Promise<string> {
  return mkdtemp(join(tmpdir(), 'tabulum-test-'));
}

/** Removes a directory and all in it. Retries for a moment, since a killed process may still be closing its files. */
export function removeTempDir(path: string): Promise<void> {
  return rm(path, { recursive: true, force: true, maxRetries: 10, retryDelay: 50 });
}

/** A fresh, empty directory that is removed after the test. */
export async function tempDir(t: Cleanup): Promise<string> {
  const path = await makeTempDir();
  t.after(() => removeTempDir(path));
  return path;
}

/** As `makeTempDir`, in memory where there is such a file system: for files whose durability is not the question. */
export function fastDir(): Promise<string> {
  return mkdtemp(join(existsSync(MEMORY_DIR) ? MEMORY_DIR : tmpdir(), 'tabulum-test-'));
}

const MEMORY_DIR = '/dev/shm';
