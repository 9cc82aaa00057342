/** Past a bound the server refuses with Retry-After; it never grows. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { HttpClient } from '../support/http.js';
import { startServer } from '../support/server.js';
import { assertError, inParallel } from './rig.js';
import { PLENTIFUL_LIMITS } from './topologies.js';

test('past auth.max_pending a registration is 503 with Retry-After and leaves nothing behind', async (t) => {
  const auth = { bcrypt_cost: 11, pool_threads: 1, max_pending: 2 };
  const server = await startServer(t, { config: { auth, rate_limits: PLENTIFUL_LIMITS } });
  const client = new HttpClient(() => server.kernelPort);
  t.after(async () => client.close());
  const answers = await inParallel(8, 8, () => client.post('/v1/operators', { contact_hash: 'x', accept_terms: true }));
  const accepted = answers.filter(({ status }) => status === 201);
  const refused = answers.filter(({ status }) => status !== 201);
  assert.ok(accepted.length >= 1 && refused.length >= 1, `${accepted.length} accepted, ${refused.length} refused`);
  for (const answer of refused) assertError(answer, 'unavailable');
  const created = (await server.events()).filter(({ type }) => type === 'operator_created');
  assert.equal(created.length, accepted.length);
  const again = await client.post('/v1/operators', { contact_hash: 'x', accept_terms: true });
  assert.equal(again.status, 201, 'it recovers once the queue is short again');
});
