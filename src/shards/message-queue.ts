import assert from 'node:assert/strict';
import type { LogPosition } from './segments.js';

/**
 * Message queue: one agent's undelivered messages, first in first out, as pointers into the log (32 bytes each).
 * Owns:      the order, and which messages an operation under way has claimed.
 * Never:     holds a message's content, or a message that is not durable.
 *
 *   ready --claim--> claimed --remove--> (gone)
 *                       \----release--> ready   (the operation failed: back at its old place)
 */
const READY = 0;
const CLAIMED = 1;
const REMOVED = 2;

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
  private states: number[] = [];
  /** No slot before it is anything but removed. */
  private head = 0;
  /** No slot before it is ready. */
  private firstReady = 0;
  private readyCount = 0;
  private claimedCount = 0;
  /** Messages that are being sent: they count against the limit, but can't be claimed yet. */
  incoming = 0;
  /** Messages being sent that drop another for their place. */
  dropping = 0;
  /** Claimed messages being read from the log: who wants to claim more must wait, or a crash could undo the order. */
  reading: Promise<void> | null = null;

  /** Messages that may be claimed. */
  get ready(): number {
    return this.readyCount;
  }

  /** Everything that counts against `max_queue_per_agent`: a claimed message has left. */
  get occupied(): number {
    return this.readyCount + this.incoming;
  }

  /** Messages that operations under way have claimed. */
  get claimed(): number {
    return this.claimedCount;
  }

  get isIdle(): boolean {
    return this.readyCount === 0 && this.claimedCount === 0 && this.incoming === 0;
  }

  push(message: QueuedMessage): void {
    assert(message.seq > (this.seqs.at(-1) ?? 0), 'a queue takes messages in seq order');
    this.seqs.push(message.seq);
    this.positions.push(message.position);
    this.bytes.push(message.bytes);
    this.states.push(READY);
    this.readyCount += 1;
  }

  /** Claims up to `limit` of the oldest ready messages, for this caller alone. */
  claim(limit: number): QueuedMessage[] {
    const claimed: QueuedMessage[] = [];
    let slot = this.firstReady;
    for (; slot < this.states.length && claimed.length < limit; slot++) {
      if (this.states[slot] !== READY) continue;
      this.states[slot] = CLAIMED;
      claimed.push({
        seq: this.seqs[slot] as number,
        position: this.positions[slot] as number,
        bytes: this.bytes[slot] as number,
      });
    }
    this.firstReady = slot;
    this.readyCount -= claimed.length;
    this.claimedCount += claimed.length;
    return claimed;
  }

  /** A claimed message goes back to its old place. */
  release(seq: number): void {
    const slot = this.claimedSlot(seq);
    this.states[slot] = READY;
    this.claimedCount -= 1;
    this.readyCount += 1;
    if (slot < this.firstReady) this.firstReady = slot;
  }

  /** A claimed message is delivered or dropped. */
  remove(seq: number): void {
    this.states[this.claimedSlot(seq)] = REMOVED;
    this.claimedCount -= 1;
    while (this.states[this.head] === REMOVED) this.head += 1;
    if (this.firstReady < this.head) this.firstReady = this.head;
    if (this.head >= MIN_REMOVED_SLOTS && this.head * 2 >= this.states.length) this.compact();
  }

  private claimedSlot(seq: number): number {
    let low = this.head;
    let high = this.seqs.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.seqs[middle] as number) < seq) low = middle + 1;
      else high = middle;
    }
    assert(this.seqs[low] === seq && this.states[low] === CLAIMED, `message ${seq} is not claimed`);
    return low;
  }

  private compact(): void {
    this.seqs = this.seqs.slice(this.head);
    this.positions = this.positions.slice(this.head);
    this.bytes = this.bytes.slice(this.head);
    this.states = this.states.slice(this.head);
    this.firstReady -= this.head;
    this.head = 0;
  }
}
