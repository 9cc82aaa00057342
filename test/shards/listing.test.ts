/** What a listing over several shards is made of: merging, cursors, routing. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { decodeCursor, encodeCursor } from '../../src/shards/cursors.js';
import { mergePages } from '../../src/shards/merge-pages.js';
import { shardOf } from '../../src/shards/routing.js';
import { seededRandom, seedFor } from '../support/seed.js';
import { hostileText } from './hostile.js';

test('merged pages are the sorted whole, cut at the limit, and say whether anything is left', (t) => {
  const seed = seedFor(t);
  const items = fc.uniqueArray(fc.tuple(fc.string({ maxLength: 4 }), fc.nat(4)), {
    selector: ([order]) => order,
    maxLength: 40,
  });
  fc.assert(
    fc.property(items, fc.integer({ min: 1, max: 20 }), fc.integer({ min: 1, max: 5 }), (all, limit, shards) => {
      const compare = (a: [string, number], b: [string, number]): number => (a[0] < b[0] ? -1 : 1);
      const pages = Array.from({ length: shards }, (_, shard) =>
        all
          .filter(([, owner]) => owner % shards === shard)
          .sort(compare)
          .slice(0, limit + 1),
      );
      const merged = mergePages(pages, ([order]) => order, limit);
      assert.deepEqual(merged.items, [...all].sort(compare).slice(0, limit));
      assert.equal(merged.isLast, all.length <= limit);
    }),
    { seed, numRuns: 500 },
  );
});

test('a cursor comes back as the text it was made of, and only in its own listing', (t) => {
  const seed = seedFor(t);
  fc.assert(
    fc.property(hostileText(), (text) => {
      const cursor = encodeCursor('keys', text);
      assert.match(cursor, /^[\w.-]+$/, 'needs no escaping in a URL');
      assert.equal(decodeCursor('keys', cursor), text);
      assert.equal(decodeCursor('agents', cursor), undefined);
    }),
    { seed, numRuns: 500 },
  );
});

test('a cursor this server did not make is refused: free text, a changed character, another spelling', (t) => {
  const seed = seedFor(t);
  for (const made of ['', '.', 'abc', 'YWJj', 'YWJj.', 'YWJj.0', '../..', 'null', '0']) {
    assert.equal(decodeCursor('keys', made), undefined, made);
  }
  fc.assert(
    fc.property(hostileText(), fc.nat(), fc.constantFrom(...'aA0.-_=+/ '), (text, place, character) => {
      const cursor = encodeCursor('keys', text);
      const at = place % (cursor.length + 1);
      for (const changed of [
        cursor.slice(0, at) + character + cursor.slice(at + 1),
        cursor.slice(0, at) + character + cursor.slice(at),
      ]) {
        if (changed !== cursor) assert.equal(decodeCursor('keys', changed), undefined, changed);
      }
    }),
    { seed, numRuns: 1_000 },
  );
});

test('names are spread evenly over the shards', (t) => {
  const random = seededRandom(seedFor(t));
  for (const shards of [2, 3, 8, 64]) {
    const counts = new Array<number>(shards).fill(0);
    const names = shards * 1_000;
    for (let i = 0; i < names; i++) {
      const shard = shardOf(`agents/${random(2 ** 30)}/${i}`, shards);
      counts[shard] = (counts[shard] as number) + 1;
    }
    // A fair spread has a standard deviation of about 32; six of them never happen.
    for (const count of counts)
      assert.ok(Math.abs(count - 1_000) < 200, `${count} of ${names} on one of ${shards} shards`);
  }
});

// The published xxHash32 (seed 0) of '' is 02cc5d05, of 'a' 550d7456, of 'abc' 32d153ff.
const FIXED_OWNERS = [
  [1, 1, 5, 5],
  [0, 0, 6, 22],
  [1, 0, 7, 63],
  [1, 1, 3, 51],
  [0, 2, 6, 54],
  [0, 1, 4, 60],
  [0, 0, 6, 62],
];

test('the owner of a name never changes: data directories depend on it', () => {
  assert.deepEqual(
    ['', 'a', 'abc', 'state/key', '界', '😀', '\u0000'].map((name) =>
      [2, 3, 8, 64].map((shards) => shardOf(name, shards)),
    ),
    FIXED_OWNERS,
  );
  assert.equal(shardOf('anything', 1), 0);
});
