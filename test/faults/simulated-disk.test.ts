/**
 * Thousands of lives of a shard on a simulated disk. SEED=<n> lives one of them again, alone; FAULT_SEEDS=<n> says how
 * many there are otherwise.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { seedFor } from '../support/seed.js';
import { fastDir, removeTempDir } from '../support/temp-dir.js';
import { type Fault, observed } from './fault-matrix.js';
import { type LifeFault, ShardLife } from './shard-life.js';

/** What each kind of trouble in a life is in the fault matrix. */
const ROWS: readonly (readonly [met: LifeFault, fault: Fault])[] = [
  ['power loss, suffix lost', 'power loss, the last bytes are lost (simulated disk)'],
  ['power loss, pages lost', 'power loss, any pages of the last write are lost (simulated disk)'],
  ['power loss at the n-th call', 'power loss at any call, while recovering too (simulated disk)'],
];

/** Called when no life has lost anything. */
function sumUp(met: ReadonlyMap<string, number>, crashesInRecovery: number): void {
  assert.ok(crashesInRecovery > 0, 'power was never lost while recovering');
  for (const [kind, fault] of ROWS) {
    assert.ok((met.get(kind) ?? 0) > 0, `no life met: ${kind}`);
    const after = 'everything answered is there; the rest is whole or absent';
    observed(fault, { writes: 'no answer', reads: 'no answer', after });
  }
  assert.ok((met.get('EIO in write') ?? 0) > 0);
}

const SEEDS = Number(process.env.FAULT_SEEDS ?? 2_000);
/** On a slow machine the rest is left to other runs: every run begins elsewhere. */
const TIME_LIMIT_MS = 30_000;

test('a shard loses nothing it answered, whatever its disk does and whenever', async (t) => {
  const first = seedFor(t);
  const alone = process.env.SEED !== undefined && process.env.SEED !== '';
  const met = new Map<string, number>();
  const endMs = performance.now() + TIME_LIMIT_MS;
  let lives = 0;
  let crashesInRecovery = 0;
  for (let seed = first; seed < first + (alone ? 1 : SEEDS) && performance.now() < endMs; seed++) {
    const directory = await fastDir();
    const life = new ShardLife(seed, directory);
    try {
      await life.run();
    } catch (error) {
      const what = error instanceof Error ? error.stack : String(error);
      throw new Error(`SEED=${seed} (met: ${life.faultsMet.join('; ')}): ${what}`, { cause: error });
    } finally {
      await removeTempDir(directory);
    }
    lives += 1;
    crashesInRecovery += life.crashesInRecovery;
    for (const fault of life.faultsMet) met.set(fault, (met.get(fault) ?? 0) + 1);
  }
  for (const [fault, times] of met) t.diagnostic(`${fault}: ${times}`);
  if (!alone) sumUp(met, crashesInRecovery);
  t.diagnostic(`${lives} lives, ${crashesInRecovery} power cuts while recovering`);
  if (!alone) assert.ok(lives >= Math.min(SEEDS, 50), `only ${lives} lives in ${TIME_LIMIT_MS} ms`);
});
