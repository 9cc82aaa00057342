import { randomInt, randomUUID } from 'node:crypto';
import type { MessagePort } from 'node:worker_threads';
import type {
  AckReceipt,
  AgentPage,
  AgentSummary,
  Capacity,
  Credential,
  Engine,
  EngineReply,
  KeyPage,
  LeasedBatch,
  LeaseTerms,
  MessageReceipt,
  NewAgent,
  NewMessage,
  NewOperator,
  PageRequest,
  PushAgent,
  PushOutcome,
  ReceivedBatch,
  ReceivedMessage,
  StateEntry,
  StoredChallenge,
  Wait,
} from '../contract/engine.js';
import {
  orderOf,
  toAckReceipt,
  toAgent,
  toChallenge,
  toCredential,
  toDeleted,
  toKeys,
  toLeased,
  toNextPush,
  toNull,
  toOperator,
  toOrderedAgents,
  toPushMessage,
  toReceipt,
  toReceived,
  toWritten,
} from './answers.js';
import { askEveryShard } from './ask-every-shard.js';
import { decodeCursor, encodeCursor } from './cursors.js';
import { KeyVersions } from './key-versions.js';
import { mergePages } from './merge-pages.js';
import type { WireLease, WireWait } from './messaging.js';
import { toByteString } from './overlay-table.js';
import { PushFeed } from './push-feed.js';
import { ReadCache } from './read-cache.js';
import { shardOf } from './routing.js';
import { sendOnce } from './send-once.js';
import { ShardClient } from './shard-client.js';
import { SharedCounters } from './shared-counters.js';
import { orderKeyTimeMs } from './store-keys.js';
import { OPS } from './wire.js';

/** What a gateway thread needs to reach the shards; crosses threads (transfer `control`). */
export interface EngineConnection {
  readonly counterMemory: SharedArrayBuffer;
  readonly versionMemory: SharedArrayBuffer;
  readonly totalStateBytes: number;
  /** Brings a `ShardPort` for each shard, and a new one whenever a shard restarts. */
  readonly control: MessagePort;
}

/** A null port: the shard is gone, and will be back. */
export interface ShardPort {
  readonly shard: number;
  readonly port: MessagePort | null;
}

const ADDRESS_ALPHABET = '0123456789abcdefghijklmnopqrstuvwxyz';
const ADDRESS_RANDOM_LENGTH = 20;

const NOTHING_RECEIVED: LeasedBatch = { messages: [], remaining: 0 };

/** Resolves when every shard is connected. */
export async function connectEngine(connection: EngineConnection): Promise<ConnectedEngine> {
  const engine = new ConnectedEngine(connection);
  await engine.connected;
  return engine;
}

/**
 * The sharded engine as one gateway thread sees it: routes each operation to the shard that owns its name, and merges
 * the shards' parts of a listing.
 * Owns: this thread's lines to the shards. Holds no data.
 */
export class ConnectedEngine implements Engine {
  private readonly clients: ShardClient[] = [];
  private readonly counters: SharedCounters;
  private readonly readCache: ReadCache;
  private readonly totalStateBytes: number;
  private readonly control: MessagePort;
  /** From the first time that somebody asks for agents to push to. */
  private pushFeed: PushFeed | null = null;
  private lastWaitId = 0;
  readonly connected: Promise<void>;

  constructor(connection: EngineConnection) {
    this.counters = new SharedCounters(connection.counterMemory);
    this.readCache = new ReadCache(new KeyVersions(connection.versionMemory));
    this.totalStateBytes = connection.totalStateBytes;
    this.control = connection.control;
    for (let shard = 0; shard < this.counters.shards; shard++) this.clients.push(new ShardClient());
    this.connected = new Promise((resolve) => {
      const missing = new Set(this.clients.keys());
      this.control.on('message', ({ shard, port }: ShardPort) => {
        const client = this.clients[shard] as ShardClient;
        if (port === null) return client.disconnect();
        client.connect(port);
        this.pushFeed?.connected(client);
        missing.delete(shard);
        if (missing.size === 0) resolve();
      });
    });
  }

  disconnect(): void {
    this.control.close();
    for (const client of this.clients) client.disconnect();
  }

  createOperator(operator: NewOperator): Promise<EngineReply<{ readonly operatorId: string }>> {
    const { lookup } = operator.credential;
    const operatorId = this.nameBeside(lookup, randomUUID);
    return this.owner(lookup).call(OPS.createOperator, operator, operatorId, null, toOperator);
  }

  registerAgent(agent: NewAgent): Promise<EngineReply<AgentSummary>> {
    const { lookup } = agent.credential;
    const address = this.nameBeside(lookup, newAddress);
    return this.owner(lookup).call(OPS.registerAgent, agent, address, null, toAgent);
  }

  findCredential(lookup: string): Promise<EngineReply<Credential>> {
    return this.owner(lookup).call(OPS.findCredential, null, lookup, null, toCredential);
  }

  storeChallenge(challenge: StoredChallenge): Promise<EngineReply<null>> {
    return this.owner(challenge.challengeId).call(OPS.storeChallenge, null, challenge, null, toNull);
  }

  takeChallenge(challengeId: string): Promise<EngineReply<StoredChallenge>> {
    return this.owner(challengeId).call(OPS.takeChallenge, null, challengeId, null, toChallenge);
  }

  findAgent(address: string): Promise<EngineReply<AgentSummary>> {
    return this.owner(address).call(OPS.findAgent, null, address, null, toAgent);
  }

  async listAgents(reader: string, page: PageRequest): Promise<EngineReply<AgentPage>> {
    const cursor = page.cursor === null ? null : decodeCursor('agents', page.cursor);
    if (cursor === undefined) return { ok: false, code: 'bad_request' };
    const owner = this.owner(reader);
    // One more than asked for tells whether there is a next page.
    const parts = await askEveryShard(this.clients, (client) =>
      client.call(OPS.listAgents, client === owner ? reader : null, cursor, page.limit + 1, toOrderedAgents),
    );
    if (!parts.ok) return parts;
    const { items, isLast } = mergePages(
      parts.value.map((part) => part.agents),
      orderOf,
      page.limit,
    );
    const total = parts.value.reduce((sum, part) => sum + part.total, 0);
    const agents = items.map(({ order, address }) => ({ address, registeredAtMs: orderKeyTimeMs(order) }));
    const last = items.at(-1);
    const nextCursor = isLast || last === undefined ? null : encodeCursor('agents', last.order);
    return { ok: true, value: { agents, nextCursor, total } };
  }

  sendMessage({ from, to, content }: NewMessage): Promise<EngineReply<MessageReceipt>> {
    return this.owner(to).call(OPS.sendMessage, from, to, content, toReceipt);
  }

  sendMessageOnce(message: NewMessage, idempotencyKey: string): Promise<EngineReply<MessageReceipt>> {
    return sendOnce(this.owner(message.from), this.owner(message.to), message, idempotencyKey);
  }

  receiveMessages(agent: string, limit: number, wait: Wait | null): Promise<EngineReply<ReceivedBatch>> {
    const owner = this.owner(agent);
    if (wait === null) return owner.call(OPS.receiveMessages, agent, limit, null, toReceived);
    return this.waiting(owner, wait, NOTHING_RECEIVED, (wireWait) =>
      owner.callAndWait(OPS.receiveMessages, agent, limit, wireWait, toReceived),
    );
  }

  leaseMessages(agent: string, limit: number, terms: LeaseTerms, wait: Wait | null): Promise<EngineReply<LeasedBatch>> {
    const owner = this.owner(agent);
    const lease: WireLease = [limit, terms.visibilityMs, terms.holder];
    if (wait === null) return owner.call(OPS.leaseMessages, agent, lease, null, toLeased);
    return this.waiting(owner, wait, NOTHING_RECEIVED, (wireWait) =>
      owner.callAndWait(OPS.leaseMessages, agent, lease, wireWait, toLeased),
    );
  }

  ackMessages(agent: string, leaseIds: readonly string[]): Promise<EngineReply<AckReceipt>> {
    return this.owner(agent).call(OPS.ackMessages, agent, leaseIds, null, toAckReceipt);
  }

  returnLeases(agent: string, leaseIds: readonly string[]): Promise<EngineReply<null>> {
    return this.owner(agent).call(OPS.returnLeases, agent, leaseIds, null, toNull);
  }

  awaitPushAgents(signal: AbortSignal): Promise<EngineReply<readonly PushAgent[]>> {
    this.pushFeed ??= new PushFeed(this.clients);
    return this.pushFeed.next(signal);
  }

  peekPush(agent: string): Promise<EngineReply<ReceivedMessage>> {
    return this.owner(agent).call(OPS.peekPush, agent, null, null, toPushMessage);
  }

  settlePush(agent: string, messageId: string, outcome: PushOutcome): Promise<EngineReply<PushAgent | null>> {
    return this.owner(agent).call(OPS.settlePush, agent, [messageId, outcome], null, toNextPush);
  }

  readState(reader: string, key: string): Promise<EngineReply<StateEntry>> {
    const owner = this.owner(key);
    const cached = this.readCache.get(key);
    if (cached !== undefined && owner.tell(OPS.logRead, reader, key)) {
      return Promise.resolve({ ok: true, value: cached });
    }
    return owner.call(OPS.readState, reader, key, null, this.toEntry);
  }

  writeState(writer: string, key: string, value: string): Promise<EngineReply<{ readonly writtenAtMs: number }>> {
    return this.owner(key).call(OPS.writeState, writer, key, value, toWritten);
  }

  deleteState(deleter: string, key: string): Promise<EngineReply<{ readonly deletedAtMs: number }>> {
    return this.owner(key).call(OPS.deleteState, deleter, key, null, toDeleted);
  }

  async listKeys(prefix: string, page: PageRequest): Promise<EngineReply<KeyPage>> {
    // The cursor is the last key less the prefix, so that both together fit a request line.
    const rest = page.cursor === null ? null : decodeCursor('keys', page.cursor);
    if (rest === undefined) return { ok: false, code: 'bad_request' };
    const after = rest === null ? null : prefix + rest;
    const parts = await askEveryShard(this.clients, (client) =>
      client.call(OPS.listKeys, prefix, after, page.limit + 1, toKeys),
    );
    if (!parts.ok) return parts;
    const { items, isLast } = mergePages(
      parts.value.map((part) => part.keys),
      toByteString,
      page.limit,
    );
    const last = items.at(-1);
    const nextCursor = isLast || last === undefined ? null : encodeCursor('keys', last.slice(prefix.length));
    const total = parts.value.reduce((sum, part) => sum + part.total, 0);
    return { ok: true, value: { keys: items, nextCursor, total } };
  }

  async capacity(): Promise<EngineReply<Capacity>> {
    const { stateBytes, keys } = this.counters.snapshot();
    return { ok: true, value: { usedBytes: stateBytes, totalBytes: this.totalStateBytes, keyCount: keys } };
  }

  private readonly toEntry = (x: unknown, y: unknown, z: unknown, key: unknown): StateEntry => {
    const [lastModifiedAtMs, counter, version] = z as [number, number, number];
    const entry = { key: key as string, value: x as string, lastModifiedBy: y as string, lastModifiedAtMs };
    this.readCache.put(entry, counter, version);
    return entry;
  };

  /** Has the shard end the wait when the signal says so; a wait that never began takes no message. */
  private async waiting<Batch extends ReceivedBatch>(
    owner: ShardClient,
    wait: Wait,
    nothing: Batch,
    call: (wireWait: WireWait) => Promise<EngineReply<Batch>>,
  ): Promise<EngineReply<Batch>> {
    const { waitMs, signal } = wait;
    if (signal.aborted) return { ok: true, value: nothing };
    this.lastWaitId += 1;
    const waitId = this.lastWaitId;
    const cancel = (): void => {
      void owner.call(OPS.cancelWait, null, waitId, null, toNull);
    };
    signal.addEventListener('abort', cancel, { once: true });
    try {
      return await call([waitMs, waitId]);
    } finally {
      signal.removeEventListener('abort', cancel);
    }
  }

  private owner(name: string): ShardClient {
    return this.clients[shardOf(name, this.clients.length)] as ShardClient;
  }

  /** A fresh name that the owner of `lookup` owns too, so that a registration is one shard's affair. */
  private nameBeside(lookup: string, generate: () => string): string {
    const shards = this.clients.length;
    const shard = shardOf(lookup, shards);
    for (;;) {
      const name = generate();
      if (shardOf(name, shards) === shard) return name;
    }
  }
}

function newAddress(): string {
  let address = 'tab_';
  for (let i = 0; i < ADDRESS_RANDOM_LENGTH; i++) address += ADDRESS_ALPHABET[randomInt(ADDRESS_ALPHABET.length)];
  return address;
}
