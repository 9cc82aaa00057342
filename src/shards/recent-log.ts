import { Buffer } from 'node:buffer';
import type { LogPosition } from './segments.js';

/**
 * Recent log: the bytes of the last batches, kept so that delivering a message sent a moment ago reads no file.
 * Owns: copies of whole batches within a byte bound; the oldest leave first. Losing one costs a read, nothing else.
 *
 * Bytes and not messages: objects that live for a second survive every young collection on their way, and sending would
 * pay for that (bench/scenarios/post-message.ts).
 */

/** Places of batches that have left are given back when there are this many and they are half of all. */
const MIN_LEFT_BATCHES = 256;

export class RecentLog {
  private readonly maxBytes: number;
  /** Where each batch begins; rising. */
  private starts: LogPosition[] = [];
  private batches: (Buffer | null)[] = [];
  /** Batches before it have left. */
  private oldest = 0;
  private bytes = 0;

  constructor(maxBytes: number) {
    this.maxBytes = maxBytes;
  }

  /** Copies `batch`, which begins at `start`, above all that was added before. */
  add(start: LogPosition, batch: Buffer): void {
    this.starts.push(start);
    this.batches.push(Buffer.from(batch));
    this.bytes += batch.length;
    while (this.bytes > this.maxBytes && this.oldest < this.batches.length) {
      this.bytes -= this.batches[this.oldest]?.length ?? 0;
      this.batches[this.oldest] = null;
      this.oldest += 1;
    }
    if (this.oldest >= MIN_LEFT_BATCHES && this.oldest * 2 >= this.starts.length) {
      this.starts = this.starts.slice(this.oldest);
      this.batches = this.batches.slice(this.oldest);
      this.oldest = 0;
    }
  }

  /** The line at `position` has been changed in its file. */
  replace(position: LogPosition, line: Buffer): void {
    const kept = this.read(position, line.length);
    if (kept !== undefined) line.copy(kept);
  }

  /** The `bytes` bytes at `position`; undefined when they have left. Valid until the next `add`. */
  read(position: LogPosition, bytes: number): Buffer | undefined {
    let low = this.oldest;
    let high = this.starts.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.starts[middle] as number) <= position) low = middle + 1;
      else high = middle;
    }
    const batch = this.batches[low - 1];
    const start = this.starts[low - 1];
    if (batch === undefined || batch === null || start === undefined) return undefined;
    const offset = position - start;
    return offset + bytes <= batch.length ? batch.subarray(offset, offset + bytes) : undefined;
  }
}
