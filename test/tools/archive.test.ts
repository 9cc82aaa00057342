/** The command `archive`. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { copyFile, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { lockForTools } from '../../src/shards/data-directory.js';
import { HttpClient } from '../support/http.js';
import { killPoints, seededRandom, seedFor } from '../support/seed.js';
import { runCommand } from '../support/server.js';
import { tempDir } from '../support/temp-dir.js';
import { waitUntil } from '../support/wait.js';
import { assertSound, crashing, tool, World } from './world.js';

interface ShownArchive {
  readonly archived: readonly { readonly shard: number; readonly segment: number; readonly plain_bytes: number }[];
  readonly kept: readonly { readonly shard: number; readonly segment: number }[];
  readonly plain_bytes: number;
  readonly archive_bytes: number;
}

/** Plain content of every segment, by its path without endings. */
async function contents(dataDir: string): Promise<Map<string, string>> {
  const found = new Map<string, string>();
  for (const name of (await readdir(dataDir, { recursive: true })).sort()) {
    const path = join(dataDir, name);
    const segment = name.replace(/\.ndjson(\.gz)?$/, '');
    if (name.endsWith('.ndjson')) found.set(segment, await readFile(path, 'utf8'));
    else if (name.endsWith('.ndjson.gz') && !found.has(segment)) {
      found.set(segment, execFileSync('gunzip', ['-c', path], { maxBuffer: 2 ** 27, encoding: 'utf8' }));
    }
  }
  return found;
}

test('archived segments hold the same lines, in less room, and the server goes on with them', async (t) => {
  const world = await World.stopped(t);
  const plain = await contents(world.dataDir);
  const report = await tool<ShownArchive>('archive', '--data-dir', world.dataDir);
  assert.ok(report.archived.length > 0);
  assert.ok(report.archive_bytes < report.plain_bytes / 2);
  assert.deepEqual(await contents(world.dataDir), plain);
  await assertSound(world.dataDir);
  const again = await tool<ShownArchive>('archive', '--data-dir', world.dataDir);
  assert.deepEqual([again.archived, again.kept], [[], report.kept]);
  await world.server.start();
  assert.deepEqual(await world.visible(), world.visibleBefore);
  await world.assertQueues();
  await world.live();
  await world.server.stop();
  await assertSound(world.dataDir);
});

test('segments with a message that waits or is leased stay plain, until it is delivered', async (t) => {
  const world = await World.start(t, { shards: 1, rounds: 0 });
  const [sender, reader] = world.agents;
  assert.ok(sender !== undefined && reader !== undefined);
  await sender.message(reader.address, 'leased early');
  const leased = (await reader.get('/v1/messages?ack=manual&visibility=3600')).json<{
    messages: { lease_id?: string }[];
  }>();
  const lease = leased.messages[0]?.lease_id;
  assert.ok(lease !== undefined, 'the message is on loan');
  await world.live();
  await world.live();
  await world.server.stop();
  const report = await tool<ShownArchive>('archive', '--data-dir', world.dataDir);
  const segments = report.archived.map(({ segment }) => segment);
  assert.ok(!segments.includes(1), `${segments}`);
  assert.ok(report.kept.some(({ segment }) => segment === 1));
  await world.server.start();
  assert.equal((await reader.post('/v1/messages/ack', { lease_ids: [lease] })).json().acked, 1);
  await world.assertQueues();
  await world.live();
  await world.server.stop();
  const later = await tool<ShownArchive>('archive', '--data-dir', world.dataDir);
  assert.ok(later.archived.some(({ segment }) => segment === 1));
  await world.server.start();
  await world.assertQueues();
});

test('a message in a segment that was archived by hand is still delivered', async (t) => {
  const world = await World.stopped(t, { shards: 1 });
  const logDir = join(world.dataDir, 'shard-00', 'log');
  const moved = await tool<ShownArchive>('archive', '--data-dir', world.dataDir);
  assert.ok(moved.archived.length > 0);
  // Both files are there, as after a crash between them: the plain one counts.
  const name = '00000001.ndjson';
  const isArchived = (await readdir(logDir)).includes(`${name}.gz`);
  if (isArchived) {
    const plain = execFileSync('gunzip', ['-c', join(logDir, `${name}.gz`)], { maxBuffer: 2 ** 27 });
    await writeFile(join(logDir, name), plain);
    await copyFile(join(logDir, `${name}.gz`), join(logDir, `${name}.gz.new`));
  }
  await assertSound(world.dataDir);
  await world.server.start();
  await world.assertQueues();
});

test('it works beside a running server, which goes on reading and delivering from what became an archive', async (t) => {
  const world = await World.stopped(t);
  await world.server.start();
  await world.assertQueues();
  let stop = false;
  t.after(async () => {
    stop = true;
  });
  const load = (async () => {
    for (let turns = 0; turns < 4 && !stop; turns++) await world.live();
  })();
  const segments = async (): Promise<string[]> =>
    (await readdir(world.dataDir, { recursive: true })).filter((name) => name.endsWith('.ndjson.gz'));
  for (let i = 0; i < 2; i++) await tool<ShownArchive>('archive', '--data-dir', world.dataDir);
  stop = true;
  await load;
  assert.ok((await segments()).length > 0, 'something was archived');
  await world.assertQueues();
  const before = await world.visible();
  await world.assertTokens();
  await world.server.kill9();
  await assertSound(world.dataDir);
  await world.server.start();
  assert.deepEqual(await world.visible(), before);
});

test('a removal by law and an archiving at the same time leave nothing of the content', async (t) => {
  const env = { TABULUM_ADMIN_KEY: 'admin-key' };
  const world = await World.start(t, { shards: 1, rounds: 0, env });
  const admin = new HttpClient(() => world.server.adminPort);
  t.after(async () => admin.close());
  const [agent] = world.agents;
  assert.ok(agent !== undefined);
  const secrets = Array.from({ length: 4 }, (_, i) => `to be removed ${i} `);
  for (const [i, secret] of secrets.entries()) {
    await agent.write(`removed/${i}`, secret.repeat(50));
    await world.live();
  }
  await world.assertQueues();
  await world.live();
  await world.assertQueues();
  let archiving = true;
  const archives = (async () => {
    while (archiving) await tool('archive', '--data-dir', world.dataDir);
  })();
  const isBegun = async (): Promise<boolean> =>
    (await readdir(join(world.dataDir, 'shard-00', 'log'))).some((name) => name.includes('.gz'));
  await waitUntil(isBegun, { timeoutMs: 20_000 });
  for (const [i] of secrets.entries()) {
    const body = { type: 'state', key: `removed/${i}`, reason: 'test' };
    const answer = await admin.post('/admin/remove', body, 'admin-key');
    assert.equal(answer.status, 200, answer.text);
  }
  archiving = false;
  await archives;
  await tool('archive', '--data-dir', world.dataDir);
  await world.server.stop();
  for (const [segment, text] of await contents(world.dataDir)) {
    for (const secret of secrets) assert.ok(!text.includes(secret), `${segment} holds "${secret}"`);
  }
  await assertSound(world.dataDir);
});

test('two commands that change a directory keep each other out', async (t) => {
  const world = await World.stopped(t);
  const lock = await lockForTools(world.dataDir);
  for (const args of [['archive'], ['reshard', '--shards', '2']]) {
    const { code, stderr } = await runCommand([...args, '--data-dir', world.dataDir]);
    assert.equal(code, 1);
    assert.match(stderr, /another command is at work on/);
  }
  await new Promise((closed) => lock.close(closed));
  await tool('archive', '--data-dir', world.dataDir);
});

test('kill -9 at any change of a file loses no line, and the next run finishes', async (t) => {
  const seed = seedFor(t);
  const random = seededRandom(seed);
  const world = await World.stopped(t);
  const plain = await contents(world.dataDir);
  const trial = await world.copyTo(await tempDir(t));
  const { changes } = await crashing(0, 'archive', '--data-dir', trial);
  assert.ok(changes > 10);
  for (const point of [
    1,
    2,
    4,
    ...Array.from({ length: killPoints(5) - 3 }, () => 1 + random(Math.floor(changes / 3))),
  ]) {
    const { killed, result } = await crashing(point, 'archive', '--data-dir', world.dataDir);
    assert.ok(killed || result.code === 0, `SEED=${seed} ${point} ${result.stderr}`);
    assert.deepEqual(await contents(world.dataDir), plain, `SEED=${seed} ${point}`);
  }
  await tool('archive', '--data-dir', world.dataDir);
  const names = await readdir(world.dataDir, { recursive: true });
  assert.deepEqual(
    names.filter((name) => name.endsWith('.new')),
    [],
  );
  assert.deepEqual(await contents(world.dataDir), plain);
  await assertSound(world.dataDir);
  await world.server.start();
  await world.assertQueues();
});
