import type { LeaseHolder } from '../contract/engine.js';
import type { Due } from './due-times.js';
import type { ReplyTo } from './wire.js';

/** How messages are handed out; null in a request takes them for good. */
export interface LeaseTerms {
  readonly visibilityMs: number;
  readonly holder: LeaseHolder;
}

/**
 * One agent's call for messages on its way through a shard. It looks, and if there is nothing and it may wait, it is
 * parked until there is, its time is over, or it is cancelled.
 */
export class ReceiveRequest implements Due {
  heapIndex = -1;
  /** False once it may not wait (any longer). */
  mayWait: boolean;
  /** Nobody wants the answer any more: it must not claim anything. */
  isCancelled = false;

  constructor(
    readonly agent: string,
    readonly limit: number,
    readonly terms: LeaseTerms | null,
    /** Epoch milliseconds; 0 for a call that does not wait. */
    readonly dueMs: number,
    /** Unique among the waits of its outbox; 0 for a call that does not wait. */
    readonly waitId: number,
    readonly reply: ReplyTo,
  ) {
    this.mayWait = dueMs > 0;
  }
}
