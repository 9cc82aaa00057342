/**
 * Seeds of randomised tests: one place that reads SEED, prints what was used, and turns it into numbers.
 * Never used for secrets.
 */
import { randomInt } from 'node:crypto';

/** The part of node:test's context that a seed needs. */
export interface SeedPrinter {
  diagnostic(message: string): void;
}

const MAX_SEED = 2 ** 31 - 1;

/** A 31-bit seed, from `SEED` if set, else fresh; printed, so that a failure can be replayed with `SEED=<n> npm test`. */
export function seedFor(t: SeedPrinter): number {
  const given = process.env.SEED;
  const seed = given === undefined || given === '' ? randomInt(MAX_SEED) : Number(given);
  if (!Number.isInteger(seed) || seed < 0 || seed > MAX_SEED) {
    throw new Error(`SEED is "${given}"; expected a whole number from 0 to ${MAX_SEED}`);
  }
  t.diagnostic(`SEED=${seed}`);
  return seed;
}

/** How many kill points, or rounds of kills, a test samples by its seed: `usual`, or as many as TEST_KILL_POINTS says. */
export function killPoints(usual: number): number {
  const given = Number(process.env.TEST_KILL_POINTS ?? usual);
  if (!Number.isInteger(given) || given < 1) throw new Error('TEST_KILL_POINTS is no whole number from 1');
  return Math.max(given, usual);
}

/** Seeded source of whole numbers: `random(n)` is uniform in 0..n-1 (mulberry32; good enough to choose test data). */
export function seededRandom(seed: number): (below: number) => number {
  let state = seed >>> 0;
  return (below) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32) * below);
  };
}
