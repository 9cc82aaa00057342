import { spawn } from 'node:child_process';
import { createHash, randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, renameSync, statSync, writeFileSync } from 'node:fs';
import { connect, createServer, type Server } from 'node:net';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import type { Disk } from './disk.js';

/**
 * The data directory: who may use it, and what is fixed for its life.
 * Owns:      `manifest.json` (format, shard count) and the one-owner lock.
 * Never:     reads or writes what the shards keep in it.
 */

/** How `flock -n` ends when somebody else has the lock. */
const FLOCK_CONFLICT = 1;

/** The directory can't be used as it is. The message is one line for the person who started the server. */
export class DataDirectoryError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'DataDirectoryError';
  }
}

export interface Manifest {
  readonly format: 1;
  /** Of the logs as they lie there: a reshard or a restore makes a new one, so that nothing old is taken to fit. */
  readonly id: string;
  /** The first id, when there has been another. */
  readonly origin?: string;
  /** Fixed: the owner of every name follows from it. */
  readonly shards: number;
  readonly created_at: string;
}

/**
 * Makes the caller the directory's only owner until the returned server is closed or the process ends, however it ends.
 *
 * There are two locks, and the system takes both back when the process dies, so a kill -9 leaves nothing stale behind,
 * and two paths to one directory are one lock:
 *   - a Linux abstract socket named after the directory's device and inode: holds between processes that share a network
 *     namespace, and needs nothing;
 *   - flock(2) on the directory itself: holds between all processes of one kernel, so between containers too. Node has no
 *     call for it; the command `flock` puts it on the open file that it is handed, and it stays for as long as we keep
 *     that open. Where there is no such command the first lock is all there is.
 */
export async function lockDataDirectory(dataDir: string): Promise<Server> {
  mkdirSync(dataDir, { recursive: true });
  const server = await listenAt(
    lockName(dataDir),
    `data directory ${dataDir} is in use by another running server or tool`,
  );
  const directory = openSync(dataDir, 'r');
  server.once('close', () => closeSync(directory));
  if (await isFlockedByAnother(directory)) {
    server.close();
    throw new DataDirectoryError(`data directory ${dataDir} is in use by another running server`);
  }
  return server;
}

/** Keeps commands that change a directory apart, also while a server is its owner. As `lockDataDirectory`, without flock. */
export function lockForTools(dataDir: string): Promise<Server> {
  return listenAt(`${lockName(dataDir)}-tools`, `another command is at work on ${dataDir}`);
}

async function listenAt(path: string, inUse: string): Promise<Server> {
  const server = createServer((socket) => socket.destroy());
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      reject(error.code === 'EADDRINUSE' ? new DataDirectoryError(inUse) : error);
    });
    server.listen({ path }, resolve);
  });
  server.unref();
  return server;
}

/** Whether somebody in this network namespace has the lock. Costs the owner a connection: don't ask often. */
export async function isDataDirectoryInUse(dataDir: string): Promise<boolean> {
  const probe = connect({ path: lockName(dataDir) });
  try {
    await once(probe, 'connect');
    return true;
  } catch {
    return false; // nobody listens there
  } finally {
    probe.destroy();
  }
}

/** Of the abstract socket. */
function lockName(dataDir: string): string {
  const { dev, ino } = statSync(dataDir);
  return `\0tabulum-${createHash('sha256').update(`${dev}:${ino}`).digest('hex').slice(0, 32)}`;
}

/** Takes the lock unless another process has it. False also when there is no way to ask. */
async function isFlockedByAnother(directory: number): Promise<boolean> {
  const child = spawn('flock', ['-n', '3'], { stdio: ['ignore', 'ignore', 'ignore', directory] });
  try {
    const [exitCode] = (await once(child, 'exit')) as [number | null];
    return exitCode === FLOCK_CONFLICT;
  } catch {
    // The command is not installed: `error` came instead of `exit`.
    return false;
  }
}

/** Reads the manifest, or writes it for a new directory. `shards` null takes the count as it is. */
export async function openManifest(disk: Disk, dataDir: string, shards: number | null): Promise<Manifest> {
  refuseUnfinished(dataDir);
  const existing = readManifest(dataDir);
  if (existing !== null) {
    if (shards !== null && shards !== existing.shards) {
      throw new DataDirectoryError(
        `${dataDir} was made with topology.shards ${existing.shards}, not ${shards}; the number is fixed for a data ` +
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
  await writeManifest(disk, dataDir, manifest);
  return manifest;
}

/** Replaces the manifest in one step; durable on return. */
export async function writeManifest(disk: Disk, dataDir: string, manifest: Manifest): Promise<void> {
  const path = manifestPath(dataDir);
  const temporary = `${path}.new`;
  writeFileSync(temporary, `${JSON.stringify(manifest, null, 2)}\n`, { flush: true });
  renameSync(temporary, path);
  await disk.syncDirectory(dataDir);
}

export function manifestPath(dataDir: string): string {
  return join(dataDir, 'manifest.json');
}

/** There while a restore has not brought everything back. */
export function restoreMarkerPath(dataDir: string): string {
  return join(dataDir, 'restore-unfinished.json');
}

/** There from the moment a reshard begins to replace the shards until all of them are replaced. */
export function reshardSwitchPath(dataDir: string): string {
  return join(dataDir, 'reshard-unfinished.json');
}

/** A directory in which a tool was interrupted half-way must not be served. @throws DataDirectoryError */
export function refuseUnfinished(dataDir: string): void {
  if (existsSync(restoreMarkerPath(dataDir))) {
    throw new DataDirectoryError(
      `${dataDir} holds an unfinished restore: run the command "restore" again to finish it`,
    );
  }
  if (existsSync(reshardSwitchPath(dataDir))) {
    throw new DataDirectoryError(
      `${dataDir} holds an unfinished reshard: run the command "reshard" again to finish it`,
    );
  }
}

export function shardDirectory(dataDir: string, shard: number): string {
  return join(dataDir, `shard-${String(shard).padStart(2, '0')}`);
}

/** Null when there is none. @throws DataDirectoryError when it is not one this version reads. */
export function readManifest(dataDir: string): Manifest | null {
  const path = manifestPath(dataDir);
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
