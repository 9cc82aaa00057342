/**
 * Rate limits of the whole server in shared memory: every gateway thread sees the same arrival times, without a hop.
 * Owns:      the table of entries, one per limited key, 64 bytes each; memory becomes resident only as entries are used.
 * Never:     reads a clock, blocks on the hot path, or lets one key's entry go to another while it still limits.
 * Invariant: an entry changes its key only under the lock, after its lease has ended and all its arrival times are past.
 *            An entry once used is never empty again, so a search may end at the first empty one.
 *
 * Layout, in 64-bit words: a header of 8 (0: lock, 1-2: secret of the key hash), then per entry
 *   0 key fingerprint (0: never used) | 1 lease end, epoch ms | 2-7 theoretical arrival time per category, epoch us
 */
import { createHash, randomBytes } from 'node:crypto';
import type { Config } from '../../config/config.js';
import {
  gcra,
  type RateLimit,
  REFUSED,
  rateLimit,
  remainingTokens,
  resetEpochSeconds,
  retryAfterSeconds,
} from './gcra.js';
import { SharedLock } from './shared-lock.js';

/** Index of each category's arrival time within an entry. */
export const LIMIT_CATEGORY = {
  message_send: 0,
  message_read: 1,
  state_read: 2,
  state_write: 3,
  registry_read: 4,
  operator_registration: 5,
} as const;
export type LimitCategoryName = keyof typeof LIMIT_CATEGORY;
export type LimitCategory = (typeof LIMIT_CATEGORY)[LimitCategoryName];

export type LimiterRates = Readonly<Record<LimitCategoryName, RateLimit>>;

/** Plain data around shared memory: passes to other threads as it is. */
export interface LimiterMemory {
  readonly buffer: SharedArrayBuffer;
  readonly entries: number;
}

/** Answer to one request. Belongs to the limiter, which overwrites it at its next check. */
export interface RateVerdict {
  allowed: boolean;
  /** The burst, which is also the figure per period. */
  limit: number;
  /** Requests that would be allowed right now, after this one. */
  remaining: number;
  /** Unix seconds at which the full burst is back. */
  resetEpochSeconds: number;
  /** Whole seconds, at least 1, of a refused request; 0 of an allowed one. */
  retryAfterSeconds: number;
}

const DEFAULT_ENTRIES = 1 << 20;
const HEADER_WORDS = 8;
const ENTRY_WORDS = 8;
const LOCK_INDEX = 0;
const SECRET_OFFSET_BYTES = 8;
const SECRET_BYTES = 16;
const LEASE_WORD = 1;
const FIRST_TAT_WORD = 2;
/** Entries searched from a key's own place on. Beyond a load of nine tenths some keys find no room. */
const PROBE_WINDOW = 64;
/** A request that passed the session check just before the lease ended may still be on its way to `check`. */
const LEASE_GRACE_MS = 1_000;

/** The kernel's limits as configured: per minute and agent; operator registration per hour and client IP. */
export function kernelRates(rates: Config['rateLimits']): LimiterRates {
  return {
    message_send: rateLimit(rates.messageSendPerMin, 60_000),
    message_read: rateLimit(rates.messageReadPerMin, 60_000),
    state_read: rateLimit(rates.stateReadPerMin, 60_000),
    state_write: rateLimit(rates.stateWritePerMin, 60_000),
    registry_read: rateLimit(rates.registryReadPerMin, 60_000),
    operator_registration: rateLimit(rates.operatorRegPerHourPerIp, 3_600_000),
  };
}

/** Makes the table all gateway threads share; call once per server. @param entries keys limited at one time, at least 1. */
export function createLimiterMemory(entries: number = DEFAULT_ENTRIES): LimiterMemory {
  if (!Number.isSafeInteger(entries) || entries < 1) throw new RangeError(`a limiter needs entries, not ${entries}`);
  const buffer = new SharedArrayBuffer((HEADER_WORDS + entries * ENTRY_WORDS) * BigInt64Array.BYTES_PER_ELEMENT);
  // Keyed, so that nobody can choose client addresses that crowd an agent's window.
  new Uint8Array(buffer, SECRET_OFFSET_BYTES, SECRET_BYTES).set(randomBytes(SECRET_BYTES));
  return { buffer, entries };
}

export class SharedLimiter {
  private readonly words: BigInt64Array;
  private readonly lock: SharedLock;
  private readonly secret: Uint8Array;
  private readonly entries: number;
  /** By category. */
  private readonly limits: readonly RateLimit[];
  private readonly verdict: RateVerdict = {
    allowed: false,
    limit: 0,
    remaining: 0,
    resetEpochSeconds: 0,
    retryAfterSeconds: 0,
  };

  /** One per thread, over the same memory and the same rates. */
  constructor(memory: LimiterMemory, rates: LimiterRates) {
    this.words = new BigInt64Array(memory.buffer);
    this.lock = new SharedLock(new Int32Array(memory.buffer), LOCK_INDEX);
    this.secret = Uint8Array.from(new Uint8Array(memory.buffer, SECRET_OFFSET_BYTES, SECRET_BYTES));
    this.entries = memory.entries;
    const limits: RateLimit[] = [];
    for (const [name, category] of Object.entries(LIMIT_CATEGORY)) limits[category] = rates[name as LimitCategoryName];
    this.limits = limits;
  }

  /**
   * Finds or claims the entry of `key` (an agent's address, or `ip:<address>`) and holds it at least until `leaseUntilMs`;
   * a longer lease stays. The slot is good for `check` until then. Takes microseconds; call it once per session.
   * @returns the slot, or -1 when every entry in reach is in use: answer `unavailable`.
   */
  acquire(key: string, leaseUntilMs: number, nowMs: number = Date.now()): number {
    const fingerprint = this.fingerprint(key);
    this.lock.acquire();
    try {
      return this.acquireLocked(fingerprint, BigInt(Math.ceil(leaseUntilMs)), nowMs);
    } finally {
      this.lock.release();
    }
  }

  /**
   * Counts one request against a slot from `acquire` whose lease still runs. Exact over all threads: in any state, of
   * requests at one moment exactly as many pass as there are tokens. A refused one changes nothing. About 80 ns.
   */
  check(slot: number, category: LimitCategory, nowMs: number): RateVerdict {
    const limit = this.limits[category];
    if (limit === undefined || slot < 0 || slot >= this.entries) {
      throw new RangeError(`no limiter entry ${slot}, category ${category}`);
    }
    const index = HEADER_WORDS + slot * ENTRY_WORDS + FIRST_TAT_WORD + category;
    const nowUs = nowMs * 1000;
    const verdict = this.verdict;
    verdict.limit = limit.burst;
    let seen = Atomics.load(this.words, index);
    for (;;) {
      const tatUs = Number(seen);
      const newTatUs = gcra(tatUs, nowUs, limit);
      if (newTatUs === REFUSED) {
        verdict.allowed = false;
        verdict.remaining = 0;
        verdict.resetEpochSeconds = resetEpochSeconds(tatUs, nowUs, limit);
        verdict.retryAfterSeconds = retryAfterSeconds(tatUs, nowUs, limit);
        return verdict;
      }
      const found = Atomics.compareExchange(this.words, index, seen, BigInt(newTatUs));
      if (found === seen) {
        verdict.allowed = true;
        verdict.remaining = remainingTokens(newTatUs, nowUs, limit);
        verdict.resetEpochSeconds = resetEpochSeconds(newTatUs, nowUs, limit);
        verdict.retryAfterSeconds = 0;
        return verdict;
      }
      seen = found; // another thread was first: decide again on what it left
    }
  }

  private acquireLocked(fingerprint: bigint, leaseUntilMs: bigint, nowMs: number): number {
    const home = Number(BigInt.asUintN(64, fingerprint) % BigInt(this.entries));
    const window = Math.min(PROBE_WINDOW, this.entries);
    let reusable = -1;
    for (let i = 0; i < window; i++) {
      const slot = (home + i) % this.entries;
      const base = HEADER_WORDS + slot * ENTRY_WORDS;
      const owner = Atomics.load(this.words, base);
      if (owner === fingerprint) {
        if (Atomics.load(this.words, base + LEASE_WORD) < leaseUntilMs) {
          Atomics.store(this.words, base + LEASE_WORD, leaseUntilMs);
        }
        return slot;
      }
      if (owner === 0n) {
        if (reusable === -1) reusable = slot;
        break; // a key is put before the first empty entry, so it can't be further on
      }
      if (reusable === -1 && this.isReclaimable(base, nowMs)) reusable = slot;
    }
    if (reusable !== -1) this.claim(HEADER_WORDS + reusable * ENTRY_WORDS, fingerprint, leaseUntilMs);
    return reusable;
  }

  private isReclaimable(base: number, nowMs: number): boolean {
    if (Number(Atomics.load(this.words, base + LEASE_WORD)) + LEASE_GRACE_MS >= nowMs) return false;
    const nowUs = BigInt(Math.floor(nowMs)) * 1000n;
    for (let word = FIRST_TAT_WORD; word < ENTRY_WORDS; word++) {
      if (Atomics.load(this.words, base + word) > nowUs) return false;
    }
    return true;
  }

  /** In this order, so that a thread terminated within leaves an entry that is whole, whichever key it has. */
  private claim(base: number, fingerprint: bigint, leaseUntilMs: bigint): void {
    for (let word = FIRST_TAT_WORD; word < ENTRY_WORDS; word++) Atomics.store(this.words, base + word, 0n);
    Atomics.store(this.words, base + LEASE_WORD, leaseUntilMs);
    Atomics.store(this.words, base, fingerprint);
  }

  /** 64 bits of SHA-256 over secret and key; never 0, which marks an empty entry. */
  private fingerprint(key: string): bigint {
    const digest = createHash('sha256').update(this.secret).update(key).digest();
    const bits = digest.readBigInt64LE(0);
    return bits === 0n ? 1n : bits;
  }
}
