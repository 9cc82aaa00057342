/**
 * Event index: what observers ask for that the log alone could not answer quickly. A view of the log, resumable at the
 * place it has reached.
 * Owns:      the index store and the figures of the whole.
 * Never:     holds a line of the log, or more of it than a page in memory.
 * Invariant: rows and the places reached in the logs change in one transaction, so that no event counts twice.
 *
 * All methods are synchronous, and each sees one moment of the index.
 */
import { Buffer } from 'node:buffer';
import type { Logger } from '../log.js';
import { KeyCounts } from '../shards/key-counts.js';
import { type ByteString, fromByteString, prefixEnd, toByteString } from '../shards/overlay-table.js';
import { type LogPosition, logPosition } from '../shards/segments.js';
import { EVENT_TYPE_IDS, EVENT_TYPES, MAX_TYPE_ID } from './event-types.js';
import { IndexBatch, type IndexMeta } from './index-batch.js';
import {
  AGENT_BYTES,
  type AgentRow,
  agentIdKey,
  decodeAgent,
  decodeEvent,
  decodeState,
  EVERYBODY,
  type EventRow,
  openHistoryOfState,
  type StateRow,
  seqKey,
  seqOfKey,
} from './index-rows.js';
import { IndexStore, type Table } from './index-store.js';
import { historyBefore, listAfter, OpenList } from './seq-lists.js';
import type { TailLine } from './shard-tail.js';

export interface EventFilter {
  /** Numbers of the types wanted; null for all. */
  readonly typeIds: readonly number[] | null;
  /** Address of the acting agent; null for everybody. */
  readonly agent: string | null;
}

export interface PlacedEvent extends EventRow {
  readonly seq: number;
}

export interface AgentFigures extends AgentRow {
  readonly address: string;
}

export interface ListedKey extends StateRow {
  readonly key: string;
}

interface OwnedLists {
  readonly agentId: number;
  readonly open: OpenList;
}

const ALL_TYPE_IDS = EVENT_TYPES.map((type) => EVENT_TYPE_IDS[type]);
const MAX_SEQ = Number.MAX_SAFE_INTEGER;

export class EventIndex {
  private readonly keyCounts: KeyCounts;

  private constructor(
    readonly store: IndexStore,
    private readonly meta: IndexMeta,
  ) {
    this.keyCounts = new KeyCounts(countRows(store.table('key_counts')), {
      keys: (range) => byteKeys(store.table('state'), range.start, range.end, range.limit),
    });
  }

  /** Opens the index where it was left. Cost: some rows for each 200 state keys, whatever the history. */
  static open(directory: string, source: string, shards: number, anew: boolean, logger: Logger): EventIndex {
    const store = IndexStore.open(directory, source, anew, logger);
    return new EventIndex(store, store.readMeta<IndexMeta>() ?? emptyMeta(shards));
  }

  /** Takes in the next events. `positions`: where each shard's log goes on behind them. */
  apply(lines: readonly TailLine[], positions: readonly LogPosition[]): void {
    const { meta } = this;
    this.store.commit(() => {
      const batch = new IndexBatch(this.store, meta, this.keyCounts);
      for (const line of lines) batch.add(line);
      batch.finish();
      for (const [shard, position] of positions.entries()) meta.positions[shard] = position;
      return meta;
    });
  }

  /** Figures of the whole index, as they are now. */
  get figures(): Readonly<IndexMeta> {
    return this.meta;
  }

  get lastSeq(): number {
    return this.meta.lastSeq;
  }

  typeCount(type: keyof typeof EVENT_TYPE_IDS): number {
    return this.meta.typeCounts[EVENT_TYPE_IDS[type]] ?? 0;
  }

  /** The first `limit` events after `since` that pass the filter. Cost: `limit` rows of each type that is wanted. */
  eventsAfter(filter: EventFilter, since: number, limit: number): PlacedEvent[] {
    if (since >= MAX_SEQ) return [];
    if (filter.typeIds === null && filter.agent === null) return this.allAfter(since, limit);
    const lists = this.store.table('lists');
    const owner =
      filter.agent === null ? { agentId: EVERYBODY, open: OpenList.ofEverybody(lists) } : this.listsOf(filter.agent);
    if (owner === null) return [];
    const seqs: number[] = [];
    for (const typeId of filter.typeIds ?? ALL_TYPE_IDS) {
      seqs.push(...listAfter(lists, owner.agentId, owner.open, typeId, since, limit));
    }
    return this.placesOf(seqs.sort((a, b) => a - b).slice(0, limit));
  }

  /** `seq` of the last event at or before a time; 0 when there is none. Times of different shards may differ a little. */
  seqAt(atMs: number): number {
    let low = 0;
    let high = this.meta.lastSeq;
    while (low < high) {
      const middle = Math.ceil((low + high) / 2);
      const [event] = this.allAfter(middle - 1, 1);
      if (event !== undefined && event.atMs <= atMs) low = event.seq;
      else high = middle - 1;
    }
    return low;
  }

  agent(address: string): AgentFigures | undefined {
    const bytes = this.store.table('agents').get(Buffer.from(address, 'latin1'));
    return bytes === undefined ? undefined : { address, ...decodeAgent(bytes) };
  }

  /** In order of registration, after the agent of that number. */
  agentsAfter(agentId: number, limit: number): AgentFigures[] {
    const agents: AgentFigures[] = [];
    for (const { value } of this.store.table('agent_ids').getRange({ start: agentIdKey(agentId + 1), limit })) {
      const figures = this.agent(value.toString('latin1'));
      if (figures !== undefined) agents.push(figures);
    }
    return agents;
  }

  stateRow(key: string): StateRow | undefined {
    const bytes = this.store.table('state').get(Buffer.from(key, 'utf8'));
    return bytes === undefined ? undefined : decodeState(bytes);
  }

  /** The key was removed by law, and nobody has written it since. */
  isRemoved(key: string): boolean {
    return this.meta.removedKeys > 0 && this.store.table('removed_keys').doesExist(Buffer.from(key, 'utf8'));
  }

  /** Live keys with the prefix after `after`, in byte order. */
  keysAfter(prefix: string, after: string | null, limit: number): ListedKey[] {
    const prefixBytes = toByteString(prefix);
    const start = after === null ? prefixBytes : `${toByteString(after)}\u0000`;
    const end = prefixEnd(prefixBytes);
    const found: ListedKey[] = [];
    for (const { key, value } of this.store.table('state').getRange(rangeOf(start, end, limit))) {
      found.push({ key: fromByteString(key.toString('latin1')), ...decodeState(value) });
    }
    return found;
  }

  keyCount(prefix: string): number {
    return prefix === '' ? this.meta.keys : this.keyCounts.count(toByteString(prefix));
  }

  /** Writes and deletions of a key before `before`, newest first. */
  historyBefore(key: string, before: number, limit: number): PlacedEvent[] {
    const bytes = this.store.table('state').get(Buffer.from(key, 'utf8'));
    const open = bytes === undefined ? [] : openHistoryOfState(bytes);
    return this.placesOf(historyBefore(this.store.table('history'), key, open, before, limit));
  }

  /** Lets go of the files. An index that could not be flushed within `patienceMs` is not used after a power cut. */
  close(patienceMs: number): Promise<void> {
    return this.store.close(patienceMs);
  }

  private listsOf(address: string): OwnedLists | null {
    const bytes = this.store.table('agents').get(Buffer.from(address, 'latin1'));
    return bytes === undefined
      ? null
      : { agentId: decodeAgent(bytes).agentId, open: new OpenList(bytes.subarray(AGENT_BYTES)) };
  }

  private allAfter(since: number, limit: number): PlacedEvent[] {
    const events: PlacedEvent[] = [];
    for (const { key, value } of this.store.table('events').getRange({ start: seqKey(since + 1), limit })) {
      events.push({ seq: seqOfKey(key), ...decodeEvent(value) });
    }
    return events;
  }

  private placesOf(seqs: readonly number[]): PlacedEvent[] {
    const events = this.store.table('events');
    const places: PlacedEvent[] = [];
    for (const seq of seqs) {
      const bytes = events.get(seqKey(seq));
      if (bytes !== undefined) places.push({ seq, ...decodeEvent(bytes) });
    }
    return places;
  }
}

function emptyMeta(shards: number): IndexMeta {
  return {
    positions: new Array<number>(shards).fill(logPosition(1, 0)),
    lastSeqs: new Array<number>(shards).fill(0),
    lastLines: Array.from({ length: shards }, () => ({ position: 0, bytes: 0 })),
    lastSeq: 0,
    events: 0,
    typeCounts: new Array<number>(MAX_TYPE_ID + 1).fill(0),
    agents: 0,
    edges: 0,
    keys: 0,
    stateBytes: 0,
    removedKeys: 0,
    firstAtMs: 0,
    lastAtMs: 0,
  };
}

/** A table of counts as `KeyCounts` wants it. */
function countRows(table: Table): ConstructorParameters<typeof KeyCounts>[0] {
  return {
    keys: ({ start, end, limit }) => byteKeys(table, start, end, limit),
    get: (key) => table.get(Buffer.from(key, 'latin1'))?.readUInt32LE(0),
    put: (key, count) => {
      const bytes = Buffer.allocUnsafe(4);
      bytes.writeUInt32LE(count, 0);
      table.putSync(Buffer.from(key, 'latin1'), bytes);
    },
    remove: (key) => void table.removeSync(Buffer.from(key, 'latin1')),
  };
}

function byteKeys(table: Table, start: ByteString, end: ByteString | null, limit: number): ByteString[] {
  return Array.from(table.getKeys(rangeOf(start, end, limit)), (key) => key.toString('latin1'));
}

function rangeOf(
  start: ByteString,
  end: ByteString | null,
  limit: number,
): { start: Buffer; end?: Buffer; limit: number } {
  const from = { start: Buffer.from(start, 'latin1'), limit: Math.min(limit, 2 ** 31 - 1) };
  return end === null ? from : { ...from, end: Buffer.from(end, 'latin1') };
}
