/**
 * Index batch: what a run of events changes in the index.
 * Owns:      the figures that one batch changes many times, until they are put once, at its end.
 * Never:     commits. Runs within one transaction of the store; if it throws, that thread's index object is void.
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
  type AgentRow,
  activityKey,
  agentIdKey,
  decodeActivity,
  decodeAgent,
  decodeCount,
  decodeState,
  EVERYBODY,
  edgeKey,
  encodeActivity,
  encodeAgent,
  encodeCount,
  encodeEvent,
  encodeState,
  hashOfStateKey,
  historyKey,
  listKey,
  seqKey,
} from './index-rows.js';
import type { IndexStore } from './index-store.js';
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

/** An agent's figures as the batch leaves them, and what the batch adds to its activity; also of everybody together. */
interface Touched extends Mutable<AgentRow> {
  /** slot * resolutions + resolution -> counts */
  readonly activity: Map<number, Mutable<ActivityRow>>;
}

const PRESENT = Buffer.from([1]);
/** Keys that come in rising order fill their pages to the end. */
const APPENDED = { append: true };
const RESOLUTIONS = ACTIVITY_SLOTS_MS.length;
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
  private readonly everybody: Touched = { ...NO_FIGURES, agentId: EVERYBODY, activity: new Map() };
  /** from * 2^32 + to */
  private readonly edges = new Map<number, number>();

  constructor(
    private readonly store: IndexStore,
    private readonly meta: IndexMeta,
    private readonly keyCounts: KeyCounts,
  ) {}

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
    const lists = this.store.table('lists');
    lists.putSync(listKey(EVERYBODY, typeId, seq), PRESENT);
    meta.lastSeq = seq;
    meta.events += 1;
    meta.typeCounts[typeId] = (meta.typeCounts[typeId] ?? 0) + 1;
    if (meta.events === 1) meta.firstAtMs = atMs;
    meta.lastAtMs = Math.max(meta.lastAtMs, atMs);

    const actor = event.agent === undefined ? null : this.agent(event.agent, atMs);
    if (actor !== null) {
      lists.putSync(listKey(actor.agentId, typeId, seq), PRESENT);
      actor.lastActiveMs = Math.max(actor.lastActiveMs, atMs);
    }
    count(actor, this.everybody, 'events', atMs);
    this.addFacts(line, event.type, event.data, actor, atMs);
  }

  /** Puts the figures that were gathered. */
  finish(): void {
    const agents = this.store.table('agents');
    for (const [address, row] of this.agents) {
      agents.putSync(Buffer.from(address, 'latin1'), encodeAgent(row));
      this.putActivity(row);
    }
    this.putActivity(this.everybody);
    const edges = this.store.table('edges');
    for (const [edge, added] of this.edges) {
      const key = edgeKey(Math.floor(edge / TWO_32), edge % TWO_32);
      const stored = edges.get(key);
      if (stored === undefined) this.meta.edges += 1;
      edges.putSync(key, encodeCount((stored === undefined ? 0 : decodeCount(stored)) + added));
    }
  }

  private putActivity({ agentId, activity }: Touched): void {
    const table = this.store.table('activity');
    for (const [place, added] of activity) {
      const key = activityKey(agentId, place % RESOLUTIONS, Math.floor(place / RESOLUTIONS));
      const stored = table.get(key);
      table.putSync(key, encodeActivity(stored === undefined ? added : sum(decodeActivity(stored), added)));
    }
  }

  /** The server's own records are not shown; one of them changes what is. */
  private addRecord(event: TailLine['event']): void {
    if (event.type !== 'state_removed') return;
    const { key } = event.data as InternalData['state_removed'];
    this.remove(key);
    const removed = this.store.table('removed_keys');
    const name = Buffer.from(key, 'utf8');
    if (!removed.doesExist(name)) this.meta.removedKeys += 1;
    removed.putSync(name, PRESENT);
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
      case 'state_deleted':
        this.remember((data as EventData['state_deleted']).key, line.event.seq);
        return this.remove((data as EventData['state_deleted']).key);
      default:
        return;
    }
  }

  private written(line: TailLine, data: EventData['state_written'], atMs: number): void {
    const key = Buffer.from(data.key, 'utf8');
    const valueBytes = data.value_length;
    const state = this.store.table('state');
    const before = state.get(key);
    const { shard, position, bytes } = line;
    const row = { shard, position, bytes, valueBytes, modifiedAtMs: atMs, modifiedBy: data.written_by };
    state.putSync(key, encodeState(row));
    this.remember(data.key, line.event.seq);
    if (this.meta.removedKeys > 0 && this.store.table('removed_keys').removeSync(key)) this.meta.removedKeys -= 1;
    if (before !== undefined) {
      this.meta.stateBytes += valueBytes - decodeState(before).valueBytes;
      return;
    }
    this.meta.stateBytes += key.length + valueBytes;
    this.meta.keys += 1;
    this.keyCounts.added(toByteString(data.key));
  }

  private remove(text: string): void {
    const key = Buffer.from(text, 'utf8');
    const state = this.store.table('state');
    const before = state.get(key);
    // The line that wrote it may have been damaged and passed over.
    if (before === undefined) return;
    state.removeSync(key);
    this.meta.stateBytes -= key.length + decodeState(before).valueBytes;
    this.meta.keys -= 1;
    this.keyCounts.removed(toByteString(text));
  }

  private remember(key: string, seq: number): void {
    this.store.table('history').putSync(historyKey(hashOfStateKey(key), seq), PRESENT);
  }

  /** The agent's figures, to be changed; null for what is no address. One that is not known yet gets the next number. */
  private agent(address: string, atMs: number): Touched | null {
    const known = this.agents.get(address);
    if (known !== undefined) return known;
    if (!isAgentAddress(address)) return null;
    const stored = this.store.table('agents').get(Buffer.from(address, 'latin1'));
    const row = stored === undefined ? this.newAgent(address, atMs) : decodeAgent(stored);
    const touched: Touched = { ...row, activity: new Map() };
    this.agents.set(address, touched);
    return touched;
  }

  private newAgent(address: string, atMs: number): AgentRow {
    this.meta.agents += 1;
    const agentId = this.meta.agents;
    this.store.table('agent_ids').putSync(agentIdKey(agentId), Buffer.from(address, 'latin1'));
    return { ...NO_FIGURES, agentId, registeredAtMs: atMs };
  }
}

/** For the one who acts and for everybody. */
function count(actor: Touched | null, everybody: Touched, what: keyof ActivityRow, atMs: number): void {
  countOf(everybody, what, atMs);
  if (actor !== null) countOf(actor, what, atMs);
}

function countOf(who: Touched, what: keyof ActivityRow, atMs: number): void {
  for (let resolution = 0; resolution < RESOLUTIONS; resolution++) {
    const place = Math.floor(atMs / (ACTIVITY_SLOTS_MS[resolution] as number)) * RESOLUTIONS + resolution;
    let row = who.activity.get(place);
    if (row === undefined) {
      row = { events: 0, messagesSent: 0, messagesReceived: 0, stateWrites: 0 };
      who.activity.set(place, row);
    }
    row[what] += 1;
  }
}

function sum(a: ActivityRow, b: ActivityRow): ActivityRow {
  return {
    events: a.events + b.events,
    messagesSent: a.messagesSent + b.messagesSent,
    messagesReceived: a.messagesReceived + b.messagesReceived,
    stateWrites: a.stateWrites + b.stateWrites,
  };
}
