import type { LogPosition } from './segments.js';
import { NOTHING_PENDING, type SharedCounters } from './shared-counters.js';

/**
 * Durable mark: how one shard tells observers what of its log is on the disk.
 * Owns:      the shard's watermark cells in shared memory.
 * Never:     says that something is durable before a flush has; costs an operation anything (two stores a batch).
 * Invariant: while a `seq` that the shard took may be lost in a crash, the cell `pendingFrom` is at or below it.
 *
 * With `durability: fsync` a batch begins, is written, is flushed. With `interval` and `none` several batches may be
 * written before a flush, and one may begin, or be half written, while a flush runs: that one is not covered by it.
 */
export class DurableMark {
  /** The bound of the batch that has begun and is not written; 0 for none. */
  private current = 0;
  /** The bound of the first batch that no flush has covered; 0 for none. */
  private oldest = 0;
  /** The same for when the flush under way is done. */
  private afterFlush = 0;
  private isFlushing = false;
  private writtenEnd: LogPosition;
  private flushingEnd: LogPosition;

  /** @param durableEnd of the log as recovery left it, flushed. */
  constructor(
    private readonly counters: SharedCounters,
    private readonly shard: number,
    durableEnd: LogPosition,
  ) {
    this.writtenEnd = durableEnd;
    this.flushingEnd = durableEnd;
    counters.publishDurable(shard, durableEnd, NOTHING_PENDING);
  }

  /** Call before a batch takes its sequence numbers. */
  begin(): void {
    const bound = this.counters.nextSeq();
    this.current = bound;
    if (this.isFlushing && this.afterFlush === 0) this.afterFlush = bound;
    if (this.oldest !== 0) return;
    this.oldest = bound;
    this.counters.markPending(this.shard, bound);
  }

  /** The batch is with the system. @param end of the log behind it. */
  written(end: LogPosition): void {
    this.current = 0;
    this.writtenEnd = end;
  }

  /** The batch could not be written, and the log is as it was. */
  abandoned(): void {
    if (this.afterFlush === this.current) this.afterFlush = 0;
    if (this.oldest === this.current) {
      this.oldest = 0;
      this.counters.markPending(this.shard, NOTHING_PENDING);
    }
    this.current = 0;
  }

  /** A flush begins: it covers what is written now. One that fails is final, and the mark stays where it is. */
  flushing(): void {
    this.isFlushing = true;
    this.afterFlush = this.current;
    this.flushingEnd = this.writtenEnd;
  }

  flushed(): void {
    this.isFlushing = false;
    this.oldest = this.afterFlush;
    this.counters.publishDurable(this.shard, this.flushingEnd, this.oldest === 0 ? NOTHING_PENDING : this.oldest);
  }
}
