/** The suite has teeth: each deliberately wrong engine fails the check that is there for its mistake. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { seedFor } from '../support/seed.js';
import { ENGINE_CHECKS, runCheck } from './engine-suite.js';
import { memoryRig } from './memory-engine.js';
import { MUTANTS, type Mutant } from './mutants.js';
import { checkConcurrentHistories, checkSequentialHistories } from './random-history.js';

async function runAgainst({ make, caughtBy }: Mutant, seed: number): Promise<void> {
  const factory = (limits: Parameters<typeof memoryRig>[0]) => memoryRig(limits, make);
  if (caughtBy === 'sequential histories') {
    // Ends at the first that shows the mistake: the rarest takes some hundred.
    return checkSequentialHistories(factory, { seed, histories: 5000, operations: 60 });
  }
  if (caughtBy === 'concurrent histories') {
    return checkConcurrentHistories(factory, { seed, histories: 400, operations: 60 });
  }
  const checks = ENGINE_CHECKS.filter(({ name }) => name.startsWith(caughtBy));
  const [check] = checks;
  if (check === undefined || checks.length > 1) {
    throw new Error(`${checks.length} checks have a name that begins with "${caughtBy}"; expected one`);
  }
  await runCheck(check, factory, seed);
}

describe('deliberately wrong engines are caught', () => {
  for (const mutant of MUTANTS) {
    test(`${mutant.mistake}: caught by "${mutant.caughtBy}"`, async (t) => {
      await assert.rejects(
        runAgainst(mutant, seedFor(t)),
        // An assertion of a check, or fast-check's report around one: a mutant that merely crashes proves nothing.
        (error: Error) =>
          error.name === 'AssertionError' || /AssertionError/.test(String(error.cause ?? error.message)),
      );
    });
  }

  test('a failing random history names the seed that replays it', async () => {
    const wrong = MUTANTS.find(({ caughtBy }) => caughtBy === 'sequential histories');
    assert.ok(wrong);
    const messages = [];
    for (const _ of [1, 2]) {
      const failure = await runAgainst(wrong, 4711).catch((error: Error) => error);
      messages.push(String(failure instanceof Error ? failure.message : failure));
    }
    assert.match(messages[0] ?? '', /seed: 4711/);
    const path = /path: "[^"]+"/;
    assert.equal(
      path.exec(messages[0] ?? '')?.[0],
      path.exec(messages[1] ?? '')?.[0],
      'same seed, same counterexample',
    );
  });
});
