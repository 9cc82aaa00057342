/** WebSockets of a listener: upgrades and their refusal, back-pressure, pings, time limits, bounds, closing. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { type TestContext, test } from 'node:test';
import WebSocket from 'ws';
import { type HttpListener, startListener } from '../../src/gateway/listener.js';
import type { Reply } from '../../src/gateway/reply.js';
import {
  acceptWebSocket,
  type WebSocketConnection,
  type WebSocketOptions,
  type WebSocketSession,
} from '../../src/gateway/web-socket.js';
import { createLogger } from '../../src/log.js';
import { waitUntil } from '../support/wait.js';
import { ask, errorCode, LOOPBACK } from './rig.js';

const PATH = '/stream';
const MIB = 1024 * 1024;
const TIMEOUT_MS = 10_000;

const OPTIONS: WebSocketOptions = {
  path: PATH,
  maxMessageBytes: 64 * 1024,
  maxBufferedBytes: 4 * MIB,
  stallTimeoutMs: 60_000,
  pingIntervalMs: 60_000,
  maxDurationMs: 60_000,
  maxConnections: 100,
};

/** Keeps what it is told. */
class Recorder implements WebSocketSession {
  readonly messages: string[] = [];
  readonly closes: number[] = [];
  writable = 0;

  constructor(readonly socket: WebSocketConnection) {}

  onMessage(message: Buffer, isBinary: boolean): void {
    const text = message.toString();
    this.messages.push(isBinary ? 'binary' : text);
    if (text === 'throw') throw new Error('thrown by a test');
    if (text === 'close') this.socket.close(1008, 'asked to');
    else if (text === 'terminate') this.socket.terminate();
    else this.socket.send(`echo ${text}`);
  }
  onWritable(): void {
    this.writable++;
  }
  onStop(): void {
    this.socket.send('last words');
    this.socket.close(1001);
  }
  onClose(code: number): void {
    this.closes.push(code);
  }
}

interface Rig {
  readonly listener: HttpListener;
  readonly sessions: Recorder[];
  readonly url: string;
}

async function startRig(
  t: TestContext,
  options: Partial<WebSocketOptions> = {},
  beforeAccept: (reply: Reply) => Promise<void> | null = () => null,
): Promise<Rig> {
  const sessions: Recorder[] = [];
  const accept = (reply: Reply): void => {
    acceptWebSocket(reply, (socket) => {
      const session = new Recorder(socket);
      sessions.push(session);
      return session;
    });
  };
  const listener = await startListener(
    {
      host: LOOPBACK,
      port: 0,
      shared: false,
      readTimeoutMs: 10_000,
      writeTimeoutMs: 10_000,
      expectedRecoveryMs: null,
      logger: createLogger('web-socket-test', 'fatal'),
      webSocket: { ...OPTIONS, ...options },
    },
    (reply, head) => {
      if (head.path !== PATH) {
        reply.refuse('not_found');
        return;
      }
      const pending = beforeAccept(reply);
      if (pending === null) accept(reply);
      else
        pending.then(
          () => accept(reply),
          (error: unknown) => reply.fail(error),
        );
    },
  );
  t.after(() => listener.close());
  return { listener, sessions, url: `ws://${LOOPBACK}:${listener.port}${PATH}` };
}

interface Client {
  readonly socket: WebSocket;
  readonly received: string[];
  /** Close code, once closed. */
  readonly closed: { code: number | null };
}

async function open(t: TestContext, rig: Rig, options: WebSocket.ClientOptions = {}): Promise<Client> {
  const socket = new WebSocket(rig.url, options);
  t.after(() => socket.terminate());
  const received: string[] = [];
  const closed: { code: number | null } = { code: null };
  socket.on('message', (data) => received.push(String(data)));
  socket.on('error', () => {}); // a refusal or a reset shows as a close too
  socket.on('close', (code) => {
    closed.code = code;
  });
  await once(socket, 'open');
  return { socket, received, closed };
}

function until(condition: () => boolean, what: string): Promise<void> {
  return waitUntil(condition, { timeoutMs: TIMEOUT_MS, what });
}

function session(rig: Rig, index = 0): Recorder {
  const found = rig.sessions[index];
  assert.ok(found !== undefined);
  return found;
}

const UPGRADE = `Host: x\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\nSec-WebSocket-Version: 13\r\n`;
const KEY = 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n';

/** A client that upgrades and then reads nothing at all. */
async function openDeaf(t: TestContext, rig: Rig): Promise<Socket> {
  const socket = connect(rig.listener.port, LOOPBACK);
  t.after(() => socket.destroy());
  socket.on('error', () => {});
  await once(socket, 'connect');
  socket.write(`GET ${PATH} HTTP/1.1\r\n${UPGRADE}${KEY}\r\n`);
  socket.pause();
  await until(() => rig.sessions.length > 0, 'the upgrade');
  return socket;
}

test('messages go both ways, in order, and the close code reaches the other side', async (t) => {
  const rig = await startRig(t);
  const client = await open(t, rig);
  for (let number = 0; number < 100; number++) client.socket.send(String(number));
  await until(() => client.received.length === 100, 'the echoes');
  assert.deepEqual(
    client.received,
    Array.from({ length: 100 }, (_, number) => `echo ${number}`),
  );
  client.socket.send('close');
  await until(() => client.closed.code !== null, 'the close');
  assert.equal(client.closed.code, 1008);
  assert.deepEqual(session(rig).closes, [1008]);
});

test('the session hears the code a client closes with, and 1006 when it vanishes', async (t) => {
  const rig = await startRig(t);
  (await open(t, rig)).socket.close(1000);
  (await open(t, rig)).socket.terminate();
  await until(
    () => rig.sessions.every(({ closes }) => closes.length === 1) && rig.sessions.length === 2,
    'both closes',
  );
  assert.deepEqual(
    rig.sessions.map(({ closes }) => closes),
    [[1000], [1006]],
  );
  assert.equal(rig.listener.stats().webSockets?.open, 0);
});

test('an upgrade that needs time to decide is taken later, and one whose client left meanwhile is forgotten', async (t) => {
  const release: (() => void)[] = [];
  const rig = await startRig(t, {}, () => new Promise((resolve) => release.push(resolve)));
  const opening = open(t, rig);
  await until(() => release.length === 1, 'the request');
  const gone = connect(rig.listener.port, LOOPBACK);
  await once(gone, 'connect');
  gone.write(`GET ${PATH} HTTP/1.1\r\n${UPGRADE}${KEY}\r\n`);
  await until(() => release.length === 2, 'the second request');
  gone.destroy();
  await until(() => rig.listener.stats().aborted === 1, 'the abort');
  for (const decide of release) decide();
  const client = await opening;
  client.socket.send('hello');
  await until(() => client.received.length === 1, 'the echo');
  assert.equal(rig.sessions.length, 1);
});

test('refusals are HTTP answers with the usual body', async (t) => {
  const rig = await startRig(t, {}, (reply) => {
    reply.refuse('unauthorized');
    return null;
  });
  const answer = await ask(t, rig.listener.port, `GET ${PATH} HTTP/1.1\r\n${UPGRADE}${KEY}\r\n`);
  assert.equal(answer.status, 401);
  assert.equal(errorCode(answer), 'unauthorized');
});

test('what is not a well-formed upgrade is refused with 400, and other paths are plain HTTP', async (t) => {
  const rig = await startRig(t);
  const { port } = rig.listener;
  const malformed = [
    `GET ${PATH} HTTP/1.1\r\nHost: x\r\n\r\n`,
    `GET ${PATH} HTTP/1.1\r\nHost: x\r\n${KEY}\r\n`,
    `GET ${PATH} HTTP/1.1\r\n${UPGRADE}\r\n`,
    `GET ${PATH} HTTP/1.1\r\n${UPGRADE}Sec-WebSocket-Key: short\r\n\r\n`,
    `GET ${PATH} HTTP/1.1\r\n${UPGRADE}Sec-WebSocket-Key: !!!!!!!!!!!!!!!!!!!!!!!!\r\n\r\n`,
    `GET ${PATH} HTTP/1.1\r\n${UPGRADE.replace('13', '8')}${KEY}\r\n`,
    `GET ${PATH} HTTP/1.1\r\n${UPGRADE.replace('keep-alive, Upgrade', 'keep-alive')}${KEY}\r\n`,
    `GET ${PATH} HTTP/1.1\r\n${UPGRADE.replace('websocket', 'h2c')}${KEY}\r\n`,
    `GET ${PATH} HTTP/1.1\r\n${UPGRADE}${KEY}Content-Length: 4\r\n\r\nbody`,
    `POST ${PATH} HTTP/1.1\r\n${UPGRADE}${KEY}Content-Length: 0\r\n\r\n`,
  ];
  for (const request of malformed) {
    const answer = await ask(t, port, request);
    assert.equal(answer.status, 400, request);
    assert.equal(errorCode(answer), 'bad_request', request);
  }
  assert.equal((await ask(t, port, `GET /other HTTP/1.1\r\n${UPGRADE}${KEY}\r\n`)).status, 404);
  assert.equal(rig.sessions.length, 0);
});

test('past the bound a connection is refused with 503 too_many_connections; one that closes makes room', async (t) => {
  const rig = await startRig(t, { maxConnections: 2 });
  const first = await open(t, rig);
  await open(t, rig);
  const answer = await ask(t, rig.listener.port, `GET ${PATH} HTTP/1.1\r\n${UPGRADE}${KEY}\r\n`);
  assert.equal(answer.status, 503);
  assert.equal(errorCode(answer), 'too_many_connections');
  assert.match(answer.headers['retry-after'] ?? '', /^[1-9]/);
  first.socket.close();
  await until(() => rig.listener.stats().webSockets?.open === 1, 'the first to be gone');
  await open(t, rig);
  assert.equal(rig.listener.stats().webSockets?.refused, 1);
});

test('an error of a session closes its socket with 1011 and no other', async (t) => {
  const rig = await startRig(t);
  const [broken, sound] = [await open(t, rig), await open(t, rig)];
  broken.socket.send('throw');
  await until(() => broken.closed.code !== null, 'the close');
  assert.equal(broken.closed.code, 1011);
  sound.socket.send('still here');
  await until(() => sound.received.length === 1, 'the echo');
});

test('a message over the bound ends the connection; one at the bound arrives', async (t) => {
  const rig = await startRig(t);
  const client = await open(t, rig);
  client.socket.send('x'.repeat(OPTIONS.maxMessageBytes));
  await until(() => client.received.length === 1, 'the echo');
  client.socket.send('x'.repeat(OPTIONS.maxMessageBytes + 1));
  await until(() => client.closed.code !== null, 'the close');
  assert.equal(session(rig).messages.length, 1);
});

test('a reader that stops is cut off once more waits for it than it may', async (t) => {
  const rig = await startRig(t, { maxBufferedBytes: MIB });
  await openDeaf(t, rig);
  const { socket, closes } = session(rig);
  const text = 'x'.repeat(64 * 1024);
  let largestBytes = 0;
  await until(() => {
    socket.send(text);
    largestBytes = Math.max(largestBytes, socket.bufferedBytes);
    return !socket.isOpen;
  }, 'the cut');
  assert.ok(largestBytes > MIB / 2 && largestBytes <= MIB + text.length + 10, `${largestBytes} bytes were buffered`);
  assert.deepEqual(closes, [1006]);
  assert.equal(rig.listener.stats().webSockets?.slow, 1);
});

test('when all sockets together hold too much, those that are slow are cut off, and a reader is served on', async (t) => {
  const rig = await startRig(t, { maxBufferedBytes: 64 * MIB, maxTotalBufferedBytes: 3 * MIB });
  const reader = await open(t, rig);
  const deaf = [await open(t, rig), await open(t, rig), await open(t, rig)];
  for (const { socket } of deaf) socket.pause();
  const slow = rig.sessions.slice(1);
  const text = 'x'.repeat(256 * 1024);
  let largestBytes = 0;
  await until(() => {
    for (const { socket } of slow) socket.send(text);
    largestBytes = Math.max(largestBytes, rig.listener.stats().webSockets?.bufferedBytes ?? 0);
    return slow.some(({ socket }) => !socket.isOpen);
  }, 'a cut');
  assert.ok(largestBytes <= 4.5 * MIB, `${largestBytes} bytes waited`);
  session(rig).socket.send('for one who reads');
  await until(() => reader.received.length === 1, 'the message');
  assert.ok(session(rig).socket.isOpen);
});

/** Fills the system's buffers and some of ours. */
function fill(socket: WebSocketConnection): void {
  const text = 'x'.repeat(64 * 1024);
  while (socket.isOpen && socket.bufferedBytes < MIB) socket.send(text);
}

test('a reader that takes nothing of what waits for it is cut off after the stall time', async (t) => {
  const rig = await startRig(t, { stallTimeoutMs: 100, maxBufferedBytes: 64 * MIB });
  await openDeaf(t, rig);
  const { socket } = session(rig);
  fill(socket);
  await until(() => !socket.isOpen, 'the cut');
  assert.equal(rig.listener.stats().webSockets?.slow, 1);
});

test('a reader that resumes is told to its session, loses nothing and stays connected', async (t) => {
  const rig = await startRig(t, { stallTimeoutMs: 5_000, maxBufferedBytes: 64 * MIB });
  const client = await open(t, rig);
  client.socket.pause();
  const recorder = session(rig);
  const texts = Array.from({ length: 200 }, (_, number) => String(number).padEnd(32 * 1024, '.'));
  for (let from = 0; from < texts.length; from += 20) recorder.socket.sendAll(texts.slice(from, from + 20));
  assert.ok(recorder.socket.bufferedBytes > 0, 'nothing was buffered');
  client.socket.resume();
  await until(() => client.received.length === texts.length, 'all messages');
  assert.deepEqual(client.received, texts);
  await until(() => recorder.writable > 0, 'word that it can take more');
  assert.equal(recorder.socket.bufferedBytes, 0);
  assert.ok(recorder.socket.isOpen);
});

test('a client that answers pings stays, one that does not is cut off', async (t) => {
  const rig = await startRig(t, { pingIntervalMs: 50 });
  const lively = await open(t, rig);
  let pings = 0;
  lively.socket.on('ping', () => pings++);
  const mute = await open(t, rig, { autoPong: false });
  await until(() => mute.closed.code !== null, 'the mute one to be cut off');
  await until(() => pings >= 5, 'pings');
  assert.equal(lively.closed.code, null);
  assert.deepEqual(rig.listener.stats().webSockets?.silent, 1);
});

test('a connection ends after its longest duration, with 1001', async (t) => {
  const rig = await startRig(t, { maxDurationMs: 100 });
  const client = await open(t, rig);
  await until(() => client.closed.code !== null, 'the close');
  assert.equal(client.closed.code, 1001);
});

test('a stop lets every session say its last words, refuses upgrades, and ends when the sockets are closed', async (t) => {
  const rig = await startRig(t);
  const clients = await Promise.all(Array.from({ length: 10 }, () => open(t, rig)));
  await rig.listener.drain();
  await until(() => clients.every(({ closed }) => closed.code !== null), 'the closes');
  for (const { received, closed } of clients) {
    assert.deepEqual(received, ['last words']);
    assert.equal(closed.code, 1001);
  }
  const answer = await ask(t, rig.listener.port, `GET ${PATH} HTTP/1.1\r\n${UPGRADE}${KEY}\r\n`);
  assert.equal(answer.status, 503);
});

test('closing the listener closes every socket, and each session hears of it once', async (t) => {
  const rig = await startRig(t);
  const clients = await Promise.all(Array.from({ length: 5 }, () => open(t, rig)));
  rig.listener.close();
  await until(() => clients.every(({ closed }) => closed.code !== null), 'the closes');
  for (const { closes, socket } of rig.sessions) {
    assert.equal(closes.length, 1);
    assert.equal(socket.isOpen, false);
    socket.send('to nobody');
    socket.close(1000);
    socket.terminate();
  }
});
