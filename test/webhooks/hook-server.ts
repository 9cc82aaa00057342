/**
 * Receivers of webhooks over real TLS, good and bad. What one does is the first part of its URL's path; the rest tells the
 * receivers apart. `/ok/alice` answers 204, `/status-500/bob` answers 500, and so on, see `behave`.
 * Owns: a listener on 127.0.0.1 and everything it received.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { IncomingHttpHeaders, IncomingMessage, ServerResponse } from 'node:http';
import { createServer, type Server } from 'node:https';
import type { AddressInfo, Socket } from 'node:net';
import type { TlsIdentity } from '../support/self-signed.js';
import type { Cleanup } from '../support/temp-dir.js';

export interface Received {
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
  readonly atMs: number;
}

interface HookMessage {
  readonly message_id: string;
  readonly content: string;
}

export class HookServer {
  /** Every request whose body came in whole, in the order of arrival. */
  readonly received: Received[] = [];
  /** Connections that were ever made. */
  connections = 0;
  /** Requests being held at this moment, and the most there ever were. */
  held = 0;
  maxHeld = 0;
  /** Bytes of answers' bodies that were written. */
  writtenBytes = 0;
  /** What `/switch/...` receivers do. */
  switched = 'ok';
  /** Receivers that were posted to again while a post was still unanswered. */
  readonly overlaps: string[] = [];
  private readonly busy = new Set<string>();
  private readonly sockets = new Set<Socket>();
  private readonly releases: (() => void)[] = [];

  private constructor(private readonly server: Server) {
    server.on('connection', (socket: Socket) => {
      this.connections += 1;
      this.sockets.add(socket);
      socket.on('error', () => {}); // a cut connection is what some tests are about
      socket.once('close', () => this.sockets.delete(socket));
    });
    server.on('tlsClientError', () => {});
    server.on('request', (request, response) => void this.receive(request, response));
  }

  static async start(t: Cleanup, identity: TlsIdentity, host = '127.0.0.1', port = 0): Promise<HookServer> {
    const server = createServer({ ...identity, keepAliveTimeout: 30_000 });
    const hooks = new HookServer(server);
    server.listen(port, host);
    await once(server, 'listening');
    t.after(() => hooks.close());
    return hooks;
  }

  get port(): number {
    return (this.server.address() as AddressInfo).port;
  }

  url(path: string): string {
    return `https://127.0.0.1:${this.port}${path}`;
  }

  /** Contents of the messages that came to this path, repeats included. */
  contentsAt(path: string): string[] {
    return this.messagesAt(path).map(({ content }) => content);
  }

  messagesAt(path: string): HookMessage[] {
    return this.received.filter((one) => one.path === path).map(({ body }) => JSON.parse(body) as HookMessage);
  }

  /** Answers everything that hangs at this moment with 204. */
  releaseAll(): void {
    for (const release of this.releases.splice(0)) release();
  }

  async close(): Promise<void> {
    const closed = once(this.server, 'close');
    this.server.close();
    for (const socket of this.sockets) socket.destroy();
    await closed;
  }

  private async receive(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('error', () => {});
    response.on('error', () => {});
    await new Promise<void>((resolve) => {
      request.once('end', resolve);
      request.once('close', resolve);
    });
    if (!request.complete) return;
    const path = request.url ?? '';
    if (this.busy.has(path)) this.overlaps.push(path);
    this.busy.add(path);
    this.held += 1;
    this.maxHeld = Math.max(this.maxHeld, this.held);
    response.once('close', () => {
      this.held -= 1;
      this.busy.delete(path);
    });
    this.received.push({
      path,
      headers: request.headers,
      body: Buffer.concat(chunks).toString('utf8'),
      atMs: Date.now(),
    });
    const [, kind = ''] = path.split('/');
    this.behave(kind === 'switch' ? this.switched : kind, path, response);
  }

  private behave(kind: string, path: string, response: ServerResponse): void {
    const [name = '', figure = '0'] = kind.split('-');
    switch (name) {
      case 'ok':
        response.writeHead(204).end();
        return;
      case 'status':
        response.writeHead(Number(figure)).end('as asked');
        return;
      case 'once': // fails the first so many posts
        response.writeHead(this.messagesAt(path).length <= Number(figure) ? 500 : 200).end();
        return;
      case 'after': // answers after so many milliseconds
        setTimeout(() => response.writeHead(200).end('{}'), Number(figure));
        return;
      case 'hang':
        this.releases.push(() => response.writeHead(204).end());
        return;
      case 'redirect':
        response.writeHead(Number(figure), { Location: `/ok${path}` }).end();
        return;
      case 'reset':
        response.socket?.destroy();
        return;
      case 'huge':
        response.socket?.write('HTTP/1.1 200 OK\r\n\r\n');
        this.pour(response);
        return;
      case 'head': // a head without end
        response.socket?.write('HTTP/1.1 200 OK\r\n');
        this.pour(response);
        return;
      case 'early': // informational answers without end
        this.pour(response, 'HTTP/1.1 103 Early Hints\r\n\r\n');
        return;
      case 'drip': // an answer's status at once, its body a byte at a time, for ever
        response.writeHead(Number(figure));
        this.drip(response);
        return;
      case 'slowhead': // a status line a byte at a time, for ever
        this.drip(response, 'HTTP/1.1 200 OK\r\nX: ');
        return;
      case 'garbage':
        response.socket?.end('SMTP ready\r\n\r\n');
        return;
      default:
        assert.fail(`no receiver behaves as ${path}`);
    }
  }

  private pour(response: ServerResponse, text = `X-Filler: ${'x'.repeat(1000)}\r\n`): void {
    const { socket } = response;
    if (socket === null || socket.destroyed) return;
    this.writtenBytes += text.length;
    if (socket.write(text)) setImmediate(() => this.pour(response, text));
    else socket.once('drain', () => this.pour(response, text));
  }

  private drip(response: ServerResponse, start = ''): void {
    const { socket } = response;
    if (start !== '') socket?.write(start);
    const timer = setInterval(() => {
      if (start === '') response.write('x');
      else socket?.write('x');
    }, 20);
    response.once('close', () => clearInterval(timer));
  }
}
