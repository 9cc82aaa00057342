/**
 * What is remembered of agents between their posts: the pace they are allowed, and how long they hold a slot.
 * Owns:  both, in memory only. A restart forgets them: every agent may then be posted to at full pace again, and those
 *        that hang have to show it once more. Neither can lose a message.
 * Bound: the 100,000 agents posted to last.
 */
import { LRUCache } from 'lru-cache';
import type { PushAgent } from '../contract/engine.js';
import { gcra, type RateLimit, REFUSED, rateLimit } from '../gateway/limits/gcra.js';
import type { Lane } from './fair-slots.js';

interface Entry {
  /** GCRA's theoretical arrival time, epoch us. */
  tatUs: number;
  /** Exponential average of the time a post held its slot; null before the first one ended. */
  slotMs: number | null;
}

const MAX_AGENTS = 100_000;
const MINUTE_MS = 60_000;
/** Weight of the last post: after one of 10 s it takes four quick ones to leave the slow lane, not one. */
const LAST_POST_WEIGHT = 0.5;

export class AgentHistory {
  private readonly limit: RateLimit;
  private readonly entries = new LRUCache<string, Entry>({ max: MAX_AGENTS });

  /**
   * @param postsPerMin to one agent; as many at once after a quiet minute.
   * @param slowPostMs agents whose posts hold a slot longer than this on average are `slow`.
   */
  constructor(
    postsPerMin: number,
    private readonly slowPostMs: number,
  ) {
    this.limit = rateLimit(postsPerMin, MINUTE_MS);
  }

  /** Epoch ms from which on the agent may be posted to: `nowMs`, or later. */
  mayPostAtMs(address: string, nowMs: number): number {
    const { tatUs } = this.entries.get(address) ?? { tatUs: 0 };
    if (gcra(tatUs, nowMs * 1000, this.limit) !== REFUSED) return nowMs;
    const { burst, emissionIntervalUs } = this.limit;
    return Math.ceil((tatUs - (burst - 1) * emissionIntervalUs) / 1000);
  }

  /** A post begins. */
  countPost(address: string, nowMs: number): void {
    const entry = this.entryOf(address);
    const tatUs = gcra(entry.tatUs, nowMs * 1000, this.limit);
    if (tatUs !== REFUSED) entry.tatUs = tatUs;
  }

  /** A post has ended. */
  noteSlotTime(address: string, ms: number): void {
    const entry = this.entryOf(address);
    entry.slotMs = entry.slotMs === null ? ms : entry.slotMs * (1 - LAST_POST_WEIGHT) + ms * LAST_POST_WEIGHT;
  }

  /** Of an agent nothing is known of here, its durable failures tell: better to doubt it than to let it hold a slot. */
  laneOf({ address, attempts, failedInRow }: PushAgent): Lane {
    const slotMs = this.entries.get(address)?.slotMs ?? null;
    if (slotMs !== null) return slotMs > this.slowPostMs ? 'slow' : 'quick';
    return attempts > 0 || failedInRow > 0 ? 'slow' : 'unknown';
  }

  private entryOf(address: string): Entry {
    const known = this.entries.get(address);
    if (known !== undefined) return known;
    const entry: Entry = { tatUs: 0, slotMs: null };
    this.entries.set(address, entry);
    return entry;
  }
}
