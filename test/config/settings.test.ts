import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { loadConfig } from '../../src/config/load.js';
import { envName, SETTING_PATHS, settingOf } from '../../src/config/settings.js';
import { MAX_KEY_BYTES } from '../../src/contract/limits.js';
import { referenceTable } from './reference-table.js';

function projectRoot(): string {
  let directory = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(directory, 'package.json'))) {
    const parent = dirname(directory);
    assert.notEqual(parent, directory, 'no package.json above the test');
    directory = parent;
  }
  return directory;
}

const reference = readFileSync(join(projectRoot(), 'docs', 'configuration.md'), 'utf8');

test('every setting can be given in the environment under a name of its own', () => {
  const names = SETTING_PATHS.flatMap((path) => [envName(path), settingOf(path).shortEnvName ?? []].flat());
  assert.equal(new Set(names).size, names.length);
  for (const name of names) assert.match(name, /^TABULUM_[A-Z_]+$/);
  assert.ok(names.includes('TABULUM_SERVER_LISTEN_ADDR'));
  assert.ok(names.includes('TABULUM_STATE_MAX_CAPACITY_BYTES'));
});

test('every setting is read from the environment and lands in one field of its own', () => {
  const base = loadConfig({ env: {}, flags: {}, cores: 8 });
  assert.ok(base.ok);
  const other: Record<string, string> = {
    data_dir: '/elsewhere',
    'server.listen_addr': ':1',
    'observe.listen_addr': ':1',
    'admin.listen_addr': ':1',
    'server.trusted_proxies': '::1',
    'webhook.allow_networks': '::1',
    'operators.require_terms': 'false',
    'auth.scheme': 'hmac',
    'messaging.overflow': 'reject',
    'event_log.durability': 'none',
    'verification.gate_type': 'stub',
    'log.level': 'warn',
    'webhook.connect_timeout': '6s',
    'observe.websocket.max_duration': '1h',
    'state.max_key_length': '7',
    'state.max_value_length': '7',
    'messaging.max_content_length': '7',
    'messaging.max_queued_bytes': '70000',
  };
  const baseFields = new Map(leaves(base.config));
  const changedFields = new Set<string>();
  for (const path of SETTING_PATHS) {
    const preferred = other[path] ?? (settingOf(path).parser.expected.includes('duration') ? '7s' : '12345');
    const candidates = [preferred, '12', '9'];
    const fitting = candidates.find((candidate) => settingOf(path).parser.parse([candidate]) !== undefined);
    assert.ok(fitting !== undefined, path);
    const result = loadConfig({ env: { [envName(path)]: fitting }, flags: {}, cores: 8 });
    assert.ok(result.ok, result.ok ? '' : result.errors.join('\n'));
    const changed: [string, string][] = leaves(result.config).filter(([field, text]) => baseFields.get(field) !== text);
    assert.equal(changed.length, 1, `${path} changed ${JSON.stringify(changed)}`);
    changedFields.add(changed[0]?.[0] ?? '');
  }
  assert.equal(changedFields.size, SETTING_PATHS.length);
});

/** Fields with their values as text; an address or list counts as one field. */
function leaves(value: unknown, prefix = ''): [string, string][] {
  const isLeaf = typeof value !== 'object' || value === null || Array.isArray(value) || 'port' in value;
  if (isLeaf) return [[prefix, JSON.stringify(value)]];
  return Object.entries(value).flatMap(([name, inner]) => leaves(inner, `${prefix}.${name}`));
}

test('the reference lists every setting with its default, range and meaning', () => {
  const table = referenceTable();
  assert.ok(reference.includes(table), `docs/configuration.md must hold this table:\n${table}`);
});

test('the reference names every second environment name and every flag', () => {
  for (const path of SETTING_PATHS) {
    const { shortEnvName, flag } = settingOf(path);
    for (const name of [shortEnvName, flag]) {
      if (name === undefined) continue;
      const row = new RegExp(`^\\| \`${name}\` \\| \`${path.replaceAll('.', '\\.')}\` \\|$`, 'm');
      assert.match(reference, row, name);
    }
  }
});

test('the example file of the reference loads, and shows every setting', (t) => {
  const example = /```yaml\n# tabulum\.yaml\n([\s\S]*?)```/.exec(reference)?.[1];
  assert.ok(example !== undefined, 'docs/configuration.md has an example that begins with "# tabulum.yaml"');
  const directory = mkdtempSync(join(tmpdir(), 'tabulum-example-'));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  const file = join(directory, 'tabulum.yaml');
  writeFileSync(file, example);
  const result = loadConfig({ file, env: {}, flags: {}, cores: 8 });
  assert.ok(result.ok, result.ok ? '' : result.errors.join('\n'));
  for (const path of SETTING_PATHS) {
    const lastPart = path.slice(path.lastIndexOf('.') + 1);
    assert.match(example, new RegExp(`^ *(?:# )?${lastPart}: `, 'm'), path);
  }
  assert.deepEqual(result.config.server.trustedProxies, ['10.0.0.0/8']);
});

test('keys can never be set longer than storage can hold', () => {
  const { parser } = settingOf('state.max_key_length');
  assert.equal(parser.parse([String(MAX_KEY_BYTES)]), MAX_KEY_BYTES);
  assert.equal(parser.parse([String(MAX_KEY_BYTES + 1)]), undefined);
});
