/** Whose address counts: a header is believed only as far as the chain of trusted proxies reaches. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createClientIp } from '../../src/gateway/limits/client-ip.js';

const CASES: readonly (readonly [
  name: string,
  trusted: string[],
  remote: string,
  header: string | undefined,
  client: string,
])[] = [
  ['no proxies: the header is ignored', [], '203.0.113.9', '1.1.1.1', '203.0.113.9'],
  ['no header', ['10.0.0.0/8'], '10.0.0.1', undefined, '10.0.0.1'],
  ['an untrusted peer is not believed', ['10.0.0.0/8'], '203.0.113.9', '1.1.1.1', '203.0.113.9'],
  ['one trusted proxy', ['10.0.0.0/8'], '10.0.0.1', '198.51.100.7', '198.51.100.7'],
  ['a forged entry on the left is not reached', ['10.0.0.0/8'], '10.0.0.1', '1.1.1.1, 198.51.100.7', '198.51.100.7'],
  ['two trusted proxies', ['10.0.0.0/8'], '10.0.0.1', '1.1.1.1, 198.51.100.7, 10.0.0.2', '198.51.100.7'],
  ['all hops trusted: the leftmost', ['10.0.0.0/8'], '10.0.0.1', '10.0.0.3, 10.0.0.2', '10.0.0.3'],
  ['garbage stops at the last good hop', ['10.0.0.0/8'], '10.0.0.1', '198.51.100.7, nonsense, 10.0.0.2', '10.0.0.2'],
  ['garbage first', ['10.0.0.0/8'], '10.0.0.1', '198.51.100.7, unknown', '10.0.0.1'],
  ['an empty header', ['10.0.0.0/8'], '10.0.0.1', '', '10.0.0.1'],
  ['an empty hop', ['10.0.0.0/8'], '10.0.0.1', '198.51.100.7,', '10.0.0.1'],
  ['a short form is no address', ['10.0.0.0/8'], '10.0.0.1', '1', '10.0.0.1'],
  ['an octal form is no address', ['10.0.0.0/8'], '10.0.0.1', '0177.0.0.1', '10.0.0.1'],
  ['a zone is no address', ['10.0.0.0/8'], '10.0.0.1', 'fe80::1%eth0', '10.0.0.1'],
  ['a single address as proxy', ['10.0.0.1'], '10.0.0.1', '198.51.100.7', '198.51.100.7'],
  ['its neighbour is not trusted', ['10.0.0.1'], '10.0.0.2', '198.51.100.7', '10.0.0.2'],
  ['a mapped peer is the IPv4 one', [], '::ffff:203.0.113.9', undefined, '203.0.113.9'],
  ['a mapped peer in long form', [], '0000:0000:0000:0000:0000:ffff:cb00:7109', undefined, '203.0.113.9'],
  ['a mapped peer is trusted as IPv4', ['10.0.0.0/8'], '::ffff:10.0.0.1', '::ffff:198.51.100.7', '198.51.100.7'],
  ['a mapped range is an IPv4 range', ['::ffff:10.0.0.0/104'], '10.9.9.9', '198.51.100.7', '198.51.100.7'],
  ['IPv6 in long form is shortened', [], '2001:0db8:0000:0000:0000:0000:0000:0001', undefined, '2001:db8::1'],
  ['an IPv6 proxy', ['2001:db8::/32'], '2001:db8::1', '2a00:1450::1', '2a00:1450::1'],
  ['IPv4 with a port', ['10.0.0.0/8'], '10.0.0.1', '198.51.100.7:5555', '198.51.100.7'],
  ['IPv6 in brackets with a port', ['10.0.0.0/8'], '10.0.0.1', '[2a00:1450::1]:443', '2a00:1450::1'],
  ['IPv6 in brackets', ['10.0.0.0/8'], '10.0.0.1', '[2a00:1450::1]', '2a00:1450::1'],
  ['an open bracket', ['10.0.0.0/8'], '10.0.0.1', '[2a00:1450::1', '10.0.0.1'],
  ['spaces and tabs around hops', ['10.0.0.0/8'], '10.0.0.1', ' 198.51.100.7 \t,\t10.0.0.2 ', '198.51.100.7'],
  ['a remote that is no address stays as it is', ['10.0.0.0/8'], '', '198.51.100.7', ''],
];

for (const [name, trusted, remote, header, client] of CASES) {
  test(name, () => assert.equal(createClientIp(trusted)(remote, header), client));
}

test('a malformed proxy list is refused, naming the entry', () => {
  for (const bad of [
    '10.0.0.0/33',
    '10.0.0/8',
    'proxy.example',
    '',
    '::/129',
    '::ffff:10.0.0.0/90',
    '10.0.0.0/',
    '1/8',
  ]) {
    assert.throws(
      () => createClientIp(['10.0.0.0/8', bad]),
      (error: Error) => error.message.includes(`"${bad}"`),
      bad,
    );
  }
});
