/** Posting over real sockets and real TLS, to receivers of every kind. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type Server, type Socket } from 'node:net';
import { type TestContext, test } from 'node:test';
import type { ReceivedMessage } from '../../src/contract/engine.js';
import type { PostResult } from '../../src/webhooks/delivery-rules.js';
import { createAddressFinder, type FindAddresses } from '../../src/webhooks/host-addresses.js';
import { HttpsPoster, type PosterSettings } from '../../src/webhooks/https-poster.js';
import { signMessage } from '../../src/webhooks/signed-message.js';
import { selfSigned } from '../support/self-signed.js';
import { waitUntil } from '../support/wait.js';
import { HookServer } from './hook-server.js';

const IDENTITY = selfSigned(['127.0.0.1', 'hook.example', 'localhost']);
const SECRET = `whsec_${Buffer.alloc(32, 7).toString('base64')}`;
const MESSAGE: ReceivedMessage = {
  messageId: '9b2c7f0e-0000-4000-8000-000000000001',
  from: 'tab_00000000000000000001',
  to: 'tab_00000000000000000002',
  content: 'hello\n"world" 😀',
  sentAtMs: 1_773_812_345_678,
};
const SIGNED = signMessage(MESSAGE, SECRET, Date.now());
const SETTINGS: PosterSettings = {
  connectTimeoutMs: 5_000,
  totalTimeoutMs: 10_000,
  maxConcurrency: 10,
  allowNetworks: ['127.0.0.0/8'],
  trustedCertificate: IDENTITY.cert,
};
/** For posts that are to time out: time enough to connect on a busy machine. */
const SHORT = { connectTimeoutMs: 1_500, totalTimeoutMs: 1_500 };
const nobodyAsked: FindAddresses = (host) => Promise.reject(new Error(`nobody should look up ${host}`));

function posterFor(t: TestContext, settings: Partial<PosterSettings> = {}, find = nobodyAsked): HttpsPoster {
  const poster = new HttpsPoster({ ...SETTINGS, ...settings }, find);
  t.after(() => poster.close());
  return poster;
}

async function rawServer(t: TestContext, serve: (socket: Socket) => void): Promise<{ server: Server; port: number }> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => {});
    socket.resume();
    serve(socket);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  const address = server.address();
  assert.ok(typeof address === 'object' && address !== null);
  return { server, port: address.port };
}

test('a good receiver gets the message as GET /v1/messages shows it, with the headers of the contract', async (t) => {
  const hooks = await HookServer.start(t, IDENTITY);
  const result = await posterFor(t).post(hooks.url('/ok/a?b=c%20d'), SIGNED);
  assert.deepEqual(result, { kind: 'delivered', status: 204 });
  const [received] = hooks.received;
  assert.ok(received !== undefined);
  assert.equal(received.path, '/ok/a?b=c%20d');
  assert.deepEqual(JSON.parse(received.body), {
    message_id: MESSAGE.messageId,
    from: MESSAGE.from,
    to: MESSAGE.to,
    content: MESSAGE.content,
    timestamp: '2026-03-18T05:39:05.678Z',
  });
  const { headers } = received;
  assert.equal(headers['content-type'], 'application/json');
  assert.match(headers['user-agent'] ?? '', /^Tabulum\/\d+\.\d+\.\d+$/);
  assert.equal(headers['webhook-id'], MESSAGE.messageId);
  assert.equal(headers['content-length'], String(Buffer.byteLength(received.body)));
  assert.equal(headers.host, `127.0.0.1:${hooks.port}`);
});

const ANSWERS: readonly (readonly [path: string, result: PostResult])[] = [
  ['/status-200/x', { kind: 'delivered', status: 200 }],
  ['/status-299/x', { kind: 'delivered', status: 299 }],
  ['/status-300/x', { kind: 'refused', status: 300 }],
  ['/status-304/x', { kind: 'refused', status: 304 }],
  ['/status-400/x', { kind: 'refused', status: 400 }],
  ['/status-404/x', { kind: 'refused', status: 404 }],
  ['/status-500/x', { kind: 'refused', status: 500 }],
  ['/status-503/x', { kind: 'refused', status: 503 }],
  ['/redirect-301/x', { kind: 'refused', status: 301 }],
  ['/redirect-302/x', { kind: 'refused', status: 302 }],
  ['/redirect-307/x', { kind: 'refused', status: 307 }],
  ['/redirect-308/x', { kind: 'refused', status: 308 }],
  ['/after-200/x', { kind: 'delivered', status: 200 }],
  ['/hang/x', { kind: 'timeout' }],
  ['/slowhead/x', { kind: 'timeout' }],
];
for (const [path, expected] of ANSWERS) {
  test(`${path.slice(1, -2)}: ${JSON.stringify(expected)}, and nothing is followed or repeated`, async (t) => {
    const hooks = await HookServer.start(t, IDENTITY);
    const poster = posterFor(t, expected.kind === 'timeout' ? SHORT : {});
    assert.deepEqual(await poster.post(hooks.url(path), SIGNED), expected);
    assert.deepEqual(
      hooks.received.map((one) => one.path),
      [path],
    );
  });
}

for (const kind of ['reset', 'garbage', 'head', 'early']) {
  test(`${kind}: the post fails with a code and no word of the URL, and the connection ends`, async (t) => {
    const hooks = await HookServer.start(t, IDENTITY);
    const result = await posterFor(t).post(hooks.url(`/${kind}/private-path`), SIGNED);
    assert.equal(result.kind, 'unreachable');
    assert.doesNotMatch(JSON.stringify(result), /private-path|127\.0\.0\.1/);
    await waitUntil(() => hooks.held === 0, { timeoutMs: 2_000 });
    assert.ok(hooks.writtenBytes < 4_000_000, `${hooks.writtenBytes} bytes were taken`);
  });
}

test('an endless body of a 2xx is delivery, and is cut off after a bounded number of bytes', async (t) => {
  const hooks = await HookServer.start(t, IDENTITY);
  assert.deepEqual(await posterFor(t).post(hooks.url('/huge/x'), SIGNED), { kind: 'delivered', status: 200 });
  await waitUntil(() => hooks.held === 0, { timeoutMs: 2_000, what: 'the connection is cut' });
  // What left the receiver, the buffers of both systems included.
  assert.ok(hooks.writtenBytes < 16_000_000, `${hooks.writtenBytes} bytes were taken`);
});

test('a body that drips for ever is cut off after a second, and the status counts', async (t) => {
  const hooks = await HookServer.start(t, IDENTITY);
  const poster = posterFor(t);
  const startedMs = performance.now();
  const results = await Promise.all(['/drip-200/x', '/drip-500/x'].map((path) => poster.post(hooks.url(path), SIGNED)));
  assert.deepEqual(results, [
    { kind: 'delivered', status: 200 },
    { kind: 'refused', status: 500 },
  ]);
  assert.ok(performance.now() - startedMs < 8_000);
  await waitUntil(() => hooks.held === 0, { timeoutMs: 2_000 });
});

test('a host that takes the connection and never speaks TLS is a timeout', async (t) => {
  const { port } = await rawServer(t, () => {});
  assert.deepEqual(await posterFor(t, SHORT).post(`https://127.0.0.1:${port}/x`, SIGNED), { kind: 'timeout' });
});

test('a port where nobody listens, and one that speaks plain HTTP, are unreachable', async (t) => {
  const { server, port } = await rawServer(t, (socket) => socket.end('HTTP/1.1 200 OK\r\n\r\n'));
  const poster = posterFor(t);
  const url = `https://127.0.0.1:${port}/x`;
  assert.equal((await poster.post(url, SIGNED)).kind, 'unreachable');
  server.close();
  await once(server, 'close');
  assert.deepEqual(await poster.post(url, SIGNED), { kind: 'unreachable', code: 'ECONNREFUSED' });
});

test('a certificate of another name, or of nobody who is trusted, is refused before anything is sent', async (t) => {
  const others = selfSigned(['127.0.0.9', 'other.example']);
  const foreign = await HookServer.start(t, others);
  const poster = posterFor(t, { trustedCertificate: others.cert });
  const wrongName = await poster.post(foreign.url('/ok/x'), SIGNED);
  assert.deepEqual(wrongName, { kind: 'unreachable', code: 'ERR_TLS_CERT_ALTNAME_INVALID' });
  const stranger = await HookServer.start(t, selfSigned(['127.0.0.1']));
  const untrusted = await posterFor(t).post(stranger.url('/ok/x'), SIGNED);
  assert.equal(untrusted.kind, 'unreachable');
  assert.deepEqual([...foreign.received, ...stranger.received], []);
});

test('environment variables neither turn certificate checks off nor bring a proxy in', async (t) => {
  let proxied = 0;
  const { port } = await rawServer(t, (socket) => {
    proxied++;
    socket.destroy();
  });
  const before = { ...process.env };
  t.after(() => {
    process.env = before;
  });
  process.env.NODE_TLS_REJECT_UNAUTHORIZED = '0';
  process.env.NODE_USE_ENV_PROXY = '1';
  for (const name of ['HTTPS_PROXY', 'https_proxy', 'HTTP_PROXY', 'ALL_PROXY']) {
    process.env[name] = `http://127.0.0.1:${port}`;
  }
  const stranger = await HookServer.start(t, selfSigned(['127.0.0.1']));
  assert.equal((await posterFor(t).post(stranger.url('/ok/x'), SIGNED)).kind, 'unreachable');
  const hooks = await HookServer.start(t, IDENTITY);
  assert.equal((await posterFor(t).post(hooks.url('/ok/x'), SIGNED)).kind, 'delivered');
  assert.equal(proxied, 0);
});

test('a name that turns to another address after registration leads nowhere', async (t) => {
  const inside = await HookServer.start(t, IDENTITY, '127.0.0.3');
  let address = '127.0.0.3';
  const finds: FindAddresses = async () => [{ address, family: 4 }];
  const url = `https://hook.example:${inside.port}/ok/x`;
  const poster = posterFor(t, { allowNetworks: ['127.0.0.2/32'] }, finds);
  assert.deepEqual(await poster.post(url, SIGNED), { kind: 'address_refused' });
  for (address of ['10.0.0.1', '169.254.169.254', '::1', '::ffff:127.0.0.3', '64:ff9b::7f00:3', '2002:7f00:3::']) {
    const family = address.includes(':') ? 6 : 4;
    const other = posterFor(t, { allowNetworks: [] }, async () => [{ address, family }]);
    assert.deepEqual(await other.post(url, SIGNED), { kind: 'address_refused' }, address);
  }
  assert.equal(inside.connections, 0, 'nobody knocked');
});

test('one bad address among good ones refuses the host, as at registration', async (t) => {
  const hooks = await HookServer.start(t, IDENTITY);
  const finds: FindAddresses = async () => [
    { address: '127.0.0.1', family: 4 },
    { address: '10.0.0.1', family: 4 },
  ];
  const result = await posterFor(t, {}, finds).post(`https://hook.example:${hooks.port}/ok/x`, SIGNED);
  assert.deepEqual(result, { kind: 'address_refused' });
  assert.equal(hooks.connections, 0);
});

test('a name is dialled at the address that was judged; certificate and Host are about the name', async (t) => {
  const hooks = await HookServer.start(t, IDENTITY);
  const asked: string[] = [];
  const finds: FindAddresses = async (host) => {
    asked.push(host);
    return [{ address: '127.0.0.1', family: 4 }];
  };
  const poster = posterFor(t, {}, finds);
  assert.equal((await poster.post(`https://hook.example:${hooks.port}/ok/x`, SIGNED)).kind, 'delivered');
  assert.deepEqual(asked, ['hook.example']);
  assert.equal(hooks.received[0]?.headers.host, `hook.example:${hooks.port}`);
  const notInCertificate = await poster.post(`https://other.example:${hooks.port}/ok/x`, SIGNED);
  assert.deepEqual(notInCertificate, { kind: 'unreachable', code: 'ERR_TLS_CERT_ALTNAME_INVALID' });
});

test('when the first address of a host is dead the next one is dialled', async (t) => {
  const hooks = await HookServer.start(t, IDENTITY);
  const finds: FindAddresses = async () => [
    { address: '127.0.0.5', family: 4 },
    { address: '127.0.0.1', family: 4 },
  ];
  const result = await posterFor(t, {}, finds).post(`https://hook.example:${hooks.port}/ok/x`, SIGNED);
  assert.equal(result.kind, 'delivered');
});

test('literals of every form are judged without a lookup', async (t) => {
  const poster = posterFor(t, { allowNetworks: [] });
  const hosts = ['127.0.0.1', '2130706433', '0x7f000001', '0177.0.0.1', '127.1', '0', '10.1.2.3', '169.254.169.254'];
  const literals = [
    '[::1]',
    '[::ffff:7f00:1]',
    '[64:ff9b::7f00:1]',
    '[2002:7f00:1::]',
    '[2001:0:7f00:1:0:0:f7f7:f7f7]',
  ];
  for (const host of [...hosts, ...literals]) {
    assert.deepEqual(await poster.post(`https://${host}/x`, SIGNED), { kind: 'address_refused' }, host);
  }
});

test('plain http, credentials and what is no URL are never posted to', async (t) => {
  const poster = posterFor(t);
  for (const url of ['http://127.0.0.1/', 'https://user:word@127.0.0.1/', 'ftp://127.0.0.1/', 'nonsense', '']) {
    assert.deepEqual(await poster.post(url, SIGNED), { kind: 'address_refused' }, url);
  }
});

test('a name that does not resolve, or not in time, fails and lets go', async (t) => {
  const never = posterFor(t, SHORT, () => new Promise(() => {}));
  assert.deepEqual(await never.post('https://hook.example/x', SIGNED), { kind: 'timeout' });
  const unknown = posterFor(t, SHORT, createAddressFinder(false));
  const result = await unknown.post('https://does-not-exist.invalid/x', SIGNED);
  assert.ok(result.kind === 'unreachable' || result.kind === 'timeout', JSON.stringify(result));
});

test('where networks are allowed, names that only the system knows are found too', async () => {
  const found = await createAddressFinder(true)('localhost');
  assert.ok(found.length > 0);
  for (const { address } of found) assert.match(address, /^(?:127\.0\.0\.1|::1)$/);
});

test('connections are kept for the next post to the same host', async (t) => {
  const hooks = await HookServer.start(t, IDENTITY);
  const poster = posterFor(t);
  for (let post = 0; post < 20; post++) await poster.post(hooks.url(`/ok/${post}`), SIGNED);
  assert.ok(hooks.connections <= 2, `${hooks.connections} connections for 20 posts in turn`);
});

test('closing ends posts in hand as abandoned, in every phase', async (t) => {
  const hooks = await HookServer.start(t, IDENTITY);
  const { port } = await rawServer(t, () => {});
  const poster = posterFor(t, { connectTimeoutMs: 30_000, totalTimeoutMs: 30_000 });
  const posts = [poster.post(hooks.url('/hang/x'), SIGNED), poster.post(`https://127.0.0.1:${port}/x`, SIGNED)];
  await waitUntil(() => hooks.held === 1, { timeoutMs: 5_000 });
  await poster.close();
  assert.deepEqual(await Promise.all(posts), [{ kind: 'abandoned' }, { kind: 'abandoned' }]);
});
