/** What survives the end of the process, how it ends, and who may start. */
import assert from 'node:assert/strict';
import { createServer } from 'node:net';
import { after, before, describe, test } from 'node:test';
import { HttpClient, type ReceivedMessage } from '../support/http.js';
import { anyPorts, runCommand, startServer } from '../support/server.js';
import { tempDir } from '../support/temp-dir.js';
import { waitUntil } from '../support/wait.js';
import { CrashLoad } from './crash-load.js';
import { assertError, inParallel, Rig } from './rig.js';
import { FAST, ONE_SHARD, THREE_SHARDS, type Topology, TWO_GATEWAYS, topologySettings } from './topologies.js';

/** A refusal to start is one line for a person, after what the log had to say; no page, no stack. */
function assertOneLine(text: string, pattern: RegExp): void {
  const lines = text.split('\n').filter((line) => line !== '');
  const forPeople = lines.filter((line) => !line.startsWith('{'));
  assert.equal(forPeople.length, 1, text);
  assert.equal(lines.at(-1), forPeople[0], 'the refusal is the last word');
  assert.match(forPeople[0] ?? '', pattern);
  assert.doesNotMatch(text, /"level":(?:50|60)|\bat .*:\d+:\d+/, 'a refusal is no failure of the server');
}

/** One server for both tests, which follow one another. */
function suite(topology: Topology, crashes: number): void {
  let rig: Rig;
  before(async () => {
    const auth = { scheme: 'bcrypt', bcrypt_cost: 4, pool_threads: 1 };
    rig = await Rig.launch({ config: { ...FAST, ...topologySettings(topology), auth } });
  });
  after(() => rig.dispose());

  test('graceful restarts and kill -9 keep operators, agents, tokens, state, capacity and undelivered messages', async () => {
    const second = await rig.operator();
    const [alice, bob] = [await rig.agent(), await rig.agent(second)];
    const agents = [
      alice,
      bob,
      ...(await inParallel(4, 4, (index) => rig.agent(index % 2 ? second : rig.operatorKey))),
    ];
    const registry = (await alice.get('/v1/registry')).text;
    for (let round = 0; round < 2; round++) {
      const key = (index: number): string => `round ${round}/${index}`;
      await inParallel(30, 8, (index) => alice.write(key(index), `value ${index} \0😀`));
      await inParallel(10, 8, (index) => bob.remove(key(index)));
      await inParallel(10, 8, (index) => bob.write(key(10 + index), 'overwritten'));
      for (let index = 0; index < 12; index++) await alice.message(bob.address, `${round} ${index}`);
      const taken = (await bob.receive(5)).messages.map(({ content }) => content);
      const keys = (await alice.get('/v1/state?limit=1000')).text;
      const capacity = (await alice.get('/v1/state/_capacity')).text;
      const entries = await inParallel(30, 8, async (index) => (await alice.read(key(index))).text);

      if (round % 2) await rig.server.kill9();
      await rig.server.restart();

      assert.equal((await alice.get('/v1/registry')).text, registry);
      for (const agent of agents) {
        assert.equal((await agent.get('/v1/agents/me')).json().address, agent.address);
        assertError(await rig.client.get('/v1/agents/me', `${agent.token.slice(0, -2)}zz`), 'unauthorized');
      }
      for (const operatorKey of [rig.operatorKey, second]) await rig.challenge(operatorKey);
      assert.equal((await bob.get('/v1/state?limit=1000')).text, keys);
      assert.equal((await bob.get('/v1/state/_capacity')).text, capacity);
      assert.deepEqual(await inParallel(30, 8, async (index) => (await bob.read(key(index))).text), entries);
      const rest: ReceivedMessage[] = (await bob.receive(100)).messages;
      const contents = [...taken, ...rest.map(({ content }) => content)];
      assert.deepEqual(
        contents,
        Array.from({ length: 12 }, (_, index) => `${round} ${index}`),
      );
    }
    const newcomer = await rig.agent();
    assert.equal((await alice.message(newcomer.address, 'welcome')).status, 202);
    const seqs = (await rig.server.events()).map(({ seq }) => seq);
    assert.equal(new Set(seqs).size, seqs.length, 'a seq was given out twice');
    await rig.server.assertNoSecretLogged();
  });

  test(`kill -9 under load, ${crashes} times: what was acknowledged is there, nothing is received twice`, async (t) => {
    const [keeper, fetcher] = [await rig.agent(), await rig.agent()];
    const { used_bytes: otherBytes } = (await keeper.get('/v1/state/_capacity')).json<{ used_bytes: number }>();
    const load = new CrashLoad(rig.server, { workers: await inParallel(4, 4, () => rig.agent()), keeper, fetcher });
    for (let cycle = 0; cycle < crashes; cycle++) {
      await load.runUntil(400 + 37 * cycle, () => rig.server.kill9());
      await rig.server.restart();
      await load.assertState(otherBytes);
    }
    await load.assertMessages();
    t.diagnostic(`${load.acknowledged} requests acknowledged in ${crashes} lives`);
  });
}

// Servers start mostly on one core: two tests at a time use both.
describe('what survives', { concurrency: 2 }, () => {
  describe(TWO_GATEWAYS.name, { concurrency: 1 }, () => suite(TWO_GATEWAYS, 3));
  describe(ONE_SHARD.name, { concurrency: 1 }, () => suite(ONE_SHARD, 1));
  describe(THREE_SHARDS.name, { concurrency: 1 }, () => suite(THREE_SHARDS, 1));
});

describe('how it ends and who may start', { concurrency: 2 }, () => {
  test('SIGTERM under load ends it with code 0 in time, and what was acknowledged is there', async (t) => {
    const rig = await Rig.start(t, { config: { ...FAST, ...topologySettings(TWO_GATEWAYS) } });
    const [keeper, fetcher] = [await rig.agent(), await rig.agent()];
    const load = new CrashLoad(rig.server, { workers: await inParallel(4, 4, () => rig.agent()), keeper, fetcher });
    await load.runUntil(400, () => rig.server.stop());
    await rig.server.restart();
    await load.assertState();
    await load.assertMessages();
  });

  for (const gateways of [1, 2]) {
    test(`SIGTERM, even twice, finishes requests in hand, refuses new ones and says when to come back (${gateways} gateways)`, async (t) => {
      const server = await startServer(t, {
        config: {
          topology: { gateways, shards: 1 },
          server: { expected_recovery: '2m' },
          // Slow enough that requests are still in hand after the signal.
          auth: { bcrypt_cost: 11, pool_threads: 1 },
        },
      });
      const client = new HttpClient(() => server.kernelPort);
      const { kernelPort } = server;
      const lateClient = new HttpClient(() => kernelPort);
      t.after(async () => {
        client.close();
        lateClient.close();
      });
      // Connections that are open when the stop begins.
      await inParallel(8, 1, () => lateClient.get('/v1/health'));
      const body = { contact_hash: 'in hand', accept_terms: true };
      const inHand = Promise.all([1, 2, 3].map(() => client.post('/v1/operators', body)));
      const arrived = async (): Promise<boolean> => (await server.metric('tabulum_http_requests_in_hand')) === 3;
      await waitUntil(arrived, { timeoutMs: 5_000, what: 'three registrations in hand' });
      const { pid } = server;
      const stopped = server.stop();
      let refused = await lateClient.get('/v1/health');
      await waitUntil(
        async () => {
          if (refused.status === 200) refused = await lateClient.get('/v1/health');
          return refused.status !== 200;
        },
        { timeoutMs: 5_000, what: 'a refusal' },
      );
      assert.equal(refused.status, 503);
      // As npm does with a signal that the terminal has sent already: it must not cut the stop short.
      process.kill(pid, 'SIGTERM');
      assert.match(refused.headers['retry-after'] ?? '', /^[1-9]\d*$/);
      const { error, message, expected_recovery: recovery, ...rest } = refused.json();
      assert.deepEqual([error, typeof message, rest], ['unavailable', 'string', {}]);
      const fromNowMs = Date.parse(String(recovery)) - Date.now();
      assert.ok(fromNowMs > 100_000 && fromNowMs <= 120_000, `back in ${fromNowMs} ms`);
      const keys: string[] = [];
      for (const answer of await inHand) {
        assert.equal(answer.status, 201, answer.text);
        keys.push(answer.json<{ api_key: string }>().api_key);
      }
      await stopped;
      await server.start();
      for (const key of keys) {
        assert.equal(
          (await client.get('/v1/agents/verification-challenge', key)).status,
          200,
          'an answered one is kept',
        );
      }
    });
  }

  test('a second server on the same data directory is refused in one line; after kill -9 nothing is in the way', async (t) => {
    const server = await startServer(t, { config: { ...FAST, ...topologySettings(ONE_SHARD) } });
    for (const dataDir of [server.dataDir, `${server.dataDir}/../data/`]) {
      const second = await runCommand(['serve', '--data-dir', dataDir, ...anyPorts()]);
      assert.equal(second.code, 1);
      assertOneLine(second.stderr, /in use/);
      assert.ok(second.stderr.includes(server.directory), 'the line names the directory');
      assert.equal(second.stdout, '');
    }
    const client = new HttpClient(() => server.kernelPort);
    t.after(async () => client.close());
    assert.equal((await client.get('/v1/health')).status, 200, 'the first one goes on');
    await server.kill9();
    await server.start();
    assert.equal((await client.get('/v1/health')).status, 200);
  });

  test('SIGINT ends it with code 0 as well; another number of shards is then refused in one line that names reshard', async (t) => {
    const server = await startServer(t, { config: { ...FAST, topology: { shards: 2, gateways: 1 } } });
    const { code, tookMs } = await server.signal('SIGINT');
    assert.equal(code, 0);
    assert.ok(tookMs < 10_000);
    const env = { TABULUM_TOPOLOGY_SHARDS: '3' };
    const changed = await runCommand(['serve', '--data-dir', server.dataDir, ...anyPorts()], env);
    assert.equal(changed.code, 1);
    assertOneLine(changed.stderr, /topology\.shards.*reshard/);
    await server.start();
  });

  test('an address that is taken is refused in one line that names it', async (t) => {
    const other = createServer();
    await new Promise<void>((listening) => other.listen(0, '127.0.0.1', listening));
    t.after(async () => void other.close());
    const address = other.address();
    assert.ok(address !== null && typeof address === 'object');
    const taken = `127.0.0.1:${address.port}`;
    const dataDir = await tempDir(t);
    for (const [option, gateways] of [
      ['--listen', '1'],
      ['--listen', '2'],
      ['--observe-listen', '1'],
      ['--admin-listen', '1'],
    ] as const) {
      const ports = anyPorts();
      ports[ports.indexOf(option) + 1] = taken;
      const env = { TABULUM_TOPOLOGY_GATEWAYS: gateways };
      const refused = await runCommand(['serve', '--data-dir', dataDir, ...ports], env);
      assert.equal(refused.code, 1, `${option} with ${gateways} gateways`);
      assertOneLine(refused.stderr, new RegExp(taken.replaceAll('.', '\\.')));
    }
  });

  test('two servers can not share a kernel port, whatever their number of gateways', async (t) => {
    const server = await startServer(t, { config: { ...FAST, topology: { gateways: 2 } } });
    for (const gateways of ['1', '2']) {
      const ports = anyPorts();
      ports[1] = `127.0.0.1:${server.kernelPort}`;
      const env = { TABULUM_TOPOLOGY_GATEWAYS: gateways };
      const refused = await runCommand(['serve', '--data-dir', await tempDir(t), ...ports], env);
      assert.equal(refused.code, 1, `${gateways} gateways`);
      assertOneLine(refused.stderr, new RegExp(`127\\.0\\.0\\.1:${server.kernelPort}`));
    }
  });
});
