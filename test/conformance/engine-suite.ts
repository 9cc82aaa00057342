/**
 * The one conformance suite for `Engine`: every implementation passes it unchanged. Give `describeEngine` a factory that
 * opens the engine on fresh, empty data; what the engine does not offer (restart, crash, events) is skipped by name.
 */
import { describe, type TestContext, test } from 'node:test';
import { seedFor } from '../support/seed.js';
import { CAPACITY_CHECKS } from './capacity-checks.js';
import { DEFAULT_LIMITS, type EngineCheck, type EngineFactory, type Reopening, World } from './check.js';
import { EVENT_CHECKS } from './event-checks.js';
import { IDEMPOTENCY_CHECKS } from './idempotency-checks.js';
import { IDENTITY_CHECKS } from './identity-checks.js';
import { LEASE_CHECKS } from './lease-checks.js';
import { LISTING_CHECKS } from './listing-checks.js';
import { MESSAGE_CHECKS } from './message-checks.js';
import { PUSH_CHECKS } from './push-checks.js';
import { checkConcurrentHistories, checkSequentialHistories, type HistoryOptions } from './random-history.js';
import { EVENT_RECOVERY_CHECKS, recoveryChecks } from './recovery-checks.js';
import { REGISTRY_CHECKS } from './registry-checks.js';
import { STATE_CHECKS } from './state-checks.js';
import { WAIT_CHECKS } from './wait-checks.js';

export const DELIVERY_CHECKS: readonly EngineCheck[] = [
  ...LEASE_CHECKS,
  ...WAIT_CHECKS,
  ...PUSH_CHECKS,
  ...IDEMPOTENCY_CHECKS,
];

export const ENGINE_CHECKS: readonly EngineCheck[] = [
  ...IDENTITY_CHECKS,
  ...REGISTRY_CHECKS,
  ...MESSAGE_CHECKS,
  ...DELIVERY_CHECKS,
  ...STATE_CHECKS,
  ...LISTING_CHECKS,
  ...CAPACITY_CHECKS,
  ...EVENT_CHECKS,
  ...recoveryChecks('restart'),
  ...recoveryChecks('crash'),
  ...EVENT_RECOVERY_CHECKS,
];

/** How many random histories to run: fewer for an engine that is slow to open. */
export type HistoryCounts = Omit<HistoryOptions, 'seed'>;

const DEFAULT_HISTORIES: HistoryCounts = { histories: 200, operations: 60 };

/** Runs one check on a fresh engine. Resolves to what is missing when the engine does not offer what the check needs. */
export async function runCheck(check: EngineCheck, factory: EngineFactory, seed: number): Promise<string | null> {
  const rig = await factory({ ...DEFAULT_LIMITS, ...check.limits });
  try {
    if (check.needs !== undefined && rig[check.needs] === undefined) return check.needs;
    await check.run(new World(rig, seed));
    return null;
  } finally {
    await rig.close();
  }
}

/**
 * Registers the whole suite with node:test, for one engine; but for the ways to stop that it passes in another test
 * file (`describeReopening`), named in `elsewhere`, and for checks left out of `checks`.
 */
export function describeEngine(
  name: string,
  factory: EngineFactory,
  counts: HistoryCounts = DEFAULT_HISTORIES,
  elsewhere: readonly Reopening[] = [],
  checks: readonly EngineCheck[] = ENGINE_CHECKS,
): void {
  const isElsewhere = ({ needs }: EngineCheck): boolean => elsewhere.some((how) => how === needs);
  describe(`engine conformance: ${name}`, () => {
    for (const check of checks) if (!isElsewhere(check)) registerCheck(check, factory);
    const histories = (t: TestContext): HistoryOptions => ({ ...counts, seed: seedFor(t) });
    test('random histories, operation by operation, are answered as the model answers them', (t) =>
      checkSequentialHistories(factory, histories(t)));
    test('replies to operations at once on one key or queue are explained by some order of them', (t) =>
      checkConcurrentHistories(factory, histories(t)));
  });
}

/** Registers only the rules of one way to stop and start, and random histories with it: for factories slow to open. */
export function describeReopening(
  name: string,
  factory: EngineFactory,
  how: Reopening,
  counts: HistoryCounts,
  checks: readonly EngineCheck[] = ENGINE_CHECKS,
): void {
  describe(`engine conformance, ${how}: ${name}`, () => {
    for (const check of checks) if (check.needs === how) registerCheck(check, factory);
    test(`random histories with a ${how} now and then are answered as the model answers them`, (t) =>
      checkSequentialHistories(factory, { ...counts, seed: seedFor(t) }));
  });
}

function registerCheck(check: EngineCheck, factory: EngineFactory): void {
  test(check.name, async (t) => {
    const missing = await runCheck(check, factory, seedFor(t));
    if (missing !== null) t.skip(`this engine offers no ${missing}`);
  });
}
