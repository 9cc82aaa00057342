/** The command `reshard`. */
import assert from 'node:assert/strict';
import { readdir, readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { type ApiAgent, HttpClient } from '../support/http.js';
import { killPoints, seededRandom, seedFor } from '../support/seed.js';
import { runCommand } from '../support/server.js';
import { tempDir } from '../support/temp-dir.js';
import { assertSound, crashing, tool, World } from './world.js';

interface ShownReshard {
  readonly from: number;
  readonly to: number;
  readonly events: number;
  readonly compared_rows: number;
  readonly original: string | null;
  readonly continued: boolean;
}

test('1 to 3 to 2 shards keep state, registry order, tokens, queues in order and every event', async (t) => {
  const world = await World.stopped(t, { shards: 1 });
  const events = await world.server.events();
  for (const [from, to] of [
    [1, 3],
    [3, 2],
  ] as const) {
    const { id } = await world.manifest();
    const report = await tool<ShownReshard>('reshard', '--shards', String(to), '--data-dir', world.dataDir);
    assert.deepEqual([report.from, report.to, report.continued], [from, to, false]);
    assert.equal(report.events, (await world.server.events()).length);
    assert.notEqual((await world.manifest()).id, id, 'what was derived from the old logs does not fit any more');
    assert.ok(report.original !== null);
    await assertSound(report.original);
    const sound = await assertSound(world.dataDir);
    assert.equal(sound.shards, to);
    assert.deepEqual((await world.server.events()).slice(0, events.length), events);
    await world.restartWith(to);
    assert.deepEqual(await world.visible(), world.visibleBefore);
    await world.assertTokens();
    if (to !== 2) await world.server.stop();
  }
  await world.assertQueues();
  // Old names and new ones side by side.
  world.agents.push(await world.register());
  await world.live();
  await world.assertTokens();
  await world.server.kill9();
  await world.restartWith(2);
  await world.assertQueues();
  await world.assertTokens();
  await world.server.stop();
  await assertSound(world.dataDir);
});

test('leases, archived segments and the original server key survive', async (t) => {
  const world = await World.stopped(t);
  await world.server.start();
  const [sender, reader] = world.agents;
  assert.ok(sender !== undefined && reader !== undefined);
  await world.assertQueues();
  await sender.message(reader.address, 'on loan');
  const answer = await reader.get('/v1/messages?ack=manual&visibility=3600');
  const { messages } = answer.json<{ messages: { lease_id: string }[] }>();
  await world.live();
  await world.assertQueues();
  await world.live();
  await world.server.stop();
  const { archived } = await tool<{ archived: unknown[] }>('archive', '--data-dir', world.dataDir);
  assert.ok(archived.length > 0);
  await tool('reshard', '--shards', '3', '--data-dir', world.dataDir, '--remove-original');
  const names = await readdir(world.dataDir);
  assert.deepEqual(
    names.filter((name) => name.includes('reshard')),
    [],
  );
  await assertSound(world.dataDir);
  await world.restartWith(3);
  const acked = await reader.post('/v1/messages/ack', { lease_ids: messages.map(({ lease_id }) => lease_id) });
  assert.deepEqual(acked.json(), { acked: 1, unknown: [] });
  await world.assertQueues();
});

test('a revoked token stays refused, and one whose halves lie in two shards can be revoked', async (t) => {
  const world = await World.stopped(t, { shards: 1, env: { TABULUM_ADMIN_KEY: 'admin-key' } });
  await world.server.start();
  const admin = new HttpClient(() => world.server.adminPort);
  t.after(async () => admin.close());
  const revoke = async (agent: ApiAgent): Promise<void> => {
    const answer = await admin.post('/admin/revoke', { type: 'agent', address: agent.address }, 'admin-key');
    assert.equal(answer.status, 200, answer.text);
  };
  const revoked = [await world.register(), await world.register()] as const;
  await revoke(revoked[0]);
  await world.server.stop();
  await tool('reshard', '--shards', '3', '--data-dir', world.dataDir);
  await assertSound(world.dataDir);
  await world.restartWith(3);
  assert.equal((await revoked[0].get('/v1/agents/me')).status, 401);
  assert.equal((await revoked[1].get('/v1/agents/me')).status, 200);
  await revoke(revoked[1]);
  const more = await Promise.all(Array.from({ length: 6 }, () => world.register()));
  await world.server.kill9();
  await assertSound(world.dataDir);
  await world.restartWith(3);
  for (const agent of revoked) assert.equal((await agent.get('/v1/agents/me')).status, 401);
  for (const agent of more) assert.equal((await agent.get('/v1/agents/me')).status, 200);
  await world.server.stop();
  await tool('reshard', '--shards', '2', '--data-dir', world.dataDir);
  await assertSound(world.dataDir);
  await world.restartWith(2);
  for (const agent of revoked) assert.equal((await agent.get('/v1/agents/me')).status, 401);
  for (const agent of more) assert.equal((await agent.get('/v1/agents/me')).status, 200);
});

test('the original that is kept is a data directory that can be served again', async (t) => {
  const world = await World.stopped(t);
  const { original } = await tool<ShownReshard>('reshard', '--shards', '1', '--data-dir', world.dataDir);
  assert.ok(original !== null);
  const parent = await tempDir(t);
  await rename(original, join(parent, 'original'));
  await rename(world.dataDir, join(parent, 'resharded'));
  await rename(join(parent, 'original'), world.dataDir);
  await world.restartWith(2);
  assert.deepEqual(await world.visible(), world.visibleBefore);
  await world.assertTokens();
  await world.assertQueues();
});

test('what can not be done is refused in one line and changes nothing', async (t) => {
  const world = await World.stopped(t);
  await world.server.start();
  const refused = async (pattern: RegExp, exitCode: number, ...args: string[]): Promise<void> => {
    const { code, stderr } = await runCommand(['reshard', ...args]);
    assert.equal(code, exitCode, stderr);
    const lines = stderr.split('\n').filter((line) => line !== '' && !line.startsWith('{'));
    assert.equal(lines.length, 1, stderr);
    assert.match(lines[0] as string, pattern);
  };
  await refused(/in use by another running server/, 1, '--shards', '3', '--data-dir', world.dataDir);
  await world.server.stop();
  await refused(/has 2 shards already/, 1, '--shards', '2', '--data-dir', world.dataDir);
  await refused(/required option '--shards/, 2, '--data-dir', world.dataDir);
  await refused(/from 1 to 64/, 2, '--shards', '65', '--data-dir', world.dataDir);
  await refused(/is not a data directory/, 1, '--shards', '3', '--data-dir', join(world.dataDir, 'nothing'));
  const damagedPath = join(world.dataDir, 'shard-00', 'log', '00000001.ndjson');
  const bytes = await readFile(damagedPath);
  bytes[100] = (bytes[100] as number) ^ 1;
  await writeFile(damagedPath, bytes);
  await refused(/00000001\.ndjson at 0 is damaged: see "verify"/, 1, '--shards', '3', '--data-dir', world.dataDir);
  assert.equal((await world.manifest()).shards, 2);
});

test('a server that ran between two attempts makes the build start over, with what it added', async (t) => {
  const world = await World.stopped(t, { shards: 1 });
  const { changes } = await crashing(0, 'reshard', '--shards', '2', '--data-dir', await world.copyTo(await tempDir(t)));
  // In the middle of the build: the mark of the switch comes near the end.
  const { killed } = await crashing(Math.floor(changes / 3), 'reshard', '--shards', '2', '--data-dir', world.dataDir);
  assert.ok(killed);
  await world.server.start();
  await world.live();
  const before = await world.visible();
  await world.server.stop();
  const report = await tool<ShownReshard>('reshard', '--shards', '2', '--data-dir', world.dataDir);
  assert.equal(report.continued, false);
  await assertSound(world.dataDir);
  await world.restartWith(2);
  assert.deepEqual(await world.visible(), before);
  await world.assertQueues();
});

/** A server, and a reshard to another count, refuse a directory in the middle of a switch to three shards. */
async function assertOnlyTheSameReshard(dataDir: string): Promise<void> {
  const served = await runCommand(['serve', '--data-dir', dataDir, '--listen', '127.0.0.1:0']);
  assert.equal(served.code, 1);
  assert.match(served.stderr, /holds an unfinished reshard: run the command "reshard" again/);
  const other = await runCommand(['reshard', '--shards', '4', '--data-dir', dataDir]);
  assert.equal(other.code, 1);
  assert.match(other.stderr, /finish the reshard to 3 shards first/);
}

test('kill -9 at any change of a file: the same command goes on, and no server starts in a half-done switch', async (t) => {
  const seed = seedFor(t);
  const random = seededRandom(seed);
  const world = await World.stopped(t);
  const events = (await world.server.events()).length;
  const args = ['reshard', '--shards', '3', '--data-dir', world.dataDir];
  const trial = await world.copyTo(await tempDir(t));
  const { changes } = await crashing(0, 'reshard', '--shards', '3', '--data-dir', trial);
  assert.ok(changes > 15, `${changes} changes`);
  let refusals = 0;
  const points = [...Array.from({ length: killPoints(4) - 1 }, () => changes - random(16)), 1 + random(changes - 16)];
  for (const point of points) {
    const parent = await tempDir(t);
    const dataDir = await world.copyTo(parent);
    const again = ['reshard', '--shards', '3', '--data-dir', dataDir];
    assert.ok((await crashing(point, ...again)).killed, `SEED=${seed}: not killed at ${point}`);
    if ((await readdir(dataDir)).includes('reshard-unfinished.json')) {
      refusals += 1;
      // The file is what both go by: once is enough.
      if (refusals === 1) await assertOnlyTheSameReshard(dataDir);
    }
    // And a second time, while it goes on.
    await crashing(1 + random(12), ...again);
    const { code, stderr } = await runCommand(again);
    assert.ok(code === 0 || /has 3 shards already/.test(stderr), `SEED=${seed} ${point}: ${stderr}`);
    const sound = await assertSound(dataDir);
    assert.deepEqual([sound.shards, sound.events], [3, events], `SEED=${seed} ${point}`);
    assert.deepEqual(
      (await readdir(dataDir)).filter((name) => /^reshard-/.test(name)),
      [],
    );
  }
  t.diagnostic(`${points.length} kills, ${refusals} of them within the switch`);
  await tool(...args);
  assert.equal((await world.manifest()).shards, 3);
  assert.equal((await world.server.events()).length, events);
  await assertSound(world.dataDir);
  await world.restartWith(3);
  assert.deepEqual(await world.visible(), world.visibleBefore);
  await world.assertTokens();
  await world.assertQueues();
});
