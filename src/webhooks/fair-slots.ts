/**
 * Which delivery gets the next free slot. A post can't be interrupted before its time is over, so endpoints that hang
 * must never hold every slot: agents wait in three lanes by how long their posts have held a slot so far.
 *   `quick`    the last posts were answered soon: may use every slot
 *   `unknown`  no post yet: together with `slow` at most three quarters of the slots
 *   `slow`     the last posts held their slots for long: at most half
 * So a quarter of the slots is always for those who answer, and another one for those who may. Within a lane it is first
 * come, first served; among lanes the slots under way are shared 2 : 2 : 1 where all of them wait.
 * Owns: the waiting items and the count of slots in use. Pure: no clock, no timers.
 */
export type Lane = 'quick' | 'unknown' | 'slow';

export interface SlotGrant<Item> {
  readonly item: Item;
  /** To be given back with `release`. */
  readonly lane: Lane;
}

const LANES: readonly Lane[] = ['quick', 'unknown', 'slow'];
const SHARES: Readonly<Record<Lane, number>> = { quick: 2, unknown: 2, slow: 1 };

export class FairSlots<Item> {
  private readonly queues: Readonly<Record<Lane, Set<Item>>> = {
    quick: new Set(),
    unknown: new Set(),
    slow: new Set(),
  };
  private readonly used: Record<Lane, number> = { quick: 0, unknown: 0, slow: 0 };
  private readonly maxNotQuick: number;
  private readonly maxSlow: number;

  /** @param slots posts in flight at most, 1 or more. Every lane may use at least one of them. */
  constructor(private readonly slots: number) {
    this.maxNotQuick = Math.max(1, Math.floor((slots * 3) / 4));
    this.maxSlow = Math.max(1, Math.floor(slots / 2));
  }

  /** Joins the end of its lane; an item waits in one lane only, and once. */
  enqueue(item: Item, lane: Lane): void {
    this.queues[lane].add(item);
  }

  /** The next item that may start, which holds a slot from now on; null when none may. */
  take(): SlotGrant<Item> | null {
    let chosen: Lane | null = null;
    for (const lane of LANES) {
      if (this.queues[lane].size === 0 || !this.mayStart(lane)) continue;
      if (chosen === null || this.used[lane] / SHARES[lane] < this.used[chosen] / SHARES[chosen]) chosen = lane;
    }
    if (chosen === null) return null;
    const queue = this.queues[chosen];
    for (const item of queue) {
      queue.delete(item);
      this.used[chosen] += 1;
      return { item, lane: chosen };
    }
    return null;
  }

  release(lane: Lane): void {
    this.used[lane] -= 1;
  }

  /** Nothing that waits will start. */
  clear(): void {
    for (const lane of LANES) this.queues[lane].clear();
  }

  get inFlight(): number {
    return this.used.quick + this.used.unknown + this.used.slow;
  }

  get waiting(): number {
    return this.queues.quick.size + this.queues.unknown.size + this.queues.slow.size;
  }

  private mayStart(lane: Lane): boolean {
    if (this.inFlight >= this.slots) return false;
    if (lane === 'quick') return true;
    if (this.used.unknown + this.used.slow >= this.maxNotQuick) return false;
    return lane === 'unknown' || this.used.slow < this.maxSlow;
  }
}
