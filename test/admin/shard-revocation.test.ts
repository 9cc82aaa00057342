/** Revocation within one shard: what is left of an agent's credential and webhook, also after crashes. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { PushAgent } from '../../src/contract/engine.js';
import { OPS } from '../../src/shards/wire.js';
import { credentialFor, ShardRig } from '../shards/shard-rig.js';

const AGENT = 'tab_00000000000000000001';
const OTHER = 'tab_00000000000000000002';
const WEBHOOK = { url: 'https://hooks.example/agent', secret: 'whsec_c2VjcmV0' };

async function withPushAgent(): Promise<ShardRig> {
  const rig = await ShardRig.open();
  const agent = { operatorId: 'operator-1', credential: credentialFor(AGENT), webhook: WEBHOOK };
  assert.equal(await rig.code(OPS.registerAgent, agent, AGENT), null);
  await rig.registerAgent(OTHER);
  return rig;
}

for (const crash of ['kill', 'power loss', 'restart'] as const) {
  test(`a revoked credential does not come back with a ${crash}, and neither does the webhook`, async (t) => {
    let rig = await withPushAgent();
    t.after(() => rig.end());
    assert.deepEqual(await rig.call(OPS.revoke, AGENT), { code: null, x: true, y: null, z: null });
    if (crash === 'kill') rig = await rig.kill();
    if (crash === 'power loss') rig = await rig.powerLoss();
    if (crash === 'restart') rig = await rig.restart();
    assert.equal(await rig.code(OPS.findCredential, null, credentialFor(AGENT).lookup), 'not_found');
    assert.equal(await rig.code(OPS.findCredential, null, credentialFor(OTHER).lookup), null);
    assert.equal(await rig.code(OPS.findAgent, null, AGENT), null);
    assert.equal(await rig.code(OPS.sendMessage, OTHER, AGENT, 'x'), 'not_found');
    assert.equal(await rig.code(OPS.sendMessage, AGENT, OTHER, 'x'), null);
    assert.equal((await rig.call(OPS.revoke, AGENT)).x, true);
    assert.equal((await rig.call(OPS.revoke, 'tab_00000000000000000003')).x, false);
    const records = (await rig.events()).filter(({ type }) => (type as string) === 'credential_revoked');
    assert.deepEqual(
      records.map(({ data }) => data),
      [{ subject: AGENT }],
    );
    const { lookup, hash } = credentialFor(AGENT);
    for (const path of rig.disk.paths) {
      for (const secret of [lookup, hash, WEBHOOK.url, WEBHOOK.secret]) {
        assert.ok(!rig.disk.live(path).includes(secret), `${secret} is in ${path}`);
      }
    }
  });
}

test('nothing more is pushed to a revoked agent, not even what had failed before', async (t) => {
  const rig = await withPushAgent();
  t.after(() => rig.end());
  const asked = rig.call(OPS.awaitPush, null);
  const { x: messageId } = await rig.call(OPS.sendMessage, OTHER, AGENT, 'to push');
  const [handedOut] = (await asked).x as PushAgent[];
  assert.equal(handedOut?.url, WEBHOOK.url);
  assert.equal(await rig.code(OPS.peekPush, AGENT), null);
  const retry = { kind: 'retry', attempts: 1, nextAttemptAtMs: 0 };
  assert.notEqual((await rig.call(OPS.settlePush, AGENT, [messageId, retry])).x, null);
  assert.equal((await rig.call(OPS.revoke, AGENT)).x, true);
  assert.equal(await rig.code(OPS.peekPush, AGENT), 'not_found');
  assert.equal(await rig.code(OPS.sendMessage, OTHER, AGENT, 'later'), 'not_found');
});

test('a wait for messages ends when its agent is revoked', async (t) => {
  const rig = await withPushAgent();
  t.after(() => rig.end());
  const waiting = rig.call(OPS.receiveMessages, OTHER, 1, [30_000, 1]);
  assert.equal((await rig.call(OPS.revoke, OTHER)).x, true);
  const { code, x } = await waiting;
  assert.deepEqual([code, x], [null, []]);
});

test('a revocation that the disk refuses is refused, and takes nothing away', async (t) => {
  const rig = await withPushAgent();
  t.after(() => rig.end());
  rig.disk.failNext('write', 'ENOSPC');
  assert.equal((await rig.call(OPS.revoke, AGENT)).code, 'store_full');
  assert.equal(await rig.code(OPS.findCredential, null, credentialFor(AGENT).lookup), null);
  assert.equal(await rig.code(OPS.sendMessage, OTHER, AGENT, 'x'), null);
});
