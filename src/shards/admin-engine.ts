import type { MessagePort } from 'node:worker_threads';
import type { EngineReply } from '../contract/engine.js';
import { askEveryShard } from './ask-every-shard.js';
import type { EngineConnection, ShardPort } from './connect-engine.js';
import type { RemovalTarget } from './removal-scan.js';
import { shardOf } from './routing.js';
import { ShardClient } from './shard-client.js';
import type { FoundPart, RemovedPart } from './shard-removal.js';
import { SharedCounters } from './shared-counters.js';
import { OPS } from './wire.js';

/**
 * The shards as the admin service sees them: what only the person who runs the server may do.
 * Owns:  the main thread's lines to the shards for that.
 * Never: repeats a call; a shard that is away answers `unavailable`, and the caller knows whether to come back.
 */
export class AdminEngine {
  private readonly clients: ShardClient[] = [];
  private readonly control: MessagePort;
  readonly connected: Promise<void>;

  constructor({ counterMemory, control }: EngineConnection) {
    this.control = control;
    const { shards } = new SharedCounters(counterMemory);
    for (let shard = 0; shard < shards; shard++) this.clients.push(new ShardClient());
    this.connected = new Promise((resolve) => {
      const missing = new Set(this.clients.keys());
      control.on('message', ({ shard, port }: ShardPort) => {
        const client = this.clients[shard] as ShardClient;
        if (port === null) return client.disconnect();
        client.connect(port);
        missing.delete(shard);
        if (missing.size === 0) resolve();
      });
    });
  }

  disconnect(): void {
    this.control.close();
    for (const client of this.clients) client.disconnect();
  }

  /** Looks for the content everywhere, and changes nothing. Cost: reading the whole event log. */
  async findContent(id: string, target: RemovalTarget): Promise<EngineReply<FoundPart>> {
    const parts = await askEveryShard(this.clients, (client) =>
      client.call(OPS.findContent, id, target, null, toPart<FoundPart>),
    );
    return parts.ok ? { ok: true, value: together(parts.value) } : parts;
  }

  /**
   * Removes the content everywhere, durably. When a shard refuses, others may have done their part: call again with the
   * same id until it is done; a shard remembers what it has begun, also after a crash.
   */
  async removeContent(id: string, target: RemovalTarget): Promise<EngineReply<RemovedPart>> {
    const owner = target.kind === 'state' ? this.clients[shardOf(target.key, this.clients.length)] : undefined;
    const parts = await askEveryShard(this.clients, (client) =>
      client.call(OPS.removeContent, id, target, client === owner, toPart<RemovedPart>),
    );
    if (!parts.ok) return parts;
    return {
      ok: true,
      value: { ...together(parts.value), unreadable: parts.value.flatMap((part) => part.unreadable) },
    };
  }

  /** The removal is in the transparency log: the shards may forget it. */
  async settleRemoval(id: string): Promise<EngineReply<null>> {
    const parts = await askEveryShard(this.clients, (client) =>
      client.call(OPS.settleRemoval, id, null, null, toPart<null>),
    );
    return parts.ok ? { ok: true, value: null } : parts;
  }

  /** Durable on resolution. True when there is, or was, such an agent or operator. */
  async revoke(subject: string): Promise<EngineReply<boolean>> {
    const parts = await askEveryShard(this.clients, (client) =>
      client.call(OPS.revoke, subject, null, null, toPart<boolean>),
    );
    return parts.ok ? { ok: true, value: parts.value.includes(true) } : parts;
  }
}

function toPart<T>(part: unknown): T {
  return part as T;
}

/** Found when any has it; the hash is of the last content that was logged. */
function together(parts: readonly FoundPart[]): FoundPart {
  let contentHash: string | null = null;
  let hashedSeq = -1;
  for (const part of parts) {
    if (part.contentHash === null || part.hashedSeq <= hashedSeq) continue;
    ({ contentHash, hashedSeq } = part);
  }
  const firstSeq = Math.min(...parts.map((part) => part.firstSeq));
  return { isFound: parts.some((part) => part.isFound), contentHash, hashedSeq: Math.max(hashedSeq, 0), firstSeq };
}
