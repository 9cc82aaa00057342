import assert from 'node:assert/strict';
import { createServer } from 'node:net';
import { test } from 'node:test';
import { startListener } from '../../src/gateway/listener.js';
import { createLogger } from '../../src/log.js';
import { DEFAULT_LIMITS } from '../conformance/check.js';
import { MemoryEngine } from '../conformance/memory-engine.js';
import { waitUntil } from '../support/wait.js';
import { ask, errorCode, LOOPBACK, RawConnection, startRig, testConfig } from './rig.js';

const HOST = 'HTTP/1.1\r\nHost: x\r\n';

test('HEAD is answered without a body: 200 on health, 405 elsewhere', async (t) => {
  const { gateway, bearer } = await startRig(t);
  const connection = await RawConnection.open(t, gateway.port);
  connection.expectsHead = true;
  const health = await connection.send(`HEAD /v1/health ${HOST}\r\n`).response();
  assert.equal(health.status, 200);
  assert.ok(Number(health.headers['content-length']) > 0);
  const messages = await connection.send(`HEAD /v1/messages ${HOST}${bearer}\r\n`).response(1);
  assert.equal(messages.status, 405);
  assert.equal(messages.headers.allow, 'POST, GET');
  connection.expectsHead = false;
  assert.equal((await connection.send(`GET /v1/health ${HOST}\r\n`).response(2)).status, 200);
});

test('unknown paths are 404 whatever the method; known ones 405 with Allow', async (t) => {
  const { gateway } = await startRig(t);
  for (const [request, status, allow] of [
    ['GET /', 404, undefined],
    ['POST /v1', 404, undefined],
    ['OPTIONS /v1/health/', 404, undefined],
    ['GET /v1//state', 404, undefined],
    ['GET /v1/agents/me/', 404, undefined],
    ['OPTIONS /v1/state/a', 405, 'GET, PUT, DELETE'],
    ['POST /v1/state/a', 405, 'GET, PUT, DELETE'],
    ['PUT /v1/state', 405, 'GET'],
    ['DELETE /v1/messages', 405, 'POST, GET'],
    ['POST /v1/health', 405, 'GET, HEAD'],
    ['BREW /v1/health', 405, 'GET, HEAD'],
  ] as const) {
    const response = await ask(t, gateway.port, `${request} ${HOST}\r\n`);
    assert.equal(response.status, status, request);
    assert.equal(response.headers.allow, allow, request);
    assert.equal(errorCode(response), status === 404 ? 'not_found' : 'method_not_allowed');
    assert.equal(response.headers['content-type'], 'application/json');
    assert.equal(response.headers['access-control-allow-origin'], undefined);
  }
});

test('a missing, malformed, unknown or wrong kind of token is 401 with WWW-Authenticate; the scheme has no case', async (t) => {
  const { gateway, agentToken, operatorKey } = await startRig(t);
  const unknown = `at_live_${'0'.repeat(64)}`;
  for (const value of [
    undefined,
    agentToken,
    'Bearer',
    'Bearer ',
    `Basic ${agentToken}`,
    `Bearer ${agentToken}x`,
    `Bearer ${agentToken.toUpperCase()}`,
    `Bearer ${unknown}`,
    `Bearer ${operatorKey}`,
  ]) {
    const line = value === undefined ? '' : `Authorization: ${value}\r\n`;
    const response = await ask(t, gateway.port, `GET /v1/agents/me ${HOST}${line}\r\n`);
    assert.equal(response.status, 401, value);
    assert.equal(response.headers['www-authenticate'], 'Bearer');
    assert.equal(response.headers['x-ratelimit-limit'], undefined);
  }
  for (const scheme of ['Bearer', 'bearer', 'BEARER', 'bEaReR']) {
    const response = await ask(
      t,
      gateway.port,
      `GET /v1/agents/me ${HOST}Authorization: ${scheme} ${agentToken}\r\n\r\n`,
    );
    assert.equal(response.status, 200, scheme);
  }
  const operatorRoute = `GET /v1/agents/verification-challenge ${HOST}`;
  assert.equal((await ask(t, gateway.port, `${operatorRoute}Authorization: Bearer ${agentToken}\r\n\r\n`)).status, 401);
  assert.equal(
    (await ask(t, gateway.port, `${operatorRoute}Authorization: Bearer ${operatorKey}\r\n\r\n`)).status,
    200,
  );
});

test('a revoked subject is refused at once', async (t) => {
  const { gateway, bearer, engine } = await startRig(t);
  const me = `GET /v1/agents/me ${HOST}${bearer}\r\n`;
  const { address } = JSON.parse((await ask(t, gateway.port, me)).body) as { address: string };
  for (const [lookup, credential] of engine.records.credentials) {
    if (credential.subject === address) engine.records.credentials.delete(lookup);
  }
  assert.equal((await ask(t, gateway.port, me)).status, 200, 'the session outlives the credential');
  gateway.revoke(address);
  assert.equal((await ask(t, gateway.port, me)).status, 401);
});

test('thousands of requests go over one connection, each answered in turn', async (t) => {
  const { gateway, bearer } = await startRig(t);
  const connection = await RawConnection.open(t, gateway.port);
  const requests = 3_000;
  for (let index = 0; index < requests; index++) {
    const method = index % 3 === 0 ? 'PUT' : 'GET';
    const body = method === 'PUT' ? `{"value":"${index}"}` : '';
    const head = method === 'PUT' ? `Content-Type: application/json\r\nContent-Length: ${body.length}\r\n` : '';
    connection.send(`${method} /v1/state/key ${HOST}${bearer}${head}\r\n${body}`);
    const response = await connection.response(index);
    assert.equal(response.status, 200);
    if (method === 'GET') {
      assert.equal(JSON.parse(response.body).value, String(index - (index % 3)));
    }
  }
  assert.equal(gateway.stats().inHand, 0);
});

test('every character that JSON can carry comes back from the store and the queue', async (t) => {
  const { gateway, bearer } = await startRig(t);
  const text = '\0\u0001"\\/\b\f\n\r\t\u007f\u0080é\u2028\u2029\uFFFD\uFEFF😀\u{10FFFF}</script>';
  const body = Buffer.from(JSON.stringify({ value: text }));
  const path = `/v1/state/${encodeURIComponent(text)}`;
  const json = `Content-Type: application/json; charset=utf-8\r\nContent-Length: `;
  const written = await ask(t, gateway.port, `PUT ${path} ${HOST}${bearer}${json}${body.length}\r\n\r\n`, body);
  assert.equal(JSON.parse(written.body).key, text);
  const read = await ask(t, gateway.port, `GET ${path} ${HOST}${bearer}\r\n`);
  assert.deepEqual([JSON.parse(read.body).key, JSON.parse(read.body).value], [text, text]);
  const me = JSON.parse((await ask(t, gateway.port, `GET /v1/agents/me ${HOST}${bearer}\r\n`)).body) as {
    address: string;
  };
  const message = Buffer.from(JSON.stringify({ to: me.address, content: text }));
  const sent = await ask(
    t,
    gateway.port,
    `POST /v1/messages ${HOST}${bearer}${json}${message.length}\r\n\r\n`,
    message,
  );
  assert.equal(sent.status, 202);
  const received = await ask(t, gateway.port, `GET /v1/messages ${HOST}${bearer}\r\n`);
  assert.equal(JSON.parse(received.body).messages[0].content, text);
});

test('each limited answer counts down, errors after the check included; past the limit 429 has no effect', async (t) => {
  const { gateway, bearer, engine } = await startRig(t, testConfig({}, { 'rate_limits.state_write_per_min': '3' }));
  const put = (body: string) =>
    ask(
      t,
      gateway.port,
      `PUT /v1/state/key ${HOST}${bearer}Content-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
    );
  const answers = [await put('{"value":"1"}'), await put('{}'), await put('{"value":"3"}'), await put('{"value":"4"}')];
  assert.deepEqual(
    answers.map(({ status, headers }) => [status, headers['x-ratelimit-limit'], headers['x-ratelimit-remaining']]),
    [
      [200, '3', '2'],
      [400, '3', '1'],
      [200, '3', '0'],
      [429, '3', '0'],
    ],
  );
  assert.ok(Number(answers[3]?.headers['retry-after']) >= 1);
  for (const { headers } of answers) assert.ok(Number(headers['x-ratelimit-reset']) >= Math.floor(Date.now() / 1000));
  assert.equal(engine.records.entries.get('key')?.value, '3');
});

test('state listings: both spellings, prefixes decoded, unusable cursors 400, keys of a wrong length 400', async (t) => {
  const { gateway, bearer, engine } = await startRig(t);
  for (const key of ['a b', 'a+b', 'c']) await engine.writeState('tab_writer', key, 'v');
  const get = (target: string) => ask(t, gateway.port, `GET ${target} ${HOST}${bearer}\r\n`);
  for (const path of ['/v1/state', '/v1/state/']) {
    assert.deepEqual(JSON.parse((await get(path)).body), { keys: ['a b', 'a+b', 'c'], next_cursor: null, total: 3 });
  }
  assert.deepEqual(JSON.parse((await get('/v1/state?prefix=a+')).body).keys, ['a b']);
  assert.deepEqual(JSON.parse((await get('/v1/state?prefix=a%2B')).body).keys, ['a+b']);
  assert.deepEqual(JSON.parse((await get(`/v1/state?prefix=${'p'.repeat(5_000)}`)).body).keys, []);
  const first = JSON.parse((await get('/v1/state?limit=2')).body) as { next_cursor: string };
  assert.deepEqual(JSON.parse((await get(`/v1/state?cursor=${encodeURIComponent(first.next_cursor)}`)).body).keys, [
    'c',
  ]);
  assert.equal((await get('/v1/state?cursor=made-up')).status, 400);
  assert.equal((await get(`/v1/state/${'k'.repeat(1_025)}`)).status, 400);
  assert.equal((await get(`/v1/state/${'%C3%A9'.repeat(512)}`)).status, 404);
  assert.equal((await get(`/v1/state/${'%C3%A9'.repeat(512)}x`)).status, 400);
  for (const target of ['/v1/state/_capacity', '/v1/state/%5Fcapacity']) {
    assert.equal(JSON.parse((await get(target)).body).key_count, 3);
  }
  for (const path of ['/v1/state/_capacity', '/v1/state/']) {
    assert.equal((await ask(t, gateway.port, `DELETE ${path} ${HOST}${bearer}\r\n`)).status, 400, path);
  }
});

test('a draining gateway finishes what is in hand and refuses what is new, with the expected recovery', async (t) => {
  let answer: (reply: { ok: false; code: 'not_found' }) => void = () => {};
  class StuckRead extends MemoryEngine {
    override readState(): Promise<{ ok: false; code: 'not_found' }> {
      return new Promise((resolve) => {
        answer = resolve;
      });
    }
  }
  const config = testConfig({ expectedRecoveryMs: 60_000 });
  const { gateway, bearer } = await startRig(t, config, (inner) => new StuckRead(DEFAULT_LIMITS, inner.records));
  const inHand = await RawConnection.open(t, gateway.port);
  const idle = await RawConnection.open(t, gateway.port);
  inHand.send(`GET /v1/state/a ${HOST}${bearer}\r\n`);
  await waitUntil(() => gateway.stats().inHand === 1, { timeoutMs: 2_000 });
  let drained = false;
  const draining = gateway.drain().then(() => {
    drained = true;
  });
  const refused = await idle.send(`GET /v1/health ${HOST}\r\n`).response();
  assert.equal(refused.status, 503);
  assert.equal(refused.headers['retry-after'], '1');
  assert.equal(refused.headers.connection, 'close');
  const { error, expected_recovery: recovery } = JSON.parse(refused.body) as Record<string, string>;
  assert.equal(error, 'unavailable');
  assert.ok(Date.parse(recovery ?? '') > Date.now());
  await idle.end();
  assert.equal(drained, false, 'drained with a request in hand');
  answer({ ok: false, code: 'not_found' });
  assert.equal((await inHand.response()).status, 404);
  await inHand.end();
  await draining;
});

test('an error thrown or rejected by a handler is 500 without its text, and the server goes on', async (t) => {
  class Broken extends MemoryEngine {
    override readState(_reader: string, key: string): Promise<never> {
      if (key === 'thrown') throw new Error('secret detail');
      return Promise.reject(new Error('secret detail'));
    }
  }
  const { gateway, bearer } = await startRig(t, testConfig(), (inner) => new Broken(DEFAULT_LIMITS, inner.records));
  for (const key of ['thrown', 'rejected']) {
    const response = await ask(t, gateway.port, `GET /v1/state/${key} ${HOST}${bearer}\r\n`);
    assert.equal(response.status, 500);
    assert.equal(errorCode(response), 'internal_error');
    assert.ok(!response.body.includes('secret'));
  }
  assert.equal((await ask(t, gateway.port, `GET /v1/health ${HOST}\r\n`)).status, 200);
});

test('listeners share a port, also one that the system chose', async (t) => {
  const options = {
    host: LOOPBACK,
    port: 0,
    shared: true,
    readTimeoutMs: 1_000,
    writeTimeoutMs: 1_000,
    expectedRecoveryMs: null,
    logger: createLogger('gateway-test', 'fatal'),
  };
  const first = await startListener(options, (reply) => reply.sendJson(200, '{}'));
  t.after(() => first.close());
  const second = await startListener({ ...options, port: first.port }, (reply) => reply.sendJson(200, '{}'));
  t.after(() => second.close());
  assert.equal(second.port, first.port);
  assert.equal((await ask(t, first.port, `GET / ${HOST}\r\n`)).status, 200);
});

test('a port that another program holds is refused in one clear line', async (t) => {
  const other = createServer();
  await new Promise<void>((resolve) => other.listen(0, LOOPBACK, resolve));
  t.after(() => other.close());
  const address = other.address();
  assert.ok(address !== null && typeof address === 'object');
  const options = {
    host: LOOPBACK,
    port: address.port,
    shared: false,
    readTimeoutMs: 1_000,
    writeTimeoutMs: 1_000,
    expectedRecoveryMs: null,
    logger: createLogger('gateway-test', 'fatal'),
  };
  await assert.rejects(
    startListener(options, (reply) => reply.sendNothing()),
    (error) =>
      error instanceof Error && error.message.includes(`${LOOPBACK}:${address.port}`) && !error.message.includes('\n'),
  );
});
