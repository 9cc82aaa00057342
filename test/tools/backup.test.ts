/** The commands `backup` and `restore`. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, readdir, readFile, rename, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { listBackups } from '../../src/shards/tools/backup-records.js';
import type { ApiAgent } from '../support/http.js';
import { killPoints, seededRandom, seedFor } from '../support/seed.js';
import { runCommand } from '../support/server.js';
import { tempDir } from '../support/temp-dir.js';
import { waitUntil } from '../support/wait.js';
import { assertSound, crashing, tool, World } from './world.js';

interface ShownBackup {
  readonly generation: string;
  readonly last_seq: number;
  readonly files: number;
  readonly bytes: number;
  readonly linked_bytes: number;
  readonly pruned: readonly string[];
  readonly verification: { readonly ok: boolean } | null;
}

interface ShownRestore {
  readonly generation: string;
  readonly last_seq: number;
  readonly verification: { readonly ok: boolean } | null;
}

/** Puts a restored directory in the place of the server's, and starts it. */
async function restoreInPlace(world: World, backup: string): Promise<ShownRestore> {
  await rename(world.dataDir, `${world.dataDir}-before`);
  const report = await tool<ShownRestore>('restore', backup, '--data-dir', world.dataDir);
  await world.server.start();
  return report;
}

async function treeOf(directory: string): Promise<string[]> {
  return (await readdir(directory, { recursive: true })).sort();
}

test('a backup of a stopped server brings everything back: state, registry, tokens, queues, events', async (t) => {
  const world = await World.stopped(t);
  const backups = await tempDir(t);
  const events = await world.server.events();
  const made = await tool<ShownBackup>('backup', backups, '--data-dir', world.dataDir, '--verify');
  assert.equal(made.verification?.ok, true);
  assert.equal(made.last_seq, events.at(-1)?.seq);
  const restored = await restoreInPlace(world, backups);
  assert.equal(restored.verification?.ok, true);
  assert.equal(restored.generation, made.generation);
  assert.deepEqual((await world.server.events()).slice(0, events.length), events);
  assert.deepEqual(await world.visible(), world.visibleBefore);
  await world.assertTokens();
  await world.assertQueues();
  await world.register();
  await world.live();
});

test('a backup under load holds no effect without its cause, and every registration in it has its token', async (t) => {
  const world = await World.stopped(t);
  await world.server.start();
  const backups = await tempDir(t);
  const [writer, other] = world.agents as [ApiAgent, ApiAgent];
  const keys = Array.from({ length: 6 }, (_, i) => `chain/${i}`);
  let turn = 0;
  const newcomers: ApiAgent[] = [];
  let begun = 1;
  let stop = false;
  t.after(async () => {
    stop = true;
  });
  // So many steps of load for each backup: its amount does not grow where the commands are slow.
  const lane = async (stepsPerBackup: number, step: () => Promise<unknown>): Promise<void> => {
    for (let steps = 0; !stop; steps++) {
      if (steps >= begun * stepsPerBackup) {
        await waitUntil(() => stop || steps < begun * stepsPerBackup, { timeoutMs: 60_000, what: 'the next backup' });
      }
      if (!stop) await step();
    }
  };
  const lanes = Promise.all([
    lane(30, async () => {
      turn += 1;
      for (const key of keys) await writer.write(key, String(turn));
    }),
    lane(20, async () => newcomers.push(await world.register())),
    lane(20, () => Promise.all(Array.from({ length: 20 }, (_, i) => other.write(`noise/${i}`, 'n'.repeat(500))))),
  ]);
  await waitUntil(() => turn > 2 && newcomers.length > 0, { timeoutMs: 30_000, what: 'the load has begun' });
  const made: { report: ShownBackup; turnBefore: number; agentsBefore: number }[] = [];
  for (; begun <= 2; begun++) {
    const [turnBefore, agentsBefore] = [turn - 1, newcomers.length];
    const report = await tool<ShownBackup>('backup', backups, '--data-dir', world.dataDir, '--verify');
    assert.equal(report.verification?.ok, true);
    made.push({ report, turnBefore, agentsBefore });
  }
  stop = true;
  await lanes;
  assert.ok(
    turn - 1 > (made[1]?.turnBefore ?? turn),
    'nothing was written during the second backup: nothing is tested',
  );
  await world.server.kill9();

  for (const { report, turnBefore, agentsBefore } of made) {
    await rm(`${world.dataDir}-before`, { recursive: true, force: true });
    await restoreInPlace(world, report.generation);
    const values = await Promise.all(keys.map(async (key) => Number((await writer.read(key)).json().value ?? 0)));
    for (let i = 1; i < values.length; i++) {
      const [cause, effect] = [values[i - 1] as number, values[i] as number];
      assert.ok(cause >= effect && cause <= effect + 1, `${values}: ${keys[i]} was written after ${keys[i - 1]}`);
    }
    assert.ok((values[0] as number) >= turnBefore, `${values}: turn ${turnBefore} was acknowledged before the backup`);
    const { agents } = (await writer.get('/v1/registry?limit=1000')).json<{ agents: { address: string }[] }>();
    const registered = new Set(agents.map(({ address }) => address));
    for (const [index, agent] of newcomers.entries()) {
      const status = (await agent.get('/v1/agents/me')).status;
      assert.equal(status, registered.has(agent.address) ? 200 : 401);
      if (index < agentsBefore) assert.equal(status, 200, 'registered before the backup began');
    }
    await world.server.kill9();
    await assertSound(world.dataDir);
  }
});

test('generations share what did not change, the oldest go, and the data directory knows of those that are left', async (t) => {
  const world = await World.stopped(t);
  const backups = await tempDir(t);
  const first = await tool<ShownBackup>('backup', backups, '--data-dir', world.dataDir);
  assert.equal(first.linked_bytes, 0);
  await world.server.start();
  await world.live();
  // A file's time is trusted once it is two seconds old: one generation copies, the next one links.
  await new Promise((resolve) => setTimeout(resolve, 2_100));
  await tool<ShownBackup>('backup', backups, '--data-dir', world.dataDir);
  const third = await tool<ShownBackup>('backup', backups, '--data-dir', world.dataDir, '--keep', '2');
  assert.ok(third.linked_bytes > third.bytes / 4, `${third.linked_bytes} of ${third.bytes} bytes`);
  assert.deepEqual(third.pruned, [first.generation]);
  assert.equal((await readdir(backups)).length, 2);
  const records = listBackups(world.dataDir);
  assert.equal(records.length, 2);
  assert.deepEqual(records.map(({ path, lastSeq, isPresent }) => [path, lastSeq, isPresent])[1], [
    third.generation,
    third.last_seq,
    true,
  ]);
  await rm(third.generation, { recursive: true });
  assert.equal(listBackups(world.dataDir)[1]?.isPresent, false);
  await world.server.kill9();
});

test('a segment that was changed in place, or archived, since the last generation is not taken for the same', async (t) => {
  const world = await World.stopped(t);
  const backups = await tempDir(t);
  await new Promise((resolve) => setTimeout(resolve, 2_100));
  await tool<ShownBackup>('backup', backups, '--data-dir', world.dataDir);
  const path = join('shard-00', 'log', '00000001.ndjson');
  const changed = await readFile(join(world.dataDir, path));
  changed[50] = 0x2a;
  await writeFile(join(world.dataDir, path), changed);
  const second = await tool<ShownBackup>('backup', backups, '--data-dir', world.dataDir);
  assert.ok((await readFile(join(second.generation, path))).equals(changed));
});

test('archived segments are backed up and restored', async (t) => {
  const world = await World.stopped(t);
  const backups = await tempDir(t);
  const { archived } = await tool<{ archived: unknown[] }>('archive', '--data-dir', world.dataDir);
  assert.ok(archived.length > 0);
  await tool<ShownBackup>('backup', backups, '--data-dir', world.dataDir, '--verify');
  await restoreInPlace(world, backups);
  assert.deepEqual(await world.visible(), world.visibleBefore);
  await world.assertQueues();
});

test('a damaged backup is not restored, and says which file', async (t) => {
  const world = await World.stopped(t);
  const parent = await tempDir(t);
  const backups = join(parent, 'backups');
  const { generation } = await tool<ShownBackup>('backup', backups, '--data-dir', world.dataDir);
  const damaged = join(generation, 'shard-01', 'log', '00000001.ndjson');
  const bytes = await readFile(damaged);
  bytes[100] = (bytes[100] as number) ^ 1;
  await writeFile(damaged, bytes);
  const target = join(parent, 'restored');
  const { code, stderr } = await runCommand(['restore', backups, '--data-dir', target]);
  assert.equal(code, 1);
  assert.match(stderr, /shard-01\/log\/00000001\.ndjson is damaged: its checksum/);
  const served = await runCommand(['serve', '--data-dir', target, '--listen', '127.0.0.1:0']);
  assert.equal(served.code, 1);
  assert.match(served.stderr, /holds an unfinished restore/);
});

test('a target that holds anything, a backup that holds nothing, and a wrong usage are refused in one line', async (t) => {
  const world = await World.stopped(t);
  await world.server.start();
  const parent = await tempDir(t);
  const refused = async (pattern: RegExp, exitCode: number, ...args: string[]): Promise<void> => {
    const { code, stdout, stderr } = await runCommand(args);
    assert.equal(code, exitCode, stderr);
    assert.equal(stdout, '');
    assert.match(stderr, pattern);
    assert.equal(stderr.trim().split('\n').length, 1, stderr);
  };
  const backups = join(parent, 'b');
  await tool('backup', backups, '--data-dir', world.dataDir);
  await mkdir(join(parent, 'full'));
  await writeFile(join(parent, 'full', 'x'), '');
  await refused(/is not empty/, 1, 'restore', backups, '--data-dir', join(parent, 'full'));
  await refused(/in use/, 1, 'restore', backups, '--data-dir', world.dataDir);
  await refused(/holds no complete backup/, 1, 'restore', join(parent, 'full'), '--data-dir', join(parent, 'r'));
  await refused(
    /can not lie in the data directory/,
    1,
    'backup',
    join(world.dataDir, 'b'),
    '--data-dir',
    world.dataDir,
  );
  await refused(/is not a data directory/, 1, 'backup', backups, '--data-dir', join(parent, 'nothing'));
  await refused(/missing required argument/, 2, 'backup');
  await refused(/whole number/, 2, 'backup', backups, '--keep', '0');

  const neighbour = await World.stopped(t);
  await writeFile(
    join(neighbour.dataDir, 'manifest.json'),
    JSON.stringify({ ...(await neighbour.manifest()), id: randomUUID() }),
  );
  await refused(/of another data directory/, 1, 'backup', backups, '--data-dir', neighbour.dataDir);
});

test('kill -9 at any change of a file during a backup leaves the earlier backup whole, and the next one succeeds', async (t) => {
  const seed = seedFor(t);
  const random = seededRandom(seed);
  const world = await World.stopped(t);
  const backups = await tempDir(t);
  // Some are old enough to be linked from the generation before, some will always be copied, however long this takes.
  for (const [index, name] of (await treeOf(world.dataDir)).entries()) {
    const time = new Date(Date.now() + (index % 2 ? -3_600_000 : 3_600_000));
    await utimes(join(world.dataDir, name), time, time);
  }
  const first = await tool<ShownBackup>('backup', backups, '--data-dir', world.dataDir);
  const expected = await treeOf(first.generation);
  const args = ['backup', backups, '--data-dir', world.dataDir, '--keep', '100'];
  const { changes } = await crashing(0, ...args);
  assert.ok(changes > 20, `${changes} changes`);
  const points = new Set([1, 2, 3 + random(3), changes - 2]);
  while (points.size < killPoints(5)) points.add(1 + random(changes));
  let kills = 0;
  for (const point of points) {
    const { killed, result } = await crashing(point, ...args);
    // A run that takes over what a killed one left behind has less to do, and may be over before its point.
    if (killed) kills += 1;
    else assert.equal(result.code, 0, `SEED=${seed}: neither killed at ${point} nor done`);
    assert.deepEqual(await treeOf(first.generation), expected);
    const incomplete = listBackups(world.dataDir).filter(({ lastSeq }) => lastSeq === null);
    assert.ok(incomplete.length <= 2, 'this one, and the one before, whose files may be taken over');
  }
  assert.ok(kills >= 3, `SEED=${seed}: ${kills} kills`);
  const last = await tool<ShownBackup>(...args, '--verify');
  assert.equal(last.verification?.ok, true);
  for (const { path } of listBackups(world.dataDir)) await stat(join(path, 'backup.json'));
});

test('kill -9 at any change of a file during a restore: no server starts, and the same restore goes on', async (t) => {
  const seed = seedFor(t);
  const random = seededRandom(seed);
  const world = await World.stopped(t);
  const parent = await tempDir(t);
  const backups = join(parent, 'backups');
  await tool('backup', backups, '--data-dir', world.dataDir);
  const before = await treeOf(backups);
  const { changes } = await crashing(0, 'restore', backups, '--data-dir', join(parent, 'whole'), '--no-verify');
  const target = join(parent, 'target');
  const args = ['restore', backups, '--data-dir', target, '--no-verify'];
  const sampled = Array.from({ length: killPoints(5) - 3 }, () => 3 + random(changes - 5));
  const points = [1, 2, ...sampled, changes - 3].sort((a, b) => a - b);
  let refusals = 0;
  for (const point of points) {
    const { killed } = await crashing(point, ...args);
    if (!killed) break;
    const names = existsSync(target) ? await treeOf(target) : [];
    if (names.includes('restore-unfinished.json')) {
      refusals += 1;
      if (refusals > 1) continue; // the file is what a server goes by
      const served = await runCommand(['serve', '--data-dir', target, '--listen', '127.0.0.1:0']);
      assert.equal(served.code, 1);
      assert.match(served.stderr, /holds an unfinished restore/, `SEED=${seed} ${point}`);
    } else {
      assert.deepEqual(
        names.filter((name) => name !== 'restore-unfinished.json.new'),
        [],
        `SEED=${seed} ${point}`,
      );
    }
  }
  assert.ok(refusals > 0);
  const finished = await runCommand(args);
  assert.ok(finished.code === 0 || /is not empty/.test(finished.stderr), finished.stderr);
  await assertSound(target);
  assert.deepEqual(await treeOf(backups), before, 'the backup is as it was');
});
