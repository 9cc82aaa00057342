/** `/v1/connect` over a gateway whose messages the test hands out: windows, waits, bounds, closing. */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import type WebSocket from 'ws';
import type { Config } from '../../src/config/config.js';
import { ask, errorCode, RawConnection, type RawResponse, type Rig, startRig, testConfig } from '../gateway/rig.js';
import { RpcClient } from '../support/rpc-client.js';
import { waitUntil } from '../support/wait.js';
import { HandFed } from './hand-fed-engine.js';

const TIMEOUT_MS = 10_000;
const UPGRADE =
  'Host: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n';

interface ConnectRig extends Rig {
  readonly fed: HandFed;
}

async function startConnectRig(t: TestContext, config: Config = testConfig()): Promise<ConnectRig> {
  const fed = new HandFed();
  const rig = await startRig(t, config, (engine) => fed.around(engine));
  return { ...rig, fed };
}

function connect(t: TestContext, rig: Rig, options?: WebSocket.ClientOptions): Promise<RpcClient> {
  return RpcClient.connect(t, rig.gateway.port, rig.agentToken, options);
}

function until(condition: () => boolean, what: string): Promise<void> {
  return waitUntil(condition, { timeoutMs: TIMEOUT_MS, what });
}

/** Answers the request for leases that is open, or comes. */
async function feed(rig: ConnectRig, count: number, content?: string): Promise<string[]> {
  await until(() => rig.fed.waiting !== undefined, 'a request for messages');
  const { waiting } = rig.fed;
  assert.ok(waiting !== undefined);
  assert.ok(count <= waiting.limit, `${count} messages are more than the ${waiting.limit} asked for`);
  const messages = rig.fed.batch(count, content);
  waiting.answer({ ok: true, value: { messages, remaining: 0 } });
  return messages.map(({ leaseId }) => leaseId);
}

function upgrade(t: TestContext, rig: Rig, authorization: string): Promise<RawResponse> {
  return ask(t, rig.gateway.port, `GET /v1/connect HTTP/1.1\r\n${UPGRADE}${authorization}\r\n`);
}

test('calls of every kind are answered with their ids, and in one frame for a batch', async (t) => {
  const rig = await startConnectRig(t);
  const client = await connect(t, rig);
  const me = await client.call('agent.me');
  assert.match(String(me.address), /^tab_/);
  client.send(
    '[{"jsonrpc":"2.0","id":"a","method":"agent.me"},{"jsonrpc":"2.0","method":"agent.me"},17,{"jsonrpc":"2.0","id":null,"method":"none"}]',
  );
  await client.until(() => client.frames.length === 2, 'the batch');
  const batch = client.frames[1];
  assert.ok(Array.isArray(batch));
  assert.deepEqual(
    batch.map(({ id }) => id),
    ['a', null, null],
  );
  assert.deepEqual(batch[0].result, me);
  assert.equal(batch[1].error.code, -32600);
  assert.equal(batch[2].error.code, -32601);
  assert.deepEqual([batch[2].error.data.error, batch[2].error.data.status], ['not_found', 404]);
});

test('notifications are carried out and never answered, alone, in batches, or when they fail', async (t) => {
  const rig = await startConnectRig(t);
  const client = await connect(t, rig);
  client.send({ jsonrpc: '2.0', method: 'state.put', params: { key: 'noted', value: '1' } });
  client.send([{ jsonrpc: '2.0', method: 'state.put', params: { key: 'noted too', value: '2' } }]);
  client.send({ jsonrpc: '2.0', method: 'nonsense' });
  client.send({ jsonrpc: '2.0', method: 'state.put', params: { key: 7 } });
  assert.equal((await client.call('state.get', { key: 'noted' })).value, '1');
  assert.equal((await client.call('state.get', { key: 'noted too' })).value, '2');
  assert.equal(client.frames.length, 2, 'the two gets were answered, nothing else');
});

test('a binary message closes the socket with 1003', async (t) => {
  const rig = await startConnectRig(t);
  const client = await connect(t, rig);
  client.socket.send(Buffer.from('{"jsonrpc":"2.0","id":1,"method":"agent.me"}'), { binary: true });
  assert.equal(await client.closed(), 1003);
});

test('upgrades need an agent token: none, a wrong one and an operator key are 401 in plain HTTP', async (t) => {
  const rig = await startConnectRig(t);
  for (const authorization of [
    '',
    `Authorization: Bearer ${rig.operatorKey}\r\n`,
    `Authorization: Bearer at_live_${'0'.repeat(64)}\r\n`,
    `Authorization: Basic ${rig.agentToken}\r\n`,
  ]) {
    const answer = await upgrade(t, rig, authorization);
    assert.equal(answer.status, 401, authorization);
    assert.equal(errorCode(answer), 'unauthorized');
  }
  const plain = await ask(t, rig.gateway.port, `GET /v1/connect HTTP/1.1\r\nHost: x\r\n${rig.bearer}\r\n`);
  assert.equal(plain.status, 400);
  assert.match(plain.body, /WebSocket/);
  const post = await ask(
    t,
    rig.gateway.port,
    `POST /v1/connect HTTP/1.1\r\nHost: x\r\n${rig.bearer}Content-Length: 0\r\n\r\n`,
  );
  assert.equal(post.status, 405);
  assert.equal(post.headers.allow, 'GET');
});

test('one agent may not open more connections than the limit; a closed one makes room', async (t) => {
  const rig = await startConnectRig(t, testConfig({}, { 'connect.max_connections_per_agent': '2' }));
  const first = await connect(t, rig);
  await connect(t, rig);
  const answer = await upgrade(t, rig, rig.bearer);
  assert.equal(answer.status, 503);
  assert.equal(errorCode(answer), 'too_many_connections');
  first.socket.close();
  await until(() => rig.gateway.stats().webSockets?.open === 1, 'the first to be gone');
  await connect(t, rig);
});

test('calls past the bound of unanswered ones are refused at once, and taken again afterwards', async (t) => {
  const rig = await startConnectRig(t, testConfig({}, { 'connect.max_in_flight': '3' }));
  const client = await connect(t, rig);
  for (const id of ['a', 'b', 'c'])
    client.send({ jsonrpc: '2.0', id, method: 'messages.receive', params: { wait: 30 } });
  await until(() => rig.fed.received.length === 3, 'three calls in hand');
  const refused = await client.ask('agent.me');
  assert.deepEqual(
    [refused.error?.code, refused.error?.data.error, refused.error?.data.retry_after],
    [-32053, 'unavailable', 1],
  );
  rig.fed.received[0]?.answer({ ok: true, value: { messages: [], remaining: 0 } });
  await client.until(() => client.answerTo('a') !== undefined, 'the first answer');
  await client.call('agent.me');
  assert.equal(client.answerTo('b'), undefined);
});

test('calls count against the same limits as HTTP requests', async (t) => {
  const rig = await startConnectRig(t, testConfig({}, { 'rate_limits.registry_read_per_min': '3' }));
  const client = await connect(t, rig);
  await client.call('agent.me');
  const overHttp = await ask(t, rig.gateway.port, `GET /v1/agents/me HTTP/1.1\r\nHost: x\r\n${rig.bearer}\r\n`);
  assert.equal(overHttp.headers['x-ratelimit-remaining'], '1');
  await client.call('registry.list');
  const { error } = await client.ask('agent.me');
  assert.equal(error?.code, -32029);
  assert.deepEqual([error.data.error, error.data.status], ['rate_limited', 429]);
  assert.ok(Number(error.data.retry_after) >= 1);
  const refused = await ask(t, rig.gateway.port, `GET /v1/agents/me HTTP/1.1\r\nHost: x\r\n${rig.bearer}\r\n`);
  assert.equal(refused.status, 429);
});

test('parameters are checked by name; what is wrong is invalid params with status 400', async (t) => {
  const rig = await startConnectRig(t);
  const client = await connect(t, rig);
  for (const [method, params, complaint] of [
    ['state.get', undefined, 'key'],
    ['state.get', ['a'], 'params'],
    ['state.get', { key: 1 }, 'key'],
    ['state.get', { key: '' }, 'key'],
    ['state.get', { key: 'x'.repeat(1025) }, 'key'],
    ['state.get', { key: '\ud800' }, 'key'],
    ['state.put', { key: 'k' }, 'value'],
    ['state.put', { key: '_capacity', value: '' }, 'key'],
    ['state.delete', { key: '_capacity' }, 'key'],
    ['state.list', { prefix: 1 }, 'prefix'],
    ['state.list', { cursor: 1 }, 'cursor'],
    ['messages.send', { to: 'x', content: '' }, 'content'],
    ['messages.send', { to: 'x', content: 'x', idempotency_key: '' }, 'idempotency_key'],
    ['messages.send', { to: `tab_${'a'.repeat(20)}`, content: 'x', idempotency_key: 'a b' }, 'idempotency_key'],
    [
      'messages.send',
      { to: `tab_${'a'.repeat(20)}`, content: 'x', idempotency_key: 'x'.repeat(129) },
      'idempotency_key',
    ],
    ['messages.receive', { wait: 31 }, 'wait'],
    ['messages.receive', { wait: '1' }, 'wait'],
    ['messages.receive', { wait: 0.5 }, 'wait'],
    ['messages.receive', { ack: 'sometimes' }, 'ack'],
    ['messages.receive', { visibility: 10 }, 'visibility'],
    ['messages.receive', { ack: 'manual', visibility: 0 }, 'visibility'],
    ['messages.receive', { ack: 'manual', visibility: 43_201 }, 'visibility'],
    ['messages.ack', {}, 'lease_ids'],
    ['messages.ack', { lease_ids: [] }, 'lease_ids'],
    ['messages.ack', { lease_ids: [''] }, 'lease_ids'],
    ['messages.ack', { lease_ids: ['x'.repeat(129)] }, 'lease_ids'],
    ['messages.ack', { lease_ids: Array(1001).fill('x') }, 'lease_ids'],
    ['messages.subscribe', { visibility: 0 }, 'visibility'],
    ['messages.subscribe', { max_unacked: 0 }, 'max_unacked'],
    ['messages.subscribe', { max_unacked: 1001 }, 'max_unacked'],
    ['messages.subscribe', { max_unacked: '10' }, 'max_unacked'],
  ] as const) {
    const { error } = await client.ask(method, params);
    const what = `${method} ${JSON.stringify(params ?? null).slice(0, 80)}`;
    assert.equal(error?.code, -32602, what);
    assert.deepEqual([error.data.error, error.data.status], ['bad_request', 400], what);
    assert.ok(error.message.startsWith(complaint), `${what}: ${error.message}`);
  }
  assert.equal(rig.fed.leased.length + rig.fed.received.length + rig.fed.acked.length, 0, 'the engine was not asked');
});

test('a subscription delivers as messages come, and never more than its window without acknowledgement', async (t) => {
  const rig = await startConnectRig(t);
  const client = await connect(t, rig);
  assert.deepEqual(await client.call('messages.subscribe', { visibility: 90, max_unacked: 3 }), {
    visibility: 90,
    max_unacked: 3,
  });
  await until(() => rig.fed.waiting !== undefined, 'the first request');
  assert.deepEqual(rig.fed.waiting?.terms, { visibilityMs: 90_000, holder: 'connection' });
  assert.equal(rig.fed.waiting?.limit, 3);
  const [first, second] = await feed(rig, 2);
  await client.until(() => client.deliveries.length === 2, 'two deliveries');
  assert.deepEqual(Object.keys(client.deliveries[0] ?? {}), [
    'message_id',
    'from',
    'to',
    'content',
    'timestamp',
    'lease_id',
    'delivery_count',
  ]);
  await until(() => rig.fed.waiting?.limit === 1, 'a request for what fits the window');
  await feed(rig, 1);
  await client.until(() => client.deliveries.length === 3, 'the third delivery');
  await client.call('agent.me');
  assert.equal(rig.fed.waiting, undefined, 'the window is full');
  assert.deepEqual(rig.gateway.stats().connect, { callsInHand: 0, subscriptions: 1, unacked: 3 });
  assert.deepEqual(await client.call('messages.ack', { lease_ids: [first, second] }), { acked: 2, unknown: [] });
  await until(() => rig.fed.waiting?.limit === 2, 'a request once there is room');
  assert.deepEqual(rig.fed.acked, [[first, second]]);
});

test('a lease that runs out frees its place without acknowledgement', async (t) => {
  const rig = await startConnectRig(t);
  const client = await connect(t, rig);
  await client.call('messages.subscribe', { visibility: 1, max_unacked: 1 });
  await feed(rig, 1);
  await client.until(() => client.deliveries.length === 1, 'the delivery');
  await until(() => rig.fed.waiting !== undefined, 'a request after the lease is over');
});

test('a second subscription on one connection is refused, and counts as one request each', async (t) => {
  const rig = await startConnectRig(t, testConfig({}, { 'rate_limits.message_read_per_min': '3' }));
  const client = await connect(t, rig);
  await client.call('messages.subscribe');
  const { error } = await client.ask('messages.subscribe');
  assert.equal(error?.code, -32602);
  assert.equal((await client.ask('messages.subscribe')).error?.code, -32602);
  assert.equal((await client.ask('messages.subscribe')).error?.code, -32029);
});

test('acknowledging what the subscription delivered is not limited; other leases count as requests', async (t) => {
  const rig = await startConnectRig(t, testConfig({}, { 'rate_limits.message_read_per_min': '2' }));
  const client = await connect(t, rig);
  await client.call('messages.subscribe', { max_unacked: 20 });
  const delivered = await feed(rig, 20);
  await client.until(() => client.deliveries.length === 20, 'the deliveries');
  for (const leaseId of delivered) await client.call('messages.ack', { lease_ids: [leaseId] });
  await client.call('messages.ack', { lease_ids: ['of another kind'] });
  const { error } = await client.ask('messages.ack', { lease_ids: ['of another kind'] });
  assert.equal(error?.code, -32029);
});

test('when the socket closes, the wait ends and every unacknowledged lease goes back at once', async (t) => {
  const rig = await startConnectRig(t);
  const client = await connect(t, rig);
  await client.call('messages.subscribe', { max_unacked: 10 });
  const [acked, ...kept] = await feed(rig, 4);
  await client.until(() => client.deliveries.length === 4, 'the deliveries');
  await client.call('messages.ack', { lease_ids: [acked] });
  await until(() => rig.fed.waiting !== undefined, 'the next request');
  const { waiting } = rig.fed;
  client.socket.terminate();
  await until(() => rig.fed.returned.length > 0, 'the leases to go back');
  assert.deepEqual(rig.fed.returned, [kept]);
  assert.equal(waiting?.wait?.signal.aborted, true);
  assert.equal(rig.gateway.stats().waiting, 0);
});

test('messages leased for a socket that closed meanwhile go back too', async (t) => {
  const rig = await startConnectRig(t);
  const client = await connect(t, rig);
  await client.call('messages.subscribe');
  await until(() => rig.fed.waiting !== undefined, 'the request');
  rig.fed.ignoresAborts = true;
  client.socket.terminate();
  await until(() => rig.fed.waiting?.wait?.signal.aborted === true, 'the wait to be ended');
  const leaseIds = await feed(rig, 2);
  await until(() => rig.fed.returned.length > 0, 'the leases to go back');
  assert.deepEqual(rig.fed.returned.flat(), leaseIds);
  assert.equal(rig.fed.waiting, undefined, 'and no more are asked for');
});

test('a reader that stops gets no more than its socket holds; then it is cut off, and nothing is lost', async (t) => {
  const rig = await startConnectRig(t, testConfig({}, { 'connect.write_timeout': '200ms' }));
  const client = await connect(t, rig);
  await client.call('messages.subscribe', { max_unacked: 1000 });
  client.socket.pause();
  const given: string[] = [];
  const content = 'x'.repeat(60_000);
  await until(() => {
    const { waiting } = rig.fed;
    if (waiting !== undefined && (rig.gateway.stats().webSockets?.open ?? 0) > 0) {
      const messages = rig.fed.batch(waiting.limit, content);
      given.push(...messages.map(({ leaseId }) => leaseId));
      waiting.answer({ ok: true, value: { messages, remaining: 0 } });
    }
    return rig.gateway.stats().webSockets?.open === 0;
  }, 'the slow reader to be cut off');
  assert.ok(given.length < 1000, `${given.length} messages were pushed into a socket nobody reads`);
  assert.equal(rig.gateway.stats().webSockets?.slow, 1);
  await until(() => rig.fed.returned.flat().length === given.length, 'all leases to be back');
  assert.deepEqual(rig.fed.returned.flat(), given);
});

test('a reader that pauses and resumes goes on where it was, and misses nothing', async (t) => {
  const rig = await startConnectRig(t);
  const client = await connect(t, rig);
  await client.call('messages.subscribe', { max_unacked: 1000 });
  client.socket.pause();
  const given: string[] = [];
  const give = (): void => {
    const { waiting } = rig.fed;
    if (waiting === undefined || given.length >= 400) return;
    const messages = rig.fed.batch(Math.min(waiting.limit, 400 - given.length), 'x'.repeat(60_000));
    given.push(...messages.map(({ leaseId }) => leaseId));
    waiting.answer({ ok: true, value: { messages, remaining: 0 } });
  };
  await until(() => {
    give();
    return (rig.gateway.stats().webSockets?.bufferedBytes ?? 0) > 256 * 1024;
  }, 'the socket to be full');
  const heldUp = given.length;
  assert.ok(heldUp < 400, 'it was held up');
  client.socket.resume();
  await client.until(() => {
    give();
    return client.deliveries.length === 400;
  }, 'all messages');
  assert.deepEqual(
    client.deliveries.map((delivery) => delivery.lease_id),
    given,
  );
});

test('a revoked agent loses its sockets with 4401, others keep theirs', async (t) => {
  const rig = await startConnectRig(t);
  const client = await connect(t, rig);
  const { address } = await client.call('agent.me');
  rig.gateway.revoke('tab_somebody_else');
  await client.call('agent.me');
  rig.gateway.revoke(String(address));
  assert.equal(await client.closed(), 4401);
});

test('a credential that is gone is noticed within the session time, though nobody told this gateway', async (t) => {
  let revoked = false;
  const rig = await startRig(t, testConfig({}, { 'auth.session_ttl': '100ms' }), (engine) => {
    return new Proxy(engine, {
      get: (target, name: keyof typeof engine) => {
        if (name === 'findCredential' && revoked) return () => Promise.resolve({ ok: false, code: 'not_found' });
        const member = target[name];
        return typeof member === 'function' ? member.bind(target) : member;
      },
    });
  });
  const client = await connect(t, rig);
  await client.call('agent.me');
  revoked = true;
  assert.equal(await client.closed(), 4401);
});

test('a stop answers the calls in hand, ends waits with empty lists, and closes with 1001', async (t) => {
  const rig = await startConnectRig(t);
  const client = await connect(t, rig);
  const idle = await connect(t, rig);
  await idle.call('messages.subscribe');
  client.send({ jsonrpc: '2.0', id: 'waits', method: 'messages.receive', params: { wait: 30 } });
  client.send({ jsonrpc: '2.0', id: 'works', method: 'messages.receive' });
  await until(() => rig.fed.received.length === 2, 'both calls in hand');
  const drained = rig.gateway.drain();
  await client.until(() => client.answerTo('waits') !== undefined, 'the wait to end');
  assert.deepEqual(client.answerTo('waits')?.result, { messages: [], remaining: 0 });
  assert.equal(await idle.closed(), 1001);
  const refused = await client.ask('agent.me');
  assert.equal(refused.error?.data.error, 'unavailable');
  assert.equal(client.closeCode, null, 'a call is in hand');
  rig.fed.received[1]?.answer({ ok: true, value: { messages: [], remaining: 5 } });
  assert.equal(await client.closed(), 1001);
  assert.deepEqual(client.answerTo('works')?.result, { messages: [], remaining: 5 });
  await drained;
});

test('long polls over HTTP: the wait ends with its client, and a stop answers it with an empty list', async (t) => {
  const rig = await startConnectRig(t);
  const request = `GET /v1/messages?wait=30 HTTP/1.1\r\nHost: x\r\n${rig.bearer}\r\n`;
  const leaver = await RawConnection.open(t, rig.gateway.port);
  leaver.send(request.replace('wait=30', 'wait=20'));
  await until(() => rig.fed.received.length === 1, 'the first wait');
  assert.equal(rig.fed.received[0]?.wait?.waitMs, 20_000);
  leaver.destroy();
  await until(() => rig.fed.received[0]?.wait?.signal.aborted === true, 'its end');
  const answer = ask(t, rig.gateway.port, request);
  await until(() => rig.fed.received.length === 2, 'the second wait');
  assert.equal(rig.gateway.stats().waiting, 1);
  await rig.gateway.drain();
  const { status, body } = await answer;
  assert.deepEqual([status, body], [200, '{"messages":[],"remaining":0}']);
});

test('the time limit for answers does not cut a wait short', async (t) => {
  const rig = await startConnectRig(t, testConfig({ writeTimeoutMs: 50 }));
  const answer = ask(t, rig.gateway.port, `GET /v1/messages?wait=5 HTTP/1.1\r\nHost: x\r\n${rig.bearer}\r\n`);
  const quick = ask(t, rig.gateway.port, `GET /v1/messages HTTP/1.1\r\nHost: x\r\n${rig.bearer}\r\n`);
  assert.equal((await quick).status, 503, 'an answer nobody asked to wait for is late');
  const waiting = rig.fed.received.find(({ wait }) => wait !== null);
  assert.equal(waiting?.isAnswered, false);
  waiting?.answer({ ok: true, value: { messages: [], remaining: 0 } });
  assert.equal((await answer).status, 200);
});

test('messages leased over HTTP for a client that has left go back at once', async (t) => {
  const rig = await startConnectRig(t);
  const client = await RawConnection.open(t, rig.gateway.port);
  client.send(`GET /v1/messages?ack=manual&visibility=600 HTTP/1.1\r\nHost: x\r\n${rig.bearer}\r\n`);
  await until(() => rig.fed.waiting !== undefined, 'the request');
  assert.deepEqual(rig.fed.waiting?.terms, { visibilityMs: 600_000, holder: 'agent' });
  client.destroy();
  await until(() => rig.gateway.stats().aborted === 1, 'the gateway to notice');
  const leaseIds = await feed(rig, 3);
  await until(() => rig.fed.returned.length === 1, 'the leases to go back');
  assert.deepEqual(rig.fed.returned[0], leaseIds);
});
