import { fileURLToPath } from 'node:url';

/** The threads of the server, by the file each starts from. */
const WORKER_ENTRIES = {
  shard: './shards/shard-worker.js',
  gateway: './gateway/gateway-worker.js',
  bcrypt: './auth-pool/bcrypt-worker.js',
  observer: './observe/observer-worker.js',
  webhooks: './webhooks/webhook-worker.js',
} as const;

export type WorkerKind = keyof typeof WORKER_ENTRIES;

/** The one place that knows where a worker's compiled entry file lies; a bundled build changes only this. */
export function workerEntry(kind: WorkerKind): string {
  return fileURLToPath(new URL(WORKER_ENTRIES[kind], import.meta.url));
}
