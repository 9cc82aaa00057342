/**
 * The few numbers that all shards share, in memory every thread sees.
 * Owns: the server-wide sequence counter, the reservations that make `state.max_capacity_bytes` and
 *       `messaging.max_queued_bytes` exact over all shards, and what each shard reports about itself.
 * Never: anything durable; every number here is found again from disk when a shard opens.
 */

const GLOBAL = { seq: 0, stateBytes: 1, queuedBytes: 2 } as const;
const GLOBAL_CELLS = 8;
const CELLS_PER_SHARD = 16;
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
} as const;
export type ShardCell = keyof typeof SHARD_CELLS;

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
    return GLOBAL_CELLS + shard * CELLS_PER_SHARD + SHARD_CELLS[cell];
  }
}
