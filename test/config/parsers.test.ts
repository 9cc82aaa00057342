import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { editDistance, nearest } from '../../src/config/nearest.js';
import {
  boolean,
  bytes,
  cidrList,
  duration,
  formatDuration,
  integer,
  listenAddress,
  oneOf,
  type Parser,
  path,
} from '../../src/config/parsers.js';

const seed = Number(process.env.SEED ?? Date.now() % 2 ** 31);

function reads<T>(parser: Parser<T>, expectations: Readonly<Record<string, T | undefined>>): void {
  for (const [text, expected] of Object.entries(expectations)) {
    assert.deepEqual(parser.parse([text]), expected, JSON.stringify(text));
  }
}

test('durations need a unit and keep to their bounds, ends included', () => {
  reads(duration('500ms', '1h', '30s'), {
    '500ms': 500,
    '499ms': undefined,
    '30s': 30_000,
    '5m': 300_000,
    '1h': 3_600_000,
    '60m': 3_600_000,
    '3600001ms': undefined,
    '1m30s': 90_000,
    '30': undefined,
    '': undefined,
    s: undefined,
    '1.5s': undefined,
    '-1s': undefined,
    '1 s': undefined,
    ' 1s': undefined,
    '1S': undefined,
    '1d': undefined,
    '1h1': undefined,
    '9999999999999s': undefined,
  });
});

test('a formatted duration reads back as itself', (t) => {
  t.diagnostic(`SEED=${seed}`);
  const any = duration('0ms', '9999h', '1s');
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 9999 * 3_600_000 }), (durationMs) => {
      assert.equal(any.parse([formatDuration(durationMs)]), durationMs);
    }),
    { seed },
  );
  assert.equal(formatDuration(0), '0ms');
  assert.equal(formatDuration(90_000), '90s');
  assert.equal(formatDuration(86_400_000), '24h');
});

test('whole numbers are plain digits within their bounds, ends included', () => {
  reads(integer(4, 15), {
    '4': 4,
    '15': 15,
    '3': undefined,
    '16': undefined,
    '010': 10,
    '1e1': undefined,
    '5.0': undefined,
    '+5': undefined,
    '': undefined,
    '٥': undefined,
    '99999999999999999999': undefined,
  });
});

test('sizes are bytes, or carry a binary unit', () => {
  reads(bytes(1, 2 ** 30), {
    '1': 1,
    '0': undefined,
    '1073741824': 2 ** 30,
    '1073741825': undefined,
    '1GiB': 2 ** 30,
    '64KiB': 65_536,
    '2MiB': 2_097_152,
    '1TiB': undefined,
    '1GB': undefined,
    '1 KiB': undefined,
    KiB: undefined,
    '1.5KiB': undefined,
  });
});

test('words and booleans are spelled exactly', () => {
  reads(oneOf('fsync', 'none'), { fsync: 'fsync', none: 'none', Fsync: undefined, '': undefined, 'none ': undefined });
  reads(boolean, { true: true, false: false, yes: undefined, '1': undefined, True: undefined, '': undefined });
});

test('a path is any text that is not blank', () => {
  reads(path, { './data': './data', 'a b': 'a b', '': undefined, '  ': undefined, 'a\0b': undefined });
});

test('listen addresses are host and port', () => {
  const at = (host: string, port: number) => ({ host, port });
  reads(listenAddress, {
    '127.0.0.1:8080': at('127.0.0.1', 8080),
    ':8080': at('0.0.0.0', 8080),
    '[::1]:8080': at('::1', 8080),
    '[::]:0': at('::', 0),
    'localhost:65535': at('localhost', 65_535),
    'a-b.example.org:1': at('a-b.example.org', 1),
    'localhost:65536': undefined,
    localhost: undefined,
    '8080': undefined,
    ':': undefined,
    'localhost:': undefined,
    'localhost:-1': undefined,
    'localhost:80x': undefined,
    '::1:8080': undefined,
    '[::1]': undefined,
    '[localhost]:80': undefined,
    '[127.0.0.1]:80': undefined,
    '300.1.1.1:80': undefined,
    '127.1:80': undefined,
    '-a:80': undefined,
    'a..b:80': undefined,
    'a b:80': undefined,
    'http://a:80': undefined,
    '': undefined,
  });
});

test('ranges are checked for address and prefix, and a bare address is a range of one', () => {
  reads(cidrList, {
    '10.0.0.0/8': ['10.0.0.0/8'],
    '0.0.0.0/0': ['0.0.0.0/0'],
    '10.0.0.1': ['10.0.0.1/32'],
    '10.0.0.1/32': ['10.0.0.1/32'],
    '10.0.0.1/33': undefined,
    'fc00::/7': ['fc00::/7'],
    '::1': ['::1/128'],
    '::1/129': undefined,
    'fe80::1%eth0': undefined,
    '10.0.0/8': undefined,
    '10.0.0.0/': undefined,
    '10.0.0.0/8/8': undefined,
    '10.0.0.0/-1': undefined,
    'example.org': undefined,
    '': undefined,
  });
  assert.deepEqual(cidrList.parse([]), []);
  assert.equal(cidrList.parse(['10.0.0.0/8', 'x']), undefined);
});

test('edit distance counts single edits and swapped neighbours', () => {
  for (const [from, to, distance] of [
    ['', '', 0],
    ['', 'abc', 3],
    ['abc', '', 3],
    ['timeout', 'timout', 1],
    ['timeout', 'tiemout', 1],
    ['kitten', 'sitting', 3],
    ['ca', 'abc', 3],
  ] as const) {
    assert.equal(editDistance(from, to), distance, `${from} -> ${to}`);
  }
});

test('edit distance is symmetric, zero only for equals, and bounded by the longer word', (t) => {
  t.diagnostic(`SEED=${seed}`);
  const word = fc.string({ unit: fc.constantFrom('a', 'b', 'c'), maxLength: 12 });
  fc.assert(
    fc.property(word, word, (left, right) => {
      const distance = editDistance(left, right);
      assert.equal(distance, editDistance(right, left));
      assert.equal(distance === 0, left === right);
      assert.ok(distance <= Math.max(left.length, right.length));
      assert.ok(distance >= Math.abs(left.length - right.length));
    }),
    { seed },
  );
});

test('only what is near is suggested', () => {
  const candidates = ['log.level', 'webhook.max_retries', 'a.same', 'b.same'];
  assert.equal(nearest('log.levle', candidates), 'log.level');
  assert.equal(nearest('max_retries', candidates), 'webhook.max_retries');
  assert.equal(nearest('deeply.nested.same', candidates), undefined, 'two candidates end so');
  assert.equal(nearest('something.else', candidates), undefined);
  assert.equal(nearest('x'.repeat(100_000), candidates), undefined);
});
