/** One watcher: what it may cost, and that nothing is missed or repeated between history and what comes live. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { WebSocketConnection } from '../../src/gateway/web-socket.js';
import { createLogger } from '../../src/log.js';
import type { EventIndex } from '../../src/observe/event-index.js';
import type { EventReader } from '../../src/observe/event-reader.js';
import { EventStream, MAX_UNREAD_BYTES } from '../../src/observe/event-stream.js';
import type { TailLine } from '../../src/observe/shard-tail.js';
import { TransparencyLog } from '../../src/observe/transparency.js';
import type { LoggedEvent } from '../../src/shards/log-line.js';
import { type Cleanup, tempDir } from '../support/temp-dir.js';
import { waitUntil } from '../support/wait.js';

const soon = { timeoutMs: 5_000 };

function eventOf(seq: number): LoggedEvent {
  const data = { key: 'k', read_by: 'tab_a', found: true };
  return { seq, ts: '2026-03-18T05:30:00.123Z', type: 'state_read', agent: 'tab_a', data } as LoggedEvent;
}

function lineOf(seq: number): TailLine {
  return { shard: 0, position: seq, bytes: 100, event: eventOf(seq) };
}

/** A client that takes nothing until it is told to. */
class Socket {
  bufferedBytes = 0;
  readonly seqs: number[] = [];
  readonly notices: string[] = [];
  closedWith: readonly [code: number, reason: string] | null = null;

  sendAll(texts: readonly (string | Uint8Array)[]): void {
    for (const text of texts) {
      this.bufferedBytes += text.length;
      this.seqs.push((JSON.parse(text.toString()) as { seq: number }).seq);
    }
  }

  send(text: string): void {
    this.notices.push(text);
  }

  close(code: number, reason = ''): void {
    this.closedWith = [code, reason];
  }

  get asConnection(): WebSocketConnection {
    return this as unknown as WebSocketConnection;
  }
}

/** A log of events of one shard, in the index as far as it goes, and its stream. */
class World {
  readonly stream: EventStream;
  /** Called while a watcher's page of history is being read. */
  whileReading: () => void = () => {};
  lastSeq: number;

  constructor(transparency: TransparencyLog, history: number) {
    this.lastSeq = history;
    const reader = { read: (places: readonly PlacedSeq[]) => this.read(places) };
    this.stream = new EventStream({
      index: this as unknown as EventIndex,
      reader: reader as unknown as EventReader,
      transparency,
      logger: createLogger('test', 'fatal'),
    });
  }

  static async with(t: Cleanup, history: number): Promise<World> {
    return new World(new TransparencyLog(await tempDir(t)), history);
  }

  /** As the follower does it: the index first. */
  publish(count: number): void {
    const first = this.lastSeq + 1;
    this.lastSeq += count;
    this.stream.publish(Array.from({ length: count }, (_, n) => lineOf(first + n)));
  }

  eventsAfter(_filter: unknown, since: number, limit: number): PlacedSeq[] {
    const count = Math.max(0, Math.min(limit, this.lastSeq - since));
    return Array.from({ length: count }, (_, n) => placeOf(since + n + 1));
  }

  private async read(places: readonly PlacedSeq[]): Promise<LoggedEvent[]> {
    this.whileReading();
    return places.map(({ seq }) => eventOf(seq));
  }
}

interface PlacedSeq {
  readonly seq: number;
  readonly shard: number;
  readonly position: number;
  readonly bytes: number;
}

function placeOf(seq: number): PlacedSeq {
  return { seq, shard: 0, position: seq, bytes: 100 };
}

async function turns(): Promise<void> {
  for (let turn = 0; turn < 20; turn++) await new Promise(setImmediate);
}

const EVERYTHING = { filter: { agent: null, typeIds: null }, wantsNotices: false } as const;

test('a live watcher that does not read is dropped at the bound, with the place to come back to', async (t) => {
  const world = await World.with(t, 0);
  const socket = new Socket();
  world.stream.watch(socket.asConnection, { ...EVERYTHING, since: 0 });
  await turns(); // it goes live
  for (let round = 0; round < 50 && socket.closedWith === null; round++) world.publish(1_000);
  const [code, reason] = socket.closedWith ?? [0, ''];
  assert.equal(code, 1013);
  assert.match(reason, /^slow consumer: /);
  assert.equal(/since=(\d+)$/.exec(reason)?.[1], String(socket.seqs.at(-1)));
  const batchBytes = 1_000 * JSON.stringify(eventOf(world.lastSeq)).length;
  assert.ok(socket.bufferedBytes <= MAX_UNREAD_BYTES + batchBytes, `${socket.bufferedBytes} bytes were kept`);
  const sent = socket.seqs.length;
  world.publish(1);
  assert.equal(socket.seqs.length, sent, 'nothing more after that');
});

test('history is given page by page, the next one when the one before was read', async (t) => {
  const history = 1_000;
  const world = await World.with(t, history);
  const socket = new Socket();
  const session = world.stream.watch(socket.asConnection, { ...EVERYTHING, since: 0 });
  let pages = 0;
  while (socket.seqs.length < history) {
    const before = socket.seqs.length;
    await waitUntil(() => socket.seqs.length > before, soon);
    await turns();
    const given = socket.seqs.length - before;
    assert.ok(given <= 200, `${given} events for a client that reads nothing`);
    pages += 1;
    socket.bufferedBytes = 0;
    session.onWritable();
  }
  assert.equal(pages, 5);
  assert.equal(socket.closedWith, null);
});

test('on its way from history to live a watcher misses nothing and gets nothing twice', async (t) => {
  const world = await World.with(t, 10);
  const socket = new Socket();
  let pagesRead = 0;
  world.whileReading = () => {
    pagesRead += 1;
    if (pagesRead <= 3) world.publish(5);
  };
  const session = world.stream.watch(socket.asConnection, { ...EVERYTHING, since: 4 });
  for (let round = 0; round < 10; round++) {
    await turns();
    socket.bufferedBytes = 0;
    session.onWritable();
  }
  world.publish(5);
  assert.equal(world.lastSeq, 30);
  assert.deepEqual(
    socket.seqs,
    Array.from({ length: 26 }, (_, n) => n + 5),
  );
});

test('a watcher of the future gets what lies behind its place, and nothing before it', async (t) => {
  const world = await World.with(t, 10);
  const socket = new Socket();
  world.stream.watch(socket.asConnection, { ...EVERYTHING, since: 14 });
  await turns();
  world.publish(3);
  world.publish(3);
  assert.deepEqual(socket.seqs, [15, 16]);
});

async function crowd(world: World, size: number): Promise<Socket[]> {
  const sockets = Array.from({ length: size }, () => new Socket());
  for (const socket of sockets) {
    world.stream.watch(socket.asConnection, { ...EVERYTHING, wantsNotices: true, since: world.lastSeq });
  }
  await turns(); // all go live
  return sockets;
}

test('many watchers are served some at a time, and each gets every batch in order', async (t) => {
  const world = await World.with(t, 0);
  const sockets = await crowd(world, 35);
  world.publish(3);
  const served = sockets.filter(({ seqs }) => seqs.length > 0).length;
  assert.ok(served > 0 && served < 35, `${served} of 35 in the first turn`);
  world.publish(2);
  assert.ok(
    sockets.every(({ seqs }) => seqs.length >= 3),
    'the first batch is with everybody before the second goes to anybody',
  );
  await waitUntil(() => sockets.every(({ seqs }) => seqs.length === 5), soon);
  for (const { seqs } of sockets) assert.deepEqual(seqs, [1, 2, 3, 4, 5]);
});

test('once a content was removed nobody is sent from memory what was not sent yet', async (t) => {
  const world = await World.with(t, 0);
  const sockets = await crowd(world, 35);
  let pagesRead = 0;
  world.whileReading = () => {
    pagesRead += 1;
  };
  world.publish(3);
  const served = sockets.filter(({ seqs }) => seqs.length > 0).length;
  world.stream.notify({ type: 'redaction' });
  await waitUntil(() => sockets.every(({ seqs }) => seqs.length === 3), soon);
  assert.equal(pagesRead, 35 - served, 'the others read the disk');
  world.publish(1);
  await waitUntil(() => sockets.every(({ seqs }) => seqs.length === 4), soon);
  for (const { seqs, notices } of sockets) {
    assert.deepEqual(seqs, [1, 2, 3, 4]);
    assert.deepEqual(notices, ['{"type":"redaction"}']);
  }
});
