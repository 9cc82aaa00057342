import type { Buffer } from 'node:buffer';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import type { LoggedEvent } from '../log-line.js';
import type { SharedCounters } from '../shared-counters.js';
import { Store } from '../store.js';
import { View } from '../view.js';
import { type LogEnd, SegmentWriter } from './segment-writer.js';

/**
 * New shard: one shard that is being built from lines of others.
 * Owns:      its log, its store, and the view that makes the rows.
 * Invariant: after `checkpoint` everything added is on the disk. A store may be ahead of the log that is gone back to:
 *            lines added again are then written, and change no row again.
 */
export class NewShard {
  /** Lines written, in all runs of the tool. */
  lines: number;
  private readonly view: View;
  /** Rows up to this event are in the store already. */
  private readonly storedSeq: number;

  private constructor(
    readonly store: Store,
    private readonly log: SegmentWriter,
    shard: number,
    counters: SharedCounters,
    lines: number,
  ) {
    this.view = new View(store, shard, counters);
    this.storedSeq = this.view.meta.appliedSeq;
    this.lines = lines;
  }

  static async open(
    directory: string,
    shard: number,
    counters: SharedCounters,
    maxSegmentBytes: number,
    end: LogEnd,
    lines: number,
  ): Promise<NewShard> {
    const logDir = join(directory, 'log');
    mkdirSync(logDir, { recursive: true });
    const log = await SegmentWriter.open(logDir, maxSegmentBytes, end);
    return new NewShard(new Store(join(directory, 'store.mdb')), log, shard, counters, lines);
  }

  get end(): LogEnd {
    return this.log.end;
  }

  get changedRows(): number {
    return this.store.changedRows;
  }

  /** `line` is the event's, without its newline; `seq` must rise. */
  async add(event: LoggedEvent, line: Buffer): Promise<void> {
    const position = await this.log.append(line);
    this.lines += 1;
    if (event.seq > this.storedSeq) this.view.replay(event, position, line.length + 1);
  }

  async checkpoint(): Promise<void> {
    await this.log.sync();
    await this.store.checkpoint(this.view.meta);
  }

  async close(): Promise<void> {
    await this.log.close();
    await this.store.close();
  }
}
