import type { EngineReply } from '../contract/engine.js';
import type { ShardClient } from './shard-client.js';

/** Every shard's part, in shard order; the first refusal if any shard refuses. */
export async function askEveryShard<T>(
  clients: readonly ShardClient[],
  ask: (client: ShardClient) => Promise<EngineReply<T>>,
): Promise<EngineReply<T[]>> {
  const replies = await Promise.all(clients.map(ask));
  const parts: T[] = [];
  for (const reply of replies) {
    if (!reply.ok) return reply;
    parts.push(reply.value);
  }
  return { ok: true, value: parts };
}
