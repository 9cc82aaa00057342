import { createXXHash32 } from 'hash-wasm';

const hasher = await createXXHash32(0);

/**
 * The shard that owns a state key, an agent address, an operator id or a credential's lookup: xxHash32 of its UTF-8
 * form modulo the shard count. The count is fixed for a data directory, so the owner of a name never changes.
 * About 0.3 microseconds; nothing with a single shard.
 */
export function shardOf(name: string, shards: number): number {
  if (shards === 1) return 0;
  const digest = hasher.init().update(name).digest('binary');
  const hash = (digest[0] ?? 0) * 0x1000000 + (((digest[1] ?? 0) << 16) | ((digest[2] ?? 0) << 8) | (digest[3] ?? 0));
  return hash % shards;
}
