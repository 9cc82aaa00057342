import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { createCounterMemory, SharedCounters } from '../../src/shards/shared-counters.js';
import { DurableMark } from '../../src/shards/watermark.js';
import { seedFor } from '../support/seed.js';

/** Steps of one shard's life, in the order in which group commit takes them. */
type Step = 'begin' | 'take' | 'written' | 'abandoned' | 'flushing' | 'flushed' | 'die' | 'recover';

interface Taken {
  readonly seq: number;
  readonly shard: number;
  /** Lost in a crash while it is not; never durable when its batch was abandoned. */
  state: 'taken' | 'written' | 'flushing' | 'durable' | 'abandoned';
}

/** A shard as group commit drives it: what is legal next follows from where it is. */
class ModelShard {
  mark: DurableMark;
  private batch: Taken[] = [];
  private isWriting = false;
  private isFlushing = false;
  private isDead = false;
  position = 1;

  constructor(
    private readonly counters: SharedCounters,
    readonly shard: number,
    private readonly log: Taken[],
  ) {
    this.mark = new DurableMark(counters, shard, this.position);
  }

  step(step: Step, count: number): void {
    const mine = this.log.filter(({ shard }) => shard === this.shard);
    if (step === 'recover') {
      if (!this.isDead) return;
      this.isDead = false;
      this.isWriting = false;
      this.isFlushing = false;
      // What was written survives the death of a thread; what was not is gone.
      for (const each of mine) if (each.state === 'taken') each.state = 'abandoned';
      for (const each of mine) if (each.state !== 'abandoned') each.state = 'durable';
      this.mark = new DurableMark(this.counters, this.shard, this.position);
    } else if (this.isDead) return;
    else if (step === 'die') this.isDead = true;
    else if (step === 'begin' && !this.isWriting) {
      this.isWriting = true;
      this.batch = [];
      this.mark.begin();
    } else if (step === 'take' && this.isWriting && this.batch.length === 0) {
      const first = this.counters.takeSeqs(count);
      for (let n = 0; n < count; n++) this.batch.push({ seq: first + n, shard: this.shard, state: 'taken' });
      this.log.push(...this.batch);
    } else if (step === 'written' && this.batch.length > 0 && this.isWriting) {
      this.isWriting = false;
      this.position += count;
      for (const each of this.batch) each.state = 'written';
      this.mark.written(this.position);
    } else if (step === 'abandoned' && this.batch.length > 0 && this.isWriting) {
      this.isWriting = false;
      for (const each of this.batch) each.state = 'abandoned';
      this.mark.abandoned();
    } else if (step === 'flushing' && !this.isFlushing && mine.some(({ state }) => state === 'written')) {
      this.isFlushing = true;
      for (const each of mine) if (each.state === 'written') each.state = 'flushing';
      this.mark.flushing();
    } else if (step === 'flushed' && this.isFlushing) {
      this.isFlushing = false;
      for (const each of mine) if (each.state === 'flushing') each.state = 'durable';
      this.mark.flushed();
    }
  }

  get isIdle(): boolean {
    return !this.isDead && !this.isWriting && !this.isFlushing;
  }
}

const STEPS: Step[] = ['begin', 'take', 'written', 'abandoned', 'flushing', 'flushed', 'die', 'recover'];

test('whatever shards do, all up to the watermark is durable; when all is flushed the watermark has all', (t) => {
  const seed = seedFor(t);
  const step = fc.record({
    shard: fc.nat(2),
    // Deaths are rarer than batches.
    step: fc.oneof({ arbitrary: fc.constantFrom(...STEPS.slice(0, 6)), weight: 8 }, fc.constantFrom(...STEPS)),
    count: fc.integer({ min: 1, max: 4 }),
  });
  let reached = 0;
  fc.assert(
    fc.property(fc.array(step, { minLength: 150, maxLength: 300 }), (steps) => {
      const counters = new SharedCounters(createCounterMemory(3));
      const log: Taken[] = [];
      const shards = [0, 1, 2].map((shard) => new ModelShard(counters, shard, log));
      let before = 0;
      for (const { shard, step: next, count } of steps) {
        shards[shard]?.step(next, count);
        const { watermark } = counters.durableState();
        assert.ok(watermark >= before, 'the watermark never falls');
        before = watermark;
        for (const each of log) {
          const isSettled = each.state === 'durable' || each.state === 'abandoned';
          if (each.seq <= watermark) assert.ok(isSettled, `seq ${each.seq} is ${each.state} at watermark ${watermark}`);
        }
      }
      for (const shard of shards) {
        shard.step('recover', 1);
        shard.step('take', 1);
        for (const last of ['written', 'flushed', 'flushing', 'flushed'] as const) shard.step(last, 1);
        if (!shard.isIdle) shard.step('die', 1);
        shard.step('recover', 1);
      }
      const last = log.reduce((highest, { seq }) => Math.max(highest, seq), 0);
      assert.equal(counters.durableState().watermark, last);
      reached = Math.max(reached, last);
    }),
    { seed, numRuns: 500 },
  );
  assert.ok(reached > 20, 'no run took enough numbers to test anything');
});

test('a shard that was never opened holds the watermark at 0', () => {
  const counters = new SharedCounters(createCounterMemory(2));
  const mark = new DurableMark(counters, 0, 77);
  mark.begin();
  counters.takeSeqs(5);
  mark.written(99);
  mark.flushing();
  mark.flushed();
  assert.deepEqual(counters.durableState(), { watermark: 0, ends: [99, 0] });
  new DurableMark(counters, 1, 11);
  assert.deepEqual(counters.durableState(), { watermark: 5, ends: [99, 11] });
});
