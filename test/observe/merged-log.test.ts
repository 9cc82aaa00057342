/** The logs of several shards as one: in order, up to the watermark, never past an end, in bounded batches. */
import assert from 'node:assert/strict';
import { Buffer } from 'node:buffer';
import { test } from 'node:test';
import { createLogger } from '../../src/log.js';
import { placesInPage } from '../../src/observe/event-reader.js';
import { MergedLog } from '../../src/observe/merged-log.js';
import type { SegmentFiles } from '../../src/observe/segment-files.js';
import { ShardTail } from '../../src/observe/shard-tail.js';
import { encodeLine, stateReadBody } from '../../src/shards/log-line.js';
import { logPosition } from '../../src/shards/segments.js';
import { seededRandom, seedFor } from '../support/seed.js';

const TS = '2026-03-18T05:30:00.123Z';
const EVENTS = 200;
const ANY = { maxEvents: 1_000, maxBytes: 1_000_000 };

/** Logs of shards to which `seq` 1 to EVENTS fell at random. */
class Logs {
  readonly merged: MergedLog;
  private readonly lines: { seq: number; line: string }[][] = [[], [], []];

  constructor(random: (below: number) => number) {
    for (let seq = 1; seq <= EVENTS; seq++) {
      const body = stateReadBody('tab_a', 'k'.repeat(1 + random(300)), true);
      this.lines[random(3)]?.push({ seq, line: encodeLine(seq, TS, body, false) });
    }
    const tails = this.lines.map((lines, shard) => {
      const bytes = Buffer.from(lines.map(({ line }) => line).join(''));
      const read = async (_segment: number, from: number, count: number) => bytes.subarray(from, from + count);
      const files = { logDir: 'log', read } as unknown as SegmentFiles;
      return new ShardTail(shard, files, createLogger('test', 'fatal'), logPosition(1, 0), 0);
    });
    this.merged = new MergedLog(tails);
  }

  /** Where each shard's lines up to `seq` end. */
  endsAt(seq: number): number[] {
    return this.lines.map((lines) => {
      const durable = lines.filter((each) => each.seq <= seq);
      return logPosition(1, Buffer.byteLength(durable.map(({ line }) => line).join('')));
    });
  }
}

function seqsTo(seq: number): number[] {
  return Array.from({ length: seq }, (_, index) => index + 1);
}

test('every event up to the watermark comes once and in order, though more lies in the logs', async (t) => {
  const random = seededRandom(seedFor(t));
  const logs = new Logs(random);
  const seen: number[] = [];
  for (let watermark = 0; watermark < EVENTS; ) {
    watermark = Math.min(EVENTS, watermark + random(30));
    // A shard may be durable further than all of them together.
    const ends = logs.endsAt(Math.min(EVENTS, watermark + random(40)));
    for (const { event } of await logs.merged.take({ watermark, ends }, ANY)) seen.push(event.seq);
    assert.deepEqual(seen, seqsTo(watermark));
  }
});

test('nothing behind the end of a shard is read, whatever the watermark', async (t) => {
  const logs = new Logs(seededRandom(seedFor(t)));
  const taken = await logs.merged.take({ watermark: EVENTS, ends: logs.endsAt(50) }, ANY);
  assert.deepEqual(
    taken.map(({ event }) => event.seq),
    seqsTo(50),
  );
});

test('a batch has no more events and bytes than it may, and the next one goes on behind it', async (t) => {
  const logs = new Logs(seededRandom(seedFor(t)));
  const durable = { watermark: EVENTS, ends: logs.endsAt(EVENTS) };
  assert.equal((await logs.merged.take(durable, { ...ANY, maxEvents: 7 })).length, 7);
  const maxBytes = 2_000;
  const batch = await logs.merged.take(durable, { ...ANY, maxBytes });
  const bytes = batch.reduce((sum, line) => sum + line.bytes, 0);
  assert.ok(bytes >= maxBytes && bytes < maxBytes + 500, `${bytes} bytes`);
  const rest = await logs.merged.take(durable, ANY);
  assert.equal(rest[0]?.event.seq, 7 + batch.length + 1);
  assert.equal(rest.at(-1)?.event.seq, EVENTS);
});

test('a page has no more bytes than it may, and one event in any case', () => {
  const placesOf = (bytes: readonly number[]) => bytes.map((each) => ({ shard: 0, position: 1, bytes: each }));
  const mebibyte = 1024 * 1024;
  assert.equal(placesInPage(placesOf(new Array<number>(100).fill(mebibyte))), 8);
  assert.equal(placesInPage(placesOf([20 * mebibyte, 1])), 1);
  assert.equal(placesInPage(placesOf([1, 2, 3])), 3);
  assert.equal(placesInPage([]), 0);
});
