/**
 * Requests of one gateway that wait for messages: long polls and subscriptions. A planned stop ends them all.
 * Owns:      the abort signals the engine sees.
 * Never:     keeps one that has ended.
 */
import type { Wait } from '../contract/engine.js';

export class Waits {
  private readonly running = new Set<RunningWait>();
  private stopped = false;

  /** Waiting now. */
  get size(): number {
    return this.running.size;
  }

  /** Call `end` on it when the engine has answered. null once stopped: then nobody waits. @param waitMs at least 1 */
  begin(waitMs: number): RunningWait | null {
    if (this.stopped) return null;
    const wait = new RunningWait(waitMs, this.running);
    this.running.add(wait);
    return wait;
  }

  /** Every wait ends at once, and no other begins. */
  stop(): void {
    this.stopped = true;
    for (const wait of [...this.running]) wait.abort();
  }
}

export class RunningWait implements Wait {
  private readonly controller = new AbortController();

  /** @internal `Waits` makes it. */
  constructor(
    readonly waitMs: number,
    private readonly running: Set<RunningWait>,
  ) {}

  get signal(): AbortSignal {
    return this.controller.signal;
  }

  /** Nobody wants the answer any more. */
  abort(): void {
    this.running.delete(this);
    this.controller.abort();
  }

  /** The answer is there. */
  end(): void {
    this.running.delete(this);
  }
}
