/** Operations of several events are there whole or not at all, whichever pages of their batch a power cut leaves. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { OPS } from '../../src/shards/wire.js';
import { ShardRig } from '../shards/shard-rig.js';
import { seededRandom, seedFor } from '../support/seed.js';
import { fastDir, removeTempDir } from '../support/temp-dir.js';
import { waitUntil } from '../support/wait.js';
import { observed } from './fault-matrix.js';

const AGENT = `tab_${'a'.repeat(20)}`;
/** Their deliveries fill some pages of the log. */
const MESSAGES = 60;
const LIVES = 40;
const SEGMENT_BYTES = 100_000;

test('a fetch of many messages under way is done whole or not at all after power loss', async (t) => {
  const random = seededRandom(seedFor(t));
  let rig = await ShardRig.open({ directory: await fastDir(), settings: { maxSegmentBytes: SEGMENT_BYTES } });
  t.after(() => rig.end());
  await rig.registerAgent(AGENT);
  let cuts = 0;
  for (let life = 0; life < LIVES; life++) {
    rig.disk.canFill = random(2) === 0;
    const sends = Array.from({ length: MESSAGES }, (_, n) => rig.call(OPS.sendMessage, AGENT, AGENT, `${life}.${n}`));
    for (const { code } of await Promise.all(sends)) assert.equal(code, null);
    rig.disk.holdSyncs();
    void rig.call(OPS.receiveMessages, AGENT, MESSAGES);
    await rig.heldSync();
    rig.disk.powerLoss((most) => random(most + 1), 'pages lost');
    await rig.write('x', '');
    await rig.shard.close();
    rig.disk.powerOn();
    rig.disk.stopHolding();
    rig = await ShardRig.open({
      disk: rig.disk,
      directory: rig.directory,
      settings: { maxSegmentBytes: SEGMENT_BYTES },
    });
    assert.equal(rig.shard.recovery.damagedLines, 0, 'a power cut is no damage');
    const { x } = await rig.call(OPS.receiveMessages, AGENT, 100);
    const left = (x as unknown[]).length / 5;
    assert.ok(left === 0 || left === MESSAGES, `${left} of ${MESSAGES} messages are left, life ${life}`);
    if (rig.shard.recovery.cutBytes > 0) cuts += 1;
  }
  assert.ok(cuts > LIVES / 4, `only ${cuts} batches were cut`);
});

test('a page of zeros in a batch that was flushed is damage: skipped, counted, and what lies behind is kept', async (t) => {
  const rig = await ShardRig.open({ directory: await fastDir(), settings: { maxSegmentBytes: SEGMENT_BYTES } });
  await rig.write('before', '1');
  await rig.write('damaged', 'x'.repeat(6_000));
  // Two more batches: the second shows that the first was flushed.
  for (const key of ['behind', 'last']) {
    const sinceMs = Date.now();
    while (Date.now() === sinceMs) await new Promise((resolve) => setImmediate(resolve));
    await rig.write(key, '1');
  }
  const { disk, directory } = rig;
  const after = disk.copy();
  after.overwrite(rig.logPath, (bytes) => bytes.fill(0, 4_096, 5_000));
  disk.powerLoss(() => 0);
  await rig.write('x', '');
  await rig.shard.close();
  const again = await ShardRig.open({ disk: after, directory, settings: { maxSegmentBytes: SEGMENT_BYTES } });
  t.after(() => again.end());
  assert.equal(again.shard.recovery.damagedLines, 1);
  assert.equal(again.counters.read(0, 'damagedLines'), 1, 'for the metrics');
  assert.deepEqual(
    [await again.value('before'), await again.value('damaged'), await again.value('behind'), await again.value('last')],
    ['1', null, '1', '1'],
  );
  observed('a flushed page of the log reads as zeros', {
    writes: (await again.write('new', '1')).code === null ? '200' : 'refused',
    reads: '200',
    after: 'that line is reported with its place, skipped and counted; all others are kept',
  });
  assert.ok(
    again.log.some(({ msg, offsetBytes }) => /damaged line/.test(String(msg)) && typeof offsetBytes === 'number'),
  );
});

test('what a reopening after a failed fsync shows is on the disk', async (t) => {
  const rig = await ShardRig.open({ directory: await fastDir() });
  rig.disk.failNext('sync', 'EIO');
  assert.equal((await rig.write('a', 'not flushed')).code, 'unavailable');
  assert.equal((await rig.write('b', '')).code, 'unavailable', 'and no more writes');
  await rig.shard.close();
  const reopened = await ShardRig.open({ disk: rig.disk, directory: rig.directory });
  const shown = await reopened.value('a');
  assert.equal(shown, 'not flushed', 'the system still shows the bytes');
  const after = await reopened.powerLoss();
  t.after(() => after.end());
  assert.equal(await after.value('a'), shown, 'shown, and gone after a power cut');
});

test('a disk that is nearly full refuses writes before LMDB or the log meet the end of it, and takes them again', async (t) => {
  const rig = await ShardRig.open({ directory: await fastDir() });
  t.after(() => rig.end());
  await rig.registerAgent(AGENT);
  assert.equal((await rig.write('a', '1')).code, null);
  const ask = () => (rig.shard as unknown as { everyInterval(): void }).everyInterval();
  rig.disk.toldAvailableBytes = 4_000_000;
  ask();
  assert.equal((await rig.write('a', '2')).code, 'store_full');
  assert.equal((await rig.call(OPS.sendMessage, AGENT, AGENT, 'x')).code, 'store_full');
  assert.equal((await rig.call(OPS.registerAgent, { credential: {} }, 'tab_x')).code, 'store_full');
  assert.equal(await rig.value('a'), '1', 'reads go on');
  assert.equal(rig.counters.read(0, 'spaceShort'), 1);
  assert.equal(rig.shard.state, 'serving');
  rig.disk.toldAvailableBytes = 20_000_000;
  ask();
  assert.equal((await rig.write('a', '2')).code, 'store_full', 'not for a little room: that would come and go');
  rig.disk.toldAvailableBytes = 100_000_000;
  ask();
  assert.equal((await rig.write('a', '3')).code, null);
  assert.equal(rig.counters.read(0, 'spaceShort'), 0);
  assert.equal(await rig.value('a'), '3');
});

test('what was refused for want of room is not there after a power cut that undoes the cut', async (t) => {
  const rig = await ShardRig.open({ directory: await fastDir() });
  await rig.write('a', '1');
  const { disk } = rig;
  const usedBytes = [...disk.files.values()].reduce((sum, { live }) => sum + live.length, 0);
  disk.roomBytes = usedBytes + 4_000;
  // The first line of the batch fits, and is on the disk before the second does not.
  const codes = await Promise.all(
    rig.batch([
      [OPS.writeState, 'w', 'a', '2'],
      [OPS.writeState, 'w', 'b', 'x'.repeat(10_000)],
    ]),
  );
  assert.deepEqual(
    codes.map(({ code }) => code),
    ['store_full', 'store_full'],
  );
  let asked = 0;
  // Of what is not flushed the first change survives, whole: the write, and not the cut behind it.
  disk.powerLoss((most) => (asked++ === 0 ? Math.min(1, most) : most));
  await rig.write('x', '');
  await rig.shard.close();
  disk.powerOn();
  disk.roomBytes = Number.POSITIVE_INFINITY;
  const after = await ShardRig.open({ disk, directory: rig.directory });
  t.after(() => after.end());
  assert.equal(await after.value('a'), '1');
});

test('a checkpoint is never ahead of the log on the disk, also where answers do not wait for it', async (t) => {
  const settings = { durability: 'interval', flushIntervalMs: 60_000 } as const;
  const rig = await ShardRig.open({ directory: await fastDir(), settings });
  assert.equal((await rig.write('k', 'v')).code, null);
  const { shard } = rig as unknown as { shard: { store: { changedRows: number; isCheckpointing: boolean } } };
  rig.checkpointSoon();
  const isMade = (): boolean => shard.store.changedRows === 0 && !shard.store.isCheckpointing;
  await waitUntil(isMade, { timeoutMs: 5_000, what: 'the checkpoint' });
  rig.disk.powerLoss(() => 0);
  await rig.shard.close().catch(() => {});
  rig.disk.powerOn();
  const after = await ShardRig.open({ disk: rig.disk, directory: rig.directory, settings });
  t.after(() => after.end());
  assert.equal(await after.value('k'), 'v');
});

test('an I/O error of a write ends writing, reads go on, and a reopening finds all that was answered', async (t) => {
  const rig = await ShardRig.open({ directory: await fastDir() });
  assert.equal((await rig.write('a', '1')).code, null);
  rig.disk.failNext('write', 'EIO');
  const refused = [await rig.write('a', '2'), await rig.write('b', '2')];
  const read = await rig.call(OPS.readState, 'r', 'a');
  assert.equal(read.x, '1');
  await rig.shard.close();
  const after = await ShardRig.open({ disk: rig.disk, directory: rig.directory });
  t.after(() => after.end());
  assert.equal(await after.value('a'), '1');
  assert.equal((await after.write('a', '3')).code, null);
  observed('write to the log fails with EIO (simulated disk)', {
    writes: refused.every(({ code }) => code === 'unavailable') ? '503' : 'otherwise',
    reads: read.code === null ? '200' : 'otherwise',
    after: 'everything answered is there after reopening',
  });
});

test('a flipped bit costs the line it is in, on whichever bit it falls, and is reported with its place', async (t) => {
  const random = seededRandom(seedFor(t));
  const rig = await ShardRig.open({ directory: await fastDir() });
  for (let n = 0; n < 10; n++) assert.equal((await rig.write(`k${n}`, `${n}`)).code, null);
  const { disk, directory, logPath } = rig;
  const whole = disk.live(logPath);
  // The store is as of before the writes: every line is replayed.
  disk.powerLoss((most) => most);
  await rig.write('x', '');
  await rig.shard.close();
  for (let round = 0; round < 60; round++) {
    const damaged = disk.copy();
    const offset = random(whole.length - 1);
    damaged.flipBit(logPath, offset, random(8));
    damaged.powerOn();
    const again = await ShardRig.open({ disk: damaged, directory });
    const line = whole.subarray(0, offset).toString().split('\n').length - 1;
    const isNewline = whole[offset] === 0x0a;
    for (let n = 0; n < 10; n++) {
      // A newline that is gone takes two lines along; a new one in a line costs that line only.
      if (n === line || (isNewline && n === line + 1)) continue;
      assert.equal(await again.value(`k${n}`), `${n}`, `bit of byte ${offset}, line ${line}`);
    }
    const { damagedLines, cutBytes } = again.shard.recovery;
    assert.ok(damagedLines > 0 || cutBytes > 0, 'damage that nobody noticed');
    const messages = again.log.map(({ msg, offsetBytes }) => `${msg} at ${offsetBytes}`).join('; ');
    assert.match(messages, /(?:damaged line, skipped|cut off) at \d+/);
    // Only the last line may be taken for torn.
    if (line < 8) assert.ok(damagedLines > 0, messages);
    disk.misuses.push(...damaged.misuses);
    disk.powerOn();
    damaged.failNext('sync', 'EIO');
    const writes = (await again.write('k0', 'no checkpoint after this')).code;
    assert.equal(writes, 'unavailable');
    await again.shard.close();
  }
  t.after(() => removeTempDir(directory));
  observed('a bit of the log flips', {
    writes: '200',
    reads: '200',
    after: 'that line is reported with its place, skipped and counted; all others are kept',
  });
});
