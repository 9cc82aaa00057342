import type { ReceivedMessage } from '../contract/engine.js';

/**
 * Messages sent a moment ago, kept so that delivering them need not read the log.
 * Owns: the newest messages within a byte bound; the oldest leave first. Losing one costs a read, nothing else.
 *
 * Two arrays in `seq` order and a binary search: a Map of 80,000 entries that come at one end and leave at the other
 * spends more time rehashing than everything else here (bench/scenarios/post-message.ts).
 */

/** Slots that have been left are given back when there are this many and they are half of all. */
const MIN_LEFT_SLOTS = 1_024;
/** One old message that nobody fetches must not keep the slots of all that were delivered since. */
const MAX_SLOTS = 262_144;

interface RecentMessage {
  readonly message: ReceivedMessage;
  readonly bytes: number;
}

export class RecentMessages {
  private readonly maxBytes: number;
  /** Rising. */
  private seqs: number[] = [];
  /** null: removed. */
  private entries: (RecentMessage | null)[] = [];
  /** Slots before it have left. */
  private oldest = 0;
  private bytes = 0;

  constructor(maxBytes: number) {
    this.maxBytes = maxBytes;
  }

  /** `seq` must be above all that were added before. */
  add(seq: number, message: ReceivedMessage, bytes: number): void {
    this.seqs.push(seq);
    this.entries.push({ message, bytes });
    this.bytes += bytes;
    while (this.mustLeave()) this.drop(this.oldest++);
    if (this.oldest >= MIN_LEFT_SLOTS && this.oldest * 2 >= this.seqs.length) {
      this.seqs = this.seqs.slice(this.oldest);
      this.entries = this.entries.slice(this.oldest);
      this.oldest = 0;
    }
  }

  get(seq: number): ReceivedMessage | undefined {
    return this.entries[this.slotOf(seq)]?.message;
  }

  remove(seq: number): void {
    this.drop(this.slotOf(seq));
  }

  /** Of the oldest slot. */
  private mustLeave(): boolean {
    const slots = this.seqs.length - this.oldest;
    return this.bytes > this.maxBytes || slots > MAX_SLOTS || this.entries[this.oldest] === null;
  }

  private drop(slot: number): void {
    const entry = this.entries[slot];
    if (entry === null || entry === undefined) return;
    this.entries[slot] = null;
    this.bytes -= entry.bytes;
  }

  /** -1 when it is not here. */
  private slotOf(seq: number): number {
    let low = this.oldest;
    let high = this.seqs.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.seqs[middle] as number) < seq) low = middle + 1;
      else high = middle;
    }
    return this.seqs[low] === seq ? low : -1;
  }
}
