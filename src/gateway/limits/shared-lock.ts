/**
 * A lock in shared memory, for the rare changes that a single compare-and-swap can't make: a futex mutex with a mark for
 * waiting threads (Drepper, "Futexes Are Tricky", mutex 2), and a number for each time it is held.
 * Owns:      one 32-bit word, which begins as 0. Bits 0 and 1: held, somebody waits; above them the number.
 * Never:     is held across anything but loads and stores; waits for ever for a thread that ended while it held it.
 * Invariant: who gives up on a holder, or releases, changes the word only while it has the number of that very time; so
 *            threads that lose patience one after the other can't all get in.
 */

const HELD = 1;
const AWAITED = 2;
const STATE = HELD | AWAITED;
const NEXT_NUMBER = 4;
/** It is held for milliseconds at most: a holder this late was terminated within. What it guards must be whole always. */
const PATIENCE_MS = 1_000;

export class SharedLock {
  private heldAs = 0;

  /** One per thread. @param words over the shared memory. @param index of the lock's word */
  constructor(
    private readonly words: Int32Array,
    private readonly index: number,
  ) {}

  /** Blocks the thread while another one holds the lock. Follow it with `try { ... } finally { release() }`. */
  acquire(): void {
    const { words, index } = this;
    // Who has waited can't know whether others still do.
    let taken = HELD;
    for (;;) {
      const seen = Atomics.load(words, index);
      if ((seen & HELD) === 0) {
        const held = ((seen & ~STATE) + NEXT_NUMBER) | taken | 0;
        if (Atomics.compareExchange(words, index, seen, held) !== seen) continue;
        this.heldAs = held & ~STATE;
        return;
      }
      const awaited = seen | AWAITED;
      if (seen !== awaited && Atomics.compareExchange(words, index, seen, awaited) !== seen) continue;
      const outcome = Atomics.wait(words, index, awaited, PATIENCE_MS);
      if (outcome === 'timed-out') Atomics.compareExchange(words, index, awaited, awaited & ~STATE);
      taken = HELD | AWAITED;
    }
  }

  /** Does nothing when others have given up on this thread. */
  release(): void {
    const { words, index, heldAs } = this;
    if (Atomics.compareExchange(words, index, heldAs | HELD, heldAs) === (heldAs | HELD)) return;
    const awaited = heldAs | STATE;
    if (Atomics.compareExchange(words, index, awaited, heldAs) === awaited) Atomics.notify(words, index, 1);
  }
}
