import { LRUCache } from 'lru-cache';
import type { StateEntry } from '../contract/engine.js';
import type { KeyVersions } from './key-versions.js';

/**
 * Read cache: state entries that this gateway thread has read, given out again while their key's version stands.
 * Owns:      the entries, within a bound; the least recently read leave first.
 * Never:     gives out an entry after a write to its key was answered: the shard raises the version first.
 *
 * A hot key is read without a message to its shard and back; that halves what the gateway adds to a bare handler
 * (bench/scenarios/get-state.ts).
 */

/** Keys and values, in UTF-16 units of one or two bytes. */
const MAX_CACHED_UNITS = 32 * 1024 * 1024;
/** Larger values would push out many others to save little. */
const MAX_ENTRY_UNITS = 64 * 1024;

interface CachedEntry {
  readonly entry: StateEntry;
  readonly counter: number;
  readonly version: number;
}

export class ReadCache {
  private readonly versions: KeyVersions;
  private readonly entries = new LRUCache<string, CachedEntry>({
    maxSize: MAX_CACHED_UNITS,
    maxEntrySize: MAX_ENTRY_UNITS,
    sizeCalculation: ({ entry }) => entry.key.length + entry.value.length + 1,
  });

  constructor(versions: KeyVersions) {
    this.versions = versions;
  }

  /** The entry if it is current at this moment. */
  get(key: string): StateEntry | undefined {
    const cached = this.entries.get(key);
    if (cached === undefined || this.versions.version(cached.counter) !== cached.version) return undefined;
    return cached.entry;
  }

  /** `version` is what the shard saw of `counter` when it read the entry. */
  put(entry: StateEntry, counter: number, version: number): void {
    this.entries.set(entry.key, { entry, counter, version });
  }
}
