/** Threads of a real server die: what was in flight gets 503, the others go on, and what was acknowledged is there. */
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { assertError, inParallel, Rig } from '../api/rig.js';
import { FAST } from '../api/topologies.js';
import { makeTempDir, removeTempDir } from '../support/temp-dir.js';
import { waitUntil } from '../support/wait.js';
import { observed, statuses } from './fault-matrix.js';
import type { KillCommand } from './thread-killer.js';

const KEYS = 16;
const KILLER = new URL('./thread-killer.js', import.meta.url).href;

interface Killable {
  readonly rig: Rig;
  kill(command: KillCommand): Promise<void>;
}

async function startKillable(t: TestContext, config: object): Promise<Killable> {
  const directory = await makeTempDir();
  t.after(() => removeTempDir(directory));
  const commandFile = join(directory, 'command.json');
  const env = { NODE_OPTIONS: `--import ${KILLER}`, FAULTS_COMMAND: commandFile };
  const rig = await Rig.start(t, { config: { ...FAST, ...config }, env });
  return {
    rig,
    kill: async (command) => {
      await writeFile(commandFile, JSON.stringify(command));
      process.kill(rig.server.pid, 'SIGUSR2');
    },
  };
}

for (const how of ['terminate', 'throw'] as const) {
  test(`a shard thread that dies (${how}) with LMDB open is restarted through recovery while the others serve`, async (t) => {
    const { rig, kill } = await startKillable(t, { topology: { gateways: 1, shards: 2 } });
    const agent = await rig.agent();
    const inbox = await rig.agent();
    /** Of each key what was acknowledged last, and behind it what was answered 503 since. */
    const possible = new Map<string, string[]>();
    const refused = new Set<string>();
    const seen = { writes: new Set<number>(), reads: new Set<number>() };
    let stopped = false;
    let writes = 0;
    const assertPossible = (key: string, found: unknown): void => {
      const values = possible.get(key);
      assert.ok(values === undefined || values.includes(String(found)), `${key} is ${found}; possible: ${values}`);
    };
    const lanes = inParallel(KEYS, KEYS, async (index) => {
      const key = `key ${index}`;
      while (!stopped) {
        const value = `${writes++}`;
        const answer = await agent.write(key, value);
        seen.writes.add(answer.status);
        if (answer.status === 200) possible.set(key, [value]);
        else {
          assertError(answer, 'unavailable', 'of a dead shard');
          refused.add(key);
          possible.get(key)?.push(value);
        }
        const read = await agent.read(key);
        if (read.status !== 404) seen.reads.add(read.status);
        if (read.status === 200) assertPossible(key, read.json().value);
      }
    });
    await waitUntil(() => writes > 300, { timeoutMs: 20_000, what: 'load' });
    for (let n = 0; n < 5; n++) assert.equal((await agent.message(inbox.address, `${n}`)).status, 202);
    await kill({ thread: 'shard-0', how });
    await waitUntil(async () => (await rig.server.metric('tabulum_shard_reopenings_total')) === 1, {
      timeoutMs: 20_000,
      what: 'the shard is opened again',
    });
    const after = writes + 300;
    await waitUntil(() => writes > after, { timeoutMs: 20_000, what: 'load after the death' });
    stopped = true;
    await lanes;
    assert.ok(refused.size > 0, 'somebody met the dead shard');
    assert.ok(refused.size < KEYS, 'keys of the other shard never did');
    for (const key of possible.keys()) assertPossible(key, (await agent.read(key)).json().value);
    assert.deepEqual(
      (await inbox.receive(10)).messages.map(({ content }) => content),
      ['0', '1', '2', '3', '4'],
    );
    await rig.server.kill9();
    await rig.server.restart();
    for (const key of possible.keys()) assertPossible(key, (await agent.read(key)).json().value);
    observed('a shard thread dies', {
      writes: statuses(seen.writes),
      reads: statuses(seen.reads),
      after: 'opened again through recovery; other shards never noticed',
    });
  });
}

test('three deaths within a minute end the process with a code that is not 0', async (t) => {
  const { rig, kill } = await startKillable(t, { topology: { gateways: 1, shards: 1 } });
  const { pid } = rig.server;
  for (let death = 1; death <= 3; death++) {
    await kill({ thread: 'shard-0', how: 'throw' });
    const died = (): number => rig.server.stderr().filter((line) => line.includes('"thread died"')).length;
    await waitUntil(() => died() === death, { timeoutMs: 20_000, what: `death ${death}` });
    if (death === 3) break;
    const isBack = async (): Promise<boolean> => (await rig.server.metric('tabulum_shard_reopenings_total')) === death;
    await waitUntil(isBack, { timeoutMs: 20_000, what: 'the shard is back' });
  }
  const code = await rig.server.exitCode();
  assert.throws(() => process.kill(pid, 0), 'the process is gone');
  observed('three thread deaths within a minute', {
    writes: 'no answer',
    reads: 'no answer',
    after: `the process ends with code ${code}`,
  });
});

test('a bcrypt thread that dies answers 503 to its request, and another takes its place', async (t) => {
  const { rig, kill } = await startKillable(t, {
    topology: { gateways: 1, shards: 1 },
    auth: { scheme: 'bcrypt', bcrypt_cost: 13, pool_threads: 1 },
  });
  const registration = rig.client.post('/v1/operators', { contact_hash: 'in flight', accept_terms: true });
  const isRunning = async (): Promise<boolean> => (await rig.server.metric('tabulum_bcrypt_running')) === 1;
  await waitUntil(isRunning, { timeoutMs: 10_000, what: 'a bcrypt under way' });
  await kill({ thread: 'piscina', how: 'terminate' });
  const refused = await registration;
  assertError(refused, 'unavailable');
  const health = await rig.client.get('/v1/health');
  const again = await rig.client.post('/v1/operators', { contact_hash: 'after', accept_terms: true });
  assert.equal(again.status, 201, again.text);
  observed('a bcrypt thread dies', {
    writes: statuses([refused.status]),
    reads: statuses([health.status]),
    after: 'another thread takes its place',
  });
});
