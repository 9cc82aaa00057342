import type { Due } from './due-times.js';
import { DueTimes } from './due-times.js';
import { type MessageQueue, type QueuedMessage, SLOT } from './message-queue.js';
import type { QueueLease } from './row-codecs.js';
import type { Outbox } from './wire.js';

/**
 * Leases: which messages of one shard are on loan, to whom, and until when.
 * Owns:      the leases of the queues in memory, and when each ends by itself.
 * Never:     writes the log; whoever grants or ends a durable lease does that first.
 * Invariant: a message is in the state `leased`, or on its way from there, exactly if its queue knows a lease of it.
 *
 * A lease whose time is over ends without a trace in the log: its row says when, so every later reader of it agrees.
 */
export class Lease implements Due {
  heapIndex = -1;
  /** An operation under way ends it. */
  isEnding = false;

  constructor(
    readonly queue: MessageQueue,
    readonly message: QueuedMessage,
    /** Random; one for all messages of a delivery. */
    readonly token: string,
    readonly dueMs: number,
    readonly deliveryCount: number,
    /** The connection that holds it; null when it is durable. */
    readonly owner: Outbox | null,
    /** Null when it must be read from the log. */
    readonly messageId: string | null,
  ) {}
}

/** Tells which message, and which of its deliveries. */
export function leaseId(seq: number, token: string): string {
  return `${seq.toString(36)}-${token}`;
}

export class Leases {
  private readonly due = new DueTimes<Lease>((lease) => this.end(lease));
  private readonly byOwner = new Map<Outbox, Set<Lease>>();
  private readonly gone = new WeakSet<Outbox>();
  private readonly onReady: (queue: MessageQueue) => void;

  /** `onReady`: a message of the queue is back at its place. */
  constructor(onReady: (queue: MessageQueue) => void) {
    this.onReady = onReady;
  }

  /** Leases that run, of the queues in memory. */
  get count(): number {
    return this.due.size;
  }

  /** The message must be `changing`. A lease that is over by now, or whose owner has gone, ends at once. */
  grant(lease: Lease): void {
    const { queue, message } = lease;
    queue.move(message.seq, SLOT.changing, SLOT.leased);
    this.hold(lease);
    this.runOrEnd(lease);
  }

  /** A durable lease as a row has it, in a queue that is being read from the view. */
  adopt(queue: MessageQueue, message: QueuedMessage, { lease, untilMs, count }: QueueLease): void {
    if (untilMs > Date.now()) {
      queue.push(message, SLOT.leased);
      const adopted = new Lease(queue, message, lease, untilMs, count, null, null);
      this.hold(adopted);
      this.due.add(adopted);
    } else {
      queue.push(message);
      rememberHandedOut(queue, message.seq, count);
    }
  }

  /** The lease with this id, if it has not ended. */
  find(queue: MessageQueue, id: string): Lease | undefined {
    if (queue.leases === null) return undefined;
    const seq = Number.parseInt(id, 36);
    const lease = queue.leases.get(seq);
    if (lease === undefined || leaseId(seq, lease.token) !== id) return undefined;
    if (lease.isEnding || lease.dueMs > Date.now()) return lease;
    // Over, though the timer has not run yet.
    this.end(lease);
    return undefined;
  }

  /** An operation begins that ends the lease: `resume` if it fails. */
  suspend(lease: Lease): void {
    lease.isEnding = true;
    this.stop(lease);
  }

  /** Nothing came of the operation; the message must be `leased` again. */
  resume(lease: Lease): void {
    lease.isEnding = false;
    this.runOrEnd(lease);
  }

  /** Back to its place; the message must be in the state `from`. */
  end(lease: Lease, from: typeof SLOT.leased | typeof SLOT.changing = SLOT.leased): void {
    const { queue, message, deliveryCount } = lease;
    this.stop(lease);
    queue.leases?.delete(message.seq);
    rememberHandedOut(queue, message.seq, deliveryCount);
    queue.move(message.seq, from, SLOT.ready);
    this.onReady(queue);
  }

  /** Returns what a connection held that is no more. */
  ownerGone(owner: Outbox): void {
    this.gone.add(owner);
    const leases = this.byOwner.get(owner);
    if (leases === undefined) return;
    for (const lease of leases) this.end(lease);
  }

  /** Leases run out no more. */
  close(): void {
    this.due.close();
  }

  private hold(lease: Lease): void {
    const { queue, message } = lease;
    queue.leases ??= new Map();
    queue.leases.set(message.seq, lease);
    queue.handedOut?.delete(message.seq);
  }

  private runOrEnd(lease: Lease): void {
    const { owner } = lease;
    if (lease.dueMs <= Date.now() || (owner !== null && this.gone.has(owner))) return this.end(lease);
    this.due.add(lease);
    if (owner === null) return;
    const owned = this.byOwner.get(owner);
    if (owned === undefined) this.byOwner.set(owner, new Set([lease]));
    else owned.add(lease);
  }

  private stop(lease: Lease): void {
    this.due.remove(lease);
    if (lease.owner === null) return;
    const owned = this.byOwner.get(lease.owner);
    owned?.delete(lease);
    if (owned?.size === 0) this.byOwner.delete(lease.owner);
  }
}

/** How often the message has been handed out before. */
export function timesHandedOut(queue: MessageQueue, seq: number): number {
  return queue.handedOut?.get(seq) ?? 0;
}

function rememberHandedOut(queue: MessageQueue, seq: number, count: number): void {
  queue.handedOut ??= new Map();
  queue.handedOut.set(seq, count);
}
