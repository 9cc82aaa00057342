/** Seconds of what `npm run faults -- --soak 300` does for minutes. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { seedFor } from '../support/seed.js';
import { soakStore } from './store-soak.js';

test('queues that fill and empty on LMDB keep their counts over reopenings, and the file within bounds', async (t) => {
  const result = await soakStore({ seconds: 4, seed: seedFor(t) });
  t.diagnostic(JSON.stringify(result));
  assert.ok(result.reopenings > 0);
});
