import type { Server } from 'node:net';
import {
  DataDirectoryError,
  lockDataDirectory,
  lockForTools,
  type Manifest,
  readManifest,
  refuseUnfinished,
} from '../data-directory.js';

/**
 * How tools take a data directory: as its only owner, or beside a running server. They never make one.
 */
export interface ToolDirectory {
  readonly manifest: Manifest;
  /** A server is using it, and goes on doing so. */
  readonly serverRuns: boolean;
  /** Lets others use it again. */
  close(): Promise<void>;
}

/**
 * Takes a directory for a command that changes it: from other commands in any case, and, unless one runs, from servers.
 * @throws DataDirectoryError when there is no data directory, another command is at work, or one was interrupted in it.
 */
export async function openForTool(dataDir: string): Promise<ToolDirectory> {
  const manifest = existingManifest(dataDir);
  const tools = await lockForTools(dataDir);
  try {
    refuseUnfinished(dataDir);
    const lock = await lockIfStopped(dataDir);
    return {
      manifest,
      serverRuns: lock === null,
      async close() {
        await lock?.close();
        await closed(tools);
      },
    };
  } catch (error) {
    await closed(tools);
    throw error;
  }
}

/** The directory's lock when nobody has it, so that no server starts meanwhile; null when a server runs. */
export async function lockIfStopped(dataDir: string): Promise<{ close(): Promise<void> } | null> {
  try {
    const lock = await lockDataDirectory(dataDir);
    return { close: () => closed(lock) };
  } catch (error) {
    if (error instanceof DataDirectoryError) return null;
    throw error;
  }
}

/** @throws DataDirectoryError when `dataDir` is not a data directory. */
export function existingManifest(dataDir: string): Manifest {
  const manifest = readManifest(dataDir);
  if (manifest === null) throw new DataDirectoryError(`${dataDir} is not a data directory: it has no manifest.json`);
  return manifest;
}

export function closed(lock: Server): Promise<void> {
  return new Promise((resolve) => lock.close(() => resolve()));
}
