import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Courtesy } from '../../src/observe/courtesy.js';

/** A machine of two cores, of whose time `idle` is unused from each look to the next. */
function machine(idle: readonly number[]): { courtesy: Courtesy; later(ms: number): void } {
  let nowMs = 0;
  let looks = -1;
  let idleMs = 0;
  let lastMs = 0;
  const times = () => {
    idleMs += (nowMs - lastMs) * 2 * (idle[looks] ?? 0);
    lastMs = nowMs;
    looks += 1;
    return { idleMs, allMs: nowMs * 2 };
  };
  const courtesy = new Courtesy(times, () => nowMs);
  return {
    courtesy,
    later: (ms) => {
      nowMs += ms;
    },
  };
}

test('it does not rest while the machine has time to spare', () => {
  const { courtesy, later } = machine([0.6]);
  later(300);
  assert.equal(courtesy.restMs(20), 0);
});

test('on a busy machine it rests nine times as long as it worked, for a quarter of a second at most', () => {
  const { courtesy, later } = machine([0.1]);
  later(300);
  assert.equal(courtesy.restMs(20), 180);
  assert.equal(courtesy.restMs(80), 250);
});

test('it goes on at full speed once the machine is quiet again', () => {
  const { courtesy, later } = machine([0.1, 0.5]);
  later(300);
  assert.equal(courtesy.restMs(10), 90);
  later(300);
  assert.equal(courtesy.restMs(10), 0);
});
