/**
 * One keep-alive HTTP/1.1 connection with one request in flight, as thin as can be: for what a load generator can't do,
 * such as answering a challenge, counting messages, or two hundred agents arriving at once.
 * Reads only answers with a Content-Length, which is what the server sends.
 */
import { once } from 'node:events';
import { createConnection, type Socket } from 'node:net';
import { headersOf, type LoadRequest } from './load.js';

const ANSWER_WITHIN_MS = 60_000;

export interface Answer {
  readonly status: number;
  /** Status line and header lines. */
  readonly head: string;
  readonly body: string;
}

interface Waiter {
  resolve(answer: Answer): void;
  reject(error: Error): void;
}

export class HttpConnection {
  readonly #socket: Socket;
  readonly #host: string;
  #received: Buffer = Buffer.alloc(0);
  #waiter: Waiter | null = null;

  private constructor(socket: Socket, host: string) {
    this.#socket = socket;
    this.#host = host;
    socket.setNoDelay(true);
    socket.setTimeout(ANSWER_WITHIN_MS, () => socket.destroy(new Error('no answer in time')));
    socket.on('data', (chunk) => this.#read(chunk));
    socket.on('error', (error) => this.#fail(error));
    socket.on('close', () => this.#fail(new Error('the server closed the connection')));
  }

  static async open(url: string): Promise<HttpConnection> {
    const { hostname, port, host } = new URL(url);
    const socket = createConnection(Number(port), hostname);
    await once(socket, 'connect');
    return new HttpConnection(socket, host);
  }

  /** @throws Error when the connection breaks before the answer is complete. */
  send(request: LoadRequest): Promise<Answer> {
    if (this.#waiter !== null) throw new Error('a request is in flight');
    let head = `${request.method} ${request.path} HTTP/1.1\r\nHost: ${this.#host}\r\n`;
    for (const [name, value] of Object.entries(headersOf(request))) head += `${name}: ${value}\r\n`;
    if (request.body !== undefined) head += `Content-Length: ${Buffer.byteLength(request.body)}\r\n`;
    return new Promise((resolve, reject) => {
      this.#waiter = { resolve, reject };
      this.#socket.write(`${head}\r\n${request.body ?? ''}`);
    });
  }

  close(): void {
    this.#socket.destroy();
  }

  #read(chunk: Buffer): void {
    this.#received = this.#received.length === 0 ? chunk : Buffer.concat([this.#received, chunk]);
    const headEnd = this.#received.indexOf('\r\n\r\n');
    if (headEnd < 0) return;
    const head = this.#received.toString('latin1', 0, headEnd);
    const length = /\r\ncontent-length: (\d+)/i.exec(head);
    if (length === null) {
      this.#fail(new Error(`an answer without Content-Length: ${head}`));
      return;
    }
    const end = headEnd + 4 + Number(length[1]);
    if (this.#received.length < end) return;
    const body = this.#received.toString('utf8', headEnd + 4, end);
    this.#received = this.#received.subarray(end);
    const waiter = this.#waiter;
    this.#waiter = null;
    waiter?.resolve({ status: Number(head.slice(9, 12)), head, body });
  }

  #fail(error: Error): void {
    const waiter = this.#waiter;
    this.#waiter = null;
    waiter?.reject(error);
  }
}

/** Runs `work` on `count` connections at once, and closes them all. Rejects with the first failure. */
export async function onConnections(
  url: string,
  count: number,
  work: (connection: HttpConnection, index: number) => Promise<void>,
): Promise<void> {
  const connections = await Promise.all(Array.from({ length: count }, () => HttpConnection.open(url)));
  try {
    await Promise.all(connections.map(work));
  } finally {
    for (const connection of connections) connection.close();
  }
}

/** @throws Error unless the answer is 2xx. */
export function expectSuccess(request: LoadRequest, answer: Answer): Answer {
  if (answer.status >= 200 && answer.status < 300) return answer;
  throw new Error(`${request.method} ${request.path}: ${answer.status} ${answer.body}`);
}
