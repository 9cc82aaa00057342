import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Credential, EngineReply } from '../../src/contract/engine.js';
import { MAX_BODY_BYTES } from '../../src/contract/limits.js';
import { BodyBudget, BodyBuffer } from '../../src/gateway/body-buffer.js';
import { DEFAULT_LIMITS } from '../conformance/check.js';
import { MemoryEngine } from '../conformance/memory-engine.js';
import { waitUntil } from '../support/wait.js';
import { ask, errorCode, RawConnection, startRig, testConfig } from './rig.js';

const JSON_LINE = 'Content-Type: application/json\r\n';

function put(bearer: string, bodyBytes: number, extra = ''): string {
  return `PUT /v1/state/a HTTP/1.1\r\nHost: x\r\n${bearer}${JSON_LINE}${extra}Content-Length: ${bodyBytes}\r\n\r\n`;
}

/** A body of exactly this size that stores a small value. */
function paddedBody(bytes: number): string {
  const json = '{"value":"v"}';
  return json + ' '.repeat(bytes - json.length);
}

test('a body of exactly 2 MiB is taken; one byte more is 413, announced or in chunks', async (t) => {
  const { gateway, bearer } = await startRig(t);
  const fits = await ask(t, gateway.port, put(bearer, MAX_BODY_BYTES), paddedBody(MAX_BODY_BYTES));
  assert.equal(fits.status, 200);
  const announced = await ask(t, gateway.port, put(bearer, MAX_BODY_BYTES + 1));
  assert.equal(announced.status, 413);
  assert.equal(errorCode(announced), 'value_too_large');
  const chunk = paddedBody(MAX_BODY_BYTES + 1);
  const chunked = await ask(
    t,
    gateway.port,
    `PUT /v1/state/a HTTP/1.1\r\nHost: x\r\n${bearer}${JSON_LINE}Transfer-Encoding: chunked\r\n\r\n`,
    `${chunk.length.toString(16)}\r\n${chunk}\r\n0\r\n\r\n`,
  );
  assert.equal(chunked.status, 413);
  await waitUntil(() => gateway.stats().bufferedBodyBytes === 0, { timeoutMs: 2_000 });
});

test('authentication, rate limit and content type are judged before the size of the body', async (t) => {
  const config = testConfig({}, { 'rate_limits.state_write_per_min': '1' });
  const { gateway, bearer } = await startRig(t, config);
  const large = MAX_BODY_BYTES + 1;
  assert.equal((await ask(t, gateway.port, put('', large))).status, 401);
  const unlabelled = `PUT /v1/state/a HTTP/1.1\r\nHost: x\r\n${bearer}Content-Length: ${large}\r\n\r\n`;
  assert.equal((await ask(t, gateway.port, unlabelled)).status, 415);
  const refused = await ask(t, gateway.port, put(bearer, large));
  assert.equal(refused.status, 429);
  assert.equal(refused.headers['x-ratelimit-remaining'], '0');
  assert.ok(Number(refused.headers['retry-after']) >= 1);
});

test('a body that arrives before its token is verified waits for it', async (t) => {
  let letGo: () => void = () => {};
  const gate = new Promise<void>((resolve) => {
    letGo = resolve;
  });
  class SlowLookup extends MemoryEngine {
    asked = false;
    override async findCredential(lookup: string): Promise<EngineReply<Credential>> {
      this.asked = true;
      await gate;
      return super.findCredential(lookup);
    }
  }
  let slow = new SlowLookup(DEFAULT_LIMITS);
  const { gateway, bearer, engine } = await startRig(t, testConfig(), (inner) => {
    slow = new SlowLookup(DEFAULT_LIMITS, inner.records);
    return slow;
  });
  const connection = await RawConnection.open(t, gateway.port);
  connection.send(put(bearer, 13), '{"val');
  await waitUntil(() => slow.asked, { timeoutMs: 2_000 });
  connection.send('ue":"v"}');
  await waitUntil(() => gateway.stats().bufferedBodyBytes > 0, { timeoutMs: 2_000 });
  letGo();
  assert.equal((await connection.response()).status, 200);
  assert.equal(engine.records.entries.get('a')?.value, 'v');
  assert.equal(gateway.stats().bufferedBodyBytes, 0);
});

test('a body that stops arriving is 400 after the read time limit, and the connection is closed', async (t) => {
  const { gateway, bearer, engine } = await startRig(t, testConfig({ readTimeoutMs: 60 }));
  const connection = await RawConnection.open(t, gateway.port);
  connection.send(put(bearer, 13), '{"val');
  const response = await connection.response();
  assert.equal(response.status, 400);
  await connection.end();
  assert.equal(gateway.stats().readTimeouts, 1);
  assert.equal(gateway.stats().bufferedBodyBytes, 0);
  assert.equal(engine.records.entries.size, 0);
});

test('an answer that stays pending is 503 with Retry-After after the write time limit; what comes later is dropped', async (t) => {
  let answer: (reply: { ok: false; code: 'not_found' }) => void = () => {};
  class StuckRead extends MemoryEngine {
    override readState(): Promise<{ ok: false; code: 'not_found' }> {
      return new Promise((resolve) => {
        answer = resolve;
      });
    }
  }
  const { gateway, bearer } = await startRig(
    t,
    testConfig({ writeTimeoutMs: 60 }),
    (inner) => new StuckRead(DEFAULT_LIMITS, inner.records),
  );
  const connection = await RawConnection.open(t, gateway.port);
  const response = await connection.send(`GET /v1/state/a HTTP/1.1\r\nHost: x\r\n${bearer}\r\n`).response();
  assert.equal(response.status, 503);
  assert.equal(errorCode(response), 'unavailable');
  assert.equal(response.headers['retry-after'], '1');
  answer({ ok: false, code: 'not_found' });
  assert.equal((await connection.send('GET /v1/health HTTP/1.1\r\nHost: x\r\n\r\n').response(1)).status, 200);
  assert.equal(connection.responses.length, 2);
  assert.equal(gateway.stats().writeTimeouts, 1);
});

test('clients that leave in the middle of their bodies leave nothing behind', async (t) => {
  const { gateway, bearer, engine } = await startRig(t);
  const connections = await Promise.all(Array.from({ length: 50 }, () => RawConnection.open(t, gateway.port)));
  for (const connection of connections) connection.send(put(bearer, 100_000), paddedBody(50_000));
  await waitUntil(() => gateway.stats().inHand === 50, { timeoutMs: 5_000 });
  await waitUntil(() => gateway.stats().bufferedBodyBytes >= 50 * 50_000, { timeoutMs: 5_000 });
  for (const connection of connections) connection.destroy();
  await waitUntil(() => gateway.stats().inHand === 0, { timeoutMs: 5_000 });
  assert.equal(gateway.stats().bufferedBodyBytes, 0);
  assert.equal(gateway.stats().aborted, 50);
  assert.equal(engine.records.entries.size, 0);
});

test('a client that leaves before its answer costs nothing but the answer', async (t) => {
  let answer: (reply: { ok: false; code: 'not_found' }) => void = () => {};
  class StuckRead extends MemoryEngine {
    override readState(): Promise<{ ok: false; code: 'not_found' }> {
      return new Promise((resolve) => {
        answer = resolve;
      });
    }
  }
  const { gateway, bearer } = await startRig(t, testConfig(), (inner) => new StuckRead(DEFAULT_LIMITS, inner.records));
  const connection = await RawConnection.open(t, gateway.port);
  connection.send(`GET /v1/state/a HTTP/1.1\r\nHost: x\r\n${bearer}\r\n`);
  await waitUntil(() => gateway.stats().inHand === 1, { timeoutMs: 2_000 });
  connection.destroy();
  await waitUntil(() => gateway.stats().aborted === 1, { timeoutMs: 2_000 });
  answer({ ok: false, code: 'not_found' });
  assert.equal((await ask(t, gateway.port, 'GET /v1/health HTTP/1.1\r\nHost: x\r\n\r\n')).status, 200);
});

test('an early refusal reads past the body: the connection goes on with the next request', async (t) => {
  const { gateway } = await startRig(t);
  const connection = await RawConnection.open(t, gateway.port);
  assert.equal((await connection.send(put('', 10), 'hello').response()).status, 401);
  connection.send('world', 'GET /v1/health HTTP/1.1\r\nHost: x\r\n\r\n');
  assert.equal((await connection.response(1)).status, 200);
});

test('malformed UTF-8, malformed JSON and a byte order mark are 400', async (t) => {
  const { gateway, bearer, engine } = await startRig(t);
  for (const body of [
    '{"value":"\xff"}',
    '{"value":"\xed\xa0\x80"}',
    '{"value":',
    '',
    '\xef\xbb\xbf{"value":"v"}',
    '{"value":"\\ud800"}',
  ]) {
    const response = await ask(t, gateway.port, put(bearer, body.length), body);
    assert.equal(response.status, 400, JSON.stringify(body));
    assert.equal(errorCode(response), 'bad_request');
  }
  assert.equal(engine.records.entries.size, 0);
});

test('a body buffer never holds more than its budget, and gives everything back', () => {
  const budget = new BodyBudget(100_000);
  const buffers = [new BodyBuffer(budget), new BodyBuffer(budget)] as const;
  const chunk = Buffer.alloc(1_000, 'x');
  let refused = 0;
  for (let round = 0; round < 100; round++) {
    for (const buffer of buffers) if (!buffer.append(chunk)) refused++;
    assert.ok(budget.usedBytes <= budget.maxBytes);
  }
  assert.ok(refused > 0);
  assert.equal(buffers[0].view().length, buffers[0].sizeBytes);
  assert.ok(buffers[0].view().equals(Buffer.alloc(buffers[0].sizeBytes, 'x')));
  for (const buffer of buffers) buffer.release();
  assert.equal(budget.usedBytes, 0);
});
