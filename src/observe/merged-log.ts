/**
 * Merged log: the logs of all shards as one sequence, in `seq` order, up to the watermark.
 * Owns:      one tail for each shard.
 * Invariant: every line with a `seq` up to the watermark comes out once, and after all lines with a lower one.
 */
import type { LogPosition } from '../shards/segments.js';
import type { DurableState } from '../shards/shared-counters.js';
import type { ShardTail, TailLine } from './shard-tail.js';

export interface BatchBounds {
  readonly maxEvents: number;
  readonly maxBytes: number;
}

export class MergedLog {
  constructor(private readonly tails: readonly ShardTail[]) {}

  /**
   * The next lines, at least one if there is any; none when all up to the watermark is taken.
   * Cost: reading them, and a look at each shard's next line for each of them.
   */
  async take(durable: DurableState, bounds: BatchBounds): Promise<TailLine[]> {
    const lines: TailLine[] = [];
    let bytes = 0;
    while (lines.length < bounds.maxEvents && bytes < bounds.maxBytes) {
      let first: ShardTail | null = null;
      let firstSeq = durable.watermark;
      for (let shard = 0; shard < this.tails.length; shard++) {
        const tail = this.tails[shard] as ShardTail;
        const end = durable.ends[shard] ?? 0;
        if (!tail.fillFromMemory(end)) await tail.fill(end);
        if (tail.head === null || tail.head.event.seq > firstSeq) continue;
        first = tail;
        firstSeq = tail.head.event.seq;
      }
      const line = first?.take() ?? null;
      if (line === null) break;
      lines.push(line);
      bytes += line.bytes;
    }
    return lines;
  }

  /** Lines were overwritten: what was read ahead may have contents that were removed. */
  forget(): void {
    for (const tail of this.tails) tail.forget();
  }

  /** Where each shard's log goes on behind what was taken. */
  positions(): LogPosition[] {
    return this.tails.map((tail) => tail.position);
  }

  get damagedLines(): number {
    return this.tails.reduce((sum, tail) => sum + tail.damagedLines, 0);
  }
}
