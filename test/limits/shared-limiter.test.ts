/** The shared limiter: exact over threads, entries kept while they limit, reused when they do not. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import { Worker } from 'node:worker_threads';
import fc from 'fast-check';
import { rateLimit } from '../../src/gateway/limits/gcra.js';
import {
  createLimiterMemory,
  LIMIT_CATEGORY,
  type LimitCategory,
  type LimiterMemory,
  type LimiterRates,
  SharedLimiter,
} from '../../src/gateway/limits/shared-limiter.js';
import { seedFor } from '../support/seed.js';
import type { HammerAnswer, HammerTask } from './limiter-hammer.js';
import type { RacerTask } from './limiter-racer.js';

const NOW_MS = 1_800_000_000_000;
const LEASE_MS = 30_000;
/** Beyond any lease given at NOW_MS, its grace, and any refill. */
const LONG_AFTER_MS = NOW_MS + 2 * 3_600_000;

function ratesOf(count: number): LimiterRates {
  const limit = rateLimit(count, 60_000);
  return {
    message_send: limit,
    message_read: limit,
    state_read: limit,
    state_write: limit,
    registry_read: limit,
    operator_registration: limit,
  };
}

/** Runs `threads` copies of one task, all released at the same instant. */
async function hammer(threads: number, task: Omit<HammerTask, 'start'>): Promise<HammerAnswer[]> {
  const start = new SharedArrayBuffer(4);
  const workers = Array.from({ length: threads }, () => {
    const workerData: HammerTask = { ...task, start };
    return new Worker(new URL('./limiter-hammer.js', import.meta.url), { workerData });
  });
  await Promise.all(workers.map((worker) => once(worker, 'message')));
  const answers = workers.map(async (worker) => {
    const [answer] = (await once(worker, 'message')) as [HammerAnswer];
    return answer;
  });
  Atomics.store(new Int32Array(start), 0, 1);
  Atomics.notify(new Int32Array(start), 0);
  return Promise.all(answers);
}

test('four threads on one key get exactly the burst between them', async () => {
  const burst = 200_000;
  const memory = createLimiterMemory(1024);
  // Half the burst each: no thread can take it all, and together they try twice as often as there are tokens.
  const rounds = burst / 2;
  const answers = await hammer(4, { memory, burst, nowMs: NOW_MS, keys: ['tab_a'], rounds, mode: 'check' });
  assert.equal(
    answers.reduce((sum, answer) => sum + answer.allowed, 0),
    burst,
  );
});

test('four threads that acquire the same keys at once agree on every slot, and no two keys share one', async () => {
  const memory = createLimiterMemory(512);
  const keys = Array.from({ length: 300 }, (_, i) => `tab_${i}`);
  const answers = await hammer(4, { memory, burst: 10, nowMs: NOW_MS, keys, rounds: 20, mode: 'acquire' });
  const [first] = answers;
  assert.ok(first);
  for (const answer of answers) assert.deepEqual(answer.slots, first.slots);
  const given = first.slots.filter((slot) => slot >= 0);
  assert.equal(new Set(given).size, given.length);
  assert.ok(given.length > 290, `${given.length} of 300 keys found room`);
});

test('threads that claim their first entry at the same instant never get the same one', async () => {
  const threads = 2;
  const memories = Array.from({ length: 2_000 }, () => createLimiterMemory(threads));
  const barrier = new SharedArrayBuffer(8);
  const slotsByThread = await Promise.all(
    Array.from({ length: threads }, async (_, thread) => {
      const workerData: RacerTask = { memories, key: `tab_${thread}`, nowMs: NOW_MS, threads, barrier };
      const worker = new Worker(new URL('./limiter-racer.js', import.meta.url), { workerData });
      const [slots] = (await once(worker, 'message')) as [number[]];
      return slots;
    }),
  );
  for (const round of memories.keys()) {
    const slots = slotsByThread.map((own) => own[round]);
    assert.deepEqual([...slots].sort(), [0, 1], `round ${round}`);
  }
});

test('the verdict counts down, refuses, and refills evenly', () => {
  const limiter = new SharedLimiter(createLimiterMemory(16), ratesOf(60));
  const slot = limiter.acquire('tab_a', NOW_MS + LEASE_MS, NOW_MS);
  for (let i = 0; i < 60; i++) {
    const verdict = limiter.check(slot, LIMIT_CATEGORY.message_send, NOW_MS);
    assert.deepEqual(
      { ...verdict },
      { allowed: true, limit: 60, remaining: 59 - i, resetEpochSeconds: NOW_MS / 1000 + i + 1, retryAfterSeconds: 0 },
    );
  }
  const refused = {
    allowed: false,
    limit: 60,
    remaining: 0,
    resetEpochSeconds: NOW_MS / 1000 + 60,
    retryAfterSeconds: 1,
  };
  for (let i = 0; i < 3; i++) {
    assert.deepEqual(
      { ...limiter.check(slot, LIMIT_CATEGORY.message_send, NOW_MS) },
      refused,
      'a refusal changes nothing',
    );
  }
  assert.equal(limiter.check(slot, LIMIT_CATEGORY.message_send, NOW_MS + 999).allowed, false);
  assert.equal(limiter.check(slot, LIMIT_CATEGORY.message_send, NOW_MS + 1_000).allowed, true);
  assert.equal(limiter.check(slot, LIMIT_CATEGORY.message_send, NOW_MS + 1_000).allowed, false);
});

test('categories and keys do not touch each other', () => {
  const limiter = new SharedLimiter(createLimiterMemory(16), ratesOf(1));
  const slots = ['tab_a', 'tab_b', 'ip:127.0.0.1'].map((key) => limiter.acquire(key, NOW_MS + LEASE_MS, NOW_MS));
  for (const expected of [true, false]) {
    for (const slot of slots) {
      for (const category of Object.values(LIMIT_CATEGORY)) {
        assert.equal(limiter.check(slot, category, NOW_MS).allowed, expected);
      }
    }
  }
});

test('each category has its own rate', () => {
  const rates = { ...ratesOf(2), operator_registration: rateLimit(1, 3_600_000) };
  const limiter = new SharedLimiter(createLimiterMemory(16), rates);
  const slot = limiter.acquire('ip:10.0.0.1', NOW_MS, NOW_MS);
  assert.equal(limiter.check(slot, LIMIT_CATEGORY.operator_registration, NOW_MS).limit, 1);
  assert.equal(limiter.check(slot, LIMIT_CATEGORY.operator_registration, NOW_MS).retryAfterSeconds, 3600);
  assert.equal(limiter.check(slot, LIMIT_CATEGORY.state_read, NOW_MS).limit, 2);
});

test('two limiters over one memory see one count', () => {
  const memory = createLimiterMemory(16);
  const [one, two] = [new SharedLimiter(memory, ratesOf(3)), new SharedLimiter(memory, ratesOf(3))];
  const slot = one.acquire('tab_a', NOW_MS + LEASE_MS, NOW_MS);
  assert.equal(two.acquire('tab_a', NOW_MS + LEASE_MS, NOW_MS), slot);
  const allowed = [one, two, one, two].map((limiter) => limiter.check(slot, LIMIT_CATEGORY.state_read, NOW_MS).allowed);
  assert.deepEqual(allowed, [true, true, true, false]);
});

/** A table of one entry, taken by `tab_a`. */
function crowded(memory: LimiterMemory = createLimiterMemory(1)): { limiter: SharedLimiter; slot: number } {
  const limiter = new SharedLimiter(memory, ratesOf(2));
  return { limiter, slot: limiter.acquire('tab_a', NOW_MS + LEASE_MS, NOW_MS) };
}

test('an entry is not reclaimed while its lease runs', () => {
  const { limiter } = crowded();
  assert.equal(limiter.acquire('tab_b', NOW_MS + LEASE_MS, NOW_MS + LEASE_MS), -1);
  assert.equal(limiter.acquire('tab_a', NOW_MS, NOW_MS), 0, 'its own key still finds it');
  assert.equal(
    limiter.acquire('tab_b', NOW_MS + LEASE_MS, NOW_MS + LEASE_MS),
    -1,
    'and a shorter lease does not cut it',
  );
  assert.equal(limiter.acquire('tab_b', LONG_AFTER_MS, NOW_MS + LEASE_MS + 1_000), -1, 'nor in the second after it');
  assert.equal(limiter.acquire('tab_b', LONG_AFTER_MS, NOW_MS + LEASE_MS + 1_001), 0);
});

test('a longer lease extends an entry', () => {
  const { limiter } = crowded();
  limiter.acquire('tab_a', NOW_MS + 10 * LEASE_MS, NOW_MS);
  assert.equal(limiter.acquire('tab_b', LONG_AFTER_MS, NOW_MS + 9 * LEASE_MS), -1);
});

for (const category of Object.values(LIMIT_CATEGORY)) {
  test(`an entry is not reclaimed while category ${category} still limits`, () => {
    const { limiter, slot } = crowded();
    const lateMs = NOW_MS + LEASE_MS + 5_000;
    limiter.check(slot, category, lateMs); // a token every 30 s: full again at lateMs + 30 s
    assert.equal(limiter.acquire('tab_b', LONG_AFTER_MS, lateMs + 29_999), -1);
    assert.equal(limiter.acquire('tab_b', LONG_AFTER_MS, lateMs + 30_000), slot);
  });
}

test('a reclaimed entry starts with a full burst, and its old key starts anew elsewhere', () => {
  const memory = createLimiterMemory(2);
  const limiter = new SharedLimiter(memory, ratesOf(2));
  const a = limiter.acquire('tab_a', NOW_MS + LEASE_MS, NOW_MS);
  const b = limiter.acquire('tab_b', LONG_AFTER_MS, NOW_MS);
  limiter.check(a, LIMIT_CATEGORY.state_read, NOW_MS);
  const c = limiter.acquire('tab_c', LONG_AFTER_MS + LEASE_MS, NOW_MS + 120_000);
  assert.equal(c, a);
  assert.equal(limiter.check(c, LIMIT_CATEGORY.state_read, NOW_MS + 120_000).remaining, 1);
  assert.equal(limiter.acquire('tab_a', LONG_AFTER_MS, NOW_MS + 120_000), -1);
  assert.equal(limiter.acquire('tab_a', LONG_AFTER_MS, LONG_AFTER_MS + 2_000), b);
});

test('an odd or negative slot is our own mistake, and stops', () => {
  const { limiter } = crowded();
  assert.throws(() => limiter.check(-1, LIMIT_CATEGORY.state_read, NOW_MS), RangeError);
  assert.throws(() => limiter.check(1, LIMIT_CATEGORY.state_read, NOW_MS), RangeError);
  assert.throws(() => createLimiterMemory(0), RangeError);
});

test('a lock left by a terminated thread is taken over', () => {
  const memory = createLimiterMemory(4);
  const { limiter, slot } = crowded(memory);
  Atomics.store(new Int32Array(memory.buffer), 0, 1);
  assert.equal(limiter.acquire('tab_a', NOW_MS + LEASE_MS, NOW_MS), slot);
  assert.equal(Atomics.load(new Int32Array(memory.buffer), 0) & 1, 0, 'and is released again');
});

test('for any history the table decides as one bucket per key, and refuses room only when every entry is in use', (t) => {
  const entries = 4;
  const burst = 3;
  const step = fc.record({
    advanceMs: fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 2_000 }), fc.integer({ min: 0, max: 100_000 })),
    key: fc.integer({ min: 0, max: 7 }),
    category: fc.constantFrom<LimitCategory>(...Object.values(LIMIT_CATEGORY)),
    checks: fc.integer({ min: 0, max: 5 }),
  });
  const intervalMs = 20_000;
  fc.assert(
    fc.property(fc.array(step, { maxLength: 150 }), (steps) => {
      const limiter = new SharedLimiter(createLimiterMemory(entries), ratesOf(burst));
      /** Per key: lease end and, per category, the moments at which tokens taken come back. */
      const model = new Map<number, { leaseEndMs: number; slot: number; fullAtMs: number[] }>();
      let nowMs = NOW_MS;
      for (const { advanceMs, key, category, checks } of steps) {
        nowMs += advanceMs;
        const slot = limiter.acquire(`tab_${key}`, nowMs + LEASE_MS, nowMs);
        const inUse = [...model].filter(
          ([other, m]) => other !== key && (m.leaseEndMs + 1_000 >= nowMs || m.fullAtMs.some((ms) => ms > nowMs)),
        );
        if (slot === -1) {
          assert.ok(inUse.length >= entries, 'refused although an entry was free');
          continue;
        }
        for (const [other, m] of model) {
          if (other === key || m.slot !== slot) continue;
          assert.ok(!inUse.some(([used]) => used === other), 'took an entry in use');
          model.delete(other);
        }
        const own = model.get(key) ?? { leaseEndMs: 0, slot, fullAtMs: Array.from({ length: 6 }, () => 0) };
        assert.equal(own.slot, slot);
        own.leaseEndMs = Math.max(own.leaseEndMs, nowMs + LEASE_MS);
        model.set(key, own);
        for (let i = 0; i < checks; i++) {
          const busyMs = Math.max(0, (own.fullAtMs[category] ?? 0) - nowMs);
          const expected = busyMs <= (burst - 1) * intervalMs;
          assert.equal(limiter.check(slot, category, nowMs).allowed, expected);
          if (expected) own.fullAtMs[category] = nowMs + busyMs + intervalMs;
        }
      }
    }),
    { seed: seedFor(t), numRuns: 300 },
  );
});
