import type { EngineReply, PushAgent } from '../contract/engine.js';
import { toPushAgents } from './answers.js';
import type { ShardClient } from './shard-client.js';
import { OPS } from './wire.js';

/**
 * Push feed: the agents with messages to push, of all shards, for the one dispatcher there is.
 * Owns:  one open question to each shard, and what was answered but not yet taken.
 * Never: asks a shard twice at once, or forgets an agent it was handed: a wait that ends early leaves them for the next.
 */
/** Before a shard that refused is asked again: it stops, or its disk is full. */
const ASK_AGAIN_MS = 1_000;

export class PushFeed {
  private readonly asked = new Set<ShardClient>();
  private agents: PushAgent[] = [];
  /** Ends the wait of whoever takes the next agents. */
  private wake: (() => void) | null = null;

  constructor(clients: readonly ShardClient[]) {
    for (const client of clients) this.ask(client);
  }

  /** A shard is there (again): it hands out all its agents anew. */
  connected(client: ShardClient): void {
    this.ask(client);
  }

  /** Resolves as soon as there are agents; with none when `signal` ends the wait. */
  async next(signal: AbortSignal): Promise<EngineReply<readonly PushAgent[]>> {
    if (this.agents.length === 0 && !signal.aborted) {
      await new Promise<void>((resolve) => {
        const end = (): void => {
          signal.removeEventListener('abort', end);
          this.wake = null;
          resolve();
        };
        this.wake = end;
        signal.addEventListener('abort', end, { once: true });
      });
    }
    const { agents } = this;
    this.agents = [];
    return { ok: true, value: agents };
  }

  private ask(client: ShardClient): void {
    if (this.asked.has(client) || !client.isConnected) return;
    this.asked.add(client);
    void client.callAndWait(OPS.awaitPush, null, null, null, toPushAgents).then((reply) => {
      this.asked.delete(client);
      if (reply.ok && reply.value.length > 0) {
        this.agents.push(...reply.value);
        this.wake?.();
        this.ask(client);
      } else {
        setTimeout(() => this.ask(client), ASK_AGAIN_MS).unref();
      }
    });
  }
}
