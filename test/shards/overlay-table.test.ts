/** Overlay table and key counts over a real LMDB, against a plain sorted map. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { KeyCounts } from '../../src/shards/key-counts.js';
import { fromByteString, prefixEnd, toByteString } from '../../src/shards/overlay-table.js';
import { Store } from '../../src/shards/store.js';
import { seededRandom, seedFor } from '../support/seed.js';
import { makeTempDir, removeTempDir, tempDir } from '../support/temp-dir.js';
import { hostileKey, hostileText } from './hostile.js';

/** Keys as bytes: few, so that they meet; with NUL, 0xff, and prefixes of each other. */
const byteKey = fc
  .array(fc.constantFrom('\u0000', '\u0001', 'a', 'b', '\u007f', '\u0080', '\u00fe', '\u00ff'), {
    minLength: 1,
    maxLength: 4,
  })
  .map((bytes) => bytes.join(''));
const anyKey = fc.oneof({ weight: 3, arbitrary: byteKey }, { weight: 1, arbitrary: hostileKey().map(toByteString) });
const anyPrefix = fc.oneof(fc.constant(''), anyKey, fc.constantFrom('\u00ff', '\u00ff\u00ff', 'a\u00ff'));

type Step =
  | { readonly do: 'put' | 'remove'; readonly key: string }
  | { readonly do: 'begin checkpoint' | 'end checkpoint' | 'reopen' };
const someStep: fc.Arbitrary<Step> = fc.oneof(
  { weight: 8, arbitrary: fc.record({ do: fc.constant('put' as const), key: anyKey }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constant('remove' as const), key: anyKey }) },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constantFrom('begin checkpoint' as const, 'end checkpoint' as const, 'reopen' as const),
    }),
  },
);

class Tables {
  private running: Promise<void> = Promise.resolve();
  store: Store;
  counts: KeyCounts;

  constructor(readonly directory: string) {
    this.store = new Store(join(directory, 'store.mdb'));
    this.counts = new KeyCounts(this.store.keyCounts, this.store.state);
  }

  put(key: string, value: string): void {
    const isNew = !this.store.state.has(key);
    this.store.state.put(key, { value, valueBytes: Buffer.byteLength(value), modifiedBy: 'tab_a', modifiedAtMs: 1 });
    if (isNew) this.counts.added(key);
  }

  remove(key: string): void {
    if (!this.store.state.has(key)) return;
    this.store.state.remove(key);
    this.counts.removed(key);
  }

  /** Not awaited: rows go on changing while it runs. */
  beginCheckpoint(): void {
    if (!this.store.isCheckpointing) this.running = this.store.checkpoint(this.store.loadMeta());
  }

  async endCheckpoint(): Promise<void> {
    await this.running;
  }

  async reopen(): Promise<void> {
    await this.running;
    await this.store.checkpoint(this.store.loadMeta());
    await this.store.close();
    this.store = new Store(join(this.directory, 'store.mdb'));
    this.counts = new KeyCounts(this.store.keyCounts, this.store.state);
  }

  async close(): Promise<void> {
    await this.running;
    await this.store.close();
  }
}

function sortedKeys(model: ReadonlyMap<string, string>, start: string, end: string | null): string[] {
  return [...model.keys()].filter((key) => key >= start && (end === null || key < end)).sort();
}

test('rows, ranges and counts are those of a sorted map, for any changes and checkpoints', async (t) => {
  const seed = seedFor(t);
  const probes = fc.record({
    start: fc.oneof(fc.constant(''), anyKey),
    end: fc.option(anyKey),
    limit: fc.integer({ min: 1, max: 9 }),
    prefix: anyPrefix,
  });
  await fc.assert(
    fc.asyncProperty(fc.array(fc.tuple(someStep, probes), { minLength: 1, maxLength: 60 }), async (steps) => {
      const directory = await makeTempDir();
      const tables = new Tables(directory);
      const model = new Map<string, string>();
      try {
        let count = 0;
        for (const [step, { start, end, limit, prefix }] of steps) {
          if (step.do === 'put') {
            const value = `value ${++count} 界`;
            tables.put(step.key, value);
            model.set(step.key, value);
          } else if (step.do === 'remove') {
            tables.remove(step.key);
            model.delete(step.key);
          } else if (step.do === 'begin checkpoint') tables.beginCheckpoint();
          else if (step.do === 'end checkpoint') await tables.endCheckpoint();
          else await tables.reopen();
          const { state } = tables.store;
          assert.deepEqual(state.keys({ start, end, limit }), sortedKeys(model, start, end).slice(0, limit));
          assert.equal(tables.counts.count(prefix), sortedKeys(model, prefix, prefixEnd(prefix)).length);
          const probe = 'key' in step ? step.key : start || 'a'; // LMDB has no empty keys
          assert.equal(state.get(probe)?.value, model.get(probe));
          assert.equal(state.has(probe), model.has(probe));
        }
        await tables.reopen();
        const all = { start: '', end: null, limit: Number.MAX_SAFE_INTEGER };
        assert.deepEqual(tables.store.state.keys(all), sortedKeys(model, '', null));
        for (const [key, value] of model) assert.equal(tables.store.state.get(key)?.value, value);
      } finally {
        await tables.close();
        await removeTempDir(directory);
      }
    }),
    { seed, numRuns: 60, interruptAfterTimeLimit: 10_000 },
  );
});

test('counts stay right while ranges split and join, and after reopening', async (t) => {
  const random = seededRandom(seedFor(t));
  const tables = new Tables(await tempDir(t));
  t.after(() => tables.close());
  const model = new Map<string, string>();
  const check = (): void => {
    for (let i = 0; i < 20; i++) {
      const prefix = ['', 'a', 'b/', `a${random(10)}`, `b/${random(100)}`, 'c\u00ff'][random(6)] as string;
      assert.equal(
        tables.counts.count(prefix),
        sortedKeys(model, prefix, prefixEnd(prefix)).length,
        JSON.stringify(prefix),
      );
    }
  };
  const randomKey = (): string => `${['a', 'b/', 'c\u00ff', '\u00ff'][random(4)]}${random(2_000)}`;
  for (const grows of [true, false, true]) {
    for (let i = 0; i < 4_000; i++) {
      const key = randomKey();
      const puts = grows ? random(10) < 9 : random(10) < 1;
      if (puts) {
        tables.put(key, '');
        model.set(key, '');
      } else {
        tables.remove(key);
        model.delete(key);
      }
      if (i % 1_000 === 500) check();
      if (i % 1_500 === 700) tables.beginCheckpoint();
    }
    check();
    await tables.reopen();
    check();
  }
  const ranges = tables.store.keyCounts.keys({ start: '', end: null, limit: 1_000_000 }).length;
  assert.ok(ranges > 5 && ranges < model.size / 20, `${ranges} ranges for ${model.size} keys`);
  for (const key of [...model.keys()]) tables.remove(key);
  model.clear();
  check();
  assert.equal(tables.store.keyCounts.keys({ start: '', end: null, limit: 1_000_000 }).length, 1, 'all joined');
});

test('byte strings keep any text and order it as its UTF-8 bytes', (t) => {
  const seed = seedFor(t);
  fc.assert(
    fc.property(hostileText(), hostileText(), (a, b) => {
      assert.equal(fromByteString(toByteString(a)), a);
      const byBytes = Math.sign(Buffer.compare(Buffer.from(a), Buffer.from(b)));
      const [x, y] = [toByteString(a), toByteString(b)];
      assert.equal(x < y ? -1 : x > y ? 1 : 0, byBytes);
    }),
    { seed, numRuns: 500 },
  );
});

test('the end of a prefix is above everything that begins with it, and nothing else lies between', (t) => {
  const seed = seedFor(t);
  fc.assert(
    fc.property(anyPrefix, anyKey, (prefix, key) => {
      const end = prefixEnd(prefix);
      const isWithin = key >= prefix && (end === null || key < end);
      assert.equal(isWithin, key.startsWith(prefix));
    }),
    { seed, numRuns: 2_000 },
  );
});

test('with many changes in one interval listings are those of a sorted map, before, amid and after a checkpoint', async (t) => {
  const random = seededRandom(seedFor(t));
  const directory = await makeTempDir();
  const tables = new Tables(directory);
  const model = new Map<string, string>();
  try {
    for (let change = 0; change < 3_000; change++) {
      const key = `k${random(1_500)}`;
      if (random(4) === 0) {
        tables.remove(key);
        model.delete(key);
      } else {
        tables.put(key, `value ${change}`);
        model.set(key, `value ${change}`);
      }
      if (change % 900 === 700) tables.beginCheckpoint();
      if (change % 900 === 800) await tables.endCheckpoint();
      if (change % 50 !== 0) continue;
      const start = `k${random(1_500)}`;
      const end = random(2) === 0 ? null : `k${random(1_500)}`;
      const limit = 1 + random(200);
      const expected = sortedKeys(model, start, end).slice(0, limit);
      assert.deepEqual(tables.store.state.keys({ start, end, limit }), expected, `after ${change} changes`);
    }
  } finally {
    await tables.close();
    await removeTempDir(directory);
  }
});
