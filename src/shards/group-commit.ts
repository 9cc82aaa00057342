import assert from 'node:assert/strict';
import type { ApiErrorCode } from '../contract/errors.js';
import type { Logger } from '../log.js';
import { type EventBody, encodeLine } from './log-line.js';
import { DiskFullError, type LogWriter } from './log-writer.js';
import type { Operation } from './operations.js';
import type { SharedCounters } from './shared-counters.js';
import type { View } from './view.js';
import type { DurableMark } from './watermark.js';

/**
 * Group commit: the write path of one shard, in the order of durability.
 * Owns:      the operations staged for the next batches, the one commit under way, the events of reads.
 * Never:     decides what an operation does, or answers before the batch is durable (`durability: fsync`).
 * Invariant: operations are logged, applied and answered in the order they were staged.
 * Failure:   no room on the disk fails what is staged and goes on; any other error ends writing for good.
 */

/** One batch takes operations until it has about this many bytes. */
const MAX_BATCH_BYTES = 8 * 1024 * 1024;
/** Events of reads wait this long for a mutation to travel with; nobody waits for them. */
const READ_EVENTS_DELAY_MS = 50;
/** ...or until there are this many. */
const READ_EVENTS_BATCH = 4_096;
/** `durability: none` promises no flush, but observers see only what was flushed. */
const OBSERVERS_FLUSH_MS = 1_000;
/** Past this, the disk does not keep up with reads. */
const MAX_READ_EVENTS = 65_536;

export interface GroupCommitOptions {
  readonly log: LogWriter;
  readonly view: View;
  readonly counters: SharedCounters;
  /** What observers go by. */
  readonly mark: DurableMark;
  readonly durability: 'fsync' | 'interval' | 'none';
  readonly flushIntervalMs: number;
  readonly logger: Logger;
  /** Sends what was answered. */
  flushReplies(): void;
  /** Between two batches, when nothing is half done. */
  betweenBatches(): Promise<void>;
  /** Writing has ended for good. */
  onBroken(error: unknown): void;
}

export class GroupCommit {
  private readonly options: GroupCommitOptions;
  private staged: Operation[] = [];
  private readEvents: EventBody[] = [];
  private readTimer: NodeJS.Timeout | null = null;
  private readonly syncTimer: NodeJS.Timeout | null;
  private running: Promise<void> | null = null;
  private wanted = false;
  /** Written, but not flushed; always false between batches with `durability: fsync`. */
  private unsynced = false;
  private syncing: Promise<void> | null = null;
  private broken = false;
  private lastMs = 0;

  constructor(options: GroupCommitOptions) {
    this.options = options;
    const { durability, flushIntervalMs } = options;
    const syncIntervalMs = durability === 'interval' ? flushIntervalMs : OBSERVERS_FLUSH_MS;
    this.syncTimer = durability === 'fsync' ? null : setInterval(() => this.syncSoon(), syncIntervalMs);
  }

  /** Joins the next batch. Call `kick` when the turn's operations are all staged. */
  stage(operation: Operation): void {
    if (this.broken) operation.fail('unavailable');
    else this.staged.push(operation);
  }

  get isBroken(): boolean {
    return this.broken;
  }

  /** False when too many read events wait for the disk. */
  get takesReads(): boolean {
    return this.readEvents.length < MAX_READ_EVENTS;
  }

  /** Logs the event of a read with one of the next batches; the read itself is answered at once. */
  logRead(body: EventBody): void {
    if (this.broken) return;
    this.readEvents.push(body);
    if (this.readEvents.length >= READ_EVENTS_BATCH) this.wake();
    else this.readTimer ??= setTimeout(() => this.wake(), READ_EVENTS_DELAY_MS);
  }

  /** Starts a commit, at the end of this loop turn, if something is staged and none is under way: there is no timer. */
  kick(): void {
    if (this.staged.length > 0) this.wake();
  }

  /** As `kick`, also for events of reads, and to reach `betweenBatches` soon. */
  wake(): void {
    this.wanted = true;
    if (this.running === null && !this.broken) this.running = this.run();
  }

  /** Resolves when everything staged is durable and answered, or has failed. */
  async drain(): Promise<void> {
    while (!this.broken && (this.running !== null || this.staged.length > 0 || this.readEvents.length > 0)) {
      this.wake();
      await this.running;
    }
    if (this.syncTimer !== null) clearInterval(this.syncTimer);
    if (this.readTimer !== null) clearTimeout(this.readTimer);
    if (!this.broken) await this.sync();
  }

  /** Resolves when everything logged so far is on the disk. Never two flushes at a time. */
  async sync(): Promise<void> {
    await this.syncing;
    if (!this.unsynced) return;
    this.unsynced = false;
    const { log, mark } = this.options;
    mark.flushing();
    this.syncing = log.sync().finally(() => {
      this.syncing = null;
    });
    await this.syncing;
    mark.flushed();
  }

  private async run(): Promise<void> {
    try {
      while (this.wanted || this.staged.length > 0) {
        await nextTurn(); // what other gateways have sent meanwhile joins: a flush costs more than a turn
        if (this.broken) break;
        this.wanted = false;
        await this.commitBatch();
        await this.options.betweenBatches();
      }
    } catch (error) {
      this.break(error);
    }
    // In the same turn as the last look at `wanted`: what is staged from now on starts a new run.
    this.running = null;
  }

  private async commitBatch(): Promise<void> {
    const { log, view, durability, mark } = this.options;
    if (log.isSegmentFull) {
      if (durability !== 'fsync') await this.sync();
      try {
        await log.rotate();
      } catch (error) {
        if (!(error instanceof DiskFullError)) throw error;
        return this.outOfSpace(this.takeBatch(), this.takeReadEvents().length, error);
      }
    }
    const reads = this.takeReadEvents();
    const batch = this.takeBatch();
    const atMs = Math.max(Date.now(), this.lastMs);
    this.lastMs = atMs;

    const lastSeq = this.append(batch, reads, atMs); // strictly rising, from the counter all shards share
    if (lastSeq > 0) {
      try {
        await log.write(); // write-ahead log: bytes reach the segment...
        mark.written(log.position);
      } catch (error) {
        if (!(error instanceof DiskFullError)) throw this.failed(batch, error);
        mark.abandoned();
        return this.outOfSpace(batch, reads.length, error);
      }
      if (durability === 'fsync') {
        mark.flushing();
        try {
          await log.sync(); // ...and the disk. A failed fsync is final: never retry it
          mark.flushed();
        } catch (error) {
          throw this.failed(batch, error);
        }
      } else {
        this.unsynced = true;
      }
    }
    for (const operation of batch) operation.apply(atMs); // visible from now on
    if (lastSeq > 0) view.advance(lastSeq, log.position);
    view.report();
    for (const operation of batch) operation.answer(atMs); // the agent hears last
    this.options.flushReplies();
  }

  /** Encodes all events of the batch; returns the last `seq`, or 0 when there are none. */
  private append(batch: readonly Operation[], reads: readonly EventBody[], atMs: number): number {
    const { log, counters, mark } = this.options;
    let events = reads.length;
    for (const operation of batch) events += operation.bodies.length;
    if (events === 0) return 0;
    mark.begin();
    const firstSeq = counters.takeSeqs(events);
    const ts = new Date(atMs).toISOString();
    let seq = firstSeq;
    for (const body of reads) log.append(encodeLine(seq++, ts, body, false));
    for (const operation of batch) {
      const last = operation.bodies.length - 1;
      for (let i = 0; i <= last; i++) {
        const position = log.append(encodeLine(seq, ts, operation.bodies[i] as EventBody, i < last));
        operation.logged(seq, position, log.lastLineBytes);
        seq += 1;
      }
    }
    assert(seq === firstSeq + events);
    return seq - 1;
  }

  private takeBatch(): Operation[] {
    let bytes = 0;
    let count = 0;
    while (count < this.staged.length && bytes < MAX_BATCH_BYTES) {
      for (const body of (this.staged[count] as Operation).bodies) bytes += body.length;
      count += 1;
    }
    if (count === this.staged.length) {
      const all = this.staged;
      this.staged = [];
      return all;
    }
    return this.staged.splice(0, count);
  }

  private takeReadEvents(): EventBody[] {
    if (this.readTimer !== null) clearTimeout(this.readTimer);
    this.readTimer = null;
    const reads = this.readEvents;
    this.readEvents = [];
    return reads;
  }

  private outOfSpace(batch: readonly Operation[], lostReads: number, error: Error): void {
    this.options.logger.error({ err: error, failedOperations: batch.length, lostReads }, 'event log: no space left');
    this.failAll(batch, 'store_full');
  }

  private failed(batch: readonly Operation[], error: unknown): unknown {
    this.broken = true;
    this.failAll(batch, 'unavailable');
    return error;
  }

  /** What was staged behind the batch may build on it, so all of it fails together. */
  private failAll(batch: readonly Operation[], code: ApiErrorCode): void {
    const behind = this.staged;
    this.staged = [];
    for (const operation of batch) operation.fail(code);
    for (const operation of behind) operation.fail(code);
    this.options.flushReplies();
  }

  private break(error: unknown): void {
    this.broken = true;
    this.failAll([], 'unavailable');
    this.options.onBroken(error);
  }

  private syncSoon(): void {
    if (this.broken || this.syncing !== null) return;
    this.sync().catch((error: unknown) => this.break(error));
  }
}

/** Resolves when everything that is ready to be read now has been. */
function nextTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
