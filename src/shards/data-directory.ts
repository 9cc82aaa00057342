import { createHash, randomUUID } from 'node:crypto';
import { mkdirSync, readFileSync, renameSync, statSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import type { Disk } from './disk.js';

/**
 * The data directory: who may use it, and what is fixed for its life.
 * Owns:      `manifest.json` (format, shard count) and the one-owner lock.
 * Never:     reads or writes what the shards keep in it.
 */

/** The directory can't be used as it is. The message is one line for the person who started the server. */
export class DataDirectoryError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'DataDirectoryError';
  }
}

export interface Manifest {
  readonly format: 1;
  readonly id: string;
  /** Fixed: the owner of every name follows from it. */
  readonly shards: number;
  readonly created_at: string;
}

/**
 * Makes the caller the directory's only owner until the returned server is closed or the process ends, however it ends.
 *
 * The lock is a Linux abstract socket named after the directory's device and inode: the system takes it back when the
 * process dies, so a kill -9 leaves nothing stale behind, and two paths to one directory are one lock.
 */
export async function lockDataDirectory(dataDir: string): Promise<Server> {
  mkdirSync(dataDir, { recursive: true });
  const { dev, ino } = statSync(dataDir);
  const name = createHash('sha256').update(`${dev}:${ino}`).digest('hex').slice(0, 32);
  const server = createServer((socket) => socket.destroy());
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      const inUse = error.code === 'EADDRINUSE';
      reject(inUse ? new DataDirectoryError(`data directory ${dataDir} is in use by another running server`) : error);
    });
    server.listen({ path: `\0tabulum-${name}` }, resolve);
  });
  server.unref();
  return server;
}

/** Reads the manifest, or writes it for a new directory. `shards` null takes the count as it is. */
export async function openManifest(disk: Disk, dataDir: string, shards: number | null): Promise<Manifest> {
  const path = join(dataDir, 'manifest.json');
  const existing = readManifest(path);
  if (existing !== null) {
    if (shards !== null && shards !== existing.shards) {
      throw new DataDirectoryError(
        `${dataDir} holds ${existing.shards} shards, but topology.shards is ${shards}; the count is fixed for a data ` +
          'directory: leave the setting out, or change the directory with the command "reshard"',
      );
    }
    return existing;
  }
  const manifest: Manifest = {
    format: 1,
    id: randomUUID(),
    shards: shards ?? Math.max(1, Math.min(64, Math.floor(availableParallelism() / 2))),
    created_at: new Date().toISOString(),
  };
  const temporary = `${path}.new`;
  writeFileSync(temporary, `${JSON.stringify(manifest, null, 2)}\n`, { flush: true });
  renameSync(temporary, path);
  await disk.syncDirectory(dataDir);
  return manifest;
}

export function shardDirectory(dataDir: string, shard: number): string {
  return join(dataDir, `shard-${String(shard).padStart(2, '0')}`);
}

function readManifest(path: string): Manifest | null {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw error;
  }
  let parsed: Partial<Manifest> | null;
  try {
    parsed = JSON.parse(text) as Partial<Manifest> | null;
  } catch {
    throw new DataDirectoryError(`${path} is not JSON; restore it from a backup`);
  }
  if (typeof parsed !== 'object' || parsed === null) {
    throw new DataDirectoryError(`${path} is not a JSON object; restore it from a backup`);
  }
  if (parsed.format !== 1) {
    throw new DataDirectoryError(`${path} has format ${String(parsed.format)}; this version reads format 1`);
  }
  if (!Number.isInteger(parsed.shards) || (parsed.shards ?? 0) < 1) {
    throw new DataDirectoryError(`${path} names no valid shard count; restore it from a backup`);
  }
  return parsed as Manifest;
}
