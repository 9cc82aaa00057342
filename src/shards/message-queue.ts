import assert from 'node:assert/strict';
import type { Lease } from './leases.js';
import type { ReceiveRequest } from './receive-request.js';
import type { LogPosition } from './segments.js';

/**
 * Message queue: one agent's undelivered messages in send order, as pointers into the log (32 bytes each).
 * Owns:      the order, and what each message may be taken for.
 * Never:     holds a message's content, or a message that is not durable.
 *
 *   ready    anybody may take it
 *   claimed  an operation under way removes it: delivery, acknowledgement, drop
 *   changing an operation under way moves it between the other states
 *   leased   somebody has it on loan
 *   push     it waits to be pushed to the agent's webhook
 *
 *   ready ---> claimed ---> (gone)          every operation that fails puts the message back where it was
 *   ready ---> changing --> leased ---> claimed ---> (gone)
 *                           leased ---> ready        its time is over
 *                           leased ---> changing --> ready     it is given back
 *   push ----> claimed ---> (gone)          pushed, or dropped
 *   push ----> changing --> ready           it can't be pushed
 */
export const SLOT = { ready: 0, claimed: 1, removed: 2, changing: 3, leased: 4, push: 5 } as const;
export type SlotState = (typeof SLOT)[keyof typeof SLOT];
const STATE_NAMES = Object.keys(SLOT);

/** Slots of removed messages are given back when there are this many and they are half of all. */
const MIN_REMOVED_SLOTS = 64;

export interface QueuedMessage {
  readonly seq: number;
  readonly position: LogPosition;
  readonly bytes: number;
}

export class MessageQueue {
  private seqs: number[] = [];
  private positions: number[] = [];
  private bytes: number[] = [];
  private states: SlotState[] = [];
  /** No slot before it is anything but removed. */
  private head = 0;
  /** No slot before it is ready. */
  private firstReady = 0;
  private readyCount = 0;
  private claimedCount = 0;
  private changingCount = 0;
  private leasedCount = 0;
  private pushCount = 0;
  /** Messages that are being sent: they count against the limit, but can't be claimed yet. */
  incoming = 0;
  /** Messages being sent that drop another for their place. */
  dropping = 0;
  /** Of those, the ones that have not found which. */
  seekingRoom = 0;
  /** Claimed messages being read from the log: who wants to claim more must wait, or a crash could undo the order. */
  reading: Promise<void> | null = null;

  // Most queues have none of these, and there may be a hundred thousand queues: null until needed.
  /** By `seq`, of all messages that are leased, also while that changes. */
  leases: Map<number, Lease> | null = null;
  /** How often messages that are not leased now have been handed out before; by `seq`. */
  handedOut: Map<number, number> | null = null;
  /** Who waits for a message, first come first served. */
  waiting: Set<ReceiveRequest> | null = null;
  /** The agent has a webhook: what is sent to it is pushed first. */
  hasWebhook = false;
  /** The agent's token was revoked: nobody can fetch what is here, so nothing more comes in and nothing is pushed. */
  isClosed = false;

  /** Messages that may be claimed. */
  get ready(): number {
    return this.readyCount;
  }

  /** Everything that counts against `max_queue_per_agent`: a claimed message has left, a leased one has not. */
  get occupied(): number {
    return this.stored + this.incoming;
  }

  /** As `occupied`, without what is not durable yet. */
  get stored(): number {
    return this.readyCount + this.changingCount + this.leasedCount + this.pushCount;
  }

  /** Messages whose state hangs on operations under way. */
  get unsettled(): number {
    return this.claimedCount + this.changingCount;
  }

  get waitingToPush(): number {
    return this.pushCount;
  }

  /** Nothing would be lost if it were read from the view again. */
  get isIdle(): boolean {
    if (this.stored > 0 || this.claimedCount > 0 || this.incoming > 0 || this.reading !== null) return false;
    return this.waiting === null || this.waiting.size === 0;
  }

  push(message: QueuedMessage, state: SlotState = SLOT.ready): void {
    assert(message.seq > (this.seqs.at(-1) ?? 0), 'a queue takes messages in seq order');
    this.seqs.push(message.seq);
    this.positions.push(message.position);
    this.bytes.push(message.bytes);
    this.states.push(state);
    this.count(state, 1);
  }

  /** Takes up to `limit` of the oldest ready messages, for this caller alone. */
  claim(limit: number, to: SlotState = SLOT.claimed): QueuedMessage[] {
    const claimed: QueuedMessage[] = [];
    let slot = this.firstReady;
    for (; slot < this.states.length && claimed.length < limit; slot++) {
      if (this.states[slot] !== SLOT.ready) continue;
      this.states[slot] = to;
      claimed.push(this.messageAt(slot));
    }
    this.firstReady = slot;
    this.count(SLOT.ready, -claimed.length);
    this.count(to, claimed.length);
    return claimed;
  }

  /**
   * The oldest message that may be dropped to make room: not one that is leased, nor the first to push, for which a
   * post may be under way. Cost: the messages before it.
   */
  oldestToDrop(): { readonly message: QueuedMessage; readonly state: SlotState } | undefined {
    let isFirstPush = true;
    for (let slot = this.head; slot < this.states.length; slot++) {
      const state = this.states[slot];
      if (state === SLOT.ready || (state === SLOT.push && !isFirstPush))
        return { message: this.messageAt(slot), state };
      if (state === SLOT.push) isFirstPush = false;
    }
    return undefined;
  }

  /** The oldest messages that wait to be pushed, at most `limit`. Cost: the messages before them. */
  toPush(limit: number): QueuedMessage[] {
    const found: QueuedMessage[] = [];
    for (let slot = this.head; slot < this.states.length && found.length < Math.min(limit, this.pushCount); slot++) {
      if (this.states[slot] === SLOT.push) found.push(this.messageAt(slot));
    }
    return found;
  }

  /** A message of known state takes another. */
  move(seq: number, from: SlotState, to: SlotState): void {
    const slot = this.slotOf(seq);
    assert(this.states[slot] === from, `message ${seq} is not ${STATE_NAMES[from]}`);
    this.states[slot] = to;
    this.count(from, -1);
    this.count(to, 1);
    if (to === SLOT.ready && slot < this.firstReady) this.firstReady = slot;
    if (to === SLOT.removed) this.giveBackSlots();
  }

  /** A claimed message goes back to its old place. */
  release(seq: number): void {
    this.move(seq, SLOT.claimed, SLOT.ready);
  }

  /** A claimed message is delivered or dropped. */
  remove(seq: number): void {
    this.move(seq, SLOT.claimed, SLOT.removed);
    this.leases?.delete(seq);
    this.handedOut?.delete(seq);
  }

  private messageAt(slot: number): QueuedMessage {
    return {
      seq: this.seqs[slot] as number,
      position: this.positions[slot] as number,
      bytes: this.bytes[slot] as number,
    };
  }

  private slotOf(seq: number): number {
    let low = this.head;
    let high = this.seqs.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.seqs[middle] as number) < seq) low = middle + 1;
      else high = middle;
    }
    assert(this.seqs[low] === seq, `message ${seq} is not in the queue`);
    return low;
  }

  private count(state: SlotState, by: number): void {
    switch (state) {
      case SLOT.ready:
        this.readyCount += by;
        break;
      case SLOT.claimed:
        this.claimedCount += by;
        break;
      case SLOT.changing:
        this.changingCount += by;
        break;
      case SLOT.leased:
        this.leasedCount += by;
        break;
      case SLOT.push:
        this.pushCount += by;
        break;
      case SLOT.removed:
        break;
    }
  }

  private giveBackSlots(): void {
    while (this.states[this.head] === SLOT.removed) this.head += 1;
    if (this.firstReady < this.head) this.firstReady = this.head;
    if (this.head < MIN_REMOVED_SLOTS || this.head * 2 < this.states.length) return;
    this.seqs = this.seqs.slice(this.head);
    this.positions = this.positions.slice(this.head);
    this.bytes = this.bytes.slice(this.head);
    this.states = this.states.slice(this.head);
    this.firstReady -= this.head;
    this.head = 0;
  }
}
