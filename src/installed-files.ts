/**
 * Where the files that the running server opens by name lie, seen from this one. The build bundles the sources into one
 * file per entry, beside shared chunks; it puts each chunk where this file's `./` holds: at the top of dist.
 */
import { fileURLToPath } from 'node:url';

/** The threads of the server, by the file each starts from: entries of bundle.mjs too. */
const WORKER_ENTRIES = {
  shard: './shards/shard-worker.js',
  gateway: './gateway/gateway-worker.js',
  bcrypt: './auth-pool/bcrypt-worker.js',
  observer: './observe/observer-worker.js',
  webhooks: './webhooks/webhook-worker.js',
} as const;

export type WorkerKind = keyof typeof WORKER_ENTRIES;

export function workerEntry(kind: WorkerKind): string {
  return fileURLToPath(new URL(WORKER_ENTRIES[kind], import.meta.url));
}

/** The observation page, as Vite built it. */
export const PAGE_DIRECTORY = fileURLToPath(new URL('./observe/web/', import.meta.url));
