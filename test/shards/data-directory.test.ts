import assert from 'node:assert/strict';
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, readdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import {
  DataDirectoryError,
  lockDataDirectory,
  openManifest,
  shardDirectory,
} from '../../src/shards/data-directory.js';
import { realDisk } from '../../src/shards/disk.js';
import { tempDir } from '../support/temp-dir.js';

const inUse = (error: Error): boolean => {
  assert.ok(error instanceof DataDirectoryError);
  assert.match(error.message, /in use by another running server/);
  assert.ok(!error.message.includes('\n'), 'one line');
  return true;
};

test('a second lock is refused while the first is held, also over another path, and free after it is closed', async (t) => {
  const parent = await tempDir(t);
  const directory = join(parent, 'data');
  const first = await lockDataDirectory(directory);
  await assert.rejects(lockDataDirectory(directory), inUse);
  await symlink(directory, join(parent, 'other-name'));
  await assert.rejects(lockDataDirectory(join(parent, 'other-name')), inUse);
  await assert.rejects(lockDataDirectory(join(parent, 'x', '..', 'data', '.')), inUse);
  const neighbour = await lockDataDirectory(join(parent, 'data-2'));
  neighbour.close();
  await new Promise((resolve) => first.close(resolve));
  const second = await lockDataDirectory(directory);
  second.close();
  assert.deepEqual(await readdir(directory), [], 'a lock leaves no file');
});

test('kill -9 frees the lock', async (t) => {
  const directory = await tempDir(t);
  const child = fork(fileURLToPath(new URL('./lock-holder.js', import.meta.url)), [directory]);
  const gone = once(child, 'exit');
  t.after(async () => {
    child.kill('SIGKILL');
    await gone;
  });
  const [message] = await Promise.race([once(child, 'message'), gone]);
  assert.equal(message, 'locked');
  await assert.rejects(lockDataDirectory(directory), inUse);
  child.kill('SIGKILL');
  await gone;
  const lock = await lockDataDirectory(directory);
  lock.close();
});

test('a new directory gets a manifest that later starts keep to', async (t) => {
  const directory = await tempDir(t);
  const made = await openManifest(realDisk, directory, 3);
  assert.deepEqual([made.format, made.shards], [1, 3]);
  assert.deepEqual(JSON.parse(await readFile(join(directory, 'manifest.json'), 'utf8')), made);
  assert.deepEqual(await openManifest(realDisk, directory, null), made);
  assert.deepEqual(await openManifest(realDisk, directory, 3), made);
  assert.deepEqual(await readdir(directory), ['manifest.json']);
});

test('another shard count is refused, names both counts and the command, and changes nothing', async (t) => {
  const directory = await tempDir(t);
  await openManifest(realDisk, directory, 3);
  const before = await readFile(join(directory, 'manifest.json'), 'utf8');
  await assert.rejects(openManifest(realDisk, directory, 4), (error: Error) => {
    assert.ok(error instanceof DataDirectoryError);
    assert.match(error.message, /\b3\b.*\b4\b.*reshard/);
    return true;
  });
  assert.equal(await readFile(join(directory, 'manifest.json'), 'utf8'), before);
});

test('without a setting a new directory gets at least one shard', async (t) => {
  const { shards } = await openManifest(realDisk, await tempDir(t), null);
  assert.ok(Number.isInteger(shards) && shards >= 1 && shards <= 64);
});

for (const [what, text] of [
  ['is empty', ''],
  ['is not JSON', '{"format":1,'],
  ['has another format', '{"format":2,"shards":1}'],
  ['has no shard count', '{"format":1}'],
  ['has a broken shard count', '{"format":1,"shards":1.5}'],
  ['has no shards', '{"format":1,"shards":0}'],
  ['is a list', '[]'],
] as const) {
  test(`a manifest that ${what} is refused with one line and left alone`, async (t) => {
    await refusesManifest(await tempDir(t), text);
  });
}

test('a manifest that is null is refused with one line and left alone', async (t) => {
  await refusesManifest(await tempDir(t), 'null');
});

async function refusesManifest(directory: string, text: string): Promise<void> {
  const path = join(directory, 'manifest.json');
  await writeFile(path, text);
  await assert.rejects(openManifest(realDisk, directory, null), (error: Error) => {
    assert.ok(error instanceof DataDirectoryError, String(error));
    assert.ok(error.message.includes(path) && !error.message.includes('\n'), error.message);
    return true;
  });
  assert.equal(await readFile(path, 'utf8'), text);
}

test('a crash while the manifest was written leaves no manifest, and the next start makes it', async (t) => {
  const directory = await tempDir(t);
  await writeFile(join(directory, 'manifest.json.new'), '{"form');
  assert.equal((await openManifest(realDisk, directory, 2)).shards, 2);
});

test('shard directories sort by number', async (t) => {
  const directory = await tempDir(t);
  for (const shard of [0, 9, 10, 63]) await mkdir(shardDirectory(directory, shard));
  assert.deepEqual((await readdir(directory)).sort(), ['shard-00', 'shard-09', 'shard-10', 'shard-63']);
});
