/** The command line: help, refusals, configuration and its precedence, the banner, the side listeners, silence on secrets. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { HttpClient, registerAgent, registerOperator } from '../support/http.js';
import { runCommand, startServer } from '../support/server.js';
import { tempDir } from '../support/temp-dir.js';
import { assertError, inParallel, limitFigures, Rig } from './rig.js';
import { solvePipeline } from './solve-pipeline.js';
import { FAST } from './topologies.js';

const OPTIONS = ['--config', '--data-dir', '--listen', '--observe-listen', '--admin-listen'];

function linesOf(text: string): string[] {
  return text.split('\n').filter((line) => line !== '');
}

test('--help explains the commands and every option, and exits with 0', async () => {
  const general = await runCommand(['--help']);
  assert.deepEqual([general.code, general.stderr], [0, '']);
  assert.match(general.stdout, /\bserve\b/);
  const serve = await runCommand(['serve', '--help']);
  assert.deepEqual([serve.code, serve.stderr], [0, '']);
  for (const option of OPTIONS) assert.ok(serve.stdout.includes(option), option);
  const version = await runCommand(['--version']);
  assert.equal(version.code, 0);
  assert.match(version.stdout, /^\d+\.\d+\.\d+\n$/);
});

test('unknown commands and options, missing values and excess arguments exit with 2 and one clear line', async () => {
  const mistakes: readonly (readonly [args: string[], says: RegExp])[] = [
    [['serf'], /serf/],
    [['nonsense'], /nonsense/],
    [['serve', '--nonsense'], /--nonsense/],
    [['serve', '--lisden', '127.0.0.1:0'], /--lisden/],
    [['serve', '--listen'], /--listen/],
    [['serve', 'more'], /argument/],
    [['--nonsense'], /--nonsense/],
  ];
  await inParallel(mistakes.length, 2, async (index) => {
    const [args, says] = mistakes[index] ?? [[], /./];
    const { code, stdout, stderr } = await runCommand(args);
    assert.equal(code, 2, args.join(' '));
    assert.equal(stdout, '', args.join(' '));
    assert.equal(linesOf(stderr).length, 1, `${args.join(' ')}:\n${stderr}`);
    assert.match(stderr, says);
  });
  const nothing = await runCommand([]);
  assert.equal(nothing.code, 2);
  assert.match(nothing.stderr, /serve/);
});

test('bad values of options exit with 2 and one line each, which names the option', async (t) => {
  const dataDir = await tempDir(t);
  const given = [
    ['--listen', 'nonsense'],
    ['--listen', '127.0.0.1'],
    ['--listen', '127.0.0.1:99999'],
    ['--listen', 'http://127.0.0.1:0'],
    ['--observe-listen', '127.0.0.1:-1'],
    ['--admin-listen', 'localhost:port'],
  ] as const;
  await inParallel(given.length, 2, async (index) => {
    const [option, value] = given[index] ?? ['', ''];
    const { code, stdout, stderr } = await runCommand(['serve', '--data-dir', dataDir, `${option}=${value}`]);
    assert.deepEqual([code, stdout], [2, ''], `${option} ${value}`);
    assert.equal(linesOf(stderr).length, 1, stderr);
    assert.ok(stderr.includes(option) && stderr.includes(value), stderr);
  });
});

test('a bad configuration exits with 2 and names every mistake at once, with file and line', async (t) => {
  const directory = await tempDir(t);
  const file = join(directory, 'bad.yaml');
  await writeFile(
    file,
    [
      'server:',
      '  read_timeout: 10',
      'webhook:',
      '  total_timout: 10s',
      'rate_limits:',
      '  message_send_per_min: -1',
      '  state_read_per_min: many',
      'verification:',
      '  gate_type: none',
      'topology:',
      '  shards: 0',
      'nonsense: 1',
    ].join('\n'),
  );
  const env = { TABULUM_STATE_MAX_CAPACITY_BYTES: 'big', TABULUM_NONSENSE: '1' };
  const { code, stdout, stderr } = await runCommand(
    ['serve', '--config', file, '--listen', 'bad', '--data-dir', directory],
    env,
  );
  assert.deepEqual([code, stdout], [2, '']);
  const lines = linesOf(stderr);
  for (const [place, name] of [
    ['bad.yaml:2', 'server.read_timeout'],
    ['bad.yaml:4', 'webhook.total_timeout'],
    ['bad.yaml:6', 'rate_limits.message_send_per_min'],
    ['bad.yaml:7', 'rate_limits.state_read_per_min'],
    ['bad.yaml:9', 'verification.gate_type'],
    ['bad.yaml:11', 'topology.shards'],
    ['bad.yaml:12', 'nonsense'],
    ['TABULUM_STATE_MAX_CAPACITY_BYTES', 'state.max_capacity_bytes'],
    ['TABULUM_NONSENSE', 'TABULUM_NONSENSE'],
    ['--listen', 'server.listen_addr'],
  ] as const) {
    const told = lines.filter((line) => line.includes(place) && line.includes(name));
    assert.equal(told.length, 1, `${place} ${name} in\n${stderr}`);
  }
  assert.equal(lines.length, 10, stderr);
});

test('a configuration file that is missing or no YAML exits with 2 and one line that names it', async (t) => {
  const directory = await tempDir(t);
  const file = join(directory, 'broken.yaml');
  await writeFile(file, 'server: [unclosed\n');
  for (const name of [join(directory, 'missing.yaml'), directory, file]) {
    const { code, stderr } = await runCommand(['serve', '--config', name, '--data-dir', directory]);
    assert.equal(code, 2, stderr);
    assert.equal(linesOf(stderr).length, 1, stderr);
    assert.ok(stderr.includes(name), stderr);
  }
});

test('flags beat environment beats file, and the short environment names work', async (t) => {
  const server = await startServer(t, {
    config: {
      auth: { scheme: 'hmac' },
      server: { listen_addr: '127.0.0.1:1' },
      rate_limits: { message_send_per_min: 5, state_write_per_min: 6, registry_read_per_min: 7 },
      state: { max_capacity_bytes: 1 },
    },
    env: {
      TABULUM_LISTEN_ADDR: '127.0.0.1:2', // both lose to --listen
      TABULUM_MESSAGE_SEND_PER_MIN: '50',
      TABULUM_RATE_LIMITS_STATE_WRITE_PER_MIN: '60',
      TABULUM_MAX_CAPACITY_BYTES: '1000',
      TABULUM_VERIFICATION_GATE_TYPE: 'stub',
      TABULUM_OPERATORS_REQUIRE_TERMS: '', // an empty one counts as not set
    },
  });
  const client = new HttpClient(() => server.kernelPort);
  t.after(async () => client.close());
  const agent = await registerAgent(server, client, await registerOperator(server, client));
  assert.equal(limitFigures(await agent.message(agent.address, 'x')).limit, 50);
  assert.equal(limitFigures(await agent.write('k', 'v')).limit, 60);
  assert.equal(limitFigures(await agent.get('/v1/agents/me')).limit, 7);
  assert.equal((await agent.get('/v1/state/_capacity')).json().total_bytes, 1000);
  assertError(await client.post('/v1/operators', { contact_hash: 'x' }), 'bad_request');
});

test('the banner tells addresses, data directory, shards and threads, and a first command that works', async (t) => {
  const server = await startServer(t, { config: { topology: { gateways: 2, shards: 3 } } });
  const banner = server.banner.join('\n');
  for (const port of [server.kernelPort, server.observePort, server.adminPort]) {
    assert.ok(banner.includes(`http://127.0.0.1:${port}`), banner);
  }
  assert.ok(banner.includes(server.dataDir));
  assert.match(banner, /2 gateways/);
  assert.match(banner, /3 shards/);
  assert.equal(server.banner.at(-1), 'ready');
  const command = /curl .*?(http:\S+) -H '([^:]+): ([^']+)' -d '([^']+)'/.exec(banner);
  assert.ok(command !== null, `no command to paste in\n${banner}`);
  const [, url = '', header = '', value = '', body = ''] = command;
  const response = await fetch(url, { method: 'POST', headers: { [header]: value }, body });
  assert.equal(response.status, 201);
  const observed = await fetch(`http://127.0.0.1:${server.observePort}/observe/health`);
  assert.equal(observed.status, 200);
  const health = (await observed.json()) as Record<string, unknown>;
  assert.deepEqual(Object.keys(health).sort(), ['status', 'version']);
  for (const path of ['/livez', '/readyz', '/metrics']) {
    assert.equal((await fetch(`http://127.0.0.1:${server.adminPort}${path}`)).status, 200, path);
  }
});

test('/admin/* is 404 without an admin key, and 401 without the right one where there is one', async (t) => {
  const closed = await startServer(t, { config: FAST });
  const key = `admin-${randomBytes(16).toString('hex')}`;
  const open = await startServer(t, { config: FAST, env: { TABULUM_ADMIN_KEY: key } });
  open.handedOut.add(key);
  for (const path of ['/admin/removals', '/admin/scaling', '/admin/anything']) {
    const closedClient = new HttpClient(() => closed.adminPort);
    const openClient = new HttpClient(() => open.adminPort);
    assertError(await closedClient.get(path), 'not_found', path);
    assertError(await closedClient.get(path, key), 'not_found', path);
    assertError(await openClient.get(path), 'unauthorized', path);
    assertError(await openClient.get(path, `${key}x`), 'unauthorized', path);
    closedClient.close();
    openClient.close();
  }
  await open.assertNoSecretLogged();
});

test('at the most talkative log level no token, wrong or right, is logged, and every line is JSON', async (t) => {
  const rig = await Rig.start(t, { config: { log: { level: 'trace' }, auth: { bcrypt_cost: 4 } } }, solvePipeline);
  const agent = await rig.agent();
  const wrong = [
    `${agent.token.slice(0, -1)}x`,
    `${agent.token}0`,
    `at_live_${randomBytes(32).toString('hex')}`,
    rig.operatorKey,
  ];
  for (const token of wrong) {
    rig.server.handedOut.add(token);
    assertError(await rig.client.get('/v1/agents/me', token), 'unauthorized');
  }
  await agent.write('k', 'v');
  await rig.server.kill9();
  await rig.server.restart();
  assert.equal((await agent.read('k')).status, 200);
  await rig.server.stop();
  await rig.server.assertNoSecretLogged();
  const lines = rig.server.stderr();
  assert.ok(lines.length > 0, 'nothing is logged at all');
  for (const line of lines) {
    const entry = JSON.parse(line) as Record<string, unknown>;
    assert.equal(typeof entry.level, 'number', line);
    assert.equal(typeof entry.msg, 'string', line);
  }
});
