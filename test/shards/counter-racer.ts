/** Worker thread that competes for shared counters: see shared-counters.test.ts. */
import { parentPort, workerData } from 'node:worker_threads';
import { SharedCounters } from '../../src/shards/shared-counters.js';

export interface Race {
  readonly memory: SharedArrayBuffer;
  /** Zero until all may start. */
  readonly gate: SharedArrayBuffer;
  readonly shard: number;
  readonly limitBytes: number;
  readonly rounds: number;
}

export interface RaceResult {
  readonly firstSeqs: Float64Array;
  readonly seqCounts: Uint8Array;
  readonly takenBytes: number;
  readonly refusals: number;
}

const { memory, gate, shard, limitBytes, rounds } = workerData as Race;
const counters = new SharedCounters(memory);
const firstSeqs = new Float64Array(rounds);
const seqCounts = new Uint8Array(rounds);
let takenBytes = 0;
let refusals = 0;
Atomics.wait(new Int32Array(gate), 0, 0);
for (let round = 0; round < rounds; round++) {
  const count = 1 + (round % 7);
  firstSeqs[round] = counters.takeSeqs(count);
  seqCounts[round] = count;
  if (counters.reserve(shard, 'stateBytes', 3, limitBytes)) takenBytes += 3;
  else refusals += 1;
  // Give back and take again, so that the total moves up and down at the limit.
  if (round % 5 === 0 && takenBytes >= 3) {
    counters.release(shard, 'stateBytes', 3);
    takenBytes -= 3;
  }
}
// At the end everyone takes single bytes, until none is left.
while (counters.reserve(shard, 'stateBytes', 1, limitBytes)) takenBytes += 1;
parentPort?.postMessage({ firstSeqs, seqCounts, takenBytes, refusals } satisfies RaceResult);
