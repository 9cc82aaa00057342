/**
 * Thread of the shared limiter's tests: meets the other threads before each of many fresh tables, then claims one entry
 * in it for a key of its own. Its answer is the slot it got in each table.
 */
import { parentPort, workerData } from 'node:worker_threads';
import { rateLimit } from '../../src/gateway/limits/gcra.js';
import { type LimiterMemory, SharedLimiter } from '../../src/gateway/limits/shared-limiter.js';

export interface RacerTask {
  readonly memories: readonly LimiterMemory[];
  readonly key: string;
  readonly nowMs: number;
  readonly threads: number;
  /** Two 32-bit words of 0: threads arrived, rounds begun. */
  readonly barrier: SharedArrayBuffer;
}

const task = workerData as RacerTask;
const barrier = new Int32Array(task.barrier);
const limit = rateLimit(1, 60_000);
const rates = {
  message_send: limit,
  message_read: limit,
  state_read: limit,
  state_write: limit,
  registry_read: limit,
  operator_registration: limit,
};
const SPINS = 20_000;

/** Spins first, so that the threads leave together; then sleeps, for machines with fewer cores than threads. */
function meet(round: number): void {
  if (Atomics.add(barrier, 0, 1) === task.threads - 1) {
    Atomics.store(barrier, 0, 0);
    Atomics.store(barrier, 1, round + 1);
    Atomics.notify(barrier, 1);
    return;
  }
  for (let i = 0; i < SPINS; i++) if (Atomics.load(barrier, 1) !== round) return;
  Atomics.wait(barrier, 1, round);
}

const limiters = task.memories.map((memory) => new SharedLimiter(memory, rates));
const slots = limiters.map((limiter, round) => {
  meet(round);
  return limiter.acquire(task.key, task.nowMs + 60_000, task.nowMs);
});
parentPort?.postMessage(slots);
