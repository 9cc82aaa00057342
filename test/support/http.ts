/**
 * A small HTTP client that sends paths and bodies exactly as given, and the few API calls nearly every test begins with.
 * Requests go in turn over several kept connections, so that a server of several gateway threads is met on all of them.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { Agent, type IncomingHttpHeaders, type OutgoingHttpHeaders, request } from 'node:http';
import { connect, type Socket } from 'node:net';
import type { TestServer } from './server.js';

export type Method = 'GET' | 'HEAD' | 'POST' | 'PUT' | 'PATCH' | 'DELETE' | 'OPTIONS' | 'TRACE';

export interface RequestOptions {
  readonly token?: string;
  /** Sent as it is; `application/json` unless `headers` say otherwise. An object is sent as JSON. */
  readonly body?: string | Buffer | object;
  /** A value of undefined leaves out what would be sent by default. */
  readonly headers?: OutgoingHttpHeaders;
}

export class HttpAnswer {
  constructor(
    readonly status: number,
    readonly headers: IncomingHttpHeaders,
    readonly text: string,
  ) {}

  /** The body as JSON; the caller says of which shape, and checks it. */
  json<T = Record<string, unknown>>(): T {
    return JSON.parse(this.text) as T;
  }
}

/** Unlikely to fall all on one of two gateway threads. */
const CONNECTIONS = 8;
/** Under the server's idle time limit, so that no request starts on a connection that is being closed. */
const IDLE_MS = 5_000;
const ANSWER_WITHIN_MS = 30_000;

export class HttpClient {
  private readonly agents = Array.from({ length: CONNECTIONS }, () => new Agent({ keepAlive: true, timeout: IDLE_MS }));
  private turn = 0;

  /** @param port of the service to talk to; asked for at every request, since a restart changes it */
  constructor(private readonly port: () => number) {}

  /** @param path raw: sent as it is; characters U+0080 to U+00FF go as single bytes */
  send(method: Method, path: string, options: RequestOptions = {}): Promise<HttpAnswer> {
    const agent = this.agents[this.turn++ % CONNECTIONS];
    assert.ok(agent !== undefined);
    const body = bodyBytes(options.body);
    const headers: OutgoingHttpHeaders = { ...options.headers };
    if (body !== null || method === 'POST' || method === 'PUT') headers['Content-Length'] = body?.length ?? 0;
    if (body !== null && !hasHeader(headers, 'content-type')) headers['Content-Type'] = 'application/json';
    if (options.token !== undefined) headers.Authorization = `Bearer ${options.token}`;
    for (const [name, value] of Object.entries(headers)) if (value === undefined) delete headers[name];
    return new Promise((resolve, reject) => {
      const port = this.port();
      const outgoing = request({ agent, host: '127.0.0.1', port, method, path, headers }, (response) => {
        const chunks: Buffer[] = [];
        response.on('data', (chunk: Buffer) => chunks.push(chunk));
        response.on('error', reject);
        response.on('end', () => {
          resolve(new HttpAnswer(response.statusCode ?? 0, response.headers, Buffer.concat(chunks).toString('utf8')));
        });
      });
      outgoing.setTimeout(ANSWER_WITHIN_MS, () => outgoing.destroy(new Error(`no answer to ${method} ${path}`)));
      outgoing.on('error', reject);
      outgoing.end(body ?? undefined);
    });
  }

  get(path: string, token?: string): Promise<HttpAnswer> {
    return this.send('GET', path, token === undefined ? {} : { token });
  }

  post(path: string, body: string | Buffer | object, token?: string): Promise<HttpAnswer> {
    return this.send('POST', path, token === undefined ? { body } : { body, token });
  }

  put(path: string, body: string | Buffer | object, token?: string): Promise<HttpAnswer> {
    return this.send('PUT', path, token === undefined ? { body } : { body, token });
  }

  delete(path: string, token?: string): Promise<HttpAnswer> {
    return this.send('DELETE', path, token === undefined ? {} : { token });
  }

  /** Closes the connections it keeps. */
  close(): void {
    for (const agent of this.agents) agent.destroy();
  }
}

function bodyBytes(body: RequestOptions['body']): Buffer | null {
  if (body === undefined) return null;
  if (Buffer.isBuffer(body)) return body;
  return Buffer.from(typeof body === 'string' ? body : JSON.stringify(body));
}

function hasHeader(headers: OutgoingHttpHeaders, wanted: string): boolean {
  return Object.keys(headers).some((name) => name.toLowerCase() === wanted);
}

/** One connection on which raw requests go one after the other. */
export class RawConnection {
  private received = '';
  private wake: () => void = () => {};

  private constructor(private readonly socket: Socket) {
    socket.setEncoding('latin1');
    socket.on('data', (text: string) => {
      this.received += text;
      this.wake();
    });
    socket.on('error', () => this.wake()); // a reset shows as a close, which `exchange` reports
    socket.on('close', () => this.wake());
    socket.setTimeout(ANSWER_WITHIN_MS, () => socket.destroy());
  }

  static async open(port: number): Promise<RawConnection> {
    const socket = connect({ host: '127.0.0.1', port });
    await once(socket, 'connect');
    return new RawConnection(socket);
  }

  /** Sends one request and resolves with its answer: the head, and as much body as came with it. */
  async exchange(bytes: string | Buffer): Promise<string> {
    this.received = '';
    this.socket.write(bytes);
    while (!this.received.includes('\r\n\r\n')) {
      if (this.socket.closed || this.socket.readableEnded)
        throw new Error('the connection was closed without an answer');
      await new Promise<void>((resolve) => {
        this.wake = resolve;
      });
    }
    return this.received;
  }

  close(): void {
    this.socket.destroy();
  }
}

/** Writes raw bytes on a connection of its own; resolves with all that comes back until the server closes it. */
export function rawExchange(port: number, bytes: string | Buffer): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: '127.0.0.1', port });
    let received = '';
    socket.setEncoding('latin1');
    socket.setTimeout(ANSWER_WITHIN_MS, () => socket.destroy(new Error('the server keeps the connection open')));
    socket.on('data', (text: string) => {
      received += text;
    });
    socket.on('error', reject);
    socket.on('close', () => resolve(received));
    socket.write(bytes);
  });
}

export interface Challenge {
  readonly challenge_id: string;
  readonly challenge_type: string;
  readonly challenge_data: unknown;
  readonly expires_at: string;
}

/** Registers an operator and returns its key. */
export async function registerOperator(server: TestServer, client: HttpClient, contact = 'contact'): Promise<string> {
  const answer = await client.post('/v1/operators', { contact_hash: contact, accept_terms: true });
  assert.equal(answer.status, 201, answer.text);
  const { api_key: key } = answer.json<{ api_key: string }>();
  server.handedOut.add(key);
  return key;
}

/** An agent's own view of the API: every call carries its token. */
export class ApiAgent {
  constructor(
    readonly client: HttpClient,
    readonly address: string,
    readonly token: string,
  ) {}

  get(path: string): Promise<HttpAnswer> {
    return this.client.get(path, this.token);
  }

  post(path: string, body: string | Buffer | object): Promise<HttpAnswer> {
    return this.client.post(path, body, this.token);
  }

  put(path: string, body: string | Buffer | object): Promise<HttpAnswer> {
    return this.client.put(path, body, this.token);
  }

  delete(path: string): Promise<HttpAnswer> {
    return this.client.delete(path, this.token);
  }

  /** @param key plain; encoded here */
  read(key: string): Promise<HttpAnswer> {
    return this.get(statePath(key));
  }

  write(key: string, value: string): Promise<HttpAnswer> {
    return this.put(statePath(key), { value });
  }

  remove(key: string): Promise<HttpAnswer> {
    return this.delete(statePath(key));
  }

  message(to: string, content: string): Promise<HttpAnswer> {
    return this.post('/v1/messages', { to, content });
  }

  /** Takes what waits, up to `limit` (the server's default when absent). */
  async receive(limit?: number): Promise<{ messages: ReceivedMessage[]; remaining: number }> {
    const answer = await this.get(limit === undefined ? '/v1/messages' : `/v1/messages?limit=${limit}`);
    assert.equal(answer.status, 200, answer.text);
    return answer.json();
  }
}

export interface ReceivedMessage {
  readonly message_id: string;
  readonly from: string;
  readonly to: string;
  readonly content: string;
  readonly timestamp: string;
}

/** The path of a key, every byte of it percent-encoded that may be. */
export function statePath(key: string): string {
  return `/v1/state/${encodeURIComponent(key)}`;
}

/**
 * Registers an agent.
 * @param solve answers the challenge; without it the gate must be `stub`
 */
export async function registerAgent(
  server: TestServer,
  client: HttpClient,
  operatorKey: string,
  solve: (challenge: Challenge) => string = () => 'anything',
): Promise<ApiAgent> {
  const asked = await client.get('/v1/agents/verification-challenge', operatorKey);
  assert.equal(asked.status, 200, asked.text);
  const challenge = asked.json<Challenge>();
  const verification = { challenge_id: challenge.challenge_id, response: solve(challenge) };
  const answer = await client.post('/v1/agents', { verification_response: verification }, operatorKey);
  assert.equal(answer.status, 201, answer.text);
  const { agent_address: address, agent_token: token } = answer.json<{ agent_address: string; agent_token: string }>();
  server.handedOut.add(token);
  return new ApiAgent(client, address, token);
}
