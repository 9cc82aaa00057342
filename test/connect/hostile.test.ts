/** Whatever a client does to its socket, the gateway goes on, and nothing of the client is left behind. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect as connectTcp } from 'node:net';
import { type TestContext, test } from 'node:test';
import WebSocket from 'ws';
import { LOOPBACK, type Rig, startRig, testConfig } from '../gateway/rig.js';
import { RpcClient } from '../support/rpc-client.js';
import { seededRandom, seedFor } from '../support/seed.js';
import { waitUntil } from '../support/wait.js';

const CLIENTS = 60;
const STEPS = 40;
const UPGRADE =
  'GET /v1/connect HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n';

type Random = (below: number) => number;

const METHODS = [
  'agent.me',
  'registry.list',
  'messages.send',
  'messages.receive',
  'messages.ack',
  'messages.subscribe',
];
const MORE_METHODS = ['state.get', 'state.put', 'state.delete', 'state.list', 'state.capacity', 'rpc.discover', ''];
const VALUES: readonly unknown[] = [
  null,
  '',
  'x',
  0,
  -1,
  1.5,
  true,
  [],
  {},
  ['x'],
  '\ud800',
  'y'.repeat(5000),
  { a: [{}] },
];
const NAMES = [
  'key',
  'value',
  'to',
  'content',
  'limit',
  'wait',
  'ack',
  'visibility',
  'lease_ids',
  'cursor',
  '__proto__',
];

function someValue(random: Random): unknown {
  return VALUES[random(VALUES.length)];
}

function someFrame(random: Random, self: string): string {
  const methods = [...METHODS, ...MORE_METHODS];
  const params: Record<string, unknown> = {};
  for (let count = random(4); count > 0; count--) params[NAMES[random(NAMES.length)] ?? ''] = someValue(random);
  if (random(3) === 0) Object.assign(params, { to: self, content: 'hello', key: 'k', value: 'v', lease_ids: ['x'] });
  const call = {
    jsonrpc: random(10) === 0 ? someValue(random) : '2.0',
    id: random(5) === 0 ? someValue(random) : random(1000),
    method: random(15) === 0 ? someValue(random) : methods[random(methods.length)],
    params: random(10) === 0 ? someValue(random) : params,
  };
  const text = JSON.stringify(random(8) === 0 ? Array(random(60)).fill(call) : call);
  return random(12) === 0 ? text.slice(0, random(text.length)) : text;
}

async function misbehave(t: TestContext, rig: Rig, random: Random, self: string): Promise<void> {
  const socket = new WebSocket(`ws://${LOOPBACK}:${rig.gateway.port}/v1/connect`, {
    headers: { Authorization: `Bearer ${rig.agentToken}` },
  });
  t.after(() => socket.terminate());
  socket.on('error', () => {}); // whatever the server makes of it shows in its state, not here
  await once(socket, 'open');
  for (let step = 0; step < STEPS && socket.readyState === WebSocket.OPEN; step++) {
    const frame = someFrame(random, self);
    switch (random(14)) {
      case 0:
        socket.ping(frame.slice(0, 50));
        break;
      case 1:
        socket.send(frame.slice(0, 10), { fin: false });
        socket.send(frame.slice(10), { fin: true });
        break;
      case 2:
        if (random(4) === 0) socket.send(Buffer.from(frame), { binary: true });
        break;
      case 3:
        if (random(6) === 0) socket.terminate();
        break;
      case 4:
        if (random(2) === 0) socket.pause();
        else socket.resume();
        break;
      case 5:
        if (random(10) === 0) socket.close(1000);
        break;
      default:
        socket.send(frame);
    }
    if (random(3) === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  if (random(2) === 0) socket.terminate();
  else socket.close();
}

test('sixty misbehaving clients leave nothing behind, and the next one is served', async (t) => {
  const random = seededRandom(seedFor(t));
  const rig = await startRig(
    t,
    testConfig({}, { 'connect.max_connections_per_agent': '100', 'connect.max_in_flight': '5' }),
  );
  const first = await RpcClient.connect(t, rig.gateway.port, rig.agentToken);
  const self = String((await first.call('agent.me')).address);
  await Promise.all(Array.from({ length: CLIENTS }, () => misbehave(t, rig, random, self)));
  await waitUntil(() => rig.gateway.stats().webSockets?.open === 1, {
    timeoutMs: 30_000,
    what: 'all but the first gone',
  });
  await waitUntil(() => rig.gateway.stats().waiting === 0, { timeoutMs: 30_000, what: 'no wait left' });
  assert.deepEqual(rig.gateway.stats().connect, { callsInHand: 0, subscriptions: 0, unacked: 0 });
  assert.equal((await first.call('agent.me')).address, self);
  const next = await RpcClient.connect(t, rig.gateway.port, rig.agentToken);
  await next.call('state.put', { key: 'after', value: 'all that' });
});

test('bytes that are no frames end the connection, and only that', async (t) => {
  const seed = seedFor(t);
  const random = seededRandom(seed);
  const rig = await startRig(t, testConfig({}, { 'connect.max_connections_per_agent': '200' }));
  const sound = await RpcClient.connect(t, rig.gateway.port, rig.agentToken);
  for (let round = 0; round < 60; round++) {
    const socket = connectTcp(rig.gateway.port, LOOPBACK);
    t.after(() => socket.destroy());
    socket.on('error', () => {}); // a reset is a close
    await once(socket, 'connect');
    socket.write(`${UPGRADE}${rig.bearer}\r\n`);
    await once(socket, 'data');
    // Frames of clients must be masked; random bytes hit reserved bits, unknown opcodes, absurd lengths.
    const bytes = Uint8Array.from({ length: 1 + random(200) }, () => random(256));
    if (random(2) === 0) socket.write(bytes);
    else socket.end(bytes);
    if (random(2) === 0) socket.destroy();
    else socket.resume();
  }
  assert.match(String((await sound.call('agent.me')).address), /^tab_/, `SEED=${seed}`);
});

/** A short text frame as a client must send it. */
function maskedFrame(text: string): Buffer {
  const payload = Buffer.from(text);
  assert.ok(payload.length < 126);
  const mask = Buffer.from([1, 2, 3, 4]);
  const masked = payload.map((byte, index) => byte ^ (mask[index % 4] ?? 0));
  return Buffer.concat([Buffer.from([0x81, 0x80 | payload.length]), mask, masked]);
}

test('a connection whose upgrade was refused may try again, and is one only once', async (t) => {
  const rig = await startRig(t);
  const socket = connectTcp(rig.gateway.port, LOOPBACK);
  t.after(() => socket.destroy());
  socket.on('error', () => {});
  await once(socket, 'connect');
  let received = '';
  socket.setEncoding('latin1').on('data', (text: string) => {
    received += text;
  });
  socket.write(`${UPGRADE}\r\n`);
  await waitUntil(() => received.includes('401'), { timeoutMs: 10_000, what: 'the refusal' });
  socket.write(`${UPGRADE}${rig.bearer}\r\n`);
  await waitUntil(() => received.includes('101 Switching'), { timeoutMs: 10_000, what: 'the upgrade' });
  assert.equal(rig.gateway.stats().webSockets?.open, 1);
  socket.write(maskedFrame('{"jsonrpc":"2.0","id":1,"method":"agent.me"}'));
  await waitUntil(() => received.includes('"result"'), { timeoutMs: 10_000, what: 'an answer' });
  // What is HTTP no more is not served as HTTP.
  socket.write(`GET /v1/health HTTP/1.1\r\nHost: x\r\n\r\n`);
  await waitUntil(() => rig.gateway.stats().webSockets?.open === 0, { timeoutMs: 10_000, what: 'the end' });
  assert.ok(!received.includes('"status":"ok"'), received);
});

test('a frame that comes along with the upgrade request, before its answer, harms nobody', async (t) => {
  const rig = await startRig(t);
  const frame = maskedFrame('{"jsonrpc":"2.0","id":1,"method":"agent.me"}');
  for (let round = 0; round < 20; round++) {
    const socket = connectTcp(rig.gateway.port, LOOPBACK);
    t.after(() => socket.destroy());
    socket.on('error', () => {});
    await once(socket, 'connect');
    socket.write(Buffer.concat([Buffer.from(`${UPGRADE}${rig.bearer}\r\n`), frame]));
    await Promise.race([once(socket, 'data'), once(socket, 'close')]);
    socket.destroy();
  }
  await waitUntil(() => rig.gateway.stats().webSockets?.open === 0, { timeoutMs: 10_000, what: 'all of them gone' });
  const client = await RpcClient.connect(t, rig.gateway.port, rig.agentToken);
  await client.call('agent.me');
});
