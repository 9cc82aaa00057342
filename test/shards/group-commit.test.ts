/** The write path of a shard: what is answered, visible and durable, and when. */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { Store } from '../../src/shards/store.js';
import { OPS } from '../../src/shards/wire.js';
import { DiskError } from '../support/faulty-disk.js';
import { tempDir } from '../support/temp-dir.js';
import { waitUntil } from '../support/wait.js';
import { copyStore, credentialFor, newAgent, type RigOptions, ShardRig } from './shard-rig.js';

const A = `tab_${'a'.repeat(20)}`;
const B = `tab_${'b'.repeat(20)}`;

async function rigFor(t: TestContext, options: RigOptions = {}): Promise<ShardRig> {
  const rig = await ShardRig.open(options);
  t.after(() => rig.end());
  return rig;
}

/** Long enough for anything that does not wait for the disk to happen. */
async function manyTurns(): Promise<void> {
  for (let i = 0; i < 20; i++) await turn();
}

// Guarantee 1. Fails without `await log.sync()` in GroupCommit.commitBatch.
test('no mutation is answered before its sync has ended', async (t) => {
  const rig = await rigFor(t);
  await rig.registerAgent(A);
  const answeredBefore = rig.replies.length;
  rig.disk.holdSyncs();
  const replies = rig.batch([
    [OPS.writeState, A, 'k', 'v'],
    [OPS.sendMessage, A, A, 'hello'],
    [OPS.deleteState, A, 'k'],
  ]);
  await rig.heldSync();
  await manyTurns();
  assert.equal(rig.replies.length, answeredBefore);
  rig.disk.finishSync();
  assert.deepEqual(
    (await Promise.all(replies)).map((reply) => reply.code),
    [null, null, null],
  );
});

// Guarantee 1, the other side: what was answered is in the durable bytes. Fails if answers come before `log.write()`.
test('everything answered survives power loss at that instant', async (t) => {
  let rig = await ShardRig.open();
  t.after(() => rig.end());
  for (let round = 0; round < 5; round++) {
    const replies = await Promise.all(rig.batch([0, 1, 2].map((i) => [OPS.writeState, A, `${round}/${i}`, 'v'])));
    assert.ok(replies.every((reply) => reply.code === null));
    rig = await rig.powerLoss();
    for (let i = 0; i < 3; i++) assert.equal(await rig.value(`${round}/${i}`), 'v');
  }
});

// Guarantee 3. Fails if `operation.apply` runs before `await log.sync()` in GroupCommit.commitBatch.
test('nothing of a batch is visible before it is durable', async (t) => {
  const rig = await rigFor(t);
  await rig.registerAgent(A);
  await rig.write('old', 'before');
  rig.disk.holdSyncs();
  const staged = rig.batch([
    [OPS.writeState, A, 'old', 'after'],
    [OPS.writeState, A, 'new', 'v'],
    [OPS.sendMessage, A, A, 'hello'],
  ]);
  await rig.heldSync();
  assert.equal(await rig.value('old'), 'before');
  assert.equal(await rig.value('new'), null);
  const listed = await rig.call(OPS.listKeys, '', null, 10);
  assert.deepEqual([listed.x, listed.y], [['old'], 1]);
  assert.deepEqual((await rig.call(OPS.receiveMessages, A, 10)).x, []);
  assert.deepEqual([rig.counters.snapshot().keys, rig.counters.snapshot().queuedMessages], [1, 0]);
  rig.disk.stopHolding();
  await Promise.all(staged);
  assert.equal(await rig.value('old'), 'after');
  assert.equal(await rig.value('new'), 'v');
  assert.equal(((await rig.call(OPS.receiveMessages, A, 10)).x as unknown[]).length, 5);
  assert.deepEqual([rig.counters.snapshot().keys, rig.counters.snapshot().queuedMessages], [2, 0]);
});

// Guarantee 2. Fails if Store.commit leaves `meta` out of the batch: the replay would then count everything twice.
test('a checkpoint holds its effects and their seq together: a replay after it changes nothing twice', async (t) => {
  let rig = await ShardRig.open();
  t.after(() => rig.end());
  await rig.registerAgent(A);
  await rig.write('a', '12345');
  await rig.call(OPS.sendMessage, A, A, 'one');
  rig = await rig.restart();
  assert.equal(rig.shard.recovery.replayedEvents, 0, 'the checkpoint of the stop covers the whole log');
  await rig.write('b', '1');
  await rig.call(OPS.sendMessage, A, A, 'two');
  rig = await rig.powerLoss();
  assert.equal(rig.shard.recovery.replayedEvents, 2, 'only what lies behind the checkpoint');
  assert.deepEqual(
    [rig.counters.snapshot().keys, rig.counters.snapshot().stateBytes, rig.counters.snapshot().queuedMessages],
    [2, 8, 2],
  );
  assert.equal(rig.counters.snapshot().agents, 1);
});

// Guarantee 2. Fails without `await this.view.store.putPending` in Registrations.register.
test('a registration’s event is logged only when its credential is in LMDB', async (t) => {
  const rig = await rigFor(t);
  const copies = await tempDir(t);
  let sawEvent = false;
  rig.disk.beforeCall = (call) => {
    if (call === 'write') copyStore(rig.directory, copies);
    sawEvent ||= call === 'write';
  };
  await rig.registerAgent(A);
  rig.disk.beforeCall = null;
  assert.ok(sawEvent);
  const store = new Store(`${copies}/store.mdb`);
  assert.deepEqual(store.getPending(A)?.credential, {
    ...credentialFor(A),
    kind: 'agent',
    subject: A,
  });
  await store.close();
});

test('no credential, hash or webhook is ever in the log', async (t) => {
  const rig = await rigFor(t);
  const webhook = { url: 'https://secret.example', secret: 'whsec_secret' };
  const credential = { lookup: 'secret-lookup', scheme: 'bcrypt', hash: 'secret-hash' };
  await rig.call(OPS.createOperator, { contactHash: 'c', credential }, 'op-1');
  const agent = { operatorId: 'op-1', credential: { ...credential, lookup: 'secret-2' }, webhook };
  await rig.call(OPS.registerAgent, agent, A);
  assert.equal((await rig.events()).length, 2);
  assert.ok(!rig.disk.live(rig.logPath).includes('secret'));
});

test('one sync serves a whole batch, while the next batch gathers behind it', async (t) => {
  const rig = await rigFor(t);
  const syncsBefore = rig.disk.calls.sync;
  rig.disk.holdSyncs();
  const first = rig.batch([0, 1, 2, 3].map((i) => [OPS.writeState, A, `first/${i}`, 'v']));
  await rig.heldSync();
  const second = [0, 1, 2, 3, 4].map((i) => rig.call(OPS.writeState, A, `second/${i}`, 'v'));
  await manyTurns();
  assert.equal(rig.disk.heldSyncs, 1, 'never two syncs at a time');
  const writes = rig.disk.calls.write;
  rig.disk.finishSync();
  await Promise.all(first);
  await rig.heldSync();
  assert.equal(rig.disk.calls.write, writes + 1, 'the second batch is one write');
  rig.disk.stopHolding();
  await Promise.all(second);
  assert.equal(rig.disk.calls.sync - syncsBefore, 2);
});

test('a failed sync answers unavailable, ends writing for good, is never repeated, and reads go on', async (t) => {
  const rig = await rigFor(t);
  await rig.write('k', 'old');
  rig.disk.holdSyncs();
  const inBatch = rig.batch([
    [OPS.writeState, A, 'k', 'new'],
    [OPS.deleteState, A, 'k'],
  ]);
  await rig.heldSync();
  const behind = rig.call(OPS.writeState, A, 'k', 'newer');
  rig.disk.failSync('EIO');
  const codes = (await Promise.all([...inBatch, behind])).map((reply) => reply.code);
  assert.deepEqual(codes, ['unavailable', 'unavailable', 'unavailable']);
  assert.equal(rig.shard.state, 'read-only');
  assert.equal(rig.broken.length, 1);
  const { sync, write } = rig.disk.calls;
  assert.equal(await rig.code(OPS.writeState, A, 'k', 'x'), 'unavailable');
  assert.equal(await rig.code(OPS.receiveMessages, A, 1), 'unavailable');
  assert.equal(await rig.value('k'), 'old');
  assert.deepEqual((await rig.call(OPS.listKeys, '', null, 10)).x, ['k']);
  await manyTurns();
  await rig.shard.close();
  assert.deepEqual([rig.disk.calls.sync, rig.disk.calls.write], [sync, write], 'not one more sync or write');
  assert.equal(rig.broken.length, 1);
});

test('an I/O error of a write ends writing too, and nothing of the batch is in the log or visible', async (t) => {
  const rig = await rigFor(t);
  await rig.write('k', 'old');
  const before = rig.disk.live(rig.logPath);
  rig.disk.maxWriteBytes = 20;
  rig.disk.failNext('write', 'EIO', 2);
  const codes = await Promise.all(
    rig.batch([
      [OPS.writeState, A, 'k', 'new'],
      [OPS.writeState, A, 'other', 'new'],
    ]),
  );
  assert.deepEqual(
    codes.map((reply) => reply.code),
    ['unavailable', 'unavailable'],
  );
  assert.equal(rig.shard.state, 'read-only');
  assert.deepEqual(rig.disk.live(rig.logPath), before);
  assert.equal(await rig.value('k'), 'old');
  assert.equal(await rig.value('other'), null);
});

test('a full disk answers store_full, leaves no torn line, goes on reading, and writes again when there is room', async (t) => {
  let rig = await ShardRig.open();
  t.after(() => rig.end());
  await rig.write('k', 'old');
  const size = rig.disk.live(rig.logPath).length;
  for (const roomBytes of [0, 1, 50, 150, 250]) {
    rig.disk.roomBytes = size + roomBytes;
    const replies = await Promise.all(
      rig.batch([
        [OPS.writeState, A, 'k', 'new'],
        [OPS.writeState, A, 'other', 'x'.repeat(300)],
        [OPS.deleteState, A, 'k'],
        [OPS.deleteState, A, 'k'],
      ]),
    );
    assert.deepEqual(
      replies.map((reply) => reply.code),
      Array(4).fill('store_full'),
    );
    assert.equal(rig.disk.live(rig.logPath).length, size);
    assert.equal(rig.shard.state, 'serving');
    assert.equal(await rig.value('k'), 'old');
    assert.equal(await rig.value('other'), null);
  }
  rig.disk.roomBytes = Number.POSITIVE_INFINITY;
  assert.equal((await rig.write('k', 'new')).code, null);
  rig = await rig.powerLoss();
  assert.equal(await rig.value('k'), 'new');
  assert.deepEqual([rig.shard.recovery.damagedLines, rig.shard.recovery.cutBytes], [0, 0]);
});

test('a shard whose disk fails every call can still be closed', async (t) => {
  const rig = await rigFor(t);
  rig.disk.failNext('sync', 'EIO');
  assert.equal((await rig.write('k', 'v')).code, 'unavailable');
  rig.disk.beforeCall = (call, path) => {
    throw new DiskError('EIO', call, path);
  };
  const outcome = await rig.shard.close().then(() => 'closed', String);
  rig.disk.beforeCall = null;
  assert.equal(outcome, 'closed');
});

test('a disk too full for the next segment’s file answers store_full and goes on', async (t) => {
  const rig = await rigFor(t, { settings: { maxSegmentBytes: 100 } });
  await rig.write('k', 'x'.repeat(100));
  rig.disk.failNext('open', 'ENOSPC');
  assert.equal((await rig.write('k', 'y')).code, 'store_full');
  assert.equal(rig.shard.state, 'serving');
  assert.equal((await rig.write('k', 'z')).code, null);
});

test('a mutation that is staged in the moment a commit ends starts at once', async (t) => {
  const rig = await rigFor(t, { synchronousPort: true });
  const late: number[] = [];
  for (let microtasks = 0; microtasks < 12; microtasks++) {
    rig.disk.failNext('write', 'ENOSPC');
    assert.equal((await rig.write('k', 'v')).code, 'store_full');
    for (let i = 0; i < microtasks; i++) await null;
    const next = rig.write('k', 'v');
    await manyTurns();
    if (rig.unanswered > 0) {
      late.push(microtasks);
      rig.batch([]); // any later message wakes it
    }
    assert.equal((await next).code, null);
  }
  assert.deepEqual(late, []);
});

test('a failed batch gives back the room it reserved, in the store and in the queues', async (t) => {
  const rig = await rigFor(t, { settings: { maxCapacityBytes: 100, maxQueuedBytes: 1_000 } });
  await rig.registerAgent(A);
  await rig.write('a', 'x'.repeat(39)); // 40 of 100 bytes
  rig.disk.roomBytes = 0;
  for (let round = 0; round < 5; round++) {
    const replies = await Promise.all(
      rig.batch([
        [OPS.writeState, 'w', 'b', 'x'.repeat(59)],
        [OPS.writeState, 'w', 'b', 'x'.repeat(9)],
        [OPS.deleteState, 'w', 'a'],
        [OPS.sendMessage, A, A, 'm'.repeat(300)],
      ]),
    );
    assert.deepEqual(
      replies.map((reply) => reply.code),
      Array(4).fill('store_full'),
    );
  }
  assert.deepEqual([rig.counters.read(0, 'reservedStateBytes'), rig.counters.read(0, 'reservedQueuedBytes')], [40, 0]);
  rig.disk.roomBytes = Number.POSITIVE_INFINITY;
  assert.equal((await rig.write('b', 'x'.repeat(60))).code, 'store_full', 'one byte over');
  assert.equal((await rig.write('b', 'x'.repeat(59))).code, null, 'all that is left');
  assert.equal(await rig.code(OPS.sendMessage, A, A, 'm'.repeat(300)), null);
});

test('a claimed message goes back to its place when its delivery can’t be logged', async (t) => {
  const rig = await rigFor(t);
  await rig.registerAgent(A);
  for (const content of ['one', 'two', 'three']) await rig.call(OPS.sendMessage, B, A, content);
  rig.disk.roomBytes = 0;
  assert.equal(await rig.code(OPS.receiveMessages, A, 2), 'store_full');
  rig.disk.roomBytes = Number.POSITIVE_INFINITY;
  const received = (await rig.call(OPS.receiveMessages, A, 10)).x as string[];
  assert.deepEqual([received[3], received[8], received[13]], ['one', 'two', 'three']);
});

test('a full queue drops its oldest message together with the new one, and not at all when that fails', async (t) => {
  let rig = await ShardRig.open({ settings: { maxQueuePerAgent: 2 } });
  t.after(() => rig.end());
  await rig.registerAgent(A);
  for (const content of ['one', 'two']) await rig.call(OPS.sendMessage, B, A, content);
  const size = rig.disk.live(rig.logPath).length;
  rig.disk.roomBytes = size + 300; // enough for the first of the two events
  assert.equal(await rig.code(OPS.sendMessage, B, A, 'three'), 'store_full');
  assert.equal(rig.counters.snapshot().queuedMessages, 2);
  rig.disk.roomBytes = Number.POSITIVE_INFINITY;
  assert.equal(await rig.code(OPS.sendMessage, B, A, 'three'), null);
  const [dropped, sent] = (await rig.events()).slice(-2);
  assert.deepEqual([dropped?.type, dropped?.more, dropped?.ref], ['message_dropped', true, 2]);
  assert.deepEqual([sent?.type, sent?.more], ['message_sent', undefined]);
  rig = await rig.powerLoss(undefined, { maxQueuePerAgent: 2 });
  const received = (await rig.call(OPS.receiveMessages, A, 10)).x as string[];
  assert.deepEqual([received[3], received[8], received.length], ['two', 'three', 10]);
});

test('two receivers of one loop turn never get the same message', async (t) => {
  const rig = await rigFor(t);
  await rig.registerAgent(A);
  for (const content of ['one', 'two', 'three']) await rig.call(OPS.sendMessage, B, A, content);
  const replies = await Promise.all(rig.batch([2, 2, 2].map((limit) => [OPS.receiveMessages, A, limit])));
  const contents = replies.map(({ x }) => (x as unknown[]).filter((_, index) => index % 5 === 3));
  assert.deepEqual(contents, [['one', 'two'], ['three'], []]);
});

test('two deletes of a key in one batch are one delete and one not_found, both after the sync', async (t) => {
  const rig = await rigFor(t);
  await rig.write('k', 'v');
  const answeredBefore = rig.replies.length;
  rig.disk.holdSyncs();
  const replies = rig.batch([
    [OPS.deleteState, A, 'k'],
    [OPS.deleteState, B, 'k'],
  ]);
  await rig.heldSync();
  await manyTurns();
  assert.equal(rig.replies.length, answeredBefore, 'not_found depends on the delete before it, so it waits too');
  rig.disk.stopHolding();
  assert.deepEqual(
    (await Promise.all(replies)).map((reply) => reply.code),
    [null, 'not_found'],
  );
  assert.equal((await rig.events()).filter((event) => event.type === 'state_deleted').length, 1);
});

test('reads are answered at once, and their events reach the log with no mutation to travel with', async (t) => {
  const rig = await rigFor(t);
  await rig.write('k', 'v');
  rig.disk.holdSyncs();
  assert.equal(await rig.value('k'), 'v');
  assert.equal(await rig.value('missing'), null);
  await rig.call(OPS.listAgents, 'tab_reader', null, 10);
  assert.equal(rig.disk.heldSyncs, 0, 'answered before anything was synced');
  rig.disk.stopHolding();
  await waitUntil(() => rig.disk.durable(rig.logPath).includes('registry_read'), { timeoutMs: 5_000 });
  const reads = (await rig.events()).slice(1);
  assert.deepEqual(
    reads.map((event) => [event.type, event.data]),
    [
      ['state_read', { key: 'k', read_by: 'tab_reader', found: true }],
      ['state_read', { key: 'missing', read_by: 'tab_reader', found: false }],
      ['registry_read', { read_by: 'tab_reader' }],
    ],
  );
});

test('a graceful stop answers everything accepted and logs the events of reads', async (t) => {
  let rig = await ShardRig.open();
  t.after(() => rig.end());
  const replies = rig.batch([
    [OPS.writeState, A, 'k', 'v'],
    [OPS.readState, A, 'k'],
  ]);
  rig = await rig.restart();
  assert.equal((await replies[0])?.code, null);
  assert.equal(await rig.value('k'), 'v');
  assert.deepEqual((await rig.events()).map((event) => event.type).sort(), ['state_read', 'state_written']);
});

test('a graceful stop waits for registrations under way', async () => {
  const rig = await ShardRig.open();
  const reply = rig.call(OPS.registerAgent, newAgent(A), A);
  await rig.shard.close();
  await manyTurns();
  try {
    assert.deepEqual(rig.disk.misuses, []);
    assert.equal(rig.unanswered, 0);
    assert.equal((await reply).code, null);
  } finally {
    rig.disk.misuses.length = 0;
    await rig.end();
  }
});

test('a registration that waits for LMDB while the disk fails is answered unavailable', async (t) => {
  const rig = await rigFor(t);
  rig.disk.failNext('sync', 'EIO');
  const [write, registration] = rig.batch([
    [OPS.writeState, A, 'k', 'v'],
    [OPS.registerAgent, newAgent(B), B],
  ]);
  assert.equal((await write)?.code, 'unavailable');
  await waitUntil(() => rig.unanswered === 0, { timeoutMs: 1_000, what: 'the registration is answered' });
  assert.equal((await registration)?.code, 'unavailable');
});

test('with interval durability answers come before the sync, and the sync follows by itself', async (t) => {
  const rig = await rigFor(t, { settings: { durability: 'interval' } });
  rig.disk.holdSyncs();
  assert.equal((await rig.write('k', 'v')).code, null);
  assert.equal(await rig.value('k'), 'v');
  assert.ok(!rig.disk.durable(rig.logPath).includes('"k"'));
  await rig.heldSync();
  rig.disk.stopHolding();
  await waitUntil(() => rig.disk.durable(rig.logPath).includes('"k"'), { timeoutMs: 5_000 });
});

test('with interval durability a failed sync ends writing, and no later sync is tried', async (t) => {
  const rig = await rigFor(t, { settings: { durability: 'interval' } });
  rig.disk.failNext('sync', 'EIO');
  assert.equal((await rig.write('k', 'v')).code, null);
  await waitUntil(() => rig.shard.state === 'read-only', { timeoutMs: 5_000 });
  const { sync } = rig.disk.calls;
  assert.equal((await rig.write('k', 'w')).code, 'unavailable');
  await rig.shard.close();
  assert.equal(rig.disk.calls.sync, sync);
});

test('with interval durability a graceful stop ends only when the log is on the disk', async (t) => {
  const rig = await rigFor(t, { settings: { durability: 'interval' } });
  rig.disk.holdSyncs();
  await rig.write('k', 'v');
  await rig.heldSync();
  let closed = false;
  const closing = rig.shard.close().then(() => {
    closed = true;
  });
  // The last checkpoint takes LMDB some milliseconds: wait for its end, which must not come.
  await waitUntil(() => closed, { timeoutMs: 300 }).catch(() => undefined);
  const closedEarly = closed;
  rig.disk.stopHolding();
  await closing;
  assert.equal(closedEarly, false);
});

test('with durability none nothing is synced while it runs, kill -9 loses nothing, and a stop leaves all on the disk', async (t) => {
  const settings = { durability: 'none' } as const;
  let rig = await ShardRig.open({ settings });
  t.after(() => rig.end());
  const { sync } = rig.disk.calls;
  for (let i = 0; i < 10; i++) assert.equal((await rig.write(`k${i}`, 'v')).code, null);
  assert.equal(rig.disk.calls.sync, sync);
  rig = await rig.kill(settings);
  for (let i = 0; i < 10; i++) assert.equal(await rig.value(`k${i}`), 'v');
  await rig.shard.close();
  assert.deepEqual(rig.disk.durable(rig.logPath), rig.disk.live(rig.logPath));
});

test('without fsync a checkpoint never runs ahead of the log on the disk', async (t) => {
  const settings = { durability: 'none' } as const;
  let rig = await ShardRig.open({ settings });
  t.after(() => rig.end());
  await rig.write('k', 'v');
  const { sync } = rig.disk.calls;
  // The checkpoint's timer is due after a second.
  await waitUntil(() => rig.disk.calls.sync > sync, { timeoutMs: 5_000, what: 'the sync before a checkpoint' });
  await waitUntil(() => rig.disk.durable(rig.logPath).includes('"k"'), { timeoutMs: 5_000 });
  rig = await rig.powerLoss(undefined, settings);
  assert.equal(await rig.value('k'), 'v');
});

test('batches cross segments: every event is logged once, in seq order, and survives', async (t) => {
  const settings = { maxSegmentBytes: 500 };
  let rig = await ShardRig.open({ settings });
  t.after(() => rig.end());
  for (let i = 0; i < 20; i++) assert.equal((await rig.write(`k${i}`, 'x'.repeat(100))).code, null);
  assert.ok(rig.disk.paths.length > 3);
  rig = await rig.powerLoss(undefined, settings);
  const seqs = (await rig.events()).map((event) => event.seq);
  assert.deepEqual(
    seqs,
    [...seqs].sort((a, b) => a - b),
  );
  assert.equal(seqs.length, 20);
  for (let i = 0; i < 20; i++) assert.equal(await rig.value(`k${i}`), 'x'.repeat(100));
});
