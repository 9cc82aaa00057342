/** The simulated disk forgets, tears and fails as told: the fault tests are worth what it is worth. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { LogFile } from '../../src/shards/disk.js';
import { FaultyDisk } from '../support/faulty-disk.js';

const PATH = '/log/00000001.ndjson';

async function fileWith(text: string): Promise<{ disk: FaultyDisk; file: LogFile }> {
  const disk = new FaultyDisk();
  const file = disk.openFile(PATH);
  file.write(Buffer.from(text), 0);
  await file.sync();
  await disk.syncDirectory('/log');
  return { disk, file };
}

test('power loss keeps what was synced, and of the rest what it is told, torn where it is told', async () => {
  for (const [choices, left] of [
    [[0], 'synced'],
    [[1, 0], 'synced'],
    [[1, 3], 'synced one'],
    [[2, 4], 'synced one two'],
  ] as const) {
    const { disk, file } = await fileWith('synced');
    file.write(Buffer.from(' one'), 6);
    file.write(Buffer.from(' two'), 10);
    const asked = [...choices] as number[];
    disk.powerLoss(() => asked.shift() ?? 0);
    disk.powerOn();
    const expected = left === 'synced one' ? 'synced on' : left;
    assert.equal(disk.live(PATH).toString(), expected);
    assert.throws(() => file.write(Buffer.from('x'), 0), { code: 'EIO' }, 'an old handle is dead');
  }
});

test('a file whose directory was never synced is gone after power loss', async () => {
  const disk = new FaultyDisk();
  await disk.openFile(PATH).sync();
  disk.powerLoss((most) => most);
  assert.deepEqual(disk.paths, []);
});

test('a sync that power loss interrupts fails and makes nothing durable', async () => {
  for (const held of [true, false]) {
    const { disk, file } = await fileWith('synced');
    if (held) disk.holdSyncs();
    file.write(Buffer.from('!'), 6);
    const sync = file.sync();
    disk.powerLoss(() => 0);
    await assert.rejects(sync, { code: 'EIO' });
    assert.equal(disk.durable(PATH).toString(), 'synced');
  }
});

test('what is written while a sync runs is not part of it', async () => {
  const { disk, file } = await fileWith('a');
  disk.holdSyncs();
  file.write(Buffer.from('b'), 1);
  const sync = file.sync();
  file.write(Buffer.from('c'), 2);
  disk.finishSync();
  await sync;
  assert.equal(disk.durable(PATH).toString(), 'ab');
  assert.equal(disk.live(PATH).toString(), 'abc');
});

test('a disk with little room takes what fits, then nothing, and says so', async () => {
  const { disk, file } = await fileWith('1234');
  disk.roomBytes = 6;
  assert.equal(file.write(Buffer.from('5678'), 4), 2);
  assert.throws(() => file.write(Buffer.from('78'), 6), { code: 'ENOSPC' });
});

test('the n-th call fails, once', async () => {
  const { disk, file } = await fileWith('a');
  disk.failNext('sync', 'EIO', 1);
  await file.sync();
  await assert.rejects(file.sync(), { code: 'EIO' });
  assert.deepEqual(disk.misuses, []);
  await file.sync();
  assert.equal(disk.misuses.length, 1, 'a sync after a failed one is noted');
  await file.close();
  await assert.rejects(file.read(0, 1), { code: 'EBADF' });
  assert.equal(disk.misuses.length, 2, 'so is the use of a closed file');
});
