import assert from 'node:assert/strict';

/**
 * Due times: what has to happen at some time, in a heap with one timer for the earliest (a binary heap whose entries
 * know their place, so that leaving costs as little as joining).
 * Never: polls. Entries that leave early may let the timer run once in vain.
 */
export interface Due {
  /** Epoch milliseconds. */
  readonly dueMs: number;
  /** Place in the heap, -1 outside; kept by the heap. */
  heapIndex: number;
}

/** Node's timers hold 31 bits of milliseconds. */
const MAX_TIMER_MS = 2 ** 31 - 1;

export class DueTimes<Entry extends Due> {
  private readonly heap: Entry[] = [];
  private readonly onDue: (entry: Entry) => void;
  private timer: NodeJS.Timeout | null = null;
  /** When the timer runs; infinite without one. */
  private timerMs = Number.POSITIVE_INFINITY;
  private isClosed = false;

  /** `onDue` gets each entry once, at its time or up to a few milliseconds later, after it left the heap. */
  constructor(onDue: (entry: Entry) => void) {
    this.onDue = onDue;
  }

  get size(): number {
    return this.heap.length;
  }

  /** O(log entries). */
  add(entry: Entry): void {
    assert(entry.heapIndex === -1, 'an entry is due once');
    this.heap.push(entry);
    this.rise(this.heap.length - 1, entry);
    if (entry.dueMs < this.timerMs) this.arm(entry.dueMs);
  }

  /** Nothing happens when it is not there. O(log entries). */
  remove(entry: Entry): void {
    const index = entry.heapIndex;
    if (index === -1) return;
    entry.heapIndex = -1;
    const last = this.heap.pop() as Entry;
    if (last === entry) return;
    this.rise(index, last);
    this.sink(last.heapIndex, last);
  }

  /** Nothing is due any more. */
  close(): void {
    this.isClosed = true;
    if (this.timer !== null) clearTimeout(this.timer);
    this.timer = null;
  }

  private arm(atMs: number): void {
    if (this.isClosed) return;
    if (this.timer !== null) clearTimeout(this.timer);
    this.timerMs = atMs;
    this.timer = setTimeout(() => this.run(), Math.min(Math.max(1, atMs - Date.now()), MAX_TIMER_MS));
  }

  private run(): void {
    this.timer = null;
    this.timerMs = Number.POSITIVE_INFINITY;
    const nowMs = Date.now();
    for (let first = this.heap[0]; first !== undefined && first.dueMs <= nowMs; first = this.heap[0]) {
      this.remove(first);
      this.onDue(first);
    }
    const next = this.heap[0];
    if (next !== undefined && next.dueMs < this.timerMs) this.arm(next.dueMs);
  }

  private rise(index: number, entry: Entry): void {
    while (index > 0) {
      const parentIndex = (index - 1) >>> 1;
      const parent = this.heap[parentIndex] as Entry;
      if (parent.dueMs <= entry.dueMs) break;
      this.place(index, parent);
      index = parentIndex;
    }
    this.place(index, entry);
  }

  private sink(index: number, entry: Entry): void {
    for (;;) {
      let childIndex = index * 2 + 1;
      let child = this.heap[childIndex];
      if (child === undefined) break;
      const other = this.heap[childIndex + 1];
      if (other !== undefined && other.dueMs < child.dueMs) {
        child = other;
        childIndex += 1;
      }
      if (child.dueMs >= entry.dueMs) break;
      this.place(index, child);
      index = childIndex;
    }
    this.place(index, entry);
  }

  private place(index: number, entry: Entry): void {
    this.heap[index] = entry;
    entry.heapIndex = index;
  }
}
