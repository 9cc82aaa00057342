/**
 * What the rest of the server knows of bcrypt: two questions that may be refused. No thread, pool or port shows here.
 */
export type HashReply<T> =
  | { readonly ok: true; readonly value: T }
  | { readonly ok: false; readonly code: 'unavailable' };

/** Counts since start, but `running` and `waiting`, which are now. */
export interface HasherStats {
  readonly running: number;
  readonly waiting: number;
  readonly completed: number;
}

/**
 * `unavailable`: the queue is full, the pool is closing, or the thread at work died; retrying later helps.
 * Neither call rejects. Each costs one bcrypt (74 ms at cost 10) on another thread.
 */
export interface PasswordHasher {
  /** @param token 1 to 72 UTF-8 bytes: bcrypt sees no more. */
  hash(token: string): Promise<HashReply<string>>;
  /** False for a wrong token, a malformed hash, and a token bcrypt can't see whole. */
  verify(token: string, hash: string): Promise<HashReply<boolean>>;
  stats(): HasherStats;
}

export const HASHER_UNAVAILABLE = { ok: false, code: 'unavailable' } as const;
