/** A JSON-RPC client over `/v1/connect` for tests: sends exactly what it is told, keeps everything that comes. */
import { once } from 'node:events';
import WebSocket from 'ws';
import { waitUntil } from './wait.js';

export interface RpcError {
  readonly code: number;
  readonly message: string;
  readonly data: Readonly<Record<string, unknown>>;
}

export interface RpcAnswer {
  readonly jsonrpc: string;
  readonly id: unknown;
  readonly result?: Readonly<Record<string, unknown>>;
  readonly error?: RpcError;
}

export interface Delivery {
  readonly message_id: string;
  readonly from: string;
  readonly to: string;
  readonly content: string;
  readonly timestamp: string;
  readonly lease_id: string;
  readonly delivery_count: number;
}

interface Cleanup {
  after(callback: () => void): void;
}

const ANSWER_WITHIN_MS = 15_000;

export class RpcClient {
  /** Messages pushed by the subscription, in order. */
  readonly deliveries: Delivery[] = [];
  /** Every frame, parsed. */
  readonly frames: unknown[] = [];
  closeCode: number | null = null;
  private failure = '';
  private readonly answers = new Map<unknown, RpcAnswer>();
  private nextId = 1;

  private constructor(readonly socket: WebSocket) {
    socket.on('message', (data) => this.take(String(data)));
    socket.on('error', (error) => {
      this.failure = error.message; // a close follows
    });
    socket.on('close', (code) => {
      this.closeCode = code;
    });
  }

  /** @throws Error with the status when the server answers with HTTP. */
  static async connect(
    t: Cleanup,
    port: number,
    token: string,
    options: WebSocket.ClientOptions = {},
  ): Promise<RpcClient> {
    const socket = new WebSocket(`ws://127.0.0.1:${port}/v1/connect`, {
      ...options,
      headers: { Authorization: `Bearer ${token}` },
    });
    t.after(() => socket.terminate());
    const client = new RpcClient(socket);
    await once(socket, 'open');
    return client;
  }

  /** Sends one call; the answer, result or error. */
  async ask(method: string, params?: unknown): Promise<RpcAnswer> {
    const id = this.nextId++;
    this.send({ jsonrpc: '2.0', id, method, ...(params === undefined ? {} : { params }) });
    await this.until(() => this.answers.has(id), `the answer to ${method}`);
    const answer = this.answers.get(id);
    if (answer === undefined) throw new Error('unreachable: it was just there');
    return answer;
  }

  /** As `ask`, for calls that must succeed. */
  async call(method: string, params?: unknown): Promise<Readonly<Record<string, unknown>>> {
    const answer = await this.ask(method, params);
    if (answer.result === undefined) throw new Error(`${method}: ${JSON.stringify(answer.error)}`);
    return answer.result;
  }

  send(frame: unknown): void {
    this.socket.send(typeof frame === 'string' ? frame : JSON.stringify(frame));
  }

  answerTo(id: unknown): RpcAnswer | undefined {
    return this.answers.get(id);
  }

  async until(condition: () => boolean, what: string): Promise<void> {
    await waitUntil(
      () => {
        if (condition()) return true;
        if (this.closeCode !== null)
          throw new Error(`closed with ${this.closeCode} ${this.failure} while waiting for ${what}`);
        return false;
      },
      { timeoutMs: ANSWER_WITHIN_MS, what },
    );
  }

  async closed(): Promise<number> {
    await waitUntil(() => this.closeCode !== null, { timeoutMs: ANSWER_WITHIN_MS, what: 'the socket to be closed' });
    return this.closeCode ?? 0;
  }

  private take(text: string): void {
    const frame: unknown = JSON.parse(text);
    this.frames.push(frame);
    for (const part of Array.isArray(frame) ? frame : [frame]) {
      const message = part as RpcAnswer & { method?: string; params?: Delivery };
      if (message.method === 'messages.deliver' && message.params !== undefined) this.deliveries.push(message.params);
      else if (message.id !== undefined) this.answers.set(message.id, message);
    }
  }
}
