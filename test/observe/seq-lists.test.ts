/** The index answers what a walk over all events would, whatever the batches it was built in and wherever it was left. */
import assert from 'node:assert/strict';
import { Buffer } from 'node:buffer';
import { test } from 'node:test';
import fc from 'fast-check';
import type { EventType } from '../../src/contract/events.js';
import { createLogger } from '../../src/log.js';
import { activityOf } from '../../src/observe/activity.js';
import { type EventFilter, EventIndex } from '../../src/observe/event-index.js';
import { EVENT_TYPE_IDS, EVENT_TYPES } from '../../src/observe/event-types.js';
import { EVERYBODY } from '../../src/observe/index-rows.js';
import type { TailLine } from '../../src/observe/shard-tail.js';
import type { LoggedEvent } from '../../src/shards/log-line.js';
import { seededRandom, seedFor } from '../support/seed.js';
import { fastDir, removeTempDir } from '../support/temp-dir.js';

type Random = (below: number) => number;

const SHARDS = 2;
const FIRST_MS = Date.parse('2026-03-18T05:30:00.000Z');
const LOGGER = createLogger('index-test', 'fatal');
/** The first is busiest; the last is never heard of. */
const ADDRESSES = Array.from({ length: 6 }, (_, n) => `tab_${String(n).padStart(20, '0')}`);
const UNKNOWN = ADDRESSES.at(-1) as string;
const KEYS = ['a', 'a/1', 'a/2', 'ä/3', 'b', 'b/😀', 'c'];

/** All events as they came, and what they leave behind, kept the plain way. */
class World {
  readonly lines: TailLine[] = [];
  readonly live = new Map<string, TailLine>();
  readonly removed = new Set<string>();
  private seq = 0;
  private atMs = FIRST_MS;

  constructor(private readonly random: Random) {}

  next(): TailLine {
    const { random } = this;
    // Gaps are normal; one of them is beyond 32 bits.
    this.seq += random(300) === 0 ? 2 ** 33 : 1 + random(2);
    this.atMs += random(40) === 0 ? random(5_000_000) : random(500);
    // The clocks of shards differ a little.
    const ts = new Date(this.atMs - (random(5) === 0 ? random(15_000) : 0)).toISOString();
    const event = { seq: this.seq, ts, ...this.fact() } as LoggedEvent;
    const line = { shard: random(SHARDS), position: this.lines.length * 1_000, bytes: 100 + random(900), event };
    this.take(line);
    return line;
  }

  private fact(): Pick<LoggedEvent, 'type' | 'agent' | 'data'> {
    const { random } = this;
    const agent = this.anyone();
    const key = KEYS[Math.min(random(KEYS.length), random(KEYS.length))] as string;
    const kind = random(100);
    if (kind < 2) return { type: 'operator_created', data: { operator_id: 'o', contact_hash: 'h' } };
    if (kind < 4) return { type: 'state_removed', data: { key, removal_id: 'r' } };
    if (kind < 35) {
      const value = 'v'.repeat(random(50));
      return { type: 'state_written', agent, data: { key, value, value_length: value.length, written_by: agent } };
    }
    // Also of keys that are not there, as when the line of their write is damaged.
    if (kind < 45) return { type: 'state_deleted', agent, data: { key, deleted_by: agent } };
    if (kind < 60) {
      const data = { message_id: 'm', from: agent, to: this.anyone(), content: 'c', content_length: 1 };
      return { type: 'message_sent', agent, data };
    }
    if (kind < 98) return { type: 'state_read', agent, data: { key, read_by: agent, found: true } };
    return { type: 'registry_read', agent, data: { read_by: agent } };
  }

  private anyone(): string {
    const { random } = this;
    return ADDRESSES[Math.min(random(ADDRESSES.length - 1), random(ADDRESSES.length - 1))] as string;
  }

  private take(line: TailLine): void {
    this.lines.push(line);
    const { key } = line.event.data as { key: string };
    if (line.event.type === 'state_written') {
      this.live.set(key, line);
      this.removed.delete(key);
    }
    if (line.event.type === 'state_deleted' || line.event.type === 'state_removed') this.live.delete(key);
    if (line.event.type === 'state_removed') this.removed.add(key);
  }

  get events(): TailLine[] {
    return this.lines.filter(({ event }) => event.type !== 'state_removed');
  }
}

const seqOf = ({ event }: TailLine): number => event.seq;
const valueBytesOf = ({ event }: TailLine): number => (event.data as { value_length: number }).value_length;
const timeOf = ({ event }: TailLine): number => Date.parse(event.ts);

function checkPages(index: EventIndex, events: readonly TailLine[], random: Random): void {
  const typeId = (): number => EVENT_TYPE_IDS[EVENT_TYPES[random(EVENT_TYPES.length)] as EventType];
  const typeIds = [null, [typeId()], [typeId(), typeId()].filter((id, n, ids) => ids.indexOf(id) === n)];
  const somewhere = events[random(events.length)] as TailLine;
  const positions = [
    0,
    seqOf(somewhere) - 1,
    seqOf(somewhere),
    index.lastSeq - 1,
    index.lastSeq,
    Number.MAX_SAFE_INTEGER,
  ];
  for (const agent of [null, ADDRESSES[0] as string, ADDRESSES[1 + random(4)] as string, UNKNOWN]) {
    for (const filter of typeIds.map((ids): EventFilter => ({ typeIds: ids, agent }))) {
      const passing = events.filter(
        ({ event }) =>
          (agent === null || event.agent === agent) &&
          (filter.typeIds?.includes(EVENT_TYPE_IDS[event.type as EventType]) ?? true),
      );
      const since = positions[random(positions.length)] as number;
      const limit = [1, 2, 20, 101, 1_001][random(5)] as number;
      assert.deepEqual(
        index.eventsAfter(filter, since, limit),
        passing
          .filter(({ event }) => event.seq > since)
          .slice(0, limit)
          .map((line) => ({
            seq: seqOf(line),
            shard: line.shard,
            position: line.position,
            bytes: line.bytes,
            typeId: EVENT_TYPE_IDS[line.event.type as EventType],
            atMs: timeOf(line),
          })),
        `${JSON.stringify(filter)} since ${since}, limit ${limit}`,
      );
    }
  }
}

function checkKeys(index: EventIndex, world: World, random: Random): void {
  const { live, removed, events } = world;
  const entries = [...live].sort(([a], [b]) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
  assert.deepEqual(
    index.keysAfter('', null, 100).map(({ key, valueBytes, modifiedBy }) => [key, valueBytes, modifiedBy]),
    entries.map(([key, line]) => [key, valueBytesOf(line), line.event.agent]),
  );
  const sizes = entries.map(([key, line]) => Buffer.byteLength(key) + valueBytesOf(line));
  assert.deepEqual(
    [index.figures.keys, index.figures.stateBytes, index.figures.removedKeys],
    [live.size, sizes.reduce((sum, bytes) => sum + bytes, 0), removed.size],
  );
  for (const prefix of ['', 'a', 'b/']) {
    assert.equal(index.keyCount(prefix), entries.filter(([key]) => key.startsWith(prefix)).length, prefix);
  }
  for (const key of KEYS) {
    const line = live.get(key);
    assert.equal(index.stateRow(key)?.position, line?.position);
    assert.equal(index.isRemoved(key), removed.has(key));
    const versions = events.filter(
      ({ event }) => /^state_(written|deleted)$/.test(event.type) && (event.data as { key: string }).key === key,
    );
    const someVersion = versions[random(versions.length)];
    for (const before of [0, Number.MAX_SAFE_INTEGER, ...(someVersion === undefined ? [] : [seqOf(someVersion)])]) {
      const limit = [1, 3, 17, 201][random(4)] as number;
      const expected = versions.map(seqOf).filter((seq) => seq < before);
      assert.deepEqual(
        index.historyBefore(key, before, limit).map(({ seq }) => seq),
        expected.reverse().slice(0, limit),
        `${key} before ${before}, limit ${limit}`,
      );
    }
  }
}

function checkAgents(index: EventIndex, events: readonly TailLine[]): void {
  for (const address of ADDRESSES) {
    const acts = events.filter(({ event }) => event.agent === address);
    const received = events.filter(({ event }) => (event.data as { to?: string }).to === address);
    const found = index.agent(address);
    if (acts.length + received.length === 0) {
      assert.equal(found, undefined);
      continue;
    }
    const of = (type: EventType): number => acts.filter(({ event }) => event.type === type).length;
    assert.ok(found !== undefined, address);
    assert.deepEqual(
      [found.messagesSent, found.messagesReceived, found.stateWrites, found.lastActiveMs],
      [of('message_sent'), received.length, of('state_written'), Math.max(0, ...acts.map(timeOf))],
    );
    checkActivity(index, found.agentId, acts);
  }
  checkActivity(index, EVERYBODY, events);
}

/** In slots of either length. */
function checkActivity(index: EventIndex, agentId: number, acts: readonly TailLine[]): void {
  for (const daysBefore of [0, 100]) {
    const span = { fromMs: FIRST_MS - 20_000 - daysBefore * 86_400_000, toMs: Math.max(...events(acts), FIRST_MS) };
    const shown = activityOf(index, agentId, span, 400);
    const counts = new Array<number>(shown.counts.length).fill(0);
    for (const atMs of events(acts)) {
      const bucket = Math.floor((atMs - Date.parse(shown.from)) / shown.bucket_ms);
      counts[bucket] = (counts[bucket] as number) + 1;
    }
    assert.deepEqual(shown.counts, counts);
  }
}

function events(acts: readonly TailLine[]): number[] {
  return acts.map(timeOf);
}

const someBatch = fc.record({
  events: fc.oneof(fc.constant(1), fc.integer({ min: 2, max: 40 }), fc.integer({ min: 300, max: 1_500 })),
  reopens: fc.boolean(),
});

test('an index built in any batches, and reopened anywhere, answers what a walk over all events would', async (t) => {
  const seed = seedFor(t);
  await fc.assert(
    fc.asyncProperty(fc.array(someBatch, { minLength: 1, maxLength: 15 }), fc.nat(), async (batches, worldSeed) => {
      const directory = await fastDir();
      const random = seededRandom(worldSeed);
      const world = new World(random);
      let index = EventIndex.open(directory, 'fixture', SHARDS, false, LOGGER);
      try {
        for (const [n, batch] of batches.entries()) {
          const lines = Array.from({ length: batch.events }, () => world.next());
          index.apply(lines, [n, n + 1]);
          if (batch.reopens) {
            await index.close(0);
            index = EventIndex.open(directory, 'fixture', SHARDS, false, LOGGER);
          }
          const shown = world.events;
          assert.deepEqual(index.figures.positions, [n, n + 1]);
          assert.equal(index.figures.events, shown.length);
          if (shown.length === 0) continue;
          checkPages(index, shown, random);
          checkKeys(index, world, random);
          checkAgents(index, shown);
        }
      } finally {
        await index.close(0);
        await removeTempDir(directory);
      }
    }),
    { seed, numRuns: 30 },
  );
});

test('lists take few rows and leave small ones open, in large batches and in batches of one', async (t) => {
  const random = seededRandom(seedFor(t));
  for (const batchEvents of [1, 7, 3_000]) {
    const directory = await fastDir();
    const world = new World(random);
    const index = EventIndex.open(directory, 'fixture', SHARDS, false, LOGGER);
    try {
      for (let n = 0; n < 3_000; n += batchEvents) {
        const lines = Array.from({ length: batchEvents }, () => world.next());
        index.apply(lines, [0, 0]);
      }
      const rows = [...index.store.table('lists').getRange({})].length;
      assert.ok(rows < world.events.length / 3, `${rows} rows for ${world.events.length} events in two lists each`);
      for (const { key, value } of index.store.table('agents').getRange({})) {
        assert.ok(value.length < 800, `the row of ${key.toString('latin1')} has ${value.length} bytes`);
      }
    } finally {
      await index.close(0);
      await removeTempDir(directory);
    }
  }
});
