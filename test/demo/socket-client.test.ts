/** The example WebSocket client against a scripted server: reconnecting, subscribing again, what it acknowledges and when. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { type TestContext, test } from 'node:test';
import { type WebSocket, WebSocketServer } from 'ws';
import { type SocketEvent, type SocketOptions, TabulumSocket } from '../../examples/tabulum-socket.js';
import { waitUntil } from '../support/wait.js';

interface RpcCall {
  readonly id: number;
  readonly method: string;
  readonly params: Readonly<Record<string, unknown>>;
}

/** A server that records calls; the test answers them, or lets `auto` do it. */
class Scripted {
  readonly sockets: WebSocket[] = [];
  readonly calls: RpcCall[] = [];
  readonly tokens: (string | undefined)[] = [];
  /** Status instead of an upgrade. */
  refuseWith: number | null = null;
  answersAll = true;
  url = '';

  static async start(t: TestContext): Promise<Scripted> {
    const scripted = new Scripted();
    const http = createServer();
    const server = new WebSocketServer({ noServer: true });
    http.on('upgrade', (request, socket, head) => {
      scripted.tokens.push(request.headers.authorization);
      assert.equal(request.url, '/v1/connect');
      if (scripted.refuseWith !== null) {
        socket.end(`HTTP/1.1 ${scripted.refuseWith} No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n`);
        return;
      }
      server.handleUpgrade(request, socket, head, (connection) => scripted.accept(connection));
    });
    http.listen(0, '127.0.0.1');
    await once(http, 'listening');
    t.after(() => {
      for (const socket of scripted.sockets) socket.terminate();
      http.close();
    });
    const address = http.address();
    assert.ok(address !== null && typeof address === 'object');
    scripted.url = `http://127.0.0.1:${address.port}/`;
    return scripted;
  }

  get latest(): WebSocket {
    const socket = this.sockets.at(-1);
    assert.ok(socket !== undefined, 'nobody is connected');
    return socket;
  }

  deliver(id: string, deliveryCount = 1): void {
    const params = { message_id: id, content: id, lease_id: `lease of ${id}`, delivery_count: deliveryCount };
    this.latest.send(JSON.stringify({ jsonrpc: '2.0', method: 'messages.deliver', params }));
  }

  acks(): unknown[] {
    return this.calls.filter(({ method }) => method === 'messages.ack').map(({ params }) => params.lease_ids);
  }

  subscriptions(): number {
    return this.calls.filter(({ method }) => method === 'messages.subscribe').length;
  }

  private accept(socket: WebSocket): void {
    this.sockets.push(socket);
    socket.on('message', (data) => {
      const call = JSON.parse(String(data)) as RpcCall;
      this.calls.push(call);
      if (call.method === 'fail') {
        const error = {
          code: -32029,
          message: 'm',
          data: { error: 'rate_limited', message: 'm', status: 429, retry_after: 3 },
        };
        socket.send(JSON.stringify({ jsonrpc: '2.0', id: call.id, error }));
      } else if (this.answersAll) {
        socket.send(JSON.stringify({ jsonrpc: '2.0', id: call.id, result: { echo: call.method } }));
      }
    });
  }
}

function until(condition: () => boolean, what: string): Promise<void> {
  return waitUntil(condition, { timeoutMs: 10_000, what });
}

function open(t: TestContext, server: Scripted, options: Partial<SocketOptions> = {}): TabulumSocket {
  const socket = new TabulumSocket({
    baseUrl: server.url,
    agentToken: 'at_live_x',
    firstReconnectMs: 5,
    longestReconnectMs: 20,
    ...options,
  });
  t.after(() => socket.close());
  return socket;
}

test('calls are answered with their results, and refusals are errors with code, status and wait', async (t) => {
  const server = await Scripted.start(t);
  const socket = open(t, server);
  assert.deepEqual(await socket.call('state.capacity'), { echo: 'state.capacity' });
  assert.deepEqual(server.tokens, ['Bearer at_live_x']);
  await assert.rejects(socket.call('fail'), { status: 429, code: 'rate_limited', retryAfterSeconds: 3 });
});

test('a lost connection is made again and subscribed again; calls under way fail, later ones wait for it', async (t) => {
  const server = await Scripted.start(t);
  const socket = open(t, server);
  const heard: string[] = [];
  socket.subscribe((message) => void heard.push(message.message_id));
  await until(() => server.subscriptions() === 1, 'the subscription');
  server.answersAll = false;
  const lost = socket.call('state.put', { key: 'k', value: 'v' });
  await until(() => server.calls.some(({ method }) => method === 'state.put'), 'the call');
  server.latest.terminate();
  await assert.rejects(lost, { code: 'no_answer', status: 0 });
  server.answersAll = true;
  assert.deepEqual(await socket.call('agent.me'), { echo: 'agent.me' });
  await until(() => server.subscriptions() === 2, 'the second subscription');
  server.deliver('after the loss');
  await until(() => heard.length === 1, 'the message');
  assert.equal(server.calls.filter(({ method }) => method === 'state.put').length, 1, 'it is never repeated');
});

test('a message is acknowledged when its handler is done, one after the other, and not when it fails', async (t) => {
  const server = await Scripted.start(t);
  const events: SocketEvent[] = [];
  const socket = open(t, server, { onEvent: (event) => events.push(event) });
  const finish: (() => void)[] = [];
  socket.subscribe(async (message) => {
    if (message.message_id === 'bad') throw new Error('cannot');
    await new Promise<void>((resolve) => finish.push(resolve));
  });
  await until(() => server.subscriptions() === 1, 'the subscription');
  for (const id of ['1', 'bad', '2']) server.deliver(id);
  await until(() => finish.length === 1, 'the first handler');
  assert.deepEqual(server.acks(), []);
  finish[0]?.();
  await until(() => finish.length === 2, 'the second handler');
  assert.deepEqual(server.acks(), [['lease of 1']]);
  assert.ok(events.some((event) => event.kind === 'handler_failed' && event.message.message_id === 'bad'));
  finish[1]?.();
  await until(() => server.acks().length === 2, 'the second acknowledgement');
  assert.deepEqual(server.acks()[1], ['lease of 2']);
});

test('messages of a lost connection that were not begun are not handled: they come again', async (t) => {
  const server = await Scripted.start(t);
  const socket = open(t, server);
  const begun: string[] = [];
  let finish = (): void => {};
  socket.subscribe(async (message) => {
    begun.push(`${message.message_id} ${message.delivery_count}`);
    await new Promise<void>((resolve) => {
      finish = resolve;
    });
  });
  await until(() => server.subscriptions() === 1, 'the subscription');
  server.deliver('1');
  server.deliver('2');
  await until(() => begun.length === 1, 'the first handler');
  server.latest.terminate();
  await until(() => server.subscriptions() === 2, 'the next connection');
  server.deliver('2', 2);
  finish();
  await until(() => begun.length === 2, 'the second message');
  assert.deepEqual(begun, ['1 1', '2 2']);
  finish();
});

test('a server that has no room is asked again; one that refuses the token is not', async (t) => {
  const server = await Scripted.start(t);
  server.refuseWith = 503;
  const patient = open(t, server);
  const answer = patient.call('agent.me');
  await until(() => server.tokens.length >= 3, 'some attempts');
  server.refuseWith = null;
  assert.deepEqual(await answer, { echo: 'agent.me' });
  await patient.close();
  server.refuseWith = 401;
  const refused = open(t, server);
  await assert.rejects(refused.call('agent.me'), { status: 401 });
  await assert.rejects(refused.call('agent.me'), { code: 'no_answer' });
});

test('a revoked token ends it', async (t) => {
  const server = await Scripted.start(t);
  const socket = open(t, server);
  await socket.call('agent.me');
  server.answersAll = false;
  const unanswered = socket.call('agent.me');
  await until(() => server.calls.length === 2, 'the call');
  server.latest.close(4401);
  await assert.rejects(unanswered, { code: 'no_answer' });
  await assert.rejects(socket.call('agent.me'), { code: 'no_answer' });
  assert.equal(server.sockets.length, 1);
});

test('closing lets the running handler finish and acknowledge', async (t) => {
  const server = await Scripted.start(t);
  const socket = open(t, server);
  let finish = (): void => {};
  let begun = 0;
  socket.subscribe(async () => {
    begun++;
    await new Promise<void>((resolve) => {
      finish = resolve;
    });
  });
  await until(() => server.subscriptions() === 1, 'the subscription');
  server.deliver('1');
  server.deliver('2');
  await until(() => begun === 1, 'the handler');
  const closing = socket.close();
  finish();
  await closing;
  assert.deepEqual(server.acks(), [['lease of 1']]);
  assert.equal(begun, 1, 'the second is left to the queue');
  await until(() => server.latest.readyState === server.latest.CLOSED, 'the close');
});
