import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { type Due, DueTimes } from '../../src/shards/due-times.js';
import { seedFor } from '../support/seed.js';

interface Entry extends Due {
  readonly name: number;
}

const entry = (name: number, dueMs: number): Entry => ({ name, dueMs, heapIndex: -1 });

test('everything is due at its time, once, but for what was taken away before', (t) => {
  const seed = seedFor(t);
  const step = fc.oneof(
    { weight: 4, arbitrary: fc.record({ add: fc.integer({ min: 0, max: 500 }) }) },
    { weight: 2, arbitrary: fc.record({ remove: fc.nat() }) },
    { weight: 2, arbitrary: fc.record({ tick: fc.integer({ min: 1, max: 120 }) }) },
  );
  fc.assert(
    fc.property(fc.array(step, { minLength: 10, maxLength: 120 }), (steps) => {
      t.mock.timers.enable({ apis: ['setTimeout', 'Date'], now: 1_000_000 });
      try {
        const happened: number[] = [];
        const late: number[] = [];
        const due = new DueTimes<Entry>((each) => {
          happened.push(each.name);
          late.push(Date.now() - each.dueMs);
        });
        const entries: Entry[] = [];
        const expected = new Map<number, number>();
        for (const each of steps) {
          if ('add' in each) {
            const added = entry(entries.length, Date.now() + each.add);
            entries.push(added);
            due.add(added);
            expected.set(added.name, added.dueMs);
          } else if ('remove' in each) {
            const removed = entries[each.remove % Math.max(1, entries.length)];
            if (removed === undefined) continue;
            due.remove(removed);
            if (!happened.includes(removed.name)) expected.delete(removed.name);
          } else {
            for (let i = 0; i < each.tick; i++) t.mock.timers.tick(1);
          }
        }
        for (let i = 0; i < 600; i++) t.mock.timers.tick(1);
        const byTime = [...expected].sort(([a, atMs], [b, btMs]) => atMs - btMs || a - b).map(([name]) => name);
        assert.deepEqual(
          happened.toSorted((a, b) => a - b),
          byTime.toSorted((a, b) => a - b),
        );
        assert.ok(late.every((ms) => ms >= 0 && ms <= 1));
        assert.equal(due.size, 0);
      } finally {
        t.mock.timers.reset();
      }
    }),
    { seed, numRuns: 100 },
  );
});

test('an earlier time than all before moves the timer, and closing ends it', (t) => {
  t.mock.timers.enable({ apis: ['setTimeout', 'Date'], now: 0 });
  const happened: number[] = [];
  const due = new DueTimes<Entry>(({ name }) => happened.push(name));
  due.add(entry(1, 43_200_000));
  due.add(entry(2, 10));
  t.mock.timers.tick(10);
  assert.deepEqual(happened, [2]);
  due.add(entry(3, 50));
  due.close();
  t.mock.timers.tick(43_200_000);
  assert.deepEqual(happened, [2]);
});
