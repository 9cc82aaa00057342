/**
 * How many WebSockets agents have open, over all gateway threads, in shared memory: `connect.max_connections` and
 * `connect.max_connections_per_agent` are exact, whichever threads accept at the same moment.
 * Owns:      the number of each gateway thread, and a table with one entry for each agent and thread it is connected to.
 * Never:     holds the address of an agent (a keyed hash stands for it), or counts for a thread that has ended.
 * Invariant: an entry comes to life and ends by a single store, that of its number; so a thread that is terminated in
 *            the middle of a change leaves a table that is whole, and what it had counted goes with `forgetGateway`.
 *
 * Layout, in 32-bit words: 0 lock | 4-7 secret of the hash | 8- connections of each gateway thread | entries of
 *   0-1 hash of the agent | 2 gateway + 1 | 3 connections
 * An entry is empty (word 2 is 0), live (word 3 is not 0), or left: skipped by searches, and free to be used again.
 * The table is searched from the hash's place to the first empty entry (linear probing: Knuth, TAOCP volume 3, 6.4).
 */
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import type { Config } from '../../config/config.js';
import { SharedLock } from '../limits/shared-lock.js';

export type ConnectionLimits = Pick<Config['connect'], 'maxConnections' | 'maxConnectionsPerAgent'>;

/** Plain data around shared memory: passes to other threads as it is. */
export interface ConnectionCountsMemory {
  readonly buffer: SharedArrayBuffer;
  readonly gateways: number;
  /** A power of two. */
  readonly entries: number;
}

/** `taken`: the place is the caller's until `giveBack`. The others took nothing. */
export type Admission = 'taken' | 'agent-full' | 'all-full';

interface AgentHash {
  readonly high: number;
  readonly low: number;
}

/** What the table holds of one agent: indexes of words. */
interface Found {
  /** Its live entry of this gateway thread, or `NONE`. */
  readonly own: number;
  /** Where such an entry may be put, or `NONE`. */
  readonly free: number;
  /** Over all gateway threads. */
  readonly connections: number;
}

const LOCK_INDEX = 0;
const SECRET_OFFSET_BYTES = 16;
const SECRET_BYTES = 16;
const FIRST_GATEWAY_WORD = 8;
const ENTRY_WORDS = 4;
const GATEWAY_WORD = 2;
const COUNT_WORD = 3;
const NONE = -1;
/** Live entries are at most a quarter of the table, so that searches stay short among those that are left, too. */
const ENTRIES_PER_CONNECTION = 4;

/** Makes the table all gateway threads share, 64 to 128 bytes a connection; resident only as far as it is used. */
export function createConnectionCounts(gateways: number, limits: ConnectionLimits): ConnectionCountsMemory {
  const entries = 2 ** Math.ceil(Math.log2(limits.maxConnections * ENTRIES_PER_CONNECTION));
  const words = FIRST_GATEWAY_WORD + gateways + entries * ENTRY_WORDS;
  const buffer = new SharedArrayBuffer(words * Int32Array.BYTES_PER_ELEMENT);
  // Keyed, so that nobody can register agents that crowd one part of the table.
  new Uint8Array(buffer, SECRET_OFFSET_BYTES, SECRET_BYTES).set(randomBytes(SECRET_BYTES));
  return { buffer, gateways, entries };
}

export class ConnectionCounts {
  private readonly words: Int32Array;
  private readonly lock: SharedLock;
  private readonly secret: Uint8Array;

  /** One per thread. @param gateway the thread's number, from 0; the thread that takes a dead one's place has the same. */
  constructor(
    readonly memory: ConnectionCountsMemory,
    private readonly gateway: number,
    private readonly limits: ConnectionLimits,
  ) {
    assert(gateway >= 0 && gateway < memory.gateways, `there is no gateway ${gateway} of ${memory.gateways}`);
    this.words = new Int32Array(memory.buffer);
    this.lock = new SharedLock(this.words, LOCK_INDEX);
    this.secret = Uint8Array.from(new Uint8Array(memory.buffer, SECRET_OFFSET_BYTES, SECRET_BYTES));
  }

  /** Open now, over all gateway threads. */
  get total(): number {
    let total = 0;
    for (let gateway = 0; gateway < this.memory.gateways; gateway++) {
      total += Atomics.load(this.words, FIRST_GATEWAY_WORD + gateway);
    }
    return total;
  }

  /** Takes a place for one connection of the agent, if there is one. Takes microseconds: no hop to another thread. */
  take(agent: string): Admission {
    const hash = this.hashOf(agent);
    this.lock.acquire();
    try {
      const { own, free, connections } = this.find(hash);
      if (connections >= this.limits.maxConnectionsPerAgent) return 'agent-full';
      if (this.total >= this.limits.maxConnections) return 'all-full';
      if (own === NONE) this.claim(free, hash);
      else Atomics.add(this.words, own + COUNT_WORD, 1);
      Atomics.add(this.words, FIRST_GATEWAY_WORD + this.gateway, 1);
      return 'taken';
    } finally {
      this.lock.release();
    }
  }

  /** A place that `take` gave on this thread is free again when this returns. */
  giveBack(agent: string): void {
    const hash = this.hashOf(agent);
    this.lock.acquire();
    try {
      const { own } = this.find(hash);
      assert(own !== NONE, 'a connection that was never counted was given back');
      Atomics.sub(this.words, FIRST_GATEWAY_WORD + this.gateway, 1);
      if (Atomics.sub(this.words, own + COUNT_WORD, 1) === 1) this.clearLeft(own);
    } finally {
      this.lock.release();
    }
  }

  /** Gives back all places of a gateway thread that has ended. Reads the whole table. */
  forgetGateway(gateway: number): void {
    const { words } = this;
    this.lock.acquire();
    try {
      for (let slot = 0; slot < this.memory.entries; slot++) {
        const entry = this.entryAt(slot);
        if (Atomics.load(words, entry + GATEWAY_WORD) === gateway + 1) Atomics.store(words, entry + COUNT_WORD, 0);
      }
      Atomics.store(words, FIRST_GATEWAY_WORD + gateway, 0);
      for (let slot = 0; slot < this.memory.entries; slot++) this.clearLeft(this.entryAt(slot));
    } finally {
      this.lock.release();
    }
  }

  private find({ high, low }: AgentHash): Found {
    const { words } = this;
    const { entries } = this.memory;
    let own = NONE;
    let free = NONE;
    let connections = 0;
    for (let step = 0; step < entries; step++) {
      const entry = this.entryAt((low & (entries - 1)) + step);
      const owner = Atomics.load(words, entry + GATEWAY_WORD);
      const count = Atomics.load(words, entry + COUNT_WORD);
      if (count === 0) {
        if (free === NONE) free = entry;
        if (owner === 0) break;
      } else if (Atomics.load(words, entry) === high && Atomics.load(words, entry + 1) === low) {
        connections += count;
        if (owner === this.gateway + 1) own = entry;
      }
    }
    return { own, free, connections };
  }

  private claim(free: number, { high, low }: AgentHash): void {
    // Live entries are no more than connections, which are bounded to a part of the table.
    assert(free !== NONE, 'the table of connections is full below its bound');
    const { words } = this;
    Atomics.store(words, free, high);
    Atomics.store(words, free + 1, low);
    Atomics.store(words, free + GATEWAY_WORD, this.gateway + 1);
    Atomics.store(words, free + COUNT_WORD, 1);
  }

  /** Where a search would end right behind a left entry it may as well end there: empties it, and left ones before it. */
  private clearLeft(last: number): void {
    const { words } = this;
    let slot = (last - this.entryAt(0)) / ENTRY_WORDS;
    if (Atomics.load(words, this.entryAt(slot + 1) + GATEWAY_WORD) !== 0) return;
    for (let entry = last; this.isLeft(entry); entry = this.entryAt(--slot)) {
      Atomics.store(words, entry + GATEWAY_WORD, 0);
    }
  }

  private isLeft(entry: number): boolean {
    return Atomics.load(this.words, entry + GATEWAY_WORD) !== 0 && Atomics.load(this.words, entry + COUNT_WORD) === 0;
  }

  /** Index of an entry's first word. @param slot counts on around the table, either way */
  private entryAt(slot: number): number {
    const { gateways, entries } = this.memory;
    return FIRST_GATEWAY_WORD + gateways + (slot & (entries - 1)) * ENTRY_WORDS;
  }

  /** 64 bits of SHA-256 over secret and address. */
  private hashOf(agent: string): AgentHash {
    const digest = createHash('sha256').update(this.secret).update(agent).digest();
    return { high: digest.readInt32LE(4), low: digest.readInt32LE(0) };
  }
}
