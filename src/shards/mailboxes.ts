import type { ReceivedMessage } from '../contract/engine.js';
import type { KernelEvent } from '../contract/events.js';
import type { Logger } from '../log.js';
import type { GroupCommit } from './group-commit.js';
import { Leases } from './leases.js';
import type { LoggedEvent } from './log-line.js';
import type { LineReader } from './log-reader.js';
import { MessageQueue, type QueuedMessage, SLOT } from './message-queue.js';
import { RetryLater } from './operations.js';
import { offsetOf, segmentOf } from './segments.js';
import type { EngineSettings } from './settings.js';
import type { SharedCounters } from './shared-counters.js';
import { seqOfQueueKey } from './store-keys.js';
import type { View } from './view.js';
import type { Outbox, ReplyTo } from './wire.js';

/** What all parts of messaging share. */
export interface MessagingParts {
  readonly shard: number;
  readonly view: View;
  readonly commit: GroupCommit;
  readonly reader: LineReader;
  readonly counters: SharedCounters;
  readonly settings: EngineSettings;
  readonly logger: Logger;
  /** The shard's: sees to work that goes on after this turn. */
  track(work: void | Promise<void>, reply: ReplyTo): void;
}

/**
 * Mailboxes: the queues of one shard's agents, as all that send, receive, push and drop share them.
 * Owns:      the queues in memory (pointers), their leases, the shard's part of queued bytes.
 * Never:     decides who gets a message.
 * Invariant: a queue in memory equals its rows in the view, but for what staged operations have claimed, and for leases
 *            that a connection holds, which no row knows.
 *
 * Queues are read from the view when first needed and forgotten when idle, so a start costs nothing for them.
 */
/** Past this many queues in memory, idle ones are forgotten between two batches... */
const MAX_IDLE_QUEUES = 16_384;
/** ...and then again when there are this many times what was left: each look is at all of them. */
const SWEPT_AGAIN_FACTOR = 2;

export class Mailboxes {
  readonly parts: MessagingParts;
  readonly leases: Leases;
  private readonly queues = new Map<string, MessageQueue>();
  private sweepPast = MAX_IDLE_QUEUES;
  /** Queues with messages for those who wait; who serves them at the end of this turn, if anybody. */
  private readyQueues = new Set<MessageQueue>();
  private readonly serve: (queues: ReadonlySet<MessageQueue>) => void;
  /** Senders to a full queue that must wait for what is under way before they know what to drop. */
  private seekers: (() => void)[] = [];

  /** `serve` is called soon after a message became ready in a queue that somebody waits for. */
  constructor(parts: MessagingParts, serve: (queues: ReadonlySet<MessageQueue>) => void) {
    this.parts = parts;
    this.serve = serve;
    this.leases = new Leases((queue) => this.becameReady(queue));
  }

  /** Undefined when there is no such agent. The first look reads all the queue's rows. */
  queueOf(address: string): MessageQueue | undefined {
    const known = this.queues.get(address);
    if (known !== undefined) return known;
    const { view } = this.parts;
    const agent = view.agent(address);
    if (agent === undefined) return undefined;
    const queue = new MessageQueue();
    queue.hasWebhook = agent.webhook !== null;
    queue.isClosed = agent.revoked === true;
    const rows = view.store.queues;
    const range = { start: `${address}:`, end: `${address};`, limit: Number.MAX_SAFE_INTEGER };
    for (const key of rows.keys(range)) {
      const row = rows.get(key);
      if (row === undefined) continue;
      const message = { seq: seqOfQueueKey(key), position: row.position, bytes: row.bytes };
      if (row.hold === undefined) queue.push(message);
      else if (row.hold === 'push') queue.push(message, SLOT.push);
      else this.leases.adopt(queue, message, row.hold);
    }
    this.queues.set(address, queue);
    return queue;
  }

  /** Forgets idle queues when there are many; lets senders look again. Call between two batches. */
  sweep(): void {
    this.wakeSeekers();
    if (this.queues.size <= this.sweepPast) return;
    for (const [address, queue] of this.queues) {
      if (queue.isIdle) this.queues.delete(address);
    }
    this.sweepPast = Math.max(MAX_IDLE_QUEUES, this.queues.size * SWEPT_AGAIN_FACTOR);
  }

  /** A message may be taken: those who wait for one are served at the end of this turn, when all of a batch are there. */
  becameReady(queue: MessageQueue): void {
    if (queue.waiting === null || queue.waiting.size === 0) return;
    if (this.readyQueues.size === 0) queueMicrotask(() => this.serveReady());
    this.readyQueues.add(queue);
  }

  /** A claimed message is gone for good. */
  removed(queue: MessageQueue, to: string, message: QueuedMessage, wasToPush: boolean): void {
    const { view, counters, shard } = this.parts;
    queue.remove(message.seq);
    view.removeMessage(to, message.seq, message.bytes, wasToPush);
    counters.release(shard, 'queuedBytes', message.bytes);
  }

  /** Claimed messages go back to their places: the operation failed. */
  released(queue: MessageQueue, messages: readonly QueuedMessage[]): void {
    for (const { seq } of messages) queue.release(seq);
    if (messages.length > 0) this.becameReady(queue);
  }

  /** A message that can't be read can't be delivered, and must not block those behind it. */
  removeDamaged(queue: MessageQueue, to: string, message: QueuedMessage, wasToPush: boolean): void {
    const { shard, counters, logger } = this.parts;
    const place = { segment: segmentOf(message.position), offsetBytes: offsetOf(message.position) };
    const { seq, bytes } = message;
    logger.error({ ...place, bytes, seq, to }, 'event log: damaged line, a queued message is lost');
    counters.publish(shard, { damagedLines: counters.read(shard, 'damagedLines') + 1 });
    this.removed(queue, to, message, wasToPush);
    this.wakeSeekers();
  }

  /** From memory: undefined when it must be read from the file, or is damaged. */
  readRecent({ position, bytes }: QueuedMessage): ReceivedMessage | undefined {
    return messageOf(this.parts.reader.readRecent(position, bytes));
  }

  /** Undefined when the line is damaged. Rejects on an I/O error. */
  async read({ position, bytes }: QueuedMessage): Promise<ReceivedMessage | undefined> {
    const { reader } = this.parts;
    const recent = reader.readRecent(position, bytes);
    return messageOf(recent === undefined ? await reader.read(position, bytes) : recent);
  }

  /** Keeps later receivers waiting until `work` has staged what it claimed. Rejects as `work` does. */
  async whileReading(queue: MessageQueue, work: Promise<void>): Promise<void> {
    const before = queue.reading;
    const settled = Promise.allSettled([before, work]).then(() => {
      if (queue.reading === settled) queue.reading = null;
    });
    queue.reading = settled;
    await work;
  }

  /** Does it again from scratch when everything staged before is durable: only then is it known what is true. */
  retryLater(work: () => void | Promise<void>, reply: ReplyTo): void {
    const { commit, track } = this.parts;
    commit.stage(new RetryLater(() => track(work(), reply), reply));
  }

  /**
   * As `retryLater`, also where operations under way are not staged yet because they still read the log: to try again
   * with each batch until they are would keep the thread from ever reading.
   */
  whenSettled(queue: MessageQueue, work: () => void | Promise<void>, reply: ReplyTo): void | Promise<void> {
    if (queue.reading === null) return this.retryLater(work, reply);
    return this.afterReading(queue.reading, work);
  }

  /** Does it when those who read have staged what they claimed. */
  async afterReading(reading: Promise<void>, work: () => void | Promise<void>): Promise<void> {
    await reading;
    await work();
    this.parts.commit.kick();
  }

  /** Resolves when something that was under way has settled. */
  nextSettled(): Promise<void> {
    return new Promise((resolve) => this.seekers.push(resolve));
  }

  wakeSeekers(): void {
    if (this.seekers.length === 0) return;
    const seekers = this.seekers;
    this.seekers = [];
    for (const wake of seekers) wake();
  }

  /** Nothing more is sent or pushed to this agent; what waits for it stays where it is. */
  revoked(agent: string): void {
    const queue = this.queues.get(agent);
    if (queue === undefined) return;
    queue.hasWebhook = false;
    queue.isClosed = true;
  }

  /** A connection is no more: what it held is back. */
  detach(owner: Outbox): void {
    this.leases.ownerGone(owner);
  }

  private serveReady(): void {
    const queues = this.readyQueues;
    this.readyQueues = new Set();
    this.serve(queues);
  }
}

/** Undefined for anything but a message that was sent. */
function messageOf(logged: LoggedEvent | null | undefined): ReceivedMessage | undefined {
  const event = logged as KernelEvent | null | undefined;
  if (event?.type !== 'message_sent') return undefined;
  const { message_id, from, to, content } = event.data;
  return { messageId: message_id, from, to, content, sentAtMs: Date.parse(event.ts) };
}
