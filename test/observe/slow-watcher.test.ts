/** What one watcher may cost: nothing is kept for it beyond a bound, whether it is live or reads history. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { WebSocketConnection } from '../../src/gateway/web-socket.js';
import { createLogger } from '../../src/log.js';
import type { EventIndex } from '../../src/observe/event-index.js';
import type { EventReader, ShardPlace } from '../../src/observe/event-reader.js';
import { EventStream, MAX_UNREAD_BYTES } from '../../src/observe/event-stream.js';
import type { TailLine } from '../../src/observe/shard-tail.js';
import { TransparencyLog } from '../../src/observe/transparency.js';
import type { LoggedEvent } from '../../src/shards/log-line.js';
import { tempDir } from '../support/temp-dir.js';
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
  sent = 0;
  closedWith: readonly [code: number, reason: string] | null = null;

  sendAll(texts: readonly (string | Uint8Array)[]): void {
    for (const text of texts) this.bufferedBytes += text.length;
    this.sent += texts.length;
  }

  close(code: number, reason = ''): void {
    this.closedWith = [code, reason];
  }

  get asConnection(): WebSocketConnection {
    return this as unknown as WebSocketConnection;
  }
}

/** A stream over `history` events, all of one shard. */
async function streamOver(t: { after(cleanUp: () => Promise<void>): void }, history: number): Promise<EventStream> {
  const index = {
    lastSeq: history,
    eventsAfter: (_filter: unknown, since: number, limit: number): (ShardPlace & { seq: number })[] => {
      const count = Math.max(0, Math.min(limit, history - since));
      return Array.from({ length: count }, (_, n) => ({
        seq: since + n + 1,
        shard: 0,
        position: since + n + 1,
        bytes: 100,
      }));
    },
  };
  const reader = { read: async (places: readonly ShardPlace[]) => places.map(({ position }) => eventOf(position)) };
  return new EventStream({
    index: index as unknown as EventIndex,
    reader: reader as unknown as EventReader,
    transparency: new TransparencyLog(await tempDir(t)),
    logger: createLogger('test', 'fatal'),
  });
}

const EVERYTHING = { filter: { agent: null, typeIds: null }, wantsNotices: false } as const;

test('a live watcher that does not read is dropped at the bound, with the place to come back to', async (t) => {
  const stream = await streamOver(t, 0);
  const socket = new Socket();
  stream.watch(socket.asConnection, { ...EVERYTHING, since: 0 });
  let seq = 0;
  // It goes live within some turns.
  await waitUntil(() => {
    seq += 1;
    stream.publish([lineOf(seq)]);
    return socket.sent > 0;
  }, soon);
  const lines = Array.from({ length: 1_000 }, () => lineOf(++seq));
  for (let round = 0; round < 50 && socket.closedWith === null; round++) {
    stream.publish(lines.map((_, n) => lineOf(seq + n + 1)));
    seq += lines.length;
  }
  assert.deepEqual(socket.closedWith?.[0], 1013);
  const [, reason] = socket.closedWith ?? [0, ''];
  assert.match(reason, /^slow consumer: .*since=\d+$/);
  const batchBytes = 1_000 * JSON.stringify(eventOf(seq)).length;
  assert.ok(socket.bufferedBytes <= MAX_UNREAD_BYTES + batchBytes, `${socket.bufferedBytes} bytes were kept`);
  const sent = socket.sent;
  stream.publish([lineOf(++seq)]);
  assert.equal(socket.sent, sent, 'nothing more after that');
});

test('history is given page by page, the next one when the one before was read', async (t) => {
  const history = 1_000;
  const stream = await streamOver(t, history);
  const socket = new Socket();
  const session = stream.watch(socket.asConnection, { ...EVERYTHING, since: 0 });
  let pages = 0;
  while (socket.sent < history) {
    const before = socket.sent;
    await waitUntil(() => socket.sent > before, soon);
    for (let turn = 0; turn < 20; turn++) await new Promise(setImmediate);
    assert.ok(socket.sent - before <= 200, `${socket.sent - before} events for a client that reads nothing`);
    pages += 1;
    socket.bufferedBytes = 0;
    session.onWritable();
  }
  assert.equal(pages, 5);
  assert.equal(socket.closedWith, null);
});
