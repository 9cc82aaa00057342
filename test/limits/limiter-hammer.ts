/**
 * Thread of the shared limiter's tests: waits for the start signal, then does one kind of work as fast as it can.
 * Its answer is one message with what it saw.
 */
import { parentPort, workerData } from 'node:worker_threads';
import { rateLimit } from '../../src/gateway/limits/gcra.js';
import {
  LIMIT_CATEGORY,
  type LimiterMemory,
  type LimiterRates,
  SharedLimiter,
} from '../../src/gateway/limits/shared-limiter.js';

export interface HammerTask {
  readonly memory: LimiterMemory;
  readonly burst: number;
  /** One 32-bit word, 0 until all threads may start. */
  readonly start: SharedArrayBuffer;
  readonly nowMs: number;
  readonly keys: readonly string[];
  readonly rounds: number;
  readonly mode: 'check' | 'acquire';
}

export interface HammerAnswer {
  readonly allowed: number;
  /** By key. */
  readonly slots: readonly number[];
}

const task = workerData as HammerTask;
const limit = rateLimit(task.burst, 60_000);
const rates: LimiterRates = {
  message_send: limit,
  message_read: limit,
  state_read: limit,
  state_write: limit,
  registry_read: limit,
  operator_registration: limit,
};
const limiter = new SharedLimiter(task.memory, rates);
const acquireAll = () => task.keys.map((key) => limiter.acquire(key, task.nowMs + 60_000, task.nowMs));

parentPort?.postMessage('ready');
Atomics.wait(new Int32Array(task.start), 0, 0);
let allowed = 0;
let slots = acquireAll();
for (let round = 0; round < task.rounds; round++) {
  if (task.mode === 'acquire') {
    const again = acquireAll();
    if (again.join() !== slots.join()) throw new Error(`slots moved: ${slots.join()} became ${again.join()}`);
    slots = again;
  } else {
    for (const slot of slots) if (limiter.check(slot, LIMIT_CATEGORY.state_read, task.nowMs).allowed) allowed++;
  }
}
parentPort?.postMessage({ allowed, slots } satisfies HammerAnswer);
