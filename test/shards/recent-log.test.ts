/** What was written last, read back from memory by its place in the log. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { RecentLog } from '../../src/shards/recent-log.js';
import { logPosition } from '../../src/shards/segments.js';
import { seededRandom, seedFor } from '../support/seed.js';

test('bytes within a batch are found by their place, over segments, until they have left', (t) => {
  const random = seededRandom(seedFor(t));
  const recent = new RecentLog(5_000);
  const batches: { start: number; bytes: Buffer }[] = [];
  let segment = 1;
  let offset = 0;
  for (let round = 0; round < 2_000; round++) {
    const bytes = Buffer.alloc(1 + random(300), round % 256);
    const start = logPosition(segment, offset);
    recent.add(start, bytes);
    batches.push({ start, bytes: Buffer.from(bytes) });
    bytes.fill(0); // the writer uses its buffer again
    offset += bytes.length;
    if (round % 50 === 49) {
      segment += 1;
      offset = 0;
    }
    let keptBytes = 0;
    for (const batch of batches.slice(-60).reverse()) {
      keptBytes += batch.bytes.length;
      const found = recent.read(batch.start, batch.bytes.length);
      if (keptBytes <= 5_000) assert.deepEqual(found, batch.bytes);
      else assert.equal(found, undefined);
    }
  }
});

test('what was never written, or reaches over the end of a batch, is not found', () => {
  const recent = new RecentLog(1_000);
  assert.equal(recent.read(logPosition(1, 0), 1), undefined);
  recent.add(logPosition(1, 10), Buffer.from('abc'));
  assert.equal(recent.read(logPosition(1, 9), 1), undefined);
  assert.equal(recent.read(logPosition(1, 11), 3), undefined);
  assert.equal(recent.read(logPosition(1, 11), 2)?.toString(), 'bc');
});
