/**
 * Follower: keeps the index at the watermark, and hands every batch on, in order, once.
 * Owns:      the loop that reads the log on; the rhythm in which it looks.
 * Never:     runs twice at a time, or hands on what is not in the index yet: who has read the index and waits for the next
 *            batch misses nothing.
 * Failure:   an error of reading or indexing is final: `onFailed`, and the thread should start anew from the index.
 */
import { Courtesy } from './courtesy.js';
import type { EventIndex } from './event-index.js';
import type { BatchBounds, MergedLog } from './merged-log.js';
import type { TailLine } from './shard-tail.js';
import type { WatermarkSource } from './watermark-source.js';

/** Of one batch: it holds up the other requests of the thread for some 30 ms. */
const MAX_BATCH_BYTES = 2 * 1024 * 1024;
const BATCH = { maxEvents: 1_000, maxBytes: MAX_BATCH_BYTES };
/** Of one batch while there is much to catch up with: the figures of agents are put once for all of it... */
const CATCH_UP_BATCH = { maxEvents: 8_000, maxBytes: MAX_BATCH_BYTES };
/** ...but not while agents need the machine: it must be over soon, so that the rest behind it need not be long. */
const COURTEOUS_BATCH = { maxEvents: 500, maxBytes: MAX_BATCH_BYTES };
/**
 * How often it looks for new events: with every watcher a little less often, since each look costs a system call for each
 * of them; while nobody watches, seldom: requests make it look.
 */
const WATCHED_LOOK_MS = 15;
const LOOK_MS_PER_WATCHER = 0.4;
const MAX_WATCHED_LOOK_MS = 60;
const UNWATCHED_LOOK_MS = 250;
/** A request is answered with what the index has when it takes longer than this to catch up. */
const PATIENCE_MS = 100;

export interface FollowerOptions {
  readonly source: WatermarkSource;
  readonly log: MergedLog;
  readonly index: EventIndex;
  watchers(): number;
  /** Now in the index. Synchronous: the index does not change meanwhile. */
  onBatch(lines: readonly TailLine[]): void;
  onFailed(error: unknown): void;
}

export class Follower {
  private running: Promise<void> | null = null;
  private wanted = false;
  private stopped = false;
  private lookedMs = 0;
  private readonly courtesy = new Courtesy();
  /** Requests that wait for the index: it does not rest then. */
  private awaited = 0;
  private endRest: (() => void) | null = null;
  private readonly timer: NodeJS.Timeout;
  /** The watermark as of the last look. */
  watermark = 0;
  /** All up to the watermark is in the index. */
  isCurrent = false;

  constructor(private readonly options: FollowerOptions) {
    this.timer = setInterval(() => this.look(), WATCHED_LOOK_MS);
    this.wake();
  }

  /** Resolves when all that was durable at the call is in the index, or when it takes too long. */
  async catchUp(): Promise<void> {
    this.awaited += 1;
    this.endRest?.();
    const caughtUp = this.wake().then(() => true);
    let timer: NodeJS.Timeout | undefined;
    const patience = new Promise<boolean>((resolve) => {
      timer = setTimeout(resolve, PATIENCE_MS, false);
    });
    const isCaughtUp = await Promise.race([caughtUp, patience]);
    clearTimeout(timer);
    this.awaited -= 1;
    if (!isCaughtUp) this.isCurrent = false; // as far as is known
  }

  /** Resolves when nothing runs any more. */
  async stop(): Promise<void> {
    this.stopped = true;
    clearInterval(this.timer);
    this.endRest?.();
    await this.running;
  }

  private look(): void {
    const watchers = this.options.watchers();
    const watchedMs = Math.min(MAX_WATCHED_LOOK_MS, WATCHED_LOOK_MS + watchers * LOOK_MS_PER_WATCHER);
    const intervalMs = watchers === 0 ? UNWATCHED_LOOK_MS : watchedMs;
    const nowMs = performance.now();
    // The timer is never quite on time.
    if (nowMs - this.lookedMs < intervalMs - WATCHED_LOOK_MS / 2) return;
    this.lookedMs = nowMs;
    void this.wake();
  }

  private wake(): Promise<void> {
    if (this.stopped) return Promise.resolve();
    this.wanted = true;
    this.running ??= this.run();
    return this.running;
  }

  private async run(): Promise<void> {
    try {
      while (this.wanted && !this.stopped) {
        this.wanted = false;
        await this.followToWatermark();
      }
    } catch (error) {
      this.stopped = true;
      this.options.onFailed(error);
    }
    this.running = null;
  }

  private async followToWatermark(): Promise<void> {
    const { source, log, index } = this.options;
    let caughtUp = true;
    while (!this.stopped) {
      const sinceMs = performance.now();
      const durable = await source.read();
      const bounds: BatchBounds = this.courtesy.isBusy ? COURTEOUS_BATCH : caughtUp ? BATCH : CATCH_UP_BATCH;
      const lines = await log.take(durable, bounds);
      caughtUp = lines.length < bounds.maxEvents;
      this.watermark = durable.watermark;
      this.isCurrent = lines.length === 0;
      if (lines.length === 0) return;
      index.apply(lines, log.positions());
      this.options.onBatch(lines);
      // Requests and watchers have their turn, and agents theirs.
      await this.rest(this.courtesy.restMs(performance.now() - sinceMs));
    }
  }

  /** One loop turn at least. */
  private rest(restMs: number): Promise<void> {
    return new Promise((resolve) => {
      if (restMs === 0 || this.awaited > 0) {
        setImmediate(resolve);
        return;
      }
      const timer = setTimeout(resolve, restMs);
      this.endRest = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }
}
