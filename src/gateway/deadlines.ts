/**
 * Time limits of many requests by one coarse timer: entries of one list share one time limit, so each list is in order
 * of its deadlines and a sweep looks at its head only. Adding and removing cost a few pointer writes and no clock read.
 * Owns:      the timer and the links between entries.
 * Never:     fires early; a deadline may be late by one tick (up to 250 ms), and by as long as the thread is busy.
 */
export interface Deadlined {
  /** The list it stands in, and its neighbours there; touched by the list only. */
  deadlines: DeadlineList | null;
  previous: Deadlined | null;
  next: Deadlined | null;
  sinceMs: number;
  /** Called once, after it has left `list`. Must not throw. */
  onDeadline(list: DeadlineList): void;
}

const MAX_TICK_MS = 250;
const MIN_TICK_MS = 5;

/** Entries with one time limit, oldest first. */
export class DeadlineList {
  private head: Deadlined | null = null;
  private tail: Deadlined | null = null;

  constructor(
    private readonly sweeper: Sweeper,
    readonly timeoutMs: number,
  ) {}

  add(entry: Deadlined): void {
    entry.deadlines = this;
    entry.sinceMs = this.sweeper.nowMs;
    entry.previous = this.tail;
    entry.next = null;
    if (this.tail === null) this.head = entry;
    else this.tail.next = entry;
    this.tail = entry;
  }

  remove(entry: Deadlined): void {
    if (entry.previous === null) this.head = entry.next;
    else entry.previous.next = entry.next;
    if (entry.next === null) this.tail = entry.previous;
    else entry.next.previous = entry.previous;
    entry.deadlines = null;
    entry.previous = null;
    entry.next = null;
  }

  /** Takes out and tells each entry that has been here longer than the limit. */
  sweep(nowMs: number): void {
    for (;;) {
      const entry = this.head;
      // The clock that stamped the entry may have been a whole tick behind: a deadline comes late, never early.
      if (entry === null || entry.sinceMs + this.timeoutMs + this.sweeper.tickMs > nowMs) return;
      this.remove(entry);
      entry.onDeadline(this);
    }
  }
}

/** The timer of one listener and its lists. Holds no process open. */
export class Sweeper {
  /** A monotonic clock, set at each tick. */
  nowMs = performance.now();
  readonly tickMs: number;
  private readonly lists: DeadlineList[] = [];
  private readonly timer: NodeJS.Timeout;

  /** @param shortestTimeoutMs of the lists to come; the tick is a quarter of it, within 5 to 250 ms. */
  constructor(shortestTimeoutMs: number) {
    this.tickMs = Math.max(MIN_TICK_MS, Math.min(MAX_TICK_MS, shortestTimeoutMs / 4));
    this.timer = setInterval(() => this.tick(), this.tickMs);
    this.timer.unref();
  }

  list(timeoutMs: number): DeadlineList {
    const list = new DeadlineList(this, timeoutMs);
    this.lists.push(list);
    return list;
  }

  stop(): void {
    clearInterval(this.timer);
  }

  private tick(): void {
    this.nowMs = performance.now();
    for (const list of this.lists) list.sweep(this.nowMs);
  }
}
