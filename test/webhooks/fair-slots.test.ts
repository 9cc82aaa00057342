/** Who gets the next slot, whoever hangs. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AgentHistory } from '../../src/webhooks/agent-history.js';
import { FairSlots, type Lane } from '../../src/webhooks/fair-slots.js';
import { seededRandom, seedFor } from '../support/seed.js';

function fill(slots: FairSlots<string>, lane: Lane, count: number): void {
  for (let n = 0; n < count; n++) slots.enqueue(`${lane} ${n}`, lane);
}

/** Takes until nothing may start; how many of each lane did. */
function takeAll(slots: FairSlots<string>): Record<Lane, number> {
  const taken = { quick: 0, unknown: 0, slow: 0 };
  for (let grant = slots.take(); grant !== null; grant = slots.take()) taken[grant.lane]++;
  return taken;
}

test('those who answer may use every slot, newcomers three quarters, those who hang half', () => {
  const most = (lane: Lane): number => {
    const slots = new FairSlots<string>(100);
    fill(slots, lane, 1000);
    return takeAll(slots)[lane];
  };
  assert.equal(most('quick'), 100);
  assert.equal(most('unknown'), 75);
  assert.equal(most('slow'), 50);
});

test('whoever holds slots, a quarter is left for those who answer', () => {
  const slots = new FairSlots<string>(100);
  fill(slots, 'slow', 1000);
  fill(slots, 'unknown', 1000);
  const { unknown, slow } = takeAll(slots);
  assert.equal(unknown + slow, 75);
  assert.ok(slow <= 50 && unknown >= 25, `${unknown} unknown, ${slow} slow`);
  fill(slots, 'quick', 1000);
  assert.deepEqual(takeAll(slots), { quick: 25, unknown: 0, slow: 0 });
});

test('with one slot every lane gets its turn', () => {
  const slots = new FairSlots<string>(1);
  for (const lane of ['slow', 'unknown', 'quick'] as const) {
    slots.enqueue('x', lane);
    const grant = slots.take();
    assert.equal(grant?.lane, lane);
    assert.equal(slots.take(), null);
    slots.release(lane);
  }
});

test('in a lane it is first come, first served, and nobody waits twice', () => {
  const slots = new FairSlots<string>(2);
  for (const name of ['a', 'b', 'a', 'c']) slots.enqueue(name, 'quick');
  assert.equal(slots.waiting, 3);
  assert.deepEqual([slots.take()?.item, slots.take()?.item, slots.take()], ['a', 'b', null]);
  slots.release('quick');
  slots.enqueue('a', 'quick');
  assert.equal(slots.take()?.item, 'c');
});

test('a lane under full load starves no other', () => {
  const slots = new FairSlots<string>(8);
  for (const lane of ['quick', 'unknown', 'slow'] as const) fill(slots, lane, 10_000);
  const started = { quick: 0, unknown: 0, slow: 0 };
  const running: Lane[] = [];
  for (let turn = 0; turn < 4000; turn++) {
    for (let grant = slots.take(); grant !== null; grant = slots.take()) {
      started[grant.lane]++;
      running.push(grant.lane);
    }
    const done = running.shift();
    assert.ok(done !== undefined);
    slots.release(done);
  }
  assert.ok(started.quick > 1500, JSON.stringify(started));
  assert.ok(started.unknown > 700 && started.slow > 700, JSON.stringify(started));
});

test('whatever comes and goes, the bounds hold and a free slot is used', (t) => {
  const random = seededRandom(seedFor(t));
  for (let run = 0; run < 50; run++) {
    const total = 1 + random(12);
    const slots = new FairSlots<number>(total);
    const running: Lane[] = [];
    const lanes: readonly Lane[] = ['quick', 'unknown', 'slow'];
    for (let step = 0; step < 500; step++) {
      if (random(2) === 0) slots.enqueue(step, lanes[random(3)] ?? 'quick');
      else if (running.length > 0) {
        const [done] = running.splice(random(running.length), 1);
        if (done !== undefined) slots.release(done);
      }
      for (let grant = slots.take(); grant !== null; grant = slots.take()) running.push(grant.lane);
      const count = (lane: Lane): number => running.filter((one) => one === lane).length;
      assert.equal(slots.inFlight, running.length);
      assert.ok(running.length <= total);
      assert.ok(count('slow') <= Math.max(1, Math.floor(total / 2)));
      assert.ok(count('slow') + count('unknown') <= Math.max(1, Math.floor((total * 3) / 4)));
    }
    for (let left = slots.waiting + running.length; left > 0; left = slots.waiting + running.length) {
      const done = running.shift();
      assert.ok(done !== undefined, `${left} wait, and nobody is served`);
      slots.release(done);
      for (let grant = slots.take(); grant !== null; grant = slots.take()) running.push(grant.lane);
    }
  }
});

const AGENT = { address: 'tab_a', url: '', secret: '', attempts: 0, nextAttemptAtMs: 0, failedInRow: 0 };

test('one long post makes an agent slow, and it takes several quick ones to be quick again', () => {
  const history = new AgentHistory(60, 1_000);
  assert.equal(history.laneOf(AGENT), 'unknown');
  history.noteSlotTime('tab_a', 20);
  assert.equal(history.laneOf(AGENT), 'quick');
  history.noteSlotTime('tab_a', 10_000);
  for (let quick = 0; quick < 3; quick++) {
    assert.equal(history.laneOf(AGENT), 'slow', `after ${quick} quick posts`);
    history.noteSlotTime('tab_a', 20);
  }
  assert.equal(history.laneOf(AGENT), 'quick');
});

test('after a restart, what is durable about failures tells who may hang', () => {
  const history = new AgentHistory(60, 1_000);
  assert.equal(history.laneOf({ ...AGENT, attempts: 1 }), 'slow');
  assert.equal(history.laneOf({ ...AGENT, failedInRow: 1 }), 'slow');
});

test('an agent is posted to as often as its limit says: at once up to the burst, then evenly', () => {
  const history = new AgentHistory(60, 1_000);
  const startMs = 1_773_812_345_000;
  let nowMs = startMs;
  for (let post = 0; post < 60; post++) {
    assert.equal(history.mayPostAtMs('tab_a', nowMs), nowMs);
    history.countPost('tab_a', nowMs);
  }
  for (let post = 1; post <= 10; post++) {
    const mayMs = history.mayPostAtMs('tab_a', nowMs);
    assert.equal(mayMs, startMs + post * 1_000);
    assert.equal(history.mayPostAtMs('tab_b', nowMs), nowMs, 'others are not held up');
    nowMs = mayMs;
    assert.equal(history.mayPostAtMs('tab_a', nowMs), nowMs);
    history.countPost('tab_a', nowMs);
  }
});
