/** Rows about delivery: their form, old and new, and how long they are remembered. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import fc from 'fast-check';
import { DeliveryRows } from '../../src/shards/delivery-rows.js';
import { queueCodec } from '../../src/shards/row-codecs.js';
import { Store } from '../../src/shards/store.js';
import { seedFor } from '../support/seed.js';
import { tempDir } from '../support/temp-dir.js';

const HOUR_MS = 3_600_000;

async function rows(t: TestContext): Promise<{ store: Store; delivery: DeliveryRows }> {
  const store = new Store(join(await tempDir(t), 'store.mdb'));
  t.after(() => store.close());
  return { store, delivery: new DeliveryRows(store, 0) };
}

test('a queue row of the first format, 12 bytes, is still read, and is what most rows are', () => {
  const old = Buffer.alloc(12);
  old.writeDoubleLE(3 * 2 ** 32 + 4_711, 0);
  old.writeUInt32LE(65_537, 8);
  const row = { position: 3 * 2 ** 32 + 4_711, bytes: 65_537 };
  assert.deepEqual(queueCodec.decode(old), row);
  assert.deepEqual(queueCodec.encode(row), old);
});

test('queue rows are read as they were written, whatever holds their messages', (t) => {
  const hold = fc.oneof(
    fc.constant('push' as const),
    fc.record({
      lease: fc.stringMatching(/^[0-9a-f]{0,40}$/),
      untilMs: fc.nat({ max: 2 ** 50 }),
      count: fc.nat({ max: 2 ** 32 - 1 }),
    }),
  );
  const row = fc.record(
    { position: fc.nat({ max: Number.MAX_SAFE_INTEGER }), bytes: fc.nat({ max: 2 ** 32 - 1 }), hold },
    { requiredKeys: ['position', 'bytes'] },
  );
  fc.assert(
    fc.property(row, (each) => {
      assert.equal(JSON.stringify(queueCodec.decode(queueCodec.encode(each))), JSON.stringify(each));
    }),
    { seed: seedFor(t) },
  );
});

test('a key is in use for 24 hours from its claim, and no longer', async (t) => {
  const { delivery } = await rows(t);
  delivery.claimSend('a:key', 'digest', 'id', 1_000);
  assert.equal(delivery.sendClaim('a:key', 1_000 + 24 * HOUR_MS - 1)?.messageId, 'id');
  assert.equal(delivery.sendClaim('a:key', 1_000 + 24 * HOUR_MS), undefined);
});

test('the receipt of a message outlives every attempt that could repeat it', async (t) => {
  const { delivery } = await rows(t);
  delivery.rememberSent('id', 1_000);
  delivery.forgetExpired(1_000 + 24 * HOUR_MS, 10);
  assert.equal(delivery.sentOnceAtMs('id'), 1_000);
  delivery.forgetExpired(1_001 + 25 * HOUR_MS, 10);
  assert.equal(delivery.sentOnceAtMs('id'), undefined);
});

test('what is over is forgotten oldest first, so many at a time, and nothing that is in use', async (t) => {
  const { store, delivery } = await rows(t);
  for (let i = 0; i < 10; i++) delivery.claimSend(`a:${i}`, 'digest', `id ${i}`, i * HOUR_MS);
  // Claimed again after it was freed: its first time must not end the second.
  delivery.releaseSend('a:0');
  delivery.claimSend('a:0', 'digest', 'again', 20 * HOUR_MS);
  const nowMs = 29 * HOUR_MS + 1;
  assert.equal(delivery.forgetExpired(nowMs, 4), 4);
  await store.checkpoint({
    appliedSeq: 0,
    replayFrom: 0,
    stateBytes: 0,
    keys: 0,
    agents: 0,
    queuedMessages: 0,
    queuedBytes: 0,
  });
  assert.equal(delivery.forgetExpired(nowMs, 4), 2);
  assert.equal(delivery.forgetExpired(nowMs, 4), 0);
  const all = { start: '', end: null, limit: 100 };
  assert.deepEqual(
    store.sendClaims.keys(all).map((key) => store.sendClaims.get(key)?.messageId),
    ['again', 'id 6', 'id 7', 'id 8', 'id 9'],
  );
  assert.equal(store.expiries.keys(all).length, 5);
});

test('an agent with nothing to push and no failures leaves no row', async (t) => {
  const { store, delivery } = await rows(t);
  delivery.countToPush('agent', 1);
  delivery.pushRetried('agent', 2, 5_000);
  assert.deepEqual([delivery.pushAgents(), delivery.pushMessages], [['agent'], 1]);
  delivery.countToPush('agent', -1);
  delivery.pushDelivered('agent');
  assert.deepEqual([delivery.pushAgents(), delivery.pushMessages], [[], 0]);
  assert.equal(store.pushAgents.get('agent'), undefined);
});
