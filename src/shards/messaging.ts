import { Buffer } from 'node:buffer';
import { randomUUID } from 'node:crypto';
import type { ReceivedMessage } from '../contract/engine.js';
import type { ApiErrorCode } from '../contract/errors.js';
import type { KernelEvent } from '../contract/events.js';
import type { Logger } from '../log.js';
import type { GroupCommit } from './group-commit.js';
import { type EventBody, eventBody, type LoggedEvent, messageSentBody } from './log-line.js';
import type { LineReader } from './log-reader.js';
import { MessageQueue, type QueuedMessage } from './message-queue.js';
import { type Operation, RetryLater } from './operations.js';
import type { LogPosition } from './segments.js';
import type { EngineSettings } from './settings.js';
import type { SharedCounters } from './shared-counters.js';
import { seqOfQueueKey } from './store-keys.js';
import type { View } from './view.js';
import type { ReplyTo } from './wire.js';

/**
 * Messaging: the queues of one shard's agents.
 * Owns:      the queues in memory (pointers), the shard's part of queued bytes.
 * Never:     hands out a message that is not durable, or one that another operation has claimed.
 * Invariant: a queue in memory equals its rows in the view, but for what staged operations have claimed.
 *
 * Queues are read from the view when first needed and forgotten when idle, so a start costs nothing for them.
 */
/** Past this many queues in memory, idle ones are forgotten between two batches. */
const MAX_IDLE_QUEUES = 16_384;
/** What a line holds beside its body: seq, ts, crc; an upper bound. */
const LINE_FRAME_BYTES = 96;

export class Messaging {
  private readonly shard: number;
  private readonly view: View;
  private readonly commit: GroupCommit;
  private readonly reader: LineReader;
  private readonly counters: SharedCounters;
  private readonly settings: EngineSettings;
  private readonly logger: Logger;
  /** The shard's: sees to work that goes on after this turn. */
  private readonly track: (work: void | Promise<void>, reply: ReplyTo) => void;
  private readonly queues = new Map<string, MessageQueue>();
  private droppedCount = 0;
  /** Senders whose recipient's queue is full of messages that are not durable yet. */
  private waiting: (() => void)[] = [];

  constructor(
    shard: number,
    view: View,
    commit: GroupCommit,
    reader: LineReader,
    counters: SharedCounters,
    settings: EngineSettings,
    logger: Logger,
    track: (work: void | Promise<void>, reply: ReplyTo) => void,
  ) {
    this.track = track;
    this.shard = shard;
    this.view = view;
    this.commit = commit;
    this.reader = reader;
    this.counters = counters;
    this.settings = settings;
    this.logger = logger;
  }

  send(from: string, to: string, content: string, reply: ReplyTo): void | Promise<void> {
    const queue = this.queueOf(to);
    if (queue === undefined) return reply.refuse('not_found');
    const full = queue.occupied >= this.settings.maxQueuePerAgent;
    if (full && this.settings.overflow === 'reject') {
      if (queue.ready >= this.settings.maxQueuePerAgent) return reply.refuse('store_full');
      return this.retryLater(() => this.send(from, to, content, reply), reply);
    }

    const messageId = randomUUID();
    const body = messageSentBody(messageId, from, to, content);
    const reservedBytes = Buffer.byteLength(body) + LINE_FRAME_BYTES;
    if (!this.counters.reserve(this.shard, 'queuedBytes', reservedBytes, this.settings.maxQueuedBytes)) {
      return reply.refuse('store_full');
    }
    const operation = new SendOperation(this, queue, messageId, to, body, reservedBytes, full, reply);
    queue.incoming += 1;
    if (!full) return this.commit.stage(operation);
    queue.dropping += 1;
    return this.whileReading(queue, this.sendAfterDrop(operation, queue, to));
  }

  /**
   * Claims messages at once, so that nobody else gets them, and answers when their delivery is durable. Its place in
   * the order of operations is this moment: before every send that is not durable yet. Where that can't be - others'
   * deliveries or drops that are not durable have changed what it would find - it waits for them and looks again.
   */
  receive(agent: string, limit: number, reply: ReplyTo): void | Promise<void> {
    const queue = this.queueOf(agent);
    if (queue === undefined) return reply.ok([], 0, null);
    if (queue.reading !== null) return this.receiveAfterReading(queue.reading, agent, limit, reply);
    if (queue.ready === 0 && queue.claimed === 0) return reply.ok([], 0, null);
    if (queue.ready === 0 || queue.dropping > 0) {
      return this.retryLater(() => this.receive(agent, limit, reply), reply);
    }
    const claimed = queue.claim(limit);
    const messages: ReceivedMessage[] = [];
    for (const { position, bytes } of claimed) {
      const recent = messageOf(this.reader.readRecent(position, bytes));
      if (recent === undefined) break;
      messages.push(recent);
    }
    if (messages.length === claimed.length) return this.stageReceive(queue, agent, claimed, messages, reply);
    return this.whileReading(queue, this.receiveFromLog(queue, agent, claimed, reply));
  }

  /** Forgets idle queues when there are many. */
  sweep(): void {
    if (this.queues.size <= MAX_IDLE_QUEUES) return;
    for (const [address, queue] of this.queues) {
      if (queue.isIdle) this.queues.delete(address);
    }
  }

  sent(operation: SendOperation): void {
    const { to, pointer, queue, reservedBytes } = operation;
    if (operation.isDropping) queue.dropping -= 1;
    this.view.addMessage(to, pointer.seq, pointer);
    queue.incoming -= 1;
    queue.push(pointer);
    this.counters.release(this.shard, 'queuedBytes', reservedBytes - pointer.bytes);
    this.wakeWaiting();
  }

  sendFailed(operation: SendOperation): void {
    if (operation.isDropping) operation.queue.dropping -= 1;
    operation.queue.incoming -= 1;
    this.counters.release(this.shard, 'queuedBytes', operation.reservedBytes);
    this.wakeWaiting();
  }

  removed(queue: MessageQueue, to: string, message: QueuedMessage): void {
    queue.remove(message.seq);
    this.view.removeMessage(to, message.seq, message.bytes);
    this.counters.release(this.shard, 'queuedBytes', message.bytes);
  }

  dropped(): void {
    this.droppedCount += 1;
    this.counters.publish(this.shard, { droppedMessages: this.droppedCount });
  }

  private retryLater(work: () => void | Promise<void>, reply: ReplyTo): void {
    this.commit.stage(new RetryLater(() => this.track(work(), reply), reply));
  }

  private async receiveAfterReading(
    reading: Promise<void>,
    agent: string,
    limit: number,
    reply: ReplyTo,
  ): Promise<void> {
    await reading;
    await this.receive(agent, limit, reply);
    this.commit.kick();
  }

  /** Keeps later receivers waiting until `work` has staged what it claimed. Rejects as `work` does. */
  private async whileReading(queue: MessageQueue, work: Promise<void>): Promise<void> {
    const before = queue.reading;
    const settled = Promise.allSettled([before, work]).then(() => {
      if (queue.reading === settled) queue.reading = null;
    });
    queue.reading = settled;
    await work;
  }

  /** Makes room by dropping the oldest message; its id is in the log, maybe no longer in memory. */
  private async sendAfterDrop(operation: SendOperation, queue: MessageQueue, to: string): Promise<void> {
    let oldest = queue.claim(1)[0];
    while (oldest === undefined && queue.occupied > this.settings.maxQueuePerAgent) {
      // Everything that counts is on its way: the oldest of those becomes claimable with the next batch.
      this.commit.kick();
      await new Promise<void>((resolve) => this.waiting.push(resolve));
      if (this.commit.isBroken) return operation.fail('unavailable');
      oldest = queue.claim(1)[0];
    }
    if (oldest !== undefined) {
      const messageId = (await this.readMessage(oldest))?.messageId;
      if (messageId === undefined) this.removeDamaged(queue, to, oldest);
      else operation.drop(oldest, messageId);
    }
    this.commit.stage(operation);
    this.commit.kick();
  }

  private async receiveFromLog(
    queue: MessageQueue,
    agent: string,
    claimed: readonly QueuedMessage[],
    reply: ReplyTo,
  ): Promise<void> {
    const found = await Promise.all(claimed.map((pointer) => this.readMessage(pointer)));
    const pointers: QueuedMessage[] = [];
    const messages: ReceivedMessage[] = [];
    claimed.forEach((pointer, index) => {
      const message = found[index];
      if (message === undefined) {
        this.removeDamaged(queue, agent, pointer);
      } else {
        pointers.push(pointer);
        messages.push(message);
      }
    });
    this.stageReceive(queue, agent, pointers, messages, reply);
    this.commit.kick();
  }

  private stageReceive(
    queue: MessageQueue,
    agent: string,
    claimed: readonly QueuedMessage[],
    messages: readonly ReceivedMessage[],
    reply: ReplyTo,
  ): void {
    this.commit.stage(new ReceiveOperation(this, queue, agent, claimed, messages, queue.ready, reply));
  }

  /** Undefined when the line is damaged. Rejects on an I/O error. */
  private async readMessage(pointer: QueuedMessage): Promise<ReceivedMessage | undefined> {
    const { position, bytes } = pointer;
    const recent = this.reader.readRecent(position, bytes);
    return messageOf(recent === undefined ? await this.reader.read(position, bytes) : recent);
  }

  /** A message that can't be read can't be delivered, and must not block those behind it. */
  private removeDamaged(queue: MessageQueue, to: string, message: QueuedMessage): void {
    this.logger.error({ to, ...message }, 'damaged event log line: a queued message is lost');
    this.removed(queue, to, message);
  }

  /** Undefined when there is no such agent. */
  private queueOf(address: string): MessageQueue | undefined {
    const known = this.queues.get(address);
    if (known !== undefined) return known;
    if (this.view.agent(address) === undefined) return undefined;
    const queue = new MessageQueue();
    const rows = this.view.store.queues;
    const range = { start: `${address}:`, end: `${address};`, limit: Number.MAX_SAFE_INTEGER };
    for (const key of rows.keys(range)) {
      const row = rows.get(key);
      if (row !== undefined) queue.push({ seq: seqOfQueueKey(key), position: row.position, bytes: row.bytes });
    }
    this.queues.set(address, queue);
    return queue;
  }

  private wakeWaiting(): void {
    if (this.waiting.length === 0) return;
    const waiting = this.waiting;
    this.waiting = [];
    for (const wake of waiting) wake();
  }
}

/** Undefined for anything but a message that was sent. */
function messageOf(logged: LoggedEvent | null | undefined): ReceivedMessage | undefined {
  const event = logged as KernelEvent | null | undefined;
  if (event?.type !== 'message_sent') return undefined;
  const { message_id, from, to, content } = event.data;
  return { messageId: message_id, from, to, content, sentAtMs: Date.parse(event.ts) };
}

class SendOperation implements Operation {
  bodies: readonly EventBody[];
  pointer: QueuedMessage = { seq: 0, position: 0, bytes: 0 };
  private dropped: QueuedMessage | null = null;

  constructor(
    readonly messaging: Messaging,
    readonly queue: MessageQueue,
    readonly messageId: string,
    readonly to: string,
    body: EventBody,
    readonly reservedBytes: number,
    /** Its place is another's, who must be dropped for it. */
    readonly isDropping: boolean,
    readonly reply: ReplyTo,
  ) {
    this.bodies = [body];
  }

  /** Drops a claimed message for this one; both events stand or fall together. */
  drop(oldest: QueuedMessage, messageId: string): void {
    this.dropped = oldest;
    const { to } = this;
    const body = eventBody('message_dropped', to, { message_id: messageId, to, reason: 'queue_full' });
    this.bodies = [`${body},"ref":${oldest.seq}`, ...this.bodies];
  }

  /** Called last for the message's own event. */
  logged(seq: number, position: LogPosition, bytes: number): void {
    this.pointer = { seq, position, bytes };
  }

  apply(): void {
    if (this.dropped !== null) {
      this.messaging.removed(this.queue, this.to, this.dropped);
      this.messaging.dropped();
    }
    this.messaging.sent(this);
  }

  answer(atMs: number): void {
    this.reply.ok(this.messageId, atMs, null);
  }

  fail(code: ApiErrorCode): void {
    if (this.dropped !== null) this.queue.release(this.dropped.seq);
    this.messaging.sendFailed(this);
    this.reply.refuse(code);
  }
}

class ReceiveOperation implements Operation {
  readonly bodies: readonly EventBody[];

  constructor(
    readonly messaging: Messaging,
    readonly queue: MessageQueue,
    readonly agent: string,
    readonly claimed: readonly QueuedMessage[],
    readonly messages: readonly ReceivedMessage[],
    readonly remaining: number,
    readonly reply: ReplyTo,
  ) {
    this.bodies = claimed.map((pointer, index) => {
      const message_id = (messages[index] as ReceivedMessage).messageId;
      const body = eventBody('message_delivered', agent, { message_id, to: agent, delivery_method: 'pull' });
      return `${body},"ref":${pointer.seq}`;
    });
  }

  logged(): void {}

  apply(): void {
    for (const pointer of this.claimed) this.messaging.removed(this.queue, this.agent, pointer);
  }

  answer(): void {
    const flat: unknown[] = [];
    for (const { messageId, from, to, content, sentAtMs } of this.messages) {
      flat.push(messageId, from, to, content, sentAtMs);
    }
    this.reply.ok(flat, this.remaining, null);
  }

  fail(code: ApiErrorCode): void {
    for (const pointer of this.claimed) this.queue.release(pointer.seq);
    this.reply.refuse(code);
  }
}
