/**
 * Observers go by cells of shared memory that shards change meanwhile. Here every order of one look and one shard's steps
 * is gone through: between any two of the look's reads, and between any two of the shard's stores.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createCounterMemory, SharedCounters } from '../../src/shards/shared-counters.js';
import { DurableMark } from '../../src/shards/watermark.js';
import { ShardRig } from './shard-rig.js';

const FIRST_END = 10;
const LAST_END = 20;
const SHARDS = 2;

/** Runs `work`, and `before` in front of each atomic access of that kind, with its number. */
function withHook(kind: 'load' | 'store', before: (access: number) => void, work: () => void): number {
  const original = Atomics[kind] as (...args: unknown[]) => unknown;
  let accesses = 0;
  let isInside = false;
  const hooked = (...args: unknown[]): unknown => {
    if (!isInside) {
      isInside = true;
      before(accesses++);
      isInside = false;
    }
    return original(...args);
  };
  Object.assign(Atomics, { [kind]: hooked });
  try {
    work();
  } finally {
    Object.assign(Atomics, { [kind]: original });
  }
  return accesses;
}

/** A shard with one batch before it, and the steps in which group commit takes it through its log. */
class Shard {
  readonly counters = new SharedCounters(createCounterMemory(SHARDS));
  readonly marks = Array.from({ length: SHARDS }, (_, shard) => new DurableMark(this.counters, shard, FIRST_END));
  seq = 0;
  isDurable = false;
  readonly steps: readonly (() => void)[];

  constructor(readonly shard: number) {
    const mark = this.marks[shard];
    assert.ok(mark !== undefined);
    this.steps = [
      () => mark.begin(),
      () => {
        this.seq = this.counters.takeSeqs(1);
      },
      () => mark.written(LAST_END),
      () => mark.flushing(),
      () => {
        this.isDurable = true; // the flush ends, and then the mark says so
      },
      () => mark.flushed(),
    ];
  }

  /** What one look showed is true of this moment. */
  assertHolds({ watermark, ends }: ReturnType<SharedCounters['durableState']>): void {
    const end = ends[this.shard] ?? 0;
    if (this.seq === 0 || this.seq > watermark) return;
    assert.ok(this.isDurable, 'the watermark has an event that is not on the disk');
    assert.equal(end, LAST_END, 'the watermark has an event that lies behind the end');
  }
}

/** All ways to put `steps` steps into `gaps` gaps, in their order: for each step its gap. */
function* waysInto(gaps: number, steps: number, from = 0): Generator<readonly number[]> {
  if (steps === 0) {
    yield [];
    return;
  }
  for (let gap = from; gap < gaps; gap++) for (const rest of waysInto(gaps, steps - 1, gap)) yield [gap, ...rest];
}

test('whatever a shard does between the reads of one look, the look shows nothing that is not durable', () => {
  const reads = 1 + 2 * SHARDS;
  let ways = 0;
  for (let shard = 0; shard < SHARDS; shard++) {
    for (const gapOfStep of waysInto(reads + 1, 6)) {
      ways += 1;
      const acting = new Shard(shard);
      let next = 0;
      const actUpTo = (gap: number): void => {
        while (next < gapOfStep.length && (gapOfStep[next] as number) <= gap) acting.steps[next++]?.();
      };
      let seen: ReturnType<SharedCounters['durableState']> | null = null;
      const accesses = withHook('load', actUpTo, () => {
        seen = acting.counters.durableState();
      });
      assert.equal(accesses, reads);
      assert.ok(seen !== null);
      acting.assertHolds(seen);
    }
  }
  assert.ok(ways > 500);
});

test('whoever looks between two stores of a shard sees nothing that is not durable, or not before the end', () => {
  for (let shard = 0; shard < SHARDS; shard++) {
    const acting = new Shard(shard);
    const look = (): void => acting.assertHolds(acting.counters.durableState());
    const stores = withHook('store', look, () => {
      for (const step of acting.steps) step();
    });
    assert.ok(stores >= 3);
    look();
    assert.equal(acting.counters.durableState().watermark, acting.seq, 'all is durable in the end');
  }
});

test('the watermark and the end stay where they are until the batch is on the disk', async (t) => {
  const rig = await ShardRig.open();
  t.after(() => rig.end());
  await rig.write('before', '1');
  const before = rig.counters.durableState();
  assert.equal(before.watermark, (await rig.events()).at(-1)?.seq);
  rig.disk.holdSyncs();
  const write = rig.write('under way', '2');
  await rig.heldSync();
  assert.deepEqual(rig.counters.durableState(), before);
  rig.disk.stopHolding();
  await write;
  const after = rig.counters.durableState();
  assert.equal(after.watermark, (await rig.events()).at(-1)?.seq);
  assert.ok((after.ends[0] ?? 0) > (before.ends[0] ?? 0));
});

test('where answers do not wait for the disk, the watermark does', async (t) => {
  const rig = await ShardRig.open({ settings: { durability: 'interval', flushIntervalMs: 60_000 } });
  t.after(() => rig.end());
  const before = rig.counters.durableState();
  assert.equal((await rig.write('a', '1')).code, null);
  assert.deepEqual(rig.counters.durableState(), before);
});

test('after a failed flush the watermark stands until the shard is opened again', async (t) => {
  const rig = await ShardRig.open();
  t.after(() => rig.end());
  const before = rig.counters.durableState();
  rig.disk.failNext('sync', 'EIO');
  assert.equal((await rig.write('a', '1')).code, 'unavailable');
  assert.deepEqual(rig.counters.durableState(), before);
});
