/**
 * The model engine: what `Engine` means, in the plainest code that can say it. Every operation is one synchronous
 * step over plain maps and arrays, so each result is obviously right; other engines are compared with it.
 * Never fast, never durable: a "restart" is a copy of its records without the challenges.
 */
import { randomBytes, randomUUID } from 'node:crypto';
import type {
  AgentPage,
  AgentSummary,
  Capacity,
  Credential,
  Engine,
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
} from '../../src/contract/engine.js';
import type { ApiErrorCode } from '../../src/contract/errors.js';
import type { EventData, EventType, KernelEvent } from '../../src/contract/events.js';
import type { EngineLimits, EngineRig } from './check.js';

/** What survives a restart. */
export interface MemoryRecords {
  readonly credentials: Map<string, Credential>;
  /** In order of registration. */
  readonly agents: AgentSummary[];
  readonly queues: Map<string, ReceivedMessage[]>;
  readonly entries: Map<string, StateEntry>;
  readonly events: KernelEvent[];
}

const MAX_CHALLENGES = 10_000;
const MAX_CHALLENGES_PER_OPERATOR = 100;

function answer<T>(value: T): EngineReply<T> {
  return { ok: true, value };
}

function refuse<T>(code: ApiErrorCode): EngineReply<T> {
  return { ok: false, code };
}

export class MemoryEngine implements Engine {
  readonly records: MemoryRecords;
  protected readonly limits: EngineLimits;
  protected readonly challenges = new Map<string, StoredChallenge>();

  constructor(limits: EngineLimits, records?: MemoryRecords) {
    this.limits = limits;
    this.records = records ?? {
      credentials: new Map(),
      agents: [],
      queues: new Map(),
      entries: new Map(),
      events: [],
    };
  }

  async createOperator(operator: NewOperator): Promise<EngineReply<{ readonly operatorId: string }>> {
    if (this.records.credentials.has(operator.credential.lookup)) return refuse('bad_request');
    const operatorId = randomUUID();
    this.records.credentials.set(operator.credential.lookup, {
      ...operator.credential,
      kind: 'operator',
      subject: operatorId,
    });
    this.record('operator_created', { operator_id: operatorId, contact_hash: operator.contactHash });
    return answer({ operatorId });
  }

  async registerAgent(agent: NewAgent): Promise<EngineReply<AgentSummary>> {
    if (this.records.credentials.has(agent.credential.lookup)) return refuse('bad_request');
    const summary = { address: `tab_${randomBytes(10).toString('hex')}`, registeredAtMs: Date.now() };
    this.records.credentials.set(agent.credential.lookup, {
      ...agent.credential,
      kind: 'agent',
      subject: summary.address,
    });
    this.records.agents.push(summary);
    this.records.queues.set(summary.address, []);
    const data = { address: summary.address, operator_id: agent.operatorId, has_webhook: agent.webhook !== null };
    this.record('agent_registered', data, summary.address);
    return answer(summary);
  }

  async findCredential(lookup: string): Promise<EngineReply<Credential>> {
    const credential = this.records.credentials.get(lookup);
    return credential === undefined ? refuse('not_found') : answer(credential);
  }

  async storeChallenge(challenge: StoredChallenge): Promise<EngineReply<null>> {
    const own = [...this.challenges.values()].filter((held) => held.operatorId === challenge.operatorId);
    if (own.length < MAX_CHALLENGES_PER_OPERATOR && this.challenges.size >= MAX_CHALLENGES) {
      return refuse('unavailable');
    }
    const oldest = own[0];
    if (own.length >= MAX_CHALLENGES_PER_OPERATOR && oldest) this.challenges.delete(oldest.challengeId);
    this.challenges.set(challenge.challengeId, challenge);
    return answer(null);
  }

  async takeChallenge(challengeId: string): Promise<EngineReply<StoredChallenge>> {
    const challenge = this.challenges.get(challengeId);
    this.challenges.delete(challengeId);
    return challenge === undefined || challenge.expiresAtMs <= Date.now() ? refuse('not_found') : answer(challenge);
  }

  async findAgent(address: string): Promise<EngineReply<AgentSummary>> {
    const agent = this.records.agents.find((known) => known.address === address);
    return agent === undefined ? refuse('not_found') : answer(agent);
  }

  async listAgents(reader: string, page: PageRequest): Promise<EngineReply<AgentPage>> {
    let first = 0;
    if (page.cursor !== null) {
      first = this.records.agents.findIndex(({ address }) => `after-agent:${address}` === page.cursor) + 1;
      if (first === 0) return refuse('bad_request');
    }
    const agents = this.records.agents.slice(first, first + page.limit);
    const last = agents.at(-1);
    const isLastPage = last === undefined || first + agents.length === this.records.agents.length;
    this.record('registry_read', { read_by: reader }, reader);
    const nextCursor = isLastPage ? null : `after-agent:${last.address}`;
    return answer({ agents, nextCursor, total: this.records.agents.length });
  }

  async sendMessage(message: NewMessage): Promise<EngineReply<MessageReceipt>> {
    const queue = this.records.queues.get(message.to);
    if (queue === undefined) return refuse('not_found');
    const sizeBytes = this.sizeBytes(message.content);
    if (this.limits.overflow === 'reject') {
      if (queue.length >= this.limits.maxQueuePerAgent) return refuse('store_full');
      if (this.queuedBytes() + sizeBytes > this.limits.maxQueuedBytes) return refuse('store_full');
    }
    const othersBytes = this.queuedBytes() - this.bytesIn(queue);
    if (othersBytes + sizeBytes > this.limits.maxQueuedBytes) return refuse('store_full');
    while (
      queue.length >= this.limits.maxQueuePerAgent ||
      this.queuedBytes() + sizeBytes > this.limits.maxQueuedBytes
    ) {
      const dropped = this.takeForDrop(queue);
      if (dropped === undefined) return refuse('store_full');
      this.record('message_dropped', { message_id: dropped.messageId, to: message.to, reason: 'queue_full' });
    }
    const receipt = { messageId: randomUUID(), sentAtMs: Date.now() };
    queue.push({ ...message, ...receipt });
    const data = { message_id: receipt.messageId, ...message, content_length: sizeBytes };
    this.record('message_sent', data, message.from);
    return answer(receipt);
  }

  async receiveMessages(agent: string, limit: number): Promise<EngineReply<ReceivedBatch>> {
    const queue = this.records.queues.get(agent) ?? [];
    const messages = this.takeForDelivery(queue, limit);
    for (const { messageId } of messages) {
      this.record('message_delivered', { message_id: messageId, to: agent, delivery_method: 'pull' }, agent);
    }
    return answer({ messages, remaining: queue.length });
  }

  async readState(reader: string, key: string): Promise<EngineReply<StateEntry>> {
    const entry = this.records.entries.get(key);
    this.record('state_read', { key, read_by: reader, found: entry !== undefined }, reader);
    return entry === undefined ? refuse('not_found') : answer(entry);
  }

  async writeState(writer: string, key: string, value: string): Promise<EngineReply<{ readonly writtenAtMs: number }>> {
    const old = this.records.entries.get(key);
    const freedBytes = old === undefined ? 0 : this.entryBytes(old.key, old.value);
    if (!this.fits(this.usedBytes() - freedBytes + this.entryBytes(key, value))) return refuse('store_full');
    const writtenAtMs = Date.now();
    this.records.entries.set(key, { key, value, lastModifiedBy: writer, lastModifiedAtMs: writtenAtMs });
    this.record('state_written', { key, value, value_length: this.sizeBytes(value), written_by: writer }, writer);
    return answer({ writtenAtMs });
  }

  async deleteState(deleter: string, key: string): Promise<EngineReply<{ readonly deletedAtMs: number }>> {
    if (!this.records.entries.delete(key)) return refuse('not_found');
    this.record('state_deleted', { key, deleted_by: deleter }, deleter);
    return answer({ deletedAtMs: Date.now() });
  }

  async listKeys(prefix: string, page: PageRequest): Promise<EngineReply<KeyPage>> {
    let after: string | null = null;
    if (page.cursor !== null) {
      after = Buffer.from(page.cursor.slice('after-key:'.length), 'hex').toString();
      if (page.cursor !== this.keyCursor(after)) return refuse('bad_request');
    }
    const matching = [...this.records.entries.keys()].filter((key) => this.hasPrefix(key, prefix));
    matching.sort((a, b) => this.compareKeys(a, b));
    const rest = matching.filter((key) => after === null || this.compareKeys(key, after) > 0);
    const keys = rest.slice(0, page.limit);
    const last = keys.at(-1);
    const nextCursor = last === undefined || keys.length === rest.length ? null : this.keyCursor(last);
    return answer({ keys, nextCursor, total: matching.length });
  }

  async capacity(): Promise<EngineReply<Capacity>> {
    const { maxCapacityBytes: totalBytes } = this.limits;
    return answer({ usedBytes: this.usedBytes(), totalBytes, keyCount: this.records.entries.size });
  }

  // The decisions that are easily got wrong, each in a method of its own, so that a mutant can get just that one wrong.

  protected sizeBytes(text: string): number {
    return Buffer.byteLength(text);
  }

  protected entryBytes(key: string, value: string): number {
    return this.sizeBytes(key) + this.sizeBytes(value);
  }

  protected fits(usedBytes: number): boolean {
    return usedBytes <= this.limits.maxCapacityBytes;
  }

  protected hasPrefix(key: string, prefix: string): boolean {
    return key.startsWith(prefix);
  }

  protected compareKeys(a: string, b: string): number {
    return Buffer.compare(Buffer.from(a), Buffer.from(b));
  }

  protected keyCursor(key: string): string {
    return `after-key:${Buffer.from(key).toString('hex')}`;
  }

  protected takeForDelivery(queue: ReceivedMessage[], limit: number): ReceivedMessage[] {
    return queue.splice(0, limit);
  }

  protected takeForDrop(queue: ReceivedMessage[]): ReceivedMessage | undefined {
    return queue.shift();
  }

  protected usedBytes(): number {
    let usedBytes = 0;
    for (const { key, value } of this.records.entries.values()) usedBytes += this.entryBytes(key, value);
    return usedBytes;
  }

  protected bytesIn(queue: readonly ReceivedMessage[]): number {
    return queue.reduce((bytes, { content }) => bytes + this.sizeBytes(content), 0);
  }

  protected queuedBytes(): number {
    let bytes = 0;
    for (const queue of this.records.queues.values()) bytes += this.bytesIn(queue);
    return bytes;
  }

  protected record<Type extends EventType>(type: Type, data: EventData[Type], agent?: string): void {
    const event = { seq: this.records.events.length + 1, ts: new Date().toISOString(), type, data };
    this.records.events.push((agent === undefined ? event : { ...event, agent }) as KernelEvent);
  }
}

/** Makes a model engine, or a deliberately wrong one, on the records of an earlier one if given. */
export type MemoryEngineMaker = (limits: EngineLimits, records?: MemoryRecords) => MemoryEngine;

/** A rig around a model engine; a restart and a crash are the same to it: a copy of its records, without challenges. */
export async function memoryRig(
  limits: EngineLimits,
  make: MemoryEngineMaker = (...rest) => new MemoryEngine(...rest),
): Promise<EngineRig> {
  let engine = make(limits);
  const reopen = async (): Promise<MemoryEngine> => {
    engine = make(limits, structuredClone(engine.records));
    return engine;
  };
  return {
    engine,
    restart: reopen,
    crash: reopen,
    events: async () => [...engine.records.events],
    close: async () => {},
  };
}
