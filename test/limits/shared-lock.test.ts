/** The lock in shared memory, where a holder is late or gone; that it excludes threads, the tests of its users show. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SharedLock } from '../../src/gateway/limits/shared-lock.js';

const HIGHEST_NUMBER = 0x7fff_fffc;

test('a holder that others have given up on does not release the lock of the one that came after it', () => {
  const words = new Int32Array(new SharedArrayBuffer(8));
  const late = new SharedLock(words, 1);
  const next = new SharedLock(words, 1);
  late.acquire();
  next.acquire(); // once its patience is over
  const held = words[1];
  late.release();
  assert.equal(words[1], held, 'still held by the next');
  next.release();
  assert.notEqual(words[1], held);
  const third = new SharedLock(words, 1);
  const startedMs = performance.now();
  third.acquire();
  assert.ok(performance.now() - startedMs < 500, 'nobody held it');
});

test('the number of a holding may pass the highest: the lock goes on', () => {
  const words = new Int32Array(new SharedArrayBuffer(4));
  words[0] = HIGHEST_NUMBER;
  const lock = new SharedLock(words, 0);
  for (let round = 0; round < 3; round++) {
    lock.acquire();
    assert.equal((words[0] ?? 0) & 1, 1, 'held');
    lock.release();
    assert.equal((words[0] ?? 0) & 1, 0, 'free');
  }
});
