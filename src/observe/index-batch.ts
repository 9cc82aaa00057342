/**
 * Index batch: what a run of events changes in the index.
 * Owns:      the figures that one batch changes many times, until they are put once, at its end.
 * Never:     commits, or holds on to what `getBinaryFast` returns, which is good until the next read. Runs within one
 *            transaction of the store; if it throws, that thread's index object is void.
 */
import { Buffer } from 'node:buffer';
import type { EventData } from '../contract/events.js';
import { isAgentAddress } from '../contract/tokens.js';
import type { InternalData } from '../shards/internal-records.js';
import type { KeyCounts } from '../shards/key-counts.js';
import { toByteString } from '../shards/overlay-table.js';
import { typeIdOf } from './event-types.js';
import {
  ACTIVITY_SLOTS_MS,
  type ActivityRow,
  AGENT_BYTES,
  type AgentRow,
  activityKey,
  agentIdKey,
  decodeActivity,
  decodeAgent,
  decodeCount,
  EVERYBODY,
  EVERYBODY_OPEN_KEY,
  edgeKey,
  encodeActivity,
  encodeAgent,
  encodeCount,
  encodeEvent,
  encodeState,
  openHistoryOfState,
  type StateRow,
  seqKey,
  valueBytesOfState,
} from './index-rows.js';
import type { IndexStore } from './index-store.js';
import { appendToHistory, closeHistory, OpenList } from './seq-lists.js';
import type { TailLine } from './shard-tail.js';

/** What is true of the whole index; kept in the same transaction as the rows. */
export interface IndexMeta {
  /** Of each shard: where its log goes on, the `seq` of the last line before that, and that line. */
  readonly positions: number[];
  readonly lastSeqs: number[];
  readonly lastLines: { position: number; bytes: number }[];
  /** Of the last event that observers are shown. */
  lastSeq: number;
  events: number;
  /** By type number. */
  readonly typeCounts: number[];
  agents: number;
  edges: number;
  keys: number;
  stateBytes: number;
  /** Keys that were removed by law, and not written since. */
  removedKeys: number;
  firstAtMs: number;
  lastAtMs: number;
}

type Mutable<Row> = { -readonly [Field in keyof Row]: Row[Field] };

interface AddedActivity extends Mutable<ActivityRow> {
  readonly resolution: number;
  readonly slot: number;
}

/**
 * An agent's figures and open list as the batch leaves them, and what it adds to the agent's activity. Also of everybody
 * together.
 */
interface Touched extends Mutable<AgentRow> {
  readonly open: OpenList;
  /** Few, oldest first for the most part. */
  readonly activity: AddedActivity[];
}

/** A state key as the batch found it, and as it leaves it. */
interface ChangedKey {
  /** -1: there was no such key. */
  readonly valueBytesBefore: number;
  /** Null: there is no such key. */
  row: StateRow | null;
  readonly openHistory: number[];
}

const PRESENT = Buffer.from([1]);
/** Keys that come in rising order fill their pages to the end. */
const APPENDED = { append: true };
const NO_FIGURES: AgentRow = {
  agentId: 0,
  registeredAtMs: 0,
  messagesSent: 0,
  messagesReceived: 0,
  stateWrites: 0,
  lastActiveMs: 0,
};
const TWO_32 = 2 ** 32;

export class IndexBatch {
  private readonly agents = new Map<string, Touched>();
  private readonly everybody: Touched;
  /** from * 2^32 + to -> messages */
  private readonly edges = new Map<number, number>();
  private readonly keys = new Map<string, ChangedKey>();
  /** Keys that were removed by law (true), or written since (false). */
  private readonly removedByLaw = new Map<string, boolean>();

  constructor(
    private readonly store: IndexStore,
    private readonly meta: IndexMeta,
    private readonly keyCounts: KeyCounts,
  ) {
    const open = OpenList.ofEverybody(store.table('lists'));
    this.everybody = { ...NO_FIGURES, agentId: EVERYBODY, open, activity: [] };
  }

  add(line: TailLine): void {
    const { shard, position, bytes, event } = line;
    const { meta } = this;
    meta.lastSeqs[shard] = event.seq;
    meta.lastLines[shard] = { position, bytes };
    const typeId = typeIdOf(event.type);
    if (typeId === 0) return this.addRecord(event);
    const atMs = Date.parse(event.ts);
    const { seq } = event;
    const row = encodeEvent({ shard, typeId, position, bytes, atMs });
    this.store.table('events').putSync(seqKey(seq), row, APPENDED);
    this.everybody.open.add(typeId, seq);
    meta.lastSeq = seq;
    meta.events += 1;
    meta.typeCounts[typeId] = (meta.typeCounts[typeId] ?? 0) + 1;
    if (meta.events === 1) meta.firstAtMs = atMs;
    meta.lastAtMs = Math.max(meta.lastAtMs, atMs);

    const actor = event.agent === undefined ? null : this.agent(event.agent, atMs);
    if (actor !== null) {
      actor.open.add(typeId, seq);
      actor.lastActiveMs = Math.max(actor.lastActiveMs, atMs);
    }
    count(actor, this.everybody, 'events', atMs);
    this.addFacts(line, event.type, event.data, actor, atMs);
  }

  /** Puts the rows that were gathered. */
  finish(): void {
    this.putAgents();
    this.putEdges();
    this.putKeys();
    this.putRemovedKeys();
  }

  private putAgents(): void {
    const agents = this.store.table('agents');
    const lists = this.store.table('lists');
    for (const [address, agent] of this.agents) {
      const { agentId, open } = agent;
      open.settle(lists, agentId);
      const row = encodeAgent(agent, open.bytes);
      open.write(row, AGENT_BYTES);
      agents.putSync(Buffer.from(address, 'latin1'), row);
      this.putActivity(agent);
    }
    const { open } = this.everybody;
    open.settle(lists, EVERYBODY);
    const row = Buffer.allocUnsafe(open.bytes);
    open.write(row, 0);
    lists.putSync(EVERYBODY_OPEN_KEY, row);
    this.putActivity(this.everybody);
  }

  private putActivity({ agentId, activity }: Touched): void {
    const table = this.store.table('activity');
    for (const added of activity) {
      const key = activityKey(agentId, added.resolution, added.slot);
      const stored = table.getBinaryFast(key);
      table.putSync(key, encodeActivity(stored === undefined ? added : sum(decodeActivity(stored), added)));
    }
  }

  private putEdges(): void {
    const edges = this.store.table('edges');
    for (const [edge, added] of this.edges) {
      const key = edgeKey(Math.floor(edge / TWO_32), edge % TWO_32);
      const stored = edges.getBinaryFast(key);
      if (stored === undefined) this.meta.edges += 1;
      edges.putSync(key, encodeCount((stored === undefined ? 0 : decodeCount(stored)) + added));
    }
  }

  /** Of a key that came and went within the batch nothing is seen here but its history. */
  private putKeys(): void {
    const { meta, keyCounts } = this;
    const state = this.store.table('state');
    for (const [text, { valueBytesBefore, row, openHistory }] of this.keys) {
      const key = Buffer.from(text, 'utf8');
      const existed = valueBytesBefore >= 0;
      if (existed) meta.stateBytes -= key.length + valueBytesBefore;
      if (row === null) {
        if (!existed) continue;
        state.removeSync(key);
        meta.keys -= 1;
        keyCounts.removed(toByteString(text));
      } else {
        state.putSync(key, encodeState(row, openHistory));
        meta.stateBytes += key.length + row.valueBytes;
        if (existed) continue;
        meta.keys += 1;
        keyCounts.added(toByteString(text));
      }
    }
  }

  private putRemovedKeys(): void {
    const table = this.store.table('removed_keys');
    for (const [text, isRemoved] of this.removedByLaw) {
      const key = Buffer.from(text, 'utf8');
      if (!isRemoved) {
        if (table.removeSync(key)) this.meta.removedKeys -= 1;
      } else if (!table.doesExist(key)) {
        table.putSync(key, PRESENT);
        this.meta.removedKeys += 1;
      }
    }
  }

  /** The server's own records are not shown; one of them changes what is. */
  private addRecord(event: TailLine['event']): void {
    if (event.type !== 'state_removed') return;
    const { key } = event.data as InternalData['state_removed'];
    this.removed(key, this.key(key));
    this.removedByLaw.set(key, true);
  }

  private addFacts(
    line: TailLine,
    type: TailLine['event']['type'],
    data: TailLine['event']['data'],
    actor: Touched | null,
    atMs: number,
  ): void {
    switch (type) {
      case 'message_sent': {
        const { to } = data as EventData['message_sent'];
        const recipient = this.agent(to, atMs);
        if (recipient !== null) {
          recipient.messagesReceived += 1;
          countOf(recipient, 'messagesReceived', atMs);
        }
        if (actor !== null) actor.messagesSent += 1;
        count(actor, this.everybody, 'messagesSent', atMs);
        countOf(this.everybody, 'messagesReceived', atMs);
        if (actor === null || recipient === null) return;
        const edge = actor.agentId * TWO_32 + recipient.agentId;
        this.edges.set(edge, (this.edges.get(edge) ?? 0) + 1);
        return;
      }
      case 'state_written': {
        if (actor !== null) actor.stateWrites += 1;
        count(actor, this.everybody, 'stateWrites', atMs);
        return this.written(line, data as EventData['state_written'], atMs);
      }
      case 'state_deleted': {
        const { key } = data as EventData['state_deleted'];
        const changed = this.key(key);
        changed.openHistory.push(line.event.seq);
        return this.removed(key, changed);
      }
      default:
        return;
    }
  }

  private written(line: TailLine, data: EventData['state_written'], atMs: number): void {
    const { shard, position, bytes } = line;
    const changed = this.key(data.key);
    const valueBytes = data.value_length;
    changed.row = { shard, position, bytes, valueBytes, modifiedAtMs: atMs, modifiedBy: data.written_by };
    appendToHistory(this.store.table('history'), data.key, changed.openHistory, line.event.seq);
    if (this.meta.removedKeys > 0 || this.removedByLaw.size > 0) this.removedByLaw.set(data.key, false);
  }

  /** The line that wrote it may have been damaged and passed over: then it was not there. */
  private removed(key: string, changed: ChangedKey): void {
    changed.row = null;
    closeHistory(this.store.table('history'), key, changed.openHistory);
  }

  private key(text: string): ChangedKey {
    const known = this.keys.get(text);
    if (known !== undefined) return known;
    const stored = this.store.table('state').getBinaryFast(Buffer.from(text, 'utf8'));
    const changed: ChangedKey = {
      valueBytesBefore: stored === undefined ? -1 : valueBytesOfState(stored),
      row: null,
      openHistory: stored === undefined ? [] : openHistoryOfState(stored),
    };
    this.keys.set(text, changed);
    return changed;
  }

  /** The agent's figures, to be changed; null for what is no address. One that is not known yet gets the next number. */
  private agent(address: string, atMs: number): Touched | null {
    const known = this.agents.get(address);
    if (known !== undefined) return known;
    if (!isAgentAddress(address)) return null;
    const stored = this.store.table('agents').getBinaryFast(Buffer.from(address, 'latin1'));
    const agent = stored === undefined ? this.newAgent(address, atMs) : touched(stored);
    this.agents.set(address, agent);
    return agent;
  }

  private newAgent(address: string, atMs: number): Touched {
    this.meta.agents += 1;
    const agentId = this.meta.agents;
    this.store.table('agent_ids').putSync(agentIdKey(agentId), Buffer.from(address, 'latin1'));
    return { ...NO_FIGURES, agentId, registeredAtMs: atMs, open: new OpenList(), activity: [] };
  }
}

function touched(stored: Buffer): Touched {
  const row = decodeAgent(stored);
  const open = Buffer.allocUnsafe(stored.length - AGENT_BYTES);
  stored.copy(open, 0, AGENT_BYTES, stored.length);
  return {
    agentId: row.agentId,
    registeredAtMs: row.registeredAtMs,
    messagesSent: row.messagesSent,
    messagesReceived: row.messagesReceived,
    stateWrites: row.stateWrites,
    lastActiveMs: row.lastActiveMs,
    open: new OpenList(open),
    activity: [],
  };
}

/** For the one who acts and for everybody. */
function count(actor: Touched | null, everybody: Touched, what: keyof ActivityRow, atMs: number): void {
  countOf(everybody, what, atMs);
  if (actor !== null) countOf(actor, what, atMs);
}

function countOf(who: Touched, what: keyof ActivityRow, atMs: number): void {
  for (let resolution = 0; resolution < ACTIVITY_SLOTS_MS.length; resolution++) {
    const slot = Math.floor(atMs / (ACTIVITY_SLOTS_MS[resolution] as number));
    addedTo(who.activity, resolution, slot)[what] += 1;
  }
}

function addedTo(activity: AddedActivity[], resolution: number, slot: number): AddedActivity {
  for (let i = activity.length - 1; i >= 0; i--) {
    const added = activity[i] as AddedActivity;
    if (added.slot === slot && added.resolution === resolution) return added;
  }
  const added = { resolution, slot, events: 0, messagesSent: 0, messagesReceived: 0, stateWrites: 0 };
  activity.push(added);
  return added;
}

function sum(a: ActivityRow, b: ActivityRow): ActivityRow {
  return {
    events: a.events + b.events,
    messagesSent: a.messagesSent + b.messagesSent,
    messagesReceived: a.messagesReceived + b.messagesReceived,
    stateWrites: a.stateWrites + b.stateWrites,
  };
}
