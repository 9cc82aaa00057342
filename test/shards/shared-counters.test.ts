import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { createCounterMemory, SharedCounters } from '../../src/shards/shared-counters.js';
import type { Race, RaceResult } from './counter-racer.js';

const THREADS = 4;

test('threads that race for the last bytes take exactly the limit, and never the same seq', async () => {
  const memory = createCounterMemory(THREADS);
  const gate = new SharedArrayBuffer(4);
  const limitBytes = 10_001;
  const entry = fileURLToPath(new URL('./counter-racer.js', import.meta.url));
  const racers = Array.from({ length: THREADS }, (_, shard) => {
    const workerData: Race = { memory, gate, shard, limitBytes, rounds: 20_000 };
    return new Worker(entry, { workerData });
  });
  const results = Promise.all(racers.map(async (racer) => ((await once(racer, 'message')) as [RaceResult])[0]));
  await Promise.all(racers.map((racer) => once(racer, 'online')));
  Atomics.store(new Int32Array(gate), 0, 1);
  Atomics.notify(new Int32Array(gate), 0);
  const counters = new SharedCounters(memory);
  const finished = await results;

  const taken = finished.map((result) => result.takenBytes);
  assert.equal(
    taken.reduce((sum, bytes) => sum + bytes, 0),
    limitBytes,
  );
  assert.deepEqual(
    taken.map((_, shard) => counters.read(shard, 'reservedStateBytes')),
    taken,
  );
  assert.ok(
    finished.some((result) => result.refusals > 0),
    'the limit was met',
  );
  assert.equal(counters.reserve(0, 'stateBytes', 1, limitBytes), false);

  const seqs = new Set<number>();
  let count = 0;
  for (const { firstSeqs, seqCounts } of finished) {
    firstSeqs.forEach((first, round) => {
      for (let seq = first; seq < first + (seqCounts[round] as number); seq++) {
        seqs.add(seq);
        count += 1;
      }
    });
  }
  assert.equal(seqs.size, count);
  assert.equal(
    Math.max(...[...seqs].slice(-1_000)) <= count && seqs.has(1) && seqs.has(count),
    true,
    '1 to n, without a gap',
  );
});

test('seqs go on above what recovery found, and never back', () => {
  const counters = new SharedCounters(createCounterMemory(1));
  counters.raiseSeq(2 ** 40);
  counters.raiseSeq(7);
  assert.equal(counters.takeSeqs(3), 2 ** 40 + 1);
  assert.equal(counters.takeSeqs(1), 2 ** 40 + 4);
});

test('a shard that is reopened holds what it has on disk, whatever it had reserved', () => {
  const counters = new SharedCounters(createCounterMemory(2));
  assert.ok(counters.reserve(0, 'queuedBytes', 700, 1_000));
  assert.ok(counters.reserve(1, 'queuedBytes', 200, 1_000));
  counters.resetReservation(0, 'queuedBytes', 300);
  assert.equal(counters.read(0, 'reservedQueuedBytes'), 300);
  assert.equal(counters.reserve(1, 'queuedBytes', 501, 1_000), false);
  assert.equal(counters.reserve(1, 'queuedBytes', 500, 1_000), true);
});

test('a refused reservation takes nothing, and the two kinds do not mix', () => {
  const counters = new SharedCounters(createCounterMemory(1));
  assert.equal(counters.reserve(0, 'stateBytes', 11, 10), false);
  assert.equal(counters.reserve(0, 'stateBytes', 10, 10), true);
  assert.equal(counters.reserve(0, 'queuedBytes', 10, 10), true);
  counters.release(0, 'stateBytes', 4);
  assert.equal(counters.reserve(0, 'stateBytes', 5, 10), false);
  assert.equal(counters.reserve(0, 'stateBytes', 4, 10), true);
});
