/** Retries, the pull queue and the circuit breaker, as rules. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { PushAgent } from '../../src/contract/engine.js';
import { type CountedResult, type DeliveryRules, outcomeOf } from '../../src/webhooks/delivery-rules.js';

const RULES: DeliveryRules = { maxRetries: 3, circuitBreakerThreshold: 5, circuitBreakerDurationMs: 300_000 };
const NOW = 1_773_812_345_678;
const FAILURES: readonly CountedResult[] = [
  { kind: 'refused', status: 500 },
  { kind: 'refused', status: 302 },
  { kind: 'timeout' },
  { kind: 'address_refused' },
  { kind: 'unreachable', code: 'ECONNRESET' },
];

function agent(state: Partial<PushAgent>): PushAgent {
  return { address: 'tab_a', url: '', secret: '', attempts: 0, nextAttemptAtMs: 0, failedInRow: 0, ...state };
}

for (const failure of FAILURES) {
  test(`${JSON.stringify(failure)}: tried again after 1 s, 2 s and 4 s, then off to the pull queue`, () => {
    for (const [attempts, backoffMs] of [1_000, 2_000, 4_000].entries()) {
      assert.deepEqual(outcomeOf(agent({ attempts }), failure, RULES, NOW), {
        kind: 'retry',
        attempts: attempts + 1,
        nextAttemptAtMs: NOW + backoffMs,
      });
    }
    assert.deepEqual(outcomeOf(agent({ attempts: 3 }), failure, RULES, NOW), {
      kind: 'undeliverable',
      failedInRow: 1,
      circuitOpenUntilMs: 0,
    });
  });
}

test('the fifth message in a row that fails opens the circuit, no earlier one', () => {
  const last = (failedInRow: number) => outcomeOf(agent({ attempts: 3, failedInRow }), { kind: 'timeout' }, RULES, NOW);
  for (const failedInRow of [0, 1, 2, 3]) {
    assert.deepEqual(last(failedInRow), {
      kind: 'undeliverable',
      failedInRow: failedInRow + 1,
      circuitOpenUntilMs: 0,
    });
  }
  assert.deepEqual(last(4), { kind: 'undeliverable', failedInRow: 5, circuitOpenUntilMs: NOW + 300_000 });
});

test('half-open: one failed message opens the circuit again, one delivered message closes it', () => {
  const halfOpen = agent({ failedInRow: 5 });
  assert.equal(outcomeOf(halfOpen, { kind: 'timeout' }, RULES, NOW).kind, 'retry', 'a message fails after its retries');
  assert.deepEqual(outcomeOf({ ...halfOpen, attempts: 3 }, { kind: 'timeout' }, RULES, NOW), {
    kind: 'undeliverable',
    failedInRow: 6,
    circuitOpenUntilMs: NOW + 300_000,
  });
  assert.deepEqual(outcomeOf(halfOpen, { kind: 'delivered', status: 200 }, RULES, NOW), { kind: 'delivered' });
});

test('without retries the first failure is the last', () => {
  const rules = { ...RULES, maxRetries: 0, circuitBreakerThreshold: 1 };
  assert.deepEqual(outcomeOf(agent({}), { kind: 'timeout' }, rules, NOW), {
    kind: 'undeliverable',
    failedInRow: 1,
    circuitOpenUntilMs: NOW + 300_000,
  });
});
