import { randomInt, randomUUID } from 'node:crypto';
import type { MessagePort } from 'node:worker_threads';
import type {
  AgentPage,
  AgentSummary,
  Capacity,
  Credential,
  Engine,
  EngineRefusal,
  EngineReply,
  KeyPage,
  MessageReceipt,
  NewAgent,
  NewMessage,
  NewOperator,
  PageRequest,
  ReceivedBatch,
  ReceivedMessage,
  StateEntry,
  StoredChallenge,
} from '../contract/engine.js';
import { decodeCursor, encodeCursor } from './cursors.js';
import { mergePages } from './merge-pages.js';
import { toByteString } from './overlay-table.js';
import { shardOf } from './routing.js';
import { ShardClient, type WireReply } from './shard-client.js';
import { SharedCounters } from './shared-counters.js';
import { orderKeyTimeMs } from './store-keys.js';
import { OPS } from './wire.js';

/** What a gateway thread needs to reach the shards; crosses threads (transfer `control`). */
export interface EngineConnection {
  readonly counterMemory: SharedArrayBuffer;
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
  private readonly totalStateBytes: number;
  private readonly control: MessagePort;
  readonly connected: Promise<void>;

  constructor(connection: EngineConnection) {
    this.counters = new SharedCounters(connection.counterMemory);
    this.totalStateBytes = connection.totalStateBytes;
    this.control = connection.control;
    for (let shard = 0; shard < this.counters.shards; shard++) this.clients.push(new ShardClient());
    this.connected = new Promise((resolve) => {
      const missing = new Set(this.clients.keys());
      this.control.on('message', ({ shard, port }: ShardPort) => {
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

  async createOperator(operator: NewOperator): Promise<EngineReply<{ readonly operatorId: string }>> {
    const { lookup } = operator.credential;
    const operatorId = this.nameBeside(lookup, randomUUID);
    const reply = await this.owner(lookup).call(OPS.createOperator, operatorId, operator, null);
    return reply.code === null ? { ok: true, value: { operatorId } } : refusal(reply);
  }

  async registerAgent(agent: NewAgent): Promise<EngineReply<AgentSummary>> {
    const { lookup } = agent.credential;
    const address = this.nameBeside(lookup, newAddress);
    const reply = await this.owner(lookup).call(OPS.registerAgent, address, agent, null);
    return reply.code === null ? { ok: true, value: { address, registeredAtMs: reply.x as number } } : refusal(reply);
  }

  async findCredential(lookup: string): Promise<EngineReply<Credential>> {
    const reply = await this.owner(lookup).call(OPS.findCredential, lookup, null, null);
    return reply.code === null ? { ok: true, value: reply.x as Credential } : refusal(reply);
  }

  async storeChallenge(challenge: StoredChallenge): Promise<EngineReply<null>> {
    const reply = await this.owner(challenge.challengeId).call(OPS.storeChallenge, challenge, null, null);
    return reply.code === null ? { ok: true, value: null } : refusal(reply);
  }

  async takeChallenge(challengeId: string): Promise<EngineReply<StoredChallenge>> {
    const reply = await this.owner(challengeId).call(OPS.takeChallenge, challengeId, null, null);
    return reply.code === null ? { ok: true, value: reply.x as StoredChallenge } : refusal(reply);
  }

  async findAgent(address: string): Promise<EngineReply<AgentSummary>> {
    const reply = await this.owner(address).call(OPS.findAgent, address, null, null);
    return reply.code === null ? { ok: true, value: { address, registeredAtMs: reply.x as number } } : refusal(reply);
  }

  async listAgents(reader: string, page: PageRequest): Promise<EngineReply<AgentPage>> {
    const cursor = page.cursor === null ? null : decodeCursor('agents', page.cursor);
    if (cursor === undefined) return { ok: false, code: 'bad_request' };
    const owner = this.owner(reader);
    // One more than asked for tells whether there is a next page.
    const replies = await Promise.all(
      this.clients.map((client) =>
        client.call(OPS.listAgents, client === owner ? reader : null, cursor, page.limit + 1),
      ),
    );
    const refused = replies.find((reply) => reply.code !== null);
    if (refused !== undefined) return refusal(refused);
    const { items, isLast } = mergePages(
      replies.map((reply) => agentsOf(reply.x as string[])),
      (agent) => agent.order,
      page.limit,
    );
    const agents = items.map(({ order, address }) => ({ address, registeredAtMs: orderKeyTimeMs(order) }));
    const last = items.at(-1);
    const nextCursor = isLast || last === undefined ? null : encodeCursor('agents', last.order);
    return { ok: true, value: { agents, nextCursor, total: this.counters.total('agents') } };
  }

  async sendMessage({ from, to, content }: NewMessage): Promise<EngineReply<MessageReceipt>> {
    const reply = await this.owner(to).call(OPS.sendMessage, from, to, content);
    if (reply.code !== null) return refusal(reply);
    return { ok: true, value: { messageId: reply.x as string, sentAtMs: reply.y as number } };
  }

  async receiveMessages(agent: string, limit: number): Promise<EngineReply<ReceivedBatch>> {
    const reply = await this.owner(agent).call(OPS.receiveMessages, agent, limit, null);
    if (reply.code !== null) return refusal(reply);
    return { ok: true, value: { messages: messagesOf(reply.x as unknown[]), remaining: reply.y as number } };
  }

  async readState(reader: string, key: string): Promise<EngineReply<StateEntry>> {
    const reply = await this.owner(key).call(OPS.readState, reader, key, null);
    if (reply.code !== null) return refusal(reply);
    const entry = {
      key,
      value: reply.x as string,
      lastModifiedBy: reply.y as string,
      lastModifiedAtMs: reply.z as number,
    };
    return { ok: true, value: entry };
  }

  async writeState(writer: string, key: string, value: string): Promise<EngineReply<{ readonly writtenAtMs: number }>> {
    const reply = await this.owner(key).call(OPS.writeState, writer, key, value);
    return reply.code === null ? { ok: true, value: { writtenAtMs: reply.x as number } } : refusal(reply);
  }

  async deleteState(deleter: string, key: string): Promise<EngineReply<{ readonly deletedAtMs: number }>> {
    const reply = await this.owner(key).call(OPS.deleteState, deleter, key, null);
    return reply.code === null ? { ok: true, value: { deletedAtMs: reply.x as number } } : refusal(reply);
  }

  async listKeys(prefix: string, page: PageRequest): Promise<EngineReply<KeyPage>> {
    // The cursor is the last key less the prefix, so that both together fit a request line.
    const rest = page.cursor === null ? null : decodeCursor('keys', page.cursor);
    if (rest === undefined) return { ok: false, code: 'bad_request' };
    const after = rest === null ? null : prefix + rest;
    const replies = await Promise.all(
      this.clients.map((client) => client.call(OPS.listKeys, prefix, after, page.limit + 1)),
    );
    const refused = replies.find((reply) => reply.code !== null);
    if (refused !== undefined) return refusal(refused);
    const { items, isLast } = mergePages(
      replies.map((reply) => reply.x as string[]),
      toByteString,
      page.limit,
    );
    const last = items.at(-1);
    const nextCursor = isLast || last === undefined ? null : encodeCursor('keys', last.slice(prefix.length));
    const total = replies.reduce((sum, reply) => sum + (reply.y as number), 0);
    return { ok: true, value: { keys: items, nextCursor, total } };
  }

  async capacity(): Promise<EngineReply<Capacity>> {
    const usedBytes = this.counters.total('stateBytes');
    const keyCount = this.counters.total('keys');
    return { ok: true, value: { usedBytes, totalBytes: this.totalStateBytes, keyCount } };
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

function refusal(reply: WireReply): EngineRefusal {
  return { ok: false, code: reply.code ?? 'internal_error' };
}

function agentsOf(flat: readonly string[]): { order: string; address: string }[] {
  const agents: { order: string; address: string }[] = [];
  for (let i = 0; i < flat.length; i += 2) agents.push({ order: flat[i] as string, address: flat[i + 1] as string });
  return agents;
}

function messagesOf(flat: readonly unknown[]): ReceivedMessage[] {
  const messages: ReceivedMessage[] = [];
  for (let i = 0; i < flat.length; i += 5) {
    messages.push({
      messageId: flat[i] as string,
      from: flat[i + 1] as string,
      to: flat[i + 2] as string,
      content: flat[i + 3] as string,
      sentAtMs: flat[i + 4] as number,
    });
  }
  return messages;
}
