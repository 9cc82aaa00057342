/**
 * The few numbers that all shards share, in memory every thread sees.
 * Owns: the server-wide sequence counter, the reservations that make `state.max_capacity_bytes` and
 *       `messaging.max_queued_bytes` exact over all shards, and what each shard reports about itself.
 * Never: anything durable; every number here is found again from disk when a shard opens.
 */

const GLOBAL = { seq: 0, stateBytes: 1, queuedBytes: 2 } as const;
const GLOBAL_CELLS = 8;
const CELLS_PER_SHARD = 24;
const MAX_SNAPSHOT_ATTEMPTS = 10_000;

/** What one shard reports: durable and visible, unlike the reservations. */
export const SHARD_CELLS = {
  stateBytes: 0,
  keys: 1,
  agents: 2,
  queuedMessages: 3,
  queuedBytes: 4,
  /** Since the process started. */
  droppedMessages: 5,
  /** What the shard has reserved of the totals, for operations under way and for what is on disk. */
  reservedStateBytes: 6,
  reservedQueuedBytes: 7,
  /** Odd while the shard publishes. */
  version: 8,
  /** Lines of the log that were skipped as damaged when the shard opened, or at a delivery since. */
  damagedLines: 9,
  /** 1 while an I/O error keeps the shard from writing. */
  readOnly: 10,
  /** 1 while the disk is too full for writes. */
  spaceShort: 11,
  /** Events of reads that had no room on the disk, since the process started. */
  unloggedReads: 12,
  /** Of the queued ones, those that wait to be pushed to a webhook. */
  pushMessages: 13,
  /** On loan now, of the queues in memory. */
  leasedMessages: 14,
  /** Calls that wait for a message. */
  waits: 15,
} as const;
export type ShardCell = keyof typeof SHARD_CELLS;

/**
 * What observers go by, apart from the figures above, counted from the end of a shard's cells.
 *   pendingFrom  no `seq` from here on may be taken for durable; 0 until the shard is open, `NOTHING_PENDING` when idle
 *   durableEnd   the log is durable up to this place
 */
const WATERMARK_CELLS = { pendingFrom: CELLS_PER_SHARD - 1, durableEnd: CELLS_PER_SHARD - 2 } as const;

/** As `pendingFrom`: all that the shard has taken is durable. */
export const NOTHING_PENDING = Number.MAX_SAFE_INTEGER;

/** What is durable over all shards. */
export interface DurableState {
  /** Every line with this `seq` or a lower one is durable, and lies before its shard's end. */
  readonly watermark: number;
  /** Where each shard's durable log ends. */
  readonly ends: readonly number[];
}

const CELL_NAMES = Object.keys(SHARD_CELLS) as ShardCell[];
const NO_FIGURES = Object.fromEntries(CELL_NAMES.map((cell) => [cell, 0])) as Record<ShardCell, number>;

/** A total with a limit, of which shards take and give back parts. */
export type Reservation = 'stateBytes' | 'queuedBytes';

const RESERVED_CELL = { stateBytes: 'reservedStateBytes', queuedBytes: 'reservedQueuedBytes' } as const;

export function createCounterMemory(shards: number): SharedArrayBuffer {
  return new SharedArrayBuffer((GLOBAL_CELLS + shards * CELLS_PER_SHARD) * 8);
}

export class SharedCounters {
  private readonly cells: BigInt64Array;
  readonly shards: number;

  constructor(readonly memory: SharedArrayBuffer) {
    this.cells = new BigInt64Array(memory);
    this.shards = (this.cells.length - GLOBAL_CELLS) / CELLS_PER_SHARD;
  }

  /** Takes `count` sequence numbers in a row and returns the first; no other shard ever gets them. */
  takeSeqs(count: number): number {
    return Number(Atomics.add(this.cells, GLOBAL.seq, BigInt(count))) + 1;
  }

  /** The next `takeSeqs` returns more than `seq`. Called while a shard recovers. */
  raiseSeq(seq: number): void {
    const wanted = BigInt(seq);
    let current = Atomics.load(this.cells, GLOBAL.seq);
    while (current < wanted) {
      const seen = Atomics.compareExchange(this.cells, GLOBAL.seq, current, wanted);
      if (seen === current) return;
      current = seen;
    }
  }

  /** Takes `bytes` if the total stays within `limitBytes`; two shards can't both take the last ones. */
  reserve(shard: number, what: Reservation, bytes: number, limitBytes: number): boolean {
    const cell = GLOBAL[what];
    let current = Atomics.load(this.cells, cell);
    for (;;) {
      if (Number(current) + bytes > limitBytes) return false;
      const seen = Atomics.compareExchange(this.cells, cell, current, current + BigInt(bytes));
      if (seen === current) break;
      current = seen;
    }
    Atomics.add(this.cells, this.cell(shard, RESERVED_CELL[what]), BigInt(bytes));
    return true;
  }

  release(shard: number, what: Reservation, bytes: number): void {
    if (bytes === 0) return;
    Atomics.sub(this.cells, GLOBAL[what], BigInt(bytes));
    Atomics.sub(this.cells, this.cell(shard, RESERVED_CELL[what]), BigInt(bytes));
  }

  /** A shard opens, maybe again after its thread died: what it has on disk replaces all it had reserved. */
  resetReservation(shard: number, what: Reservation, bytesOnDisk: number): void {
    this.release(shard, what, this.read(shard, RESERVED_CELL[what]) - bytesOnDisk);
  }

  /** Publishes figures that belong together; `snapshot` sees all of them or none. Only the shard itself may call it. */
  publish(shard: number, figures: Readonly<Partial<Record<ShardCell, number>>>): void {
    const version = this.cell(shard, 'version');
    Atomics.add(this.cells, version, 1n);
    for (const [cell, value] of Object.entries(figures)) {
      Atomics.store(this.cells, this.cell(shard, cell as ShardCell), BigInt(value));
    }
    Atomics.add(this.cells, version, 1n);
  }

  /** The shard is about to take sequence numbers: from the returned one on, nothing is durable until it says so. */
  nextSeq(): number {
    return Number(Atomics.load(this.cells, GLOBAL.seq)) + 1;
  }

  /** Call before `takeSeqs` with what `nextSeq` returned. */
  markPending(shard: number, fromSeq: number): void {
    Atomics.store(this.cells, this.place(shard, WATERMARK_CELLS.pendingFrom), BigInt(fromSeq));
  }

  /** The end first: whoever sees that nothing is pending must find all of it before the end. */
  publishDurable(shard: number, end: number, pendingFromSeq: number): void {
    Atomics.store(this.cells, this.place(shard, WATERMARK_CELLS.durableEnd), BigInt(end));
    this.markPending(shard, pendingFromSeq);
  }

  /**
   * The watermark, and places before which all lines up to it lie. The order of the reads is what makes it true:
   *
   *   observer   C = counter;  p = pendingFrom of each shard;  ends.       W = min(C, p - 1)
   *   shard      pendingFrom = p' <= its first seq;  takes its seqs;  flushes;  durableEnd;  pendingFrom = none
   *
   * Let s <= W be a `seq` that some shard took. s <= C, so it was taken before the counter was read, and its shard had
   * stored p' <= s before that. The observer's p comes later: had it read p' itself, W would be below s. So it read what
   * came after p', that is after the flush, and after the end that the observer reads later still. (Atomics are
   * sequentially consistent: these orders are one order.) A shard that died in between leaves p' standing: the watermark
   * waits until it is recovered. One that was never open has 0, and holds the watermark at 0.
   */
  durableState(): DurableState {
    let watermark = Number(Atomics.load(this.cells, GLOBAL.seq));
    for (let shard = 0; shard < this.shards; shard++) {
      const pendingFrom = Number(Atomics.load(this.cells, this.place(shard, WATERMARK_CELLS.pendingFrom)));
      watermark = Math.min(watermark, Math.max(0, pendingFrom - 1));
    }
    const ends: number[] = [];
    for (let shard = 0; shard < this.shards; shard++) {
      ends.push(Number(Atomics.load(this.cells, this.place(shard, WATERMARK_CELLS.durableEnd))));
    }
    return { watermark, ends };
  }

  /** For the supervisor, when the shard's thread has died, maybe within a publication: `snapshot` must not wait for it. */
  endPublication(shard: number): void {
    const version = this.cell(shard, 'version');
    if (Atomics.load(this.cells, version) % 2n === 1n) Atomics.add(this.cells, version, 1n);
  }

  read(shard: number, cell: ShardCell): number {
    return Number(Atomics.load(this.cells, this.cell(shard, cell)));
  }

  /**
   * Sums over all shards, all of one moment: read again until no shard has published meanwhile (a sequence lock). A
   * shard publishes in a microsecond, once for each batch.
   */
  snapshot(): Readonly<Record<ShardCell, number>> {
    for (let attempt = 1; ; attempt++) {
      const before = this.versions();
      const sums = { ...NO_FIGURES };
      for (let shard = 0; shard < this.shards; shard++) {
        for (const cell of CELL_NAMES) sums[cell] += this.read(shard, cell);
      }
      const isOneMoment = before >= 0 && this.versions() === before;
      // A shard that ended within a publication must not hold up everybody else.
      if (isOneMoment || attempt === MAX_SNAPSHOT_ATTEMPTS) return sums;
    }
  }

  /** Rises with every publication; -1 while one is under way. */
  private versions(): number {
    let sum = 0;
    for (let shard = 0; shard < this.shards; shard++) {
      const version = this.read(shard, 'version');
      if (version % 2 === 1) return -1;
      sum += version;
    }
    return sum;
  }

  private cell(shard: number, cell: ShardCell): number {
    return this.place(shard, SHARD_CELLS[cell]);
  }

  private place(shard: number, cell: number): number {
    return GLOBAL_CELLS + shard * CELLS_PER_SHARD + cell;
  }
}
