/** What a shard leaves for its next opening, what that opening costs, and whom it must tell. */
import assert from 'node:assert/strict';
import { statSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { createVersionMemory, KeyVersions } from '../../src/shards/key-versions.js';
import { ReadCache } from '../../src/shards/read-cache.js';
import { Shard } from '../../src/shards/shard.js';
import { createCounterMemory, SharedCounters } from '../../src/shards/shared-counters.js';
import { StoredRows } from '../../src/shards/tools/stored-rows.js';
import { OPS } from '../../src/shards/wire.js';
import { recordingLogger, SETTINGS, ShardRig } from '../shards/shard-rig.js';
import { FaultyDisk } from '../support/faulty-disk.js';
import { removeTempDir, tempDir } from '../support/temp-dir.js';
import { waitUntil } from '../support/wait.js';

const A = `tab_${'a'.repeat(20)}`;
const B = `tab_${'b'.repeat(20)}`;

test('a start after kill -9 replays only what lies behind the last checkpoint', async (t) => {
  let rig = await ShardRig.open();
  t.after(() => rig.end());
  const store = join(rig.directory, 'store.mdb');
  const modifiedBeforeMs = statSync(store).mtimeMs;
  const writes = 500;
  await Promise.all(rig.batch(Array.from({ length: writes }, (_, n) => [OPS.writeState, A, `k${n}`, 'v'] as const)));
  const soon = { timeoutMs: 20_000, what: 'a checkpoint' };
  await waitUntil(() => statSync(store).mtimeMs > modifiedBeforeMs, soon);
  for (let n = 0; n < 3; n++) await rig.write('later', `${n}`);
  rig = await rig.kill();
  assert.equal(rig.shard.recovery.damagedLines, 0);
  // A second checkpoint may have come between.
  assert.ok(rig.shard.recovery.replayedEvents <= 3, `${rig.shard.recovery.replayedEvents} events were replayed`);
  assert.equal(await rig.value('k499'), 'v');
  assert.equal(await rig.value('later'), '2');
});

test('values are not given out again once their shard was opened anew, to whoever has read them before', async (t) => {
  const versions = new KeyVersions(createVersionMemory(2));
  const cache = new ReadCache(versions);
  for (const shard of [0, 1]) {
    const key = `of ${shard}`;
    const counter = versions.counterOf(shard, key);
    const entry = { key, value: 'v', lastModifiedBy: A, lastModifiedAtMs: 0 };
    cache.put(entry, counter, versions.version(counter));
    assert.equal(cache.get(key), entry);
  }
  const shard = await Shard.open({
    shard: 1,
    directory: await tempDir(t),
    disk: new FaultyDisk(),
    counters: new SharedCounters(createCounterMemory(2)),
    versions,
    settings: SETTINGS,
    logger: recordingLogger().logger,
    onBroken: () => {},
  });
  await shard.close();
  assert.equal(cache.get('of 1'), undefined);
  assert.notEqual(cache.get('of 0'), undefined);
});

test('what two receivers fetch stands oldest first in the log, also when only the newer is in memory', async (t) => {
  let rig = await ShardRig.open();
  t.after(() => rig.end());
  for (const agent of [A, B]) await rig.registerAgent(agent);
  assert.equal(await rig.code(OPS.sendMessage, B, A, 'older'), null);
  rig = await rig.restart(); // what is in memory of the log is gone
  assert.equal(await rig.code(OPS.sendMessage, B, A, 'newer'), null);
  const receive = [OPS.receiveMessages, A, 1] as const;
  const replies = await Promise.all(rig.batch([receive, receive]));
  assert.deepEqual(
    replies.map(({ x }) => (x as unknown[])[3]),
    ['older', 'newer'],
  );
  const delivered = (await rig.events()).filter(({ type }) => type === 'message_delivered').map(({ ref }) => ref ?? 0);
  assert.equal(delivered.length, 2);
  assert.ok((delivered[0] ?? 0) < (delivered[1] ?? 0), 'a crash between the two would undo the order');
});

test('a log that ends within what a checkpoint has is refused, not gone on with', async (t) => {
  const rig = await ShardRig.open();
  t.after(() => removeTempDir(rig.directory));
  await rig.write('a', '1');
  await rig.write('b', '2');
  await rig.shard.close(); // with a checkpoint
  rig.disk.overwrite(rig.logPath, (bytes) => bytes.subarray(0, 100));
  const again = ShardRig.open({ directory: rig.directory, disk: rig.disk });
  await assert.rejects(again, /ends before the last checkpoint .*restore it from a backup/);
});

test('where lines of the log are damaged, no credential is thrown away for want of its event', async (t) => {
  t.mock.timers.enable({ apis: ['setInterval'] }); // no checkpoint comes between
  const rig = await ShardRig.open();
  t.after(() => removeTempDir(rig.directory));
  await rig.registerAgent(A);
  rig.disk.flipBit(rig.logPath, rig.disk.live(rig.logPath).indexOf('agent_registered'), 0);
  const again = await rig.kill();
  assert.equal(again.shard.recovery.damagedLines, 1);
  await again.shard.close();
  const rows = StoredRows.open(join(rig.directory, 'store.mdb'));
  const subjects = [...rows.pendingRegistrations()].map(({ credential }) => credential.subject);
  await rows.close();
  assert.deepEqual(subjects, [A]);
});

test('interval: the flush follows the answer by itself, also where no checkpoint asks for it', async (t) => {
  const rig = await ShardRig.open({ settings: { durability: 'interval', flushIntervalMs: 5 } });
  t.after(() => rig.end());
  assert.equal((await rig.write('k', 'v')).code, null);
  rig.disk.toldAvailableBytes = 0; // no checkpoint fits
  await waitUntil(() => rig.disk.durable(rig.logPath).includes('"k"'), { timeoutMs: 5_000 });
});

test('interval: a segment is on the disk before the next one begins', async (t) => {
  const settings = { durability: 'interval', flushIntervalMs: 60_000, maxSegmentBytes: 2_000 } as const;
  const rig = await ShardRig.open({ settings });
  t.after(() => rig.end());
  rig.disk.toldAvailableBytes = 100 * 1024 * 1024;
  for (let n = 0; rig.disk.paths.length < 2; n++) {
    assert.ok(n < 100);
    await rig.write(`k${n}`, 'v'.repeat(500));
  }
  const [first] = rig.disk.paths;
  assert.ok(first !== undefined);
  assert.deepEqual(rig.disk.durable(first), rig.disk.live(first));
});
