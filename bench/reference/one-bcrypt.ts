import { bcrypt, bcryptVerify } from 'hash-wasm';
import { median } from '../statistics.js';

const CHECKS = 7;

/** Milliseconds of one bcrypt check of the kind the server makes, on this machine now: the median of some. */
export async function oneBcryptMs(costFactor: number): Promise<number> {
  const password = `at_live_${'0'.repeat(64)}`;
  const hash = await bcrypt({ password, salt: new Uint8Array(16), costFactor, outputType: 'encoded' });
  const timesMs: number[] = [];
  for (let n = 0; n < CHECKS; n++) {
    const startedMs = performance.now();
    await bcryptVerify({ password, hash });
    timesMs.push(performance.now() - startedMs);
  }
  return median(timesMs);
}
