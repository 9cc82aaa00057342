/** The example client against a scripted HTTP server: what it repeats, what it does not, and what it makes of answers. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type IncomingMessage } from 'node:http';
import { type TestContext, test } from 'node:test';
import {
  type ClientOptions,
  solvePipeline,
  solveProofOfWork,
  TabulumClient,
  type TabulumError,
} from '../../examples/tabulum-client.js';

interface Scripted {
  readonly status: number;
  readonly body: unknown;
  readonly retryAfter?: string;
}

const REFUSED_429: Scripted = { status: 429, body: { error: 'rate_limited', message: 'wait' }, retryAfter: '0' };
const REFUSED_503: Scripted = { status: 503, body: { error: 'unavailable', message: 'later' }, retryAfter: '0' };

test('a 429 is tried again, for a mutation too, and the final answer is returned', async (t) => {
  const { agent, requests } = await scripted(t, [REFUSED_429, REFUSED_429, { status: 202, body: { message_id: 'm' } }]);
  assert.equal((await agent.send('tab_x', 'hello')).message_id, 'm');
  assert.equal(requests.length, 3);
});

test('retries are bounded, and then the refusal is thrown with its code, status and wait', async (t) => {
  const { agent, requests } = await scripted(t, [REFUSED_429], { retry: { maxAttempts: 3 } });
  await assert.rejects(agent.me(), { name: 'TabulumError', status: 429, code: 'rate_limited', retryAfterSeconds: 0 });
  assert.equal(requests.length, 3);
});

test('a wait longer than the policy allows is not begun', async (t) => {
  const { agent, requests } = await scripted(t, [{ ...REFUSED_429, retryAfter: '720' }]);
  await assert.rejects(agent.me(), { status: 429, retryAfterSeconds: 720 });
  assert.equal(requests.length, 1);
});

test('a wait ends when the caller says so', async (t) => {
  const stop = new AbortController();
  const options = { stopWaiting: stop.signal, onAnswer: () => stop.abort() };
  const { agent, requests } = await scripted(t, [{ ...REFUSED_429, retryAfter: '30' }], options);
  await assert.rejects(agent.me(), { status: 429 });
  assert.equal(requests.length, 1);
});

test('a 503 is tried again for a read and a state write, but never for a message', async (t) => {
  const read = await scripted(t, [REFUSED_503, { status: 200, body: { key: 'k', value: 'v' } }]);
  assert.equal((await read.agent.getState('k'))?.value, 'v');
  const write = await scripted(t, [REFUSED_503, { status: 200, body: { key: 'k' } }]);
  assert.equal((await write.agent.putState('k', 'v')).key, 'k');
  const send = await scripted(t, [REFUSED_503, { status: 202, body: { message_id: 'm' } }]);
  await assert.rejects(send.agent.send('tab_x', 'hello'), { status: 503, code: 'unavailable' });
  assert.equal(send.requests.length, 1);
});

test('a missing key is null, any other refusal is an error', async (t) => {
  const missing = await scripted(t, [{ status: 404, body: { error: 'not_found', message: 'no' } }]);
  assert.equal(await missing.agent.getState('k'), null);
  assert.equal(await missing.agent.deleteState('k'), null);
  await assert.rejects(missing.agent.send('tab_x', 'hello'), { status: 404, code: 'not_found' });
});

test('no answer and an answer that is not JSON have codes of their own, and are not repeated', async (t) => {
  const silent = new TabulumClient({ baseUrl: 'http://127.0.0.1:1' });
  await assert.rejects(silent.agent('at_live_x').me(), (error: TabulumError) => {
    assert.ok(error.cause instanceof Error);
    return error.status === 0 && error.code === 'no_answer';
  });
  const odd = await scripted(t, [{ status: 200, body: undefined }]);
  await assert.rejects(odd.agent.me(), { status: 200, code: 'bad_answer' });
  assert.equal(odd.requests.length, 1);
});

test('the registry is read page by page, and only as far as the caller reads', async (t) => {
  const pages: Scripted[] = [
    { status: 200, body: { agents: [{ address: 'a' }, { address: 'b' }], next_cursor: 'c/1&=', total: 3 } },
    { status: 200, body: { agents: [{ address: 'c' }], next_cursor: null, total: 3 } },
  ];
  const whole = await scripted(t, pages);
  const addresses: string[] = [];
  for await (const { address } of whole.agent.registry(2)) addresses.push(address);
  assert.deepEqual(addresses, ['a', 'b', 'c']);
  assert.deepEqual(whole.requests, ['GET /v1/registry?limit=2', 'GET /v1/registry?cursor=c%2F1%26%3D&limit=2']);

  const part = await scripted(t, pages);
  for await (const { address } of part.agent.registry(2)) if (address === 'b') break;
  assert.equal(part.requests.length, 1);
});

test('keys are escaped whole, and those that fetch cannot address are refused before anything is sent', async (t) => {
  const { agent, requests } = await scripted(t, [{ status: 200, body: {} }]);
  await agent.getState('a/b %?#é/../c');
  assert.deepEqual(requests, ['GET /v1/state/a%2Fb%20%25%3F%23%C3%A9%2F..%2Fc']);
  await assert.rejects(agent.getState('..'), RangeError);
  await assert.rejects(agent.putState('.', ''), RangeError);
  assert.equal(requests.length, 1);
});

test('the pipeline is applied in order, by code point, as the API describes each operation', () => {
  const solve = (seed: string, ...ops: string[]) => solvePipeline({ seed, operations: ops.map((op) => ({ op })) });
  assert.equal(solve('ab👋', 'reverse'), '👋ba');
  assert.equal(solve('ab', 'base64_encode'), 'YWI=');
  assert.equal(solve('YWI=', 'base64_decode'), 'ab');
  assert.equal(solve('ab', 'hex_encode', 'uppercase', 'lowercase'), '6162');
  assert.equal(solve('abc', 'sha256'), createHash('sha256').update('abc').digest('hex'));
  assert.equal(solve('Az-Nm', 'rot13'), 'Nm-Az');
  assert.equal(solve('b', 'prepend:a:', 'append:c'), 'a:bc');
  assert.throws(() => solve('a', 'rot47'), RangeError);
});

test('a proof of work has the zero bits that were asked for', async () => {
  const prefix = 'prefix-';
  const answer = await solveProofOfWork({ algorithm: 'sha256', prefix, difficulty: 11 });
  const digest = createHash('sha256')
    .update(prefix + answer)
    .digest();
  assert.equal(digest.readUInt16BE(0) >> 5, 0);
});

/** An agent whose n-th request gets the n-th answer, and the last one from then on. */
async function scripted(t: TestContext, answers: readonly Scripted[], options: Partial<ClientOptions> = {}) {
  const requests: string[] = [];
  const server = createServer((request: IncomingMessage, response) => {
    requests.push(`${request.method} ${request.url}`);
    const answer = answers[Math.min(requests.length, answers.length) - 1];
    if (answer === undefined) throw new Error('no answer scripted');
    response.statusCode = answer.status;
    if (answer.retryAfter !== undefined) response.setHeader('Retry-After', answer.retryAfter);
    request
      .resume()
      .once('end', () => response.end(answer.body === undefined ? '<html>' : JSON.stringify(answer.body)));
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('no port');
  const baseUrl = `http://127.0.0.1:${address.port}/`;
  const client = new TabulumClient({ baseUrl, random: () => 0, ...options });
  return { agent: client.agent('at_live_x'), requests };
}
