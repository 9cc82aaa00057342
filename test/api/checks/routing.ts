/** Routes, methods, content types, and the order in which a request is checked. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Method, RawConnection, rawExchange } from '../../support/http.js';
import { assertError, assertFields, limitFigures, type Rig } from '../rig.js';

const JSON_HEADERS = { 'Content-Type': 'application/json' };
const TEXT_HEADERS = { 'Content-Type': 'text/plain' };

/** Every resource of this version, with the methods it takes. */
const RESOURCES: readonly (readonly [path: string, allowed: readonly string[]])[] = [
  ['/v1/health', ['GET', 'HEAD']],
  ['/v1/openapi.json', ['GET']],
  ['/v1/operators', ['POST']],
  ['/v1/agents/verification-challenge', ['GET']],
  ['/v1/agents', ['POST']],
  ['/v1/agents/me', ['GET']],
  ['/v1/registry', ['GET']],
  ['/v1/messages', ['GET', 'POST']],
  ['/v1/state', ['GET']],
  ['/v1/state/any/key', ['DELETE', 'GET', 'PUT']],
  ['/v1/state/_capacity', ['DELETE', 'GET', 'PUT']],
];
const METHODS: readonly Method[] = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'];

export function routingChecks(rig: () => Rig): void {
  test('health answers ok and a version, to anyone', async () => {
    const answer = await rig().client.get('/v1/health');
    const { status, version } = assertFields(answer, 200, ['status', 'version']);
    assert.equal(status, 'ok');
    assert.match(String(version), /^\d+\.\d+\.\d+/);
  });

  test('HEAD of health is 200 without a body', async () => {
    const answer = await rig().client.send('HEAD', '/v1/health');
    assert.deepEqual([answer.status, answer.text], [200, '']);
  });

  test('a connection serves on after an answer to HEAD, whatever its status', async () => {
    const { server } = rig();
    const head = (method: string, path: string): string => `${method} ${path} HTTP/1.1\r\nHost: a\r\n\r\n`;
    for (const path of ['/v1/health', '/v1/messages', '/v1/nothing']) {
      const connection = await RawConnection.open(server.kernelPort);
      for (const method of ['HEAD', 'HEAD', 'GET', 'HEAD']) {
        const answer = await connection.exchange(head(method, path));
        assert.match(answer, /^HTTP\/1\.1 (?:200|401|404|405) /, `${method} ${path}`);
        if (method === 'HEAD') assert.ok(answer.endsWith('\r\n\r\n'), 'HEAD has no body');
      }
      connection.close();
    }
  });

  test('the OpenAPI 3.1 document names every path of the API', async () => {
    const answer = await rig().client.get('/v1/openapi.json');
    assert.equal(answer.status, 200);
    const { openapi, paths } = answer.json<{ openapi: string; paths: Record<string, object> }>();
    assert.match(openapi, /^3\.1\./);
    for (const [path] of RESOURCES) {
      const named = path === '/v1/state/any/key' ? '/v1/state/{key}' : path;
      assert.ok(named in paths, `${named} is not described`);
    }
  });

  test('an unknown route is 404 for every method, with and without a token', async () => {
    const agent = await rig().agent();
    const unknown = ['/', '/v1', '/v1/', '/v2/health', '/v1/nothing', '/v1/health/', '/v1/HEALTH', '/v1/agents/you'];
    for (const path of [...unknown, '/v1//state', '/v1/messages/', '/observe/health', '/admin/removals', '/metrics']) {
      assertError(await rig().client.get(path), 'not_found', path);
      assertError(await rig().client.send('DELETE', path, { token: 'nonsense' }), 'not_found', path);
      assertError(await agent.get(path), 'not_found', path);
    }
  });

  test('a method that a route does not take is 405 with Allow, before any token is looked at', async () => {
    for (const [path, allowed] of RESOURCES) {
      for (const method of METHODS) {
        if (allowed.includes(method)) continue;
        const answer = await rig().client.send(method, path);
        if (method === 'HEAD') assert.deepEqual([answer.status, answer.text], [405, ''], `HEAD ${path}`);
        else assertError(answer, 'method_not_allowed', `${method} ${path}`);
        const listed = (answer.headers.allow ?? '').split(',').map((name) => name.trim());
        assert.deepEqual(listed.sort(), [...allowed].sort(), `Allow of ${method} ${path}`);
      }
    }
  });

  test('no answer of the kernel API carries a CORS header', async () => {
    const { client } = rig();
    const headers = { Origin: 'https://example.com', 'Access-Control-Request-Method': 'PUT' };
    for (const method of ['GET', 'OPTIONS', 'POST'] as const) {
      for (const path of ['/v1/health', '/v1/state/key', '/v1/operators', '/v1/nothing']) {
        const answer = await client.send(method, path, { headers });
        const cors = Object.keys(answer.headers).filter((name) => name.startsWith('access-control-'));
        assert.deepEqual(cors, [], `${method} ${path}`);
      }
    }
  });

  test('POST and PUT need application/json, in any case and with any parameters', async () => {
    const agent = await rig().agent();
    const good = [
      'application/json',
      'Application/JSON',
      'application/json; charset=utf-8',
      'application/json;charset=UTF-8',
      'application/json ; a=b; c=d',
    ];
    for (const type of good) {
      const options = { token: agent.token, body: '{"value":"v"}', headers: { 'Content-Type': type } };
      assert.equal((await rig().client.send('PUT', '/v1/state/type', options)).status, 200, type);
    }
    const bad = [
      'text/plain',
      'application/jsonp',
      'application/json-patch+json',
      'text/json',
      'json',
      'application/x',
    ];
    const requests = [
      ['PUT', '/v1/state/type', '{"value":"no"}', agent.token],
      ['POST', '/v1/messages', JSON.stringify({ to: agent.address, content: 'no' }), agent.token],
      ['POST', '/v1/agents', '{}', rig().operatorKey],
      ['POST', '/v1/operators', '{"contact_hash":"no","accept_terms":true}', ''],
    ] as const;
    for (const [method, path, body, token] of requests) {
      for (const type of bad) {
        const options = { token, body, headers: { 'Content-Type': type } };
        assertError(await rig().client.send(method, path, options), 'unsupported_media_type', `${path} ${type}`);
      }
      const untyped = { token, body: Buffer.from(body), headers: { 'Content-Type': undefined } };
      assertError(await rig().client.send(method, path, untyped), 'unsupported_media_type', `${path} without a type`);
    }
    assert.equal((await agent.read('type')).json().value, 'v');
    assert.equal((await agent.receive()).messages.length, 0);
  });

  test('a token is asked for before the content type, and the content type before the body', async () => {
    const agent = await rig().agent();
    const garbage = Buffer.from([0xff, 0x7b]);
    for (const [method, path, token] of [
      ['PUT', '/v1/state/order', agent.token],
      ['POST', '/v1/messages', agent.token],
      ['POST', '/v1/agents', rig().operatorKey],
    ] as const) {
      const { client } = rig();
      assertError(await client.send(method, path, { body: garbage, headers: TEXT_HEADERS }), 'unauthorized', path);
      const wrongType = await client.send(method, path, { token, body: garbage, headers: TEXT_HEADERS });
      assertError(wrongType, 'unsupported_media_type', path);
      assertError(
        await client.send(method, path, { token, body: garbage, headers: JSON_HEADERS }),
        'bad_request',
        path,
      );
    }
    assertError(
      await rig().client.send('POST', '/v1/operators', { body: garbage, headers: TEXT_HEADERS }),
      'unsupported_media_type',
    );
  });

  test('a refusal of content type, body or meaning is a limited response like any other', async () => {
    const agent = await rig().agent();
    const { client } = rig();
    const before = limitFigures(await agent.put('/v1/state/limited', { value: 'v' }));
    const wrongType = { token: agent.token, body: '{}', headers: TEXT_HEADERS };
    const refused = [
      await client.send('PUT', '/v1/state/limited', wrongType),
      await agent.put('/v1/state/limited', 'no json'),
      await agent.put('/v1/state/%FF', { value: 'v' }),
      await agent.delete('/v1/state/never-written'),
    ];
    assert.deepEqual(
      refused.map((answer) => answer.status),
      [415, 400, 400, 404],
    );
    for (const answer of refused) {
      const { limit, remaining } = limitFigures(answer);
      assert.equal(limit, before.limit);
      assert.ok(remaining < limit);
    }
  });

  test('a body sent in chunks is read like any other, up to 2 MiB', async () => {
    const agent = await rig().agent();
    const head = `PUT /v1/state/chunked HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer ${agent.token}\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n`;
    const inChunks = (body: string, size: number): string => {
      let chunks = '';
      for (let at = 0; at < body.length; at += size) {
        const chunk = body.slice(at, at + size);
        chunks += `${chunk.length.toString(16)}\r\n${chunk}\r\n`;
      }
      return `${chunks}0\r\n\r\n`;
    };
    const value = 'x'.repeat(100_000);
    const written = await rawExchange(rig().server.kernelPort, head + inChunks(JSON.stringify({ value }), 4_000));
    assert.match(written, /^HTTP\/1\.1 200 /);
    assert.equal((await agent.read('chunked')).json().value, value);
    const tooLarge = JSON.stringify({ value: 'y' }).padEnd(2_097_153);
    const refused = await rawExchange(rig().server.kernelPort, head + inChunks(tooLarge, 65_536));
    assert.match(refused, /^HTTP\/1\.1 413 /);
    assert.equal((await agent.read('chunked')).json().value, value);
  });

  test('a request whose length is uncertain is refused, and nothing behind it is served', async () => {
    const agent = await rig().agent();
    const { kernelPort } = rig().server;
    const body = '{"value":"smuggled"}';
    const head = `PUT /v1/state/smuggled HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer ${agent.token}\r\nContent-Type: application/json\r\n`;
    for (const lengths of [
      `Content-Length: ${body.length}\r\nContent-Length: 0\r\n`,
      `Content-Length: ${body.length}\r\nContent-Length: ${body.length}\r\n`,
      `Content-Length: ${body.length}\r\nTransfer-Encoding: chunked\r\n`,
      `Transfer-Encoding: gzip, chunked\r\n`,
      `Host: b\r\nContent-Length: ${body.length}\r\n`,
    ]) {
      const answers = await rawExchange(
        kernelPort,
        `${head}${lengths}\r\n${body}GET /v1/health HTTP/1.1\r\nHost: a\r\n\r\n`,
      );
      assert.doesNotMatch(answers, /HTTP\/1\.1 2\d\d/, lengths);
      assert.ok(answers === '' || answers.startsWith('HTTP/1.1 400'), `${lengths} ${answers.slice(0, 40)}`);
    }
    assertError(await agent.read('smuggled'), 'not_found');
  });
}
