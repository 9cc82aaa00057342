import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isoTime } from '../../src/gateway/iso-time.js';
import { seededRandom, seedFor } from '../support/seed.js';

test('times are written as Date writes them, also when seconds share a slot of the memory', (t) => {
  const random = seededRandom(seedFor(t));
  const baseMs = Date.UTC(2026, 2, 18);
  const timesMs = [0, 999, 1_000, Date.UTC(9999, 11, 31, 23, 59, 59, 999)];
  for (let count = 0; count < 10_000; count++) timesMs.push(baseMs + random(4_000_000));
  for (const timeMs of timesMs) assert.equal(isoTime(timeMs), new Date(timeMs).toISOString());
});
