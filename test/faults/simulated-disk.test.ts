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

const LIVES = Number(process.env.FAULT_SEEDS ?? 2_000);
/** Only a machine several times slower than common ones gets here; it leaves the rest to other runs, which begin elsewhere. */
const TIME_LIMIT_MS = 150_000;
/** With fewer, the limit hides that something is wrong. */
const LEAST_LIVES = 300;

test('a shard loses nothing it answered, whatever its disk does and whenever', async (t) => {
  const first = seedFor(t);
  const alone = process.env.SEED !== undefined && process.env.SEED !== '';
  const wanted = alone ? 1 : LIVES;
  const directory = await fastDir();
  t.after(() => removeTempDir(directory));
  const met = new Map<string, number>();
  const cpuBefore = process.cpuUsage();
  const endMs = performance.now() + TIME_LIMIT_MS;
  let lives = 0;
  let crashesInRecovery = 0;
  while (lives < wanted && performance.now() < endMs) {
    const life = await ShardLife.live(first + lives, directory);
    lives += 1;
    crashesInRecovery += life.crashesInRecovery;
    for (const fault of life.faultsMet) met.set(fault, (met.get(fault) ?? 0) + 1);
  }
  const { user, system } = process.cpuUsage(cpuBefore);
  for (const [fault, times] of met) t.diagnostic(`${fault}: ${times}`);
  t.diagnostic(`${lives} lives, ${crashesInRecovery} power cuts while recovering`);
  t.diagnostic(`${Math.round(lives / ((user + system) / 1e6))} lives for each second of CPU`);
  if (lives < wanted) t.diagnostic(`ENDED EARLY: ${lives} of ${wanted} lives in ${TIME_LIMIT_MS / 1_000} s`);
  if (alone) return;
  assert.ok(lives >= Math.min(wanted, LEAST_LIVES), `only ${lives} lives in ${TIME_LIMIT_MS} ms`);
  sumUp(met, crashesInRecovery);
});
