/** Which webhook addresses are taken. No name is looked up for real: each test brings its resolver. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { checkWebhookUrl, type ResolveHost } from '../../src/gateway/webhook-address.js';
import { waitUntil } from '../support/wait.js';

const resolvesTo =
  (...addresses: string[]): ResolveHost =>
  async () =>
    addresses.map((address) => ({ address }));

const unasked: ResolveHost = async (host) => {
  throw new Error(`nobody should look up ${host}`);
};

const PUBLIC = [
  '1.1.1.1',
  '8.8.8.8',
  '93.184.216.34',
  '172.15.255.255',
  '172.32.0.1',
  '100.63.255.255',
  '100.128.0.1',
  '223.255.255.255',
  '198.17.255.255',
  '198.20.0.1',
  '2606:4700:4700::1111',
  '2a00:1450:4001:81b::200e',
  '::ffff:8.8.8.8',
  '64:ff9b::8.8.8.8',
  '2002:808:808::1',
  '2001:0:808:808:0:0:f7f7:f7f7',
];

const NOT_PUBLIC: readonly (readonly [address: string, why: string])[] = [
  ['0.0.0.0', 'unspecified'],
  ['0.1.2.3', 'this network'],
  ['10.0.0.1', 'private'],
  ['10.255.255.255', 'private'],
  ['127.0.0.1', 'loopback'],
  ['127.255.255.254', 'loopback'],
  ['172.16.0.1', 'private'],
  ['172.31.255.255', 'private'],
  ['192.168.1.1', 'private'],
  ['169.254.169.254', 'link-local: cloud metadata'],
  ['100.64.0.1', 'carrier-grade NAT'],
  ['100.127.255.255', 'carrier-grade NAT'],
  ['192.0.0.1', 'protocol assignments'],
  ['192.0.2.1', 'documentation'],
  ['198.51.100.1', 'documentation'],
  ['203.0.113.1', 'documentation'],
  ['198.18.0.1', 'benchmarking'],
  ['198.19.255.255', 'benchmarking'],
  ['192.88.99.1', 'old 6to4 relay'],
  ['224.0.0.1', 'multicast'],
  ['239.255.255.250', 'multicast'],
  ['240.0.0.1', 'reserved'],
  ['255.255.255.255', 'broadcast'],
  ['::', 'unspecified'],
  ['::1', 'loopback'],
  ['::7f00:1', 'IPv4-compatible, deprecated'],
  ['fe80::1', 'link-local'],
  ['fe80::1%eth0', 'link-local with zone'],
  ['fec0::1', 'site-local, deprecated'],
  ['fc00::1', 'unique local'],
  ['fd12:3456::1', 'unique local'],
  ['ff02::1', 'multicast'],
  ['100::1', 'discard'],
  ['2001:db8::1', 'documentation'],
  ['3fff::1', 'documentation'],
  ['2001:2::1', 'benchmarking'],
  ['2001:10::1', 'ORCHID'],
  ['2001:20::1', 'ORCHIDv2'],
  ['5f00::1', 'segment routing'],
  ['4000::1', 'not assigned'],
  ['::ffff:10.0.0.1', 'IPv4-mapped private'],
  ['::ffff:127.0.0.1', 'IPv4-mapped loopback'],
  ['::ffff:a9fe:a9fe', 'IPv4-mapped metadata'],
  ['::ffff:0:7f00:1', 'IPv4-translated'],
  ['64:ff9b::127.0.0.1', 'NAT64 loopback'],
  ['64:ff9b::a00:1', 'NAT64 private'],
  ['64:ff9b:1::808:808', 'local-use NAT64'],
  ['2002:7f00:1::1', '6to4 loopback'],
  ['2002:c0a8:101::1', '6to4 private'],
  ['2001:0:808:808:0:0:f5ff:fffe', 'Teredo, client 10.0.0.1'],
  ['2001:0:7f00:1:0:0:f7f7:f7f7', 'Teredo, server on loopback'],
  ['not-an-address', 'what no resolver should say'],
];

for (const address of PUBLIC) {
  test(`${address} is public`, async () => {
    const check = await checkWebhookUrl('https://hook.example/x', [], resolvesTo(address));
    assert.deepEqual(check, { ok: true, url: 'https://hook.example/x' });
  });
}

for (const [address, why] of NOT_PUBLIC) {
  test(`${address} is refused: ${why}`, async () => {
    const check = await checkWebhookUrl('https://hook.example/', [], resolvesTo(address));
    assert.ok(!check.ok);
    assert.match(check.message, /not on the public internet/);
    const beside = await checkWebhookUrl('https://hook.example/', [], resolvesTo('8.8.8.8', address));
    assert.ok(!beside.ok, 'one bad address among good ones is enough');
  });
}

const LITERALS: readonly (readonly [url: string, ok: boolean])[] = [
  ['https://8.8.8.8/', true],
  ['https://[2606:4700:4700::1111]:8443/a?b', true],
  ['https://127.0.0.1/', false],
  ['https://2130706433/', false],
  ['https://0x7f000001/', false],
  ['https://0177.0.0.1/', false],
  ['https://127.1/', false],
  ['https://0/', false],
  ['https://%31%32%37.0.0.1/', false],
  ['https://①②⑦.0.0.1/', false],
  ['https://134744072/', true],
  ['https://[::1]/', false],
  ['https://[::ffff:127.0.0.1]/', false],
  ['https://[64:ff9b::7f00:1]/', false],
];
for (const [url, ok] of LITERALS) {
  test(`${url} is ${ok ? 'taken' : 'refused'} without a lookup`, async () => {
    assert.equal((await checkWebhookUrl(url, [], unasked)).ok, ok);
  });
}

const MALFORMED: readonly (readonly [url: string, message: RegExp])[] = [
  ['', /not a URL/],
  ['hook.example', /not a URL/],
  ['https://', /not a URL/],
  ['https://999.1.1.1/', /not a URL/],
  ['https://a b/', /not a URL/],
  ['http://8.8.8.8/', /https/],
  ['ftp://8.8.8.8/', /https/],
  ['javascript:alert(1)', /https/],
  ['https://user@8.8.8.8/', /credentials/],
  ['https://:secret@8.8.8.8/', /credentials/],
  [`https://8.8.8.8/${'a'.repeat(2033)}`, /2048 bytes/],
  [`https://8.8.8.8/${'é'.repeat(1016)}x`, /2048 bytes/],
  [`https://8.8.8.8/${'é'.repeat(400)}`, /2048 bytes when percent-encoded/],
];
for (const [url, message] of MALFORMED) {
  test(`${url.slice(0, 40)} is refused: ${message.source}`, async () => {
    const check = await checkWebhookUrl(url, ['0.0.0.0/0', '::/0'], unasked);
    assert.ok(!check.ok);
    assert.match(check.message, message);
    assert.ok(!check.message.includes('secret'));
  });
}

test('a URL of exactly 2048 bytes is taken', async () => {
  const url = `https://8.8.8.8/${'a'.repeat(2032)}`;
  assert.equal(url.length, 2048);
  assert.deepEqual(await checkWebhookUrl(url, [], unasked), { ok: true, url });
});

test('allowed networks exempt from the address check, and only what lies in them', async () => {
  const allow = ['127.0.0.0/8', 'fd00::/8'];
  const takes = async (...addresses: string[]) =>
    (await checkWebhookUrl('https://hook.internal/', allow, resolvesTo(...addresses))).ok;
  assert.equal(await takes('127.0.0.1'), true);
  assert.equal(await takes('::ffff:127.0.0.1'), true);
  assert.equal(await takes('64:ff9b::127.0.0.1'), true);
  assert.equal(await takes('fd00::5', '127.3.2.1', '8.8.8.8'), true);
  assert.equal(await takes('127.0.0.1', '10.0.0.1'), false);
  assert.equal(await takes('::1'), false);
  assert.equal(await takes('2001:0:7f00:1:0:0:f5ff:fffe'), false, 'Teredo: the server is allowed, the client is not');
  await assert.rejects(checkWebhookUrl('https://hook.internal/', ['nonsense'], unasked), /"nonsense"/);
});

test('a host that does not resolve, or to nothing, is refused', async () => {
  const failing: ResolveHost = async () => {
    throw Object.assign(new Error('getaddrinfo ENOTFOUND'), { code: 'ENOTFOUND' });
  };
  for (const resolve of [failing, resolvesTo()]) {
    const check = await checkWebhookUrl('https://hook.example/', [], resolve);
    assert.ok(!check.ok);
    assert.match(check.message, /does not resolve/);
  }
});

test('the host is looked up as the URL parser understood it', async () => {
  const asked: string[] = [];
  const resolve: ResolveHost = async (host) => {
    asked.push(host);
    return [{ address: '8.8.8.8' }];
  };
  assert.deepEqual(await checkWebhookUrl('HTTPS://Bücher.Example:443/A', [], resolve), {
    ok: true,
    url: 'https://xn--bcher-kva.example/A',
  });
  assert.deepEqual(asked, ['xn--bcher-kva.example']);
});

test('lookups that hang end after 5 s, hold two places only, and give them back', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const hanging: ((addresses: { address: string }[]) => void)[] = [];
  let started = 0;
  const resolve: ResolveHost = () => {
    started++;
    return new Promise((settle) => hanging.push(settle));
  };
  const checks = Array.from({ length: 4 }, () => checkWebhookUrl('https://hook.example/', [], resolve));
  const turn = () => new Promise((settle) => setImmediate(settle));
  await turn();
  assert.equal(started, 2);
  t.mock.timers.tick(5_000);
  for (const check of await Promise.all(checks)) assert.equal(check.ok, false);
  assert.equal(started, 2, 'the two that hang still hold their places');
  for (const settle of hanging) settle([{ address: '8.8.8.8' }]);
  await turn();
  assert.equal(started, 2, 'those who gave up are not looked up any more');
  t.mock.timers.reset();
  assert.ok((await checkWebhookUrl('https://hook.example/', [], resolvesTo('8.8.8.8'))).ok);
});

test('more waiting lookups than the queue holds are refused at once', async () => {
  const settles: ((addresses: { address: string }[]) => void)[] = [];
  const resolve: ResolveHost = () => new Promise((settle) => settles.push(settle));
  let refused = 0;
  const checks = Array.from({ length: 70 }, async () => {
    const check = await checkWebhookUrl('https://hook.example/', [], resolve);
    if (!check.ok) refused++;
    return check;
  });
  await waitUntil(() => refused === 70 - 2 - 64, { timeoutMs: 2_000 });
  const answering = setInterval(() => {
    for (const settle of settles.splice(0)) settle([{ address: '8.8.8.8' }]);
  }, 1);
  const results = await Promise.all(checks);
  clearInterval(answering);
  assert.equal(results.filter((check) => check.ok).length, 66);
});
