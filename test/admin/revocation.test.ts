/** Revocation: from its answer on the token is refused everywhere, for good. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { WebSocket } from 'ws';
import { assertError, Rig } from '../api/rig.js';
import { FAST, TWO_GATEWAYS, topologySettings } from '../api/topologies.js';
import { ADMIN_KEY, AdminClient } from '../removal/admin-client.js';
import type { ApiAgent } from '../support/http.js';
import { waitUntil } from '../support/wait.js';

const env = { TABULUM_ADMIN_KEY: ADMIN_KEY };
/** Enough to meet every gateway thread, over the client's eight connections. */
const ATTEMPTS = 24;
/** Unlikely to fall all on one of two gateway threads. */
const SOCKETS = 12;

async function statuses(agent: ApiAgent): Promise<number[]> {
  const answers = await Promise.all(Array.from({ length: ATTEMPTS }, () => agent.get('/v1/agents/me')));
  return [...new Set(answers.map(({ status }) => status))];
}

describe('revocation, two gateway threads', () => {
  let rig: Rig;
  let admin: AdminClient;
  before(async () => {
    const connect = { max_connections_per_agent: SOCKETS };
    rig = await Rig.launch({ config: { ...FAST, ...topologySettings(TWO_GATEWAYS), connect }, env });
    admin = new AdminClient(rig.server);
  });
  after(async () => {
    admin.close();
    await rig.dispose();
  });

  test('a warm token is refused by every gateway once the answer is there, also after kill -9', async () => {
    const agent = await rig.agent();
    const other = await rig.agent();
    assert.deepEqual(await statuses(agent), [200]);
    const answer = await admin.revokeAgent(agent.address);
    assert.equal(answer.status, 200, answer.text);
    assert.deepEqual(answer.json(), { status: 'revoked', type: 'agent', address: agent.address });
    assert.deepEqual(await statuses(agent), [401]);
    assert.deepEqual(await statuses(other), [200]);
    await rig.server.kill9();
    await rig.server.start();
    assert.deepEqual(await statuses(agent), [401]);
    assert.deepEqual(await statuses(other), [200]);
    await rig.server.restart();
    assert.deepEqual(await statuses(agent), [401]);
    await rig.server.assertNoSecretLogged();
  });

  test('no request that begins after the answer is let in, however many are under way', async () => {
    for (let round = 0; round < 5; round++) {
      const agent = await rig.agent();
      let isRevoked = false;
      let isOver = false;
      let letInLate = 0;
      let letIn = 0;
      const lanes = Array.from({ length: 8 }, async () => {
        while (!isOver) {
          const beganLate = isRevoked;
          const { status } = await agent.get('/v1/agents/me');
          if (status === 200) letIn += 1;
          if (status === 200 && beganLate) letInLate += 1;
        }
      });
      await waitUntil(() => letIn > 20, { timeoutMs: 10_000 });
      assert.equal((await admin.revokeAgent(agent.address)).status, 200);
      isRevoked = true;
      assert.deepEqual(await statuses(agent), [401]);
      isOver = true;
      await Promise.all(lanes);
      assert.equal(letInLate, 0);
    }
  });

  test('an operator loses its key, and its agents go on', async () => {
    const answer = await rig.client.post('/v1/operators', { contact_hash: 'c', accept_terms: true });
    const { operator_id: operatorId, api_key: key } = answer.json<{ operator_id: string; api_key: string }>();
    const agent = await rig.agent(key);
    assertError(await admin.revokeAgent(operatorId), 'not_found');
    const revoked = await admin.revokeOperator(operatorId);
    assert.deepEqual(revoked.json(), { status: 'revoked', type: 'operator', operator_id: operatorId });
    for (let attempt = 0; attempt < 8; attempt++) {
      assertError(await rig.client.get('/v1/agents/verification-challenge', key), 'unauthorized');
    }
    assert.deepEqual(await statuses(agent), [200]);
    await rig.server.restart();
    assertError(await rig.client.get('/v1/agents/verification-challenge', key), 'unauthorized');
    assert.deepEqual(await statuses(agent), [200]);
  });

  test('a revoked agent stays in the registry and in history, and nobody can send to it', async () => {
    const agent = await rig.agent();
    const other = await rig.agent();
    assert.equal((await other.message(agent.address, 'before')).status, 202);
    assert.equal((await agent.write('of the revoked', 'stays')).status, 200);
    assert.equal((await admin.revokeAgent(agent.address)).status, 200);
    assertError(await other.message(agent.address, 'after'), 'not_found');
    const registry = await other.get('/v1/registry?limit=1000');
    assert.ok(registry.text.includes(agent.address));
    assert.equal((await other.read('of the revoked')).json().last_modified_by, agent.address);
    await rig.server.restart();
    assertError(await other.message(agent.address, 'after'), 'not_found');
  });

  test('what never was is not found; a repetition is answered as the first time', async () => {
    const agent = await rig.agent();
    assertError(await admin.revokeAgent('tab_00000000000000000000'), 'not_found');
    assertError(await admin.revokeOperator('00000000-0000-4000-8000-000000000000'), 'not_found');
    assertError(await admin.revokeOperator(agent.address), 'not_found');
    const before = await rig.server.metric('tabulum_revocations_total');
    const first = await admin.revokeAgent(agent.address);
    assert.deepEqual((await admin.revokeAgent(agent.address)).json(), first.json());
    assert.equal(await rig.server.metric('tabulum_revocations_total'), before + 2);
    const wrong: readonly (readonly [object, RegExp])[] = [
      [{ address: agent.address }, /^type: is required/],
      [{ type: 'state', address: agent.address }, /^type: must be "agent" or "operator"/],
      [{ type: 'agent' }, /^address: is required/],
      [{ type: 'operator', operator_id: 7 }, /^operator_id: must be a non-empty string/],
    ];
    for (const [body, message] of wrong) {
      const answer = await admin.client.post('/admin/revoke', body, ADMIN_KEY);
      assertError(answer, 'bad_request');
      assert.match(String(answer.json().message), message);
    }
  });

  test('a request that waits for messages ends, and so do the sockets of every gateway', async () => {
    const agent = await rig.agent();
    const url = `ws://127.0.0.1:${rig.server.kernelPort}/v1/connect`;
    const sockets = Array.from({ length: SOCKETS }, () => {
      return new WebSocket(url, { headers: { Authorization: `Bearer ${agent.token}` } });
    });
    const closed = sockets.map((socket) => new Promise<number>((resolve) => socket.once('close', resolve)));
    await Promise.all(sockets.map((socket) => new Promise((resolve) => socket.once('open', resolve))));
    const waiting = agent.get('/v1/messages?wait=30');
    await waitUntil(async () => (await rig.server.metric('tabulum_http_requests_in_hand')) > 0, { timeoutMs: 5_000 });
    const startedMs = performance.now();
    assert.equal((await admin.revokeAgent(agent.address)).status, 200);
    const codes = await Promise.all(closed);
    assert.equal(new Set(codes).size, 1, codes.join());
    const { status, text } = await waiting;
    assert.ok(performance.now() - startedMs < 10_000, 'the wait went on');
    assert.ok(status === 401 || text.includes('"messages":[]'), text);
  });
});

test('a bcrypt under way when the revocation comes ends in no session', async (t) => {
  const config = { ...FAST, ...topologySettings(TWO_GATEWAYS), auth: { scheme: 'bcrypt', bcrypt_cost: 10 } };
  const rig = await Rig.start(t, { config, env });
  const admin = new AdminClient(rig.server);
  for (let round = 0; round < 6; round++) {
    const agent = await rig.agent();
    // Cold in every gateway: each of these waits for the one bcrypt.
    const asked = Array.from({ length: 8 }, () => agent.get('/v1/agents/me'));
    if (round % 2 === 1) {
      await waitUntil(async () => (await rig.server.metric('tabulum_bcrypt_running')) > 0, { timeoutMs: 1_000 }).catch(
        () => {
          t.diagnostic('the bcrypt was over before it was seen');
        },
      );
    }
    assert.equal((await admin.revokeAgent(agent.address)).status, 200);
    assert.deepEqual(await statuses(agent), [401]);
    for (const { status } of await Promise.all(asked)) assert.ok(status === 200 || status === 401);
    assert.deepEqual(await statuses(agent), [401]);
  }
  admin.close();
  rig.client.close();
});
