/**
 * Key versions: by which a gateway knows, without asking, that a value it has read before is still the value.
 * Owns:      a table of counters in shared memory, a part of it for each shard; keys share counters by hash.
 * Invariant: a counter rises before a change of any of its keys is visible to anybody. So whoever finds it unchanged
 *            holds a value that was current at that moment, whichever gateway read whatever else.
 */

/** A power of two. Two keys of one counter only cost each other a read; 64 KiB for each shard. */
const COUNTERS_PER_SHARD = 16_384;

export function createVersionMemory(shards: number): SharedArrayBuffer {
  return new SharedArrayBuffer(shards * COUNTERS_PER_SHARD * Int32Array.BYTES_PER_ELEMENT);
}

/** FNV-1a (Fowler, Noll, Vo) over UTF-16 units: allocates nothing, which matters once for every write. */
function fnv1a(key: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < key.length; i++) hash = Math.imul(hash ^ key.charCodeAt(i), 0x01000193);
  return hash >>> 0;
}

export class KeyVersions {
  private readonly counters: Int32Array;

  constructor(readonly memory: SharedArrayBuffer) {
    this.counters = new Int32Array(memory);
  }

  /** Where the key's counter is. */
  counterOf(shard: number, key: string): number {
    return shard * COUNTERS_PER_SHARD + (fnv1a(key) & (COUNTERS_PER_SHARD - 1));
  }

  version(counter: number): number {
    return Atomics.load(this.counters, counter);
  }

  /** Call before the change is visible; only by the shard that owns the key. */
  changed(shard: number, key: string): void {
    // Only this thread writes the counter: a plain read and an atomic store, which the compiler inlines.
    const counter = this.counterOf(shard, key);
    Atomics.store(this.counters, counter, ((this.counters[counter] as number) + 1) | 0);
  }

  /** Call before a shard serves again: recovery may have brought changes that nobody was told of. */
  allChanged(shard: number): void {
    const first = shard * COUNTERS_PER_SHARD;
    for (let counter = first; counter < first + COUNTERS_PER_SHARD; counter++) Atomics.add(this.counters, counter, 1);
  }
}
