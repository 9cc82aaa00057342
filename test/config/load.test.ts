import assert from 'node:assert/strict';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import type { Config } from '../../src/config/config.js';
import { type ConfigSources, loadConfig } from '../../src/config/load.js';

function yamlFile(t: TestContext, content: string | Buffer): string {
  const directory = mkdtempSync(join(tmpdir(), 'tabulum-config-'));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  const file = join(directory, 'tabulum.yaml');
  writeFileSync(file, content);
  return file;
}

function load(sources: Partial<ConfigSources>): Config {
  const result = loadConfig({ env: {}, flags: {}, cores: 8, ...sources });
  assert.ok(result.ok, result.ok ? '' : result.errors.join('\n'));
  return result.config;
}

function errorsOf(sources: Partial<ConfigSources>): string[] {
  const result = loadConfig({ env: {}, flags: {}, cores: 8, ...sources });
  assert.ok(!result.ok, 'the configuration was accepted');
  return result.errors;
}

/** Errors of a file, with its temporary path cut off. */
function yamlErrors(t: TestContext, content: string | Buffer, sources: Partial<ConfigSources> = {}): string[] {
  const file = yamlFile(t, content);
  return errorsOf({ ...sources, file }).map((line) => line.replace(file, 'tabulum.yaml'));
}

test('nothing given: the documented defaults', () => {
  assert.deepEqual(load({}), {
    dataDir: './data',
    server: {
      listenAddr: { host: '127.0.0.1', port: 8080 },
      readTimeoutMs: 30_000,
      writeTimeoutMs: 30_000,
      trustedProxies: [],
      expectedRecoveryMs: null,
    },
    rateLimits: {
      messageSendPerMin: 60,
      messageReadPerMin: 60,
      stateReadPerMin: 300,
      stateWritePerMin: 60,
      registryReadPerMin: 30,
      operatorRegPerHourPerIp: 5,
      webhookOutboundPerMin: 60,
    },
    operators: { requireTerms: true },
    topology: { gateways: 8, shards: null },
    auth: { scheme: 'bcrypt', bcryptCost: 10, sessionTtlMs: 30_000, poolThreads: 4, maxPending: 1000 },
    state: { maxCapacityBytes: 1_073_741_824, maxKeyBytes: 1024, maxValueBytes: 1_048_576 },
    messaging: {
      maxContentBytes: 65_536,
      maxQueuePerAgent: 10_000,
      maxQueuedBytes: 10_737_418_240,
      overflow: 'drop_oldest',
    },
    connect: {
      maxConnections: 10_000,
      maxConnectionsPerAgent: 8,
      maxInFlight: 64,
      writeTimeoutMs: 30_000,
      pingIntervalMs: 30_000,
      maxDurationMs: 86_400_000,
    },
    webhook: {
      connectTimeoutMs: 5000,
      totalTimeoutMs: 10_000,
      circuitBreakerThreshold: 5,
      circuitBreakerDurationMs: 300_000,
      maxRetries: 3,
      maxConcurrency: 100,
      allowNetworks: [],
    },
    eventLog: { maxFileBytes: 104_857_600, durability: 'fsync', intervalMs: 10 },
    verification: { gateType: 'pipeline', challengeExpiryMs: 15_000, difficultyBits: 20 },
    observe: {
      listenAddr: { host: '127.0.0.1', port: 8090 },
      requestsPerMinPerIp: 300,
      websocket: { maxConnections: 100, writeTimeoutMs: 10_000, pingIntervalMs: 30_000, maxDurationMs: 86_400_000 },
    },
    admin: { listenAddr: { host: '127.0.0.1', port: 9090 }, key: null },
    log: { level: 'info' },
  });
});

test('defaults that follow the cores stay within their bounds', () => {
  for (const [cores, gateways, poolThreads] of [
    [1, 1, 1],
    [2, 2, 1],
    [15, 15, 7],
    [16, 16, 8],
    [1024, 64, 64],
  ] as const) {
    const config = load({ cores });
    assert.equal(config.topology.gateways, gateways, `${cores} cores`);
    assert.equal(config.auth.poolThreads, poolThreads, `${cores} cores`);
  }
});

test('flags beat environment beats file beats default', (t) => {
  const file = yamlFile(t, 'server:\n  listen_addr: 127.0.0.1:1\nlog:\n  level: debug\ndata_dir: /from/file\n');
  const env = { TABULUM_SERVER_LISTEN_ADDR: '127.0.0.1:2', TABULUM_LOG_LEVEL: 'warn' };
  const config = load({ file, env, flags: { 'server.listen_addr': '127.0.0.1:3', 'admin.listen_addr': undefined } });
  assert.equal(config.server.listenAddr.port, 3);
  assert.equal(config.log.level, 'warn');
  assert.equal(config.dataDir, '/from/file');
  assert.equal(config.admin.listenAddr.port, 9090);
  assert.equal(load({ file, env }).server.listenAddr.port, 2);
  assert.equal(load({ file }).server.listenAddr.port, 1);
});

test('the result is frozen through and through', () => {
  const walk = (value: unknown): void => {
    if (typeof value !== 'object' || value === null) return;
    assert.ok(Object.isFrozen(value), JSON.stringify(value));
    for (const inner of Object.values(value)) walk(inner);
  };
  walk(load({ env: { TABULUM_WEBHOOK_ALLOW_NETWORKS: '10.0.0.0/8' } }));
});

test('one load leaves no trace in the next', () => {
  load({ env: { TABULUM_LOG_LEVEL: 'trace', TABULUM_ADMIN_KEY: 'k' } });
  assert.equal(load({}).log.level, 'info');
  assert.equal(load({}).admin.key, null);
});

test('all mistakes of all sources come at once, with file and line', (t) => {
  const content = [
    'server:',
    '  listen_addr: 8080',
    '  tls: true',
    'webhook:',
    '  total_timout: 10s',
    '  connect_timeout: 5',
    '  total_timeout: "10"',
    'observe: 7',
    'colour: red',
  ].join('\n');
  assert.deepEqual(
    yamlErrors(t, content, {
      env: {
        TABULUM_STATE_MAX_CAPACITY_BYTES: '1GB',
        TABULUM_LISTN_ADDR: ':8080',
        TABULUM_NONSENSE: '1',
        TABULUM_ADMIN_KEY: 'a secret',
      },
      flags: { 'server.listen_addr': 'localhost' },
    }),
    [
      'tabulum.yaml:2: server.listen_addr is "8080"; expected HOST:PORT with a port from 0 to 65535, such as 127.0.0.1:8080, :8080 or [::1]:8080',
      'tabulum.yaml:3: server.tls is not a known key',
      'tabulum.yaml:5: webhook.total_timout is not a known key; did you mean webhook.total_timeout?',
      'tabulum.yaml:6: webhook.connect_timeout is "5"; expected a duration from 100ms to 60s, such as 5s',
      'tabulum.yaml:7: webhook.total_timeout is "10"; expected a duration from 1s to 60s, such as 10s',
      'tabulum.yaml:8: observe is "7"; expected a mapping of settings',
      'tabulum.yaml:9: colour is not a known key',
      'TABULUM_LISTN_ADDR: is not a known variable; did you mean TABULUM_LISTEN_ADDR?',
      'TABULUM_NONSENSE: is not a known variable',
      'TABULUM_STATE_MAX_CAPACITY_BYTES: state.max_capacity_bytes is "1GB"; expected a size from 1 to 17592186044416 bytes, such as 65536 or 64KiB',
      'TABULUM_ADMIN_KEY: expected 1 to 512 printable ASCII characters without spaces',
      '--listen: server.listen_addr is "localhost"; expected HOST:PORT with a port from 0 to 65535, such as 127.0.0.1:8080, :8080 or [::1]:8080',
    ],
  );
});

test('a bad value in the file is reported even where a flag overrides it', (t) => {
  const errors = yamlErrors(t, 'data_dir: ""\n', { flags: { data_dir: '/good' } });
  assert.deepEqual(errors, ['tabulum.yaml:1: data_dir is ""; expected a path']);
});

test('an unknown key is answered with the key that was probably meant', (t) => {
  const hints: [yaml: string, expected: string][] = [
    ['sever: {}', 'sever is not a known key; did you mean server?'],
    ['rate_limit:\n  message_send_per_min: 5', 'rate_limit is not a known key; did you mean rate_limits?'],
    ['max_retries: 3', 'max_retries is not a known key; did you mean webhook.max_retries?'],
    ['websocket: {}', 'websocket is not a known key; did you mean observe.websocket?'],
    ['auth:\n  bcrpyt_cost: 10', 'auth.bcrpyt_cost is not a known key; did you mean auth.bcrypt_cost?'],
    [
      'observe:\n  websocket:\n    max_conns: 1',
      'observe.websocket.max_conns is not a known key; did you mean observe.websocket.max_connections?',
    ],
    [
      'admin:\n  key: secret',
      'admin.key is not a known key; the admin key comes from the environment, as TABULUM_ADMIN_KEY',
    ],
    ['1: 2', '1 is not a known key'],
    ['__proto__: 2', '__proto__ is not a known key'],
    ['constructor: 2', 'constructor is not a known key'],
  ];
  for (const [yaml, expected] of hints) {
    const [error, ...rest] = yamlErrors(t, yaml);
    assert.equal(error?.replace(/^tabulum\.yaml:\d+: /, ''), expected, yaml);
    assert.deepEqual(rest, [], yaml);
  }
});

test('a key given twice is refused, naming both lines', (t) => {
  assert.deepEqual(yamlErrors(t, 'log:\n  level: info\n  level: debug\nlog: {}\n'), [
    'tabulum.yaml:3: log.level is given twice, first on line 2',
    'tabulum.yaml:4: log is given twice, first on line 1',
  ]);
});

test('broken YAML is reported with line and column, beside mistakes of other sources', (t) => {
  const errors = yamlErrors(t, 'server:\n  listen_addr: "127.0.0.1:80\n', { env: { TABULUM_X: '1' } });
  assert.match(errors[0] ?? '', /^tabulum\.yaml:\d+: not valid YAML at column \d+: \S/);
  assert.equal(errors.at(-1), 'TABULUM_X: is not a known variable');
  assert.match(yamlErrors(t, 'a: 1\n\tb: 2\n')[0] ?? '', /^tabulum\.yaml:2: not valid YAML/);
  assert.deepEqual(yamlErrors(t, 'log: {}\n---\nlog: {}\n'), [
    'tabulum.yaml:2: not valid YAML at column 1: the file may hold one document only',
  ]);
  assert.match(yamlErrors(t, 'log:\n  level: !thing info\n')[0] ?? '', /^tabulum\.yaml:2: not valid YAML/);
  for (const line of errors) assert.doesNotMatch(line, /\n/);
});

test('a file that cannot be read or is no text is one clear line', (t) => {
  const file = yamlFile(t, 'log: {}\n');
  assert.deepEqual(errorsOf({ file: `${file}.missing` }), [`${file}.missing: cannot be read: there is no such file`]);
  assert.deepEqual(errorsOf({ file: tmpdir() }), [`${tmpdir()}: cannot be read: it is a directory`]);
  assert.deepEqual(yamlErrors(t, Buffer.from([0x61, 0x3a, 0x20, 0xff])), ['tabulum.yaml: is not UTF-8 text']);
  if (process.getuid?.() === 0) return; // root reads everything
  chmodSync(file, 0);
  assert.deepEqual(errorsOf({ file }), [`${file}: cannot be read: permission denied`]);
});

test('the top level must be a mapping; an empty file is one too', (t) => {
  for (const [yaml, written] of [
    ['- a', 'a list'],
    ['text', '"text"'],
    ['7', '"7"'],
  ]) {
    assert.deepEqual(yamlErrors(t, yaml ?? ''), [
      `tabulum.yaml:1: the top level is ${written}; expected a mapping of settings`,
    ]);
  }
  for (const yaml of ['', '# nothing\n', '---\n', '{}', 'null', '\ufefflog: {}']) load({ file: yamlFile(t, yaml) });
});

test('a section or key without a value keeps its defaults', (t) => {
  const config = load({
    file: yamlFile(t, 'server:\n  # listen_addr: :80\nlog:\n  level:\ntopology:\n  shards: null\n'),
  });
  assert.equal(config.server.listenAddr.port, 8080);
  assert.equal(config.log.level, 'info');
  assert.equal(config.topology.shards, null);
});

test('a value of another shape is refused', (t) => {
  assert.deepEqual(yamlErrors(t, 'log:\n  level: [info]\ndata_dir: {a: 1}\n? [x]\n: 1\n'), [
    'tabulum.yaml:2: log.level is a list; expected one of trace, debug, info, warn, error, fatal',
    'tabulum.yaml:3: data_dir is a mapping; expected a path',
    'tabulum.yaml:4: a key is a list; expected the name of a setting',
  ]);
});

test('numbers count as they are written, not as YAML would read them', (t) => {
  for (const text of ['1e3', '0x10', '0o7', '1.0', '-1', '1_000', 'true', '~1']) {
    const errors = yamlErrors(t, `auth:\n  max_pending: ${text}\n`);
    assert.deepEqual(errors, [
      `tabulum.yaml:2: auth.max_pending is "${text}"; expected a whole number from 1 to 1000000`,
    ]);
  }
  assert.equal(load({ file: yamlFile(t, 'auth:\n  max_pending: "12"\n') }).auth.maxPending, 12);
});

test('lists are written as YAML lists, or with commas', (t) => {
  const file = yamlFile(t, 'server:\n  trusted_proxies:\n    - 10.0.0.1\n    - ::1\n    - 192.168.0.0/16\n');
  const ranges = ['10.0.0.1/32', '::1/128', '192.168.0.0/16'];
  assert.deepEqual(load({ file }).server.trustedProxies, ranges);
  const env = { TABULUM_SERVER_TRUSTED_PROXIES: '10.0.0.1, ::1,192.168.0.0/16' };
  assert.deepEqual(load({ env }).server.trustedProxies, ranges);
  assert.deepEqual(load({ file: yamlFile(t, 'webhook:\n  allow_networks: []\n') }).webhook.allowNetworks, []);
});

test('each bad item of a list is reported with its own line', (t) => {
  const expected = 'expected a list of CIDR ranges or addresses, such as 10.0.0.0/8 or ::1';
  assert.deepEqual(
    yamlErrors(t, 'webhook:\n  allow_networks:\n    - 10.0.0.0/8\n    - 10.0.0.0/33\n    - {a: 1}\n    -\n'),
    [
      `tabulum.yaml:4: webhook.allow_networks item 2 is "10.0.0.0/33"; ${expected}`,
      `tabulum.yaml:5: webhook.allow_networks item 3 is a mapping; ${expected}`,
      `tabulum.yaml:6: webhook.allow_networks item 4 is empty; ${expected}`,
    ],
  );
  assert.deepEqual(errorsOf({ env: { TABULUM_WEBHOOK_ALLOW_NETWORKS: '10.0.0.0/8,' } }), [
    `TABULUM_WEBHOOK_ALLOW_NETWORKS: webhook.allow_networks is "10.0.0.0/8,"; ${expected}`,
  ]);
});

test('anchors and aliases are followed', (t) => {
  const file = yamlFile(t, 'webhook: {connect_timeout: &t 7s, total_timeout: *t}\n');
  assert.equal(load({ file }).webhook.totalTimeoutMs, 7000);
  assert.deepEqual(yamlErrors(t, 'log:\n  level: *missing\nserver: *missing\n'), [
    'tabulum.yaml:2: log.level is "*missing", an alias without an anchor; expected one of trace, debug, info, warn, error, fatal',
    'tabulum.yaml:3: server is "*missing", an alias without an anchor; expected a mapping of settings',
  ]);
});

test('the short environment names of the original kernel work', () => {
  const config = load({
    env: {
      TABULUM_LISTEN_ADDR: ':81',
      TABULUM_VERIFICATION_GATE_TYPE: 'stub',
      TABULUM_MAX_CAPACITY_BYTES: '4096',
      TABULUM_MESSAGE_SEND_PER_MIN: '7',
      UNRELATED: 'x',
    },
  });
  assert.deepEqual(config.server.listenAddr, { host: '0.0.0.0', port: 81 });
  assert.equal(config.verification.gateType, 'stub');
  assert.equal(config.state.maxCapacityBytes, 4096);
  assert.equal(config.rateLimits.messageSendPerMin, 7);
});

test('short and long name of one setting may not contradict each other', () => {
  const env = { TABULUM_LISTEN_ADDR: ':81', TABULUM_SERVER_LISTEN_ADDR: ':82' };
  assert.deepEqual(errorsOf({ env }), [
    'TABULUM_LISTEN_ADDR: is ":81", but TABULUM_SERVER_LISTEN_ADDR, the same setting, is ":82"',
  ]);
  assert.equal(load({ env: { ...env, TABULUM_LISTEN_ADDR: ':82' } }).server.listenAddr.port, 82);
  assert.equal(load({ env: { ...env, TABULUM_SERVER_LISTEN_ADDR: '' } }).server.listenAddr.port, 81);
  assert.equal(load({ env: { ...env, TABULUM_LISTEN_ADDR: '' } }).server.listenAddr.port, 82);
});

test('an empty variable counts as not set', () => {
  const config = load({ env: { TABULUM_LOG_LEVEL: '', TABULUM_ADMIN_KEY: '' } });
  assert.equal(config.log.level, 'info');
  assert.equal(config.admin.key, null);
});

test('the admin key comes from its variable, and no error shows it', () => {
  assert.equal(load({ env: { TABULUM_ADMIN_KEY: 'k~!' } }).admin.key, 'k~!');
  for (const key of ['sec ret', 'sécret', 'secret\n', 'secret'.repeat(100)]) {
    const errors = errorsOf({ env: { TABULUM_ADMIN_KEY: key } });
    assert.equal(errors.length, 1);
    assert.doesNotMatch(errors.join(), /s[eé]c/);
  }
});

test('settings that contradict each other are refused where they were given', (t) => {
  assert.deepEqual(yamlErrors(t, 'webhook:\n  connect_timeout: 11s\n'), [
    'tabulum.yaml:2: webhook.connect_timeout (11s) is longer than webhook.total_timeout (10s)',
  ]);
  assert.deepEqual(errorsOf({ env: { TABULUM_WEBHOOK_TOTAL_TIMEOUT: '4s' } }), [
    'TABULUM_WEBHOOK_TOTAL_TIMEOUT: webhook.connect_timeout (5s) is longer than webhook.total_timeout (4s)',
  ]);
  assert.deepEqual(errorsOf({ env: { TABULUM_OBSERVE_WEBSOCKET_MAX_DURATION: '29s' } }), [
    'TABULUM_OBSERVE_WEBSOCKET_MAX_DURATION: observe.websocket.ping_interval (30s) is longer than observe.websocket.max_duration (29s)',
  ]);
  assert.deepEqual(errorsOf({ env: { TABULUM_MESSAGING_MAX_QUEUED_BYTES: '65535' } }), [
    'TABULUM_MESSAGING_MAX_QUEUED_BYTES: messaging.max_queued_bytes (65535) is less than messaging.max_content_length (65536): the longest message could never be queued',
  ]);
  load({ env: { TABULUM_WEBHOOK_TOTAL_TIMEOUT: '5s', TABULUM_MESSAGING_MAX_QUEUED_BYTES: '65536' } });
});

test('two listeners on one address are refused, but port 0 is always free', () => {
  assert.deepEqual(errorsOf({ flags: { 'admin.listen_addr': '127.0.0.1:8080' } }), [
    '--admin-listen: server.listen_addr and admin.listen_addr are the same address, port 8080 of 127.0.0.1',
  ]);
  load({
    flags: {
      'server.listen_addr': '127.0.0.1:0',
      'observe.listen_addr': '127.0.0.1:0',
      'admin.listen_addr': '127.0.0.1:0',
    },
  });
});

test('no relation is judged on a setting that is itself mistaken', () => {
  assert.deepEqual(
    errorsOf({ env: { TABULUM_WEBHOOK_TOTAL_TIMEOUT: 'soon', TABULUM_WEBHOOK_CONNECT_TIMEOUT: '20s' } }),
    ['TABULUM_WEBHOOK_TOTAL_TIMEOUT: webhook.total_timeout is "soon"; expected a duration from 1s to 60s, such as 10s'],
  );
});

test('a long bad value is cut, so that each mistake stays one line', () => {
  const [error = ''] = errorsOf({ env: { TABULUM_LOG_LEVEL: `${'x'.repeat(500)}\n\n` } });
  assert.equal(
    error,
    `TABULUM_LOG_LEVEL: log.level is "${'x'.repeat(60)}..."; expected one of trace, debug, info, warn, error, fatal`,
  );
});

test('a flag for a setting that does not exist is a mistake of the program', () => {
  assert.throws(() => loadConfig({ env: {}, flags: { 'server.listen': ':1' } }), /no setting is called server\.listen/);
});
