/** A handful of kill -9 cycles; `npm run faults -- --cycles 200` runs as many as you like. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { TWO_GATEWAYS } from '../api/topologies.js';
import { seedFor } from '../support/seed.js';
import { observed } from './fault-matrix.js';
import { runKillCycles } from './kill-cycles.js';

test('kill -9 under load, again and again, loses nothing that was answered and explains every answer', async (t) => {
  const result = await runKillCycles(t, {
    cycles: 4,
    topology: TWO_GATEWAYS,
    seed: seedFor(t),
    requestsPerCycle: 300,
    progress: (line) => t.diagnostic(line),
  });
  t.diagnostic(JSON.stringify(result));
  assert.equal(result.cycles, 4);
  // Would not be reached if anything answered were missing, or an answer did not fit.
  observed('kill -9 under load', {
    writes: 'no answer',
    reads: 'no answer',
    after: 'everything answered is there; each answer of all lives fits one order',
  });
});
