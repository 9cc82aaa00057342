/**
 * The model engine: what `Engine` means, in the plainest code that can say it. Every operation is one synchronous
 * step over plain maps and arrays, so each result is obviously right; other engines are compared with it.
 * Never fast, never durable: a "restart" is a copy of its records without the challenges.
 */
import { randomBytes, randomUUID } from 'node:crypto';
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
  LeasedMessage,
  LeaseHolder,
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
} from '../../src/contract/engine.js';
import type { ApiErrorCode } from '../../src/contract/errors.js';
import type { EventData, EventType, KernelEvent } from '../../src/contract/events.js';
import type { EngineLimits, EngineRig } from './check.js';

/** What is true of a queued message beside its content. */
export interface MessageMark {
  deliveryCount: number;
  /** Null when it was never leased, or its lease was returned. */
  lease: { readonly id: string; readonly untilMs: number; readonly holder: LeaseHolder } | null;
  isToPush: boolean;
}

/** How pushing to an agent goes. */
export interface PushRecord {
  readonly webhook: { readonly url: string; readonly secret: string };
  attempts: number;
  nextAttemptAtMs: number;
  failedInRow: number;
  circuitOpenUntilMs: number;
}

/** What an idempotency key was used for. */
export interface SendRecord {
  readonly message: NewMessage;
  readonly receipt: MessageReceipt;
}

/** Who waits for a message. */
interface Waiter {
  readonly agent: string;
  serve(): void;
}

/** What survives a restart. */
export interface MemoryRecords {
  readonly credentials: Map<string, Credential>;
  /** In order of registration. */
  readonly agents: AgentSummary[];
  readonly queues: Map<string, ReceivedMessage[]>;
  /** By message id; a message without one is as fresh as can be. */
  readonly marks: Map<string, MessageMark>;
  /** Of the agents with a webhook. */
  readonly pushes: Map<string, PushRecord>;
  readonly sends: Map<string, SendRecord>;
  readonly entries: Map<string, StateEntry>;
  readonly events: KernelEvent[];
}

const MAX_CHALLENGES = 10_000;
const MAX_CHALLENGES_PER_OPERATOR = 100;
const SEND_KEY_MS = 24 * 60 * 60 * 1000;

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
  protected readonly waiters = new Set<Waiter>();
  protected readonly handedOut = new Set<string>();
  #wakeDispatcher: (() => void) | null = null;

  constructor(limits: EngineLimits, records?: MemoryRecords) {
    this.limits = limits;
    this.records = records ?? {
      credentials: new Map(),
      agents: [],
      queues: new Map(),
      marks: new Map(),
      pushes: new Map(),
      sends: new Map(),
      entries: new Map(),
      events: [],
    };
    // Who held these is no more.
    for (const mark of this.records.marks.values()) if (mark.lease?.holder === 'connection') mark.lease = null;
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
    if (agent.webhook !== null) {
      const record = { webhook: agent.webhook, attempts: 0, nextAttemptAtMs: 0, failedInRow: 0, circuitOpenUntilMs: 0 };
      this.records.pushes.set(summary.address, record);
    }
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
    return this.accept(message);
  }

  protected accept(message: NewMessage): EngineReply<MessageReceipt> {
    const queue = this.records.queues.get(message.to);
    if (queue === undefined) return refuse('not_found');
    const sizeBytes = this.sizeBytes(message.content);
    if (this.limits.overflow === 'reject') {
      if (this.occupied(queue) >= this.limits.maxQueuePerAgent) return refuse('store_full');
      if (this.queuedBytes() + sizeBytes > this.limits.maxQueuedBytes) return refuse('store_full');
    }
    const othersBytes = this.queuedBytes() - this.bytesIn(queue);
    if (othersBytes + sizeBytes > this.limits.maxQueuedBytes) return refuse('store_full');
    while (
      this.occupied(queue) >= this.limits.maxQueuePerAgent ||
      this.queuedBytes() + sizeBytes > this.limits.maxQueuedBytes
    ) {
      const dropped = this.takeForDrop(queue);
      if (dropped === undefined) return refuse('store_full');
      this.records.marks.delete(dropped.messageId);
      this.record('message_dropped', { message_id: dropped.messageId, to: message.to, reason: 'queue_full' });
    }
    const receipt = { messageId: randomUUID(), sentAtMs: Date.now() };
    queue.push({ ...message, ...receipt });
    const data = { message_id: receipt.messageId, ...message, content_length: sizeBytes };
    this.record('message_sent', data, message.from);
    if (this.isPushed(message.to)) {
      this.records.marks.set(receipt.messageId, { deliveryCount: 0, lease: null, isToPush: true });
      this.#wakeDispatcher?.();
    }
    this.serveWaiters(message.to);
    return answer(receipt);
  }

  async sendMessageOnce(message: NewMessage, idempotencyKey: string): Promise<EngineReply<MessageReceipt>> {
    const name = this.sendName(message.from, idempotencyKey);
    const known = this.records.sends.get(name);
    if (known !== undefined && known.receipt.sentAtMs + SEND_KEY_MS > Date.now()) {
      return this.isSameSend(known.message, message) ? answer(known.receipt) : refuse('idempotency_conflict');
    }
    const reply = this.accept(message);
    if (reply.ok) this.records.sends.set(name, { message, receipt: reply.value });
    return reply;
  }

  receiveMessages(agent: string, limit: number, wait: Wait | null): Promise<EngineReply<ReceivedBatch>> {
    return this.whenThereIsOne(agent, wait, () => {
      const queue = this.records.queues.get(agent) ?? [];
      const messages = this.takeForDelivery(queue, limit);
      for (const { messageId } of messages) {
        this.records.marks.delete(messageId);
        this.record('message_delivered', { message_id: messageId, to: agent, delivery_method: 'pull' }, agent);
      }
      return { messages, remaining: this.free(queue).length };
    });
  }

  leaseMessages(agent: string, limit: number, terms: LeaseTerms, wait: Wait | null): Promise<EngineReply<LeasedBatch>> {
    return this.whenThereIsOne(agent, wait, () => {
      const queue = this.records.queues.get(agent) ?? [];
      const messages = this.free(queue)
        .slice(0, limit)
        .map((message) => this.lease(message, terms));
      if (messages.length > 0) setTimeout(() => this.serveWaiters(agent), terms.visibilityMs + 1).unref();
      return { messages, remaining: this.free(queue).length };
    });
  }

  async ackMessages(agent: string, leaseIds: readonly string[]): Promise<EngineReply<AckReceipt>> {
    const unknown: string[] = [];
    for (const id of leaseIds) {
      const message = this.leasedAs(agent, id);
      if (message === undefined) {
        unknown.push(id);
        continue;
      }
      this.remove(agent, message);
      const data = { message_id: message.messageId, to: agent, delivery_method: 'pull' } as const;
      this.record('message_delivered', data, agent);
    }
    return answer({ acked: leaseIds.length - unknown.length, unknown });
  }

  async returnLeases(agent: string, leaseIds: readonly string[]): Promise<EngineReply<null>> {
    for (const id of leaseIds) {
      const message = this.leasedAs(agent, id);
      if (message !== undefined) this.markOf(message).lease = null;
    }
    this.serveWaiters(agent);
    return answer(null);
  }

  async awaitPushAgents(signal: AbortSignal): Promise<EngineReply<readonly PushAgent[]>> {
    while (!signal.aborted) {
      const agents: PushAgent[] = [];
      for (const address of this.records.pushes.keys()) {
        if (this.handedOut.has(address)) continue;
        const next = this.nextToPush(address);
        if (next === null) continue;
        this.handedOut.add(address);
        agents.push(next);
      }
      if (agents.length > 0) return answer(agents);
      await new Promise<void>((resolve) => {
        const end = (): void => {
          signal.removeEventListener('abort', end);
          resolve();
        };
        this.#wakeDispatcher = end;
        signal.addEventListener('abort', end, { once: true });
      });
    }
    return answer([]);
  }

  async peekPush(agent: string): Promise<EngineReply<ReceivedMessage>> {
    const first = this.toPush(agent)[0];
    if (first === undefined) this.handedOut.delete(agent);
    return first === undefined ? refuse('not_found') : answer(first);
  }

  async settlePush(agent: string, messageId: string, outcome: PushOutcome): Promise<EngineReply<PushAgent | null>> {
    const first = this.toPush(agent)[0];
    const record = this.records.pushes.get(agent);
    if (record !== undefined && first?.messageId === messageId) this.settleFirst(agent, first, record, outcome);
    const next = this.nextToPush(agent);
    if (next === null) this.handedOut.delete(agent);
    return answer(next);
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
    const taken = this.free(queue).slice(0, limit);
    for (const message of taken) queue.splice(queue.indexOf(message), 1);
    return taken;
  }

  /** The oldest, but for those on loan and the first to push, which somebody is at work on. */
  protected takeForDrop(queue: ReceivedMessage[]): ReceivedMessage | undefined {
    const oldest = this.droppable(queue)[0];
    if (oldest !== undefined) queue.splice(queue.indexOf(oldest), 1);
    return oldest;
  }

  protected droppable(queue: readonly ReceivedMessage[]): ReceivedMessage[] {
    const firstToPush = queue.find((message) => this.markOf(message).isToPush);
    return queue.filter((message) => !this.isOnLoan(message) && message !== firstToPush);
  }

  /** What counts against `max_queue_per_agent`. */
  protected occupied(queue: readonly ReceivedMessage[]): number {
    return queue.length;
  }

  /** Messages that anybody who may receive can take. */
  protected free(queue: readonly ReceivedMessage[]): ReceivedMessage[] {
    return queue.filter((message) => !this.isOnLoan(message) && !this.markOf(message).isToPush);
  }

  protected isOnLoan(message: ReceivedMessage): boolean {
    const { lease } = this.markOf(message);
    return lease !== null && !this.isOver(lease.untilMs);
  }

  protected isOver(untilMs: number): boolean {
    return untilMs <= Date.now();
  }

  protected markOf(message: ReceivedMessage): MessageMark {
    const known = this.records.marks.get(message.messageId);
    if (known !== undefined) return known;
    const mark: MessageMark = { deliveryCount: 0, lease: null, isToPush: false };
    this.records.marks.set(message.messageId, mark);
    return mark;
  }

  protected lease(message: ReceivedMessage, terms: LeaseTerms): LeasedMessage {
    const mark = this.markOf(message);
    const leaseId = randomUUID();
    mark.deliveryCount += 1;
    mark.lease = { id: leaseId, untilMs: Date.now() + terms.visibilityMs, holder: terms.holder };
    return { ...message, leaseId, deliveryCount: mark.deliveryCount };
  }

  /** The agent's message that is on loan under this id. */
  protected leasedAs(agent: string, leaseId: string): ReceivedMessage | undefined {
    const queue = this.records.queues.get(agent) ?? [];
    return queue.find((message) => this.isOnLoan(message) && this.markOf(message).lease?.id === leaseId);
  }

  protected remove(agent: string, message: ReceivedMessage): void {
    const queue = this.records.queues.get(agent) ?? [];
    queue.splice(queue.indexOf(message), 1);
    this.records.marks.delete(message.messageId);
  }

  /** Whether what is sent to the agent now is pushed first. */
  protected isPushed(agent: string): boolean {
    const record = this.records.pushes.get(agent);
    return record !== undefined && this.isOver(record.circuitOpenUntilMs);
  }

  protected toPush(agent: string): ReceivedMessage[] {
    return (this.records.queues.get(agent) ?? []).filter((message) => this.markOf(message).isToPush);
  }

  protected nextToPush(address: string): PushAgent | null {
    const record = this.records.pushes.get(address);
    if (record === undefined || this.toPush(address).length === 0) return null;
    const { webhook, attempts, nextAttemptAtMs, failedInRow } = record;
    return { address, url: webhook.url, secret: webhook.secret, attempts, nextAttemptAtMs, failedInRow };
  }

  protected settleFirst(agent: string, first: ReceivedMessage, record: PushRecord, outcome: PushOutcome): void {
    if (outcome.kind === 'retry') {
      record.attempts = outcome.attempts;
      record.nextAttemptAtMs = outcome.nextAttemptAtMs;
      return;
    }
    record.attempts = 0;
    record.nextAttemptAtMs = 0;
    if (outcome.kind === 'delivered') {
      record.failedInRow = 0;
      record.circuitOpenUntilMs = 0;
      this.remove(agent, first);
      const data = { message_id: first.messageId, to: agent, delivery_method: 'push' } as const;
      this.record('message_delivered', data, agent);
      return;
    }
    record.failedInRow = outcome.failedInRow;
    record.circuitOpenUntilMs = outcome.circuitOpenUntilMs;
    this.markOf(first).isToPush = false;
    if (!this.isPushed(agent)) for (const message of this.toPush(agent)) this.markOf(message).isToPush = false;
    this.serveWaiters(agent);
  }

  protected sendName(from: string, idempotencyKey: string): string {
    return `${from} ${idempotencyKey}`;
  }

  protected isSameSend(a: NewMessage, b: NewMessage): boolean {
    return a.to === b.to && a.content === b.content;
  }

  /** Takes at once if there is something to take or nobody waits; else when there is, or the wait has ended. */
  protected async whenThereIsOne<Batch extends ReceivedBatch>(
    agent: string,
    wait: Wait | null,
    take: () => Batch,
  ): Promise<EngineReply<Batch>> {
    if (wait?.signal.aborted) return answer(this.nothing<Batch>());
    if (wait === null || this.free(this.records.queues.get(agent) ?? []).length > 0) return answer(take());
    return new Promise((resolve) => {
      const end = (isCancelled: boolean): void => {
        if (!this.waiters.delete(waiter)) return;
        clearTimeout(timer);
        wait.signal.removeEventListener('abort', cancel);
        resolve(answer(isCancelled ? this.nothing<Batch>() : take()));
      };
      const cancel = (): void => end(true);
      const waiter = { agent, serve: () => end(false) };
      this.waiters.add(waiter);
      const timer = setTimeout(() => end(false), wait.waitMs);
      wait.signal.addEventListener('abort', cancel, { once: true });
    });
  }

  protected nothing<Batch extends ReceivedBatch>(): Batch {
    return { messages: [], remaining: 0 } as unknown as Batch;
  }

  /** Messages for those who wait, first come first served. */
  protected serveWaiters(agent: string): void {
    for (const waiter of this.waiters) {
      if (this.free(this.records.queues.get(agent) ?? []).length === 0) return;
      if (waiter.agent === agent) waiter.serve();
    }
  }

  /** The engine stops: all waits end. */
  stop(): void {
    for (const waiter of this.waiters) waiter.serve();
    this.#wakeDispatcher?.();
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
    engine.stop();
    engine = make(limits, structuredClone(engine.records));
    return engine;
  };
  return {
    engine,
    restart: reopen,
    crash: reopen,
    events: async () => [...engine.records.events],
    close: async () => engine.stop(),
  };
}
