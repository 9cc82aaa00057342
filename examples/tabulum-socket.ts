/**
 * A client for the kernel's WebSocket, `/v1/connect`: calls are JSON-RPC, messages are pushed, and a lost connection is made
 * again. Small enough to copy into your own agent, together with `tabulum-client.ts`. Needs Node 20 or newer and `ws`, since
 * the token travels in a header, which the WebSocket of browsers and of Node cannot send.
 *
 *   const socket = new TabulumSocket({ baseUrl: 'http://127.0.0.1:8080', agentToken });
 *   socket.subscribe(async (message) => console.log(message.from, message.content));
 *   await socket.call('messages.send', { to, content: 'hello' });
 *   await socket.close();
 *
 * Messages are handled one at a time, in order, and acknowledged once the handler is done: at least once. What was not
 * acknowledged when a connection breaks comes again, with a higher `delivery_count`: handlers must bear that.
 * A call whose connection breaks before its answer fails with `no_answer`: it may have been carried out. Calls made while
 * there is no connection wait for the next one.
 */
import WebSocket from 'ws';
import { type Message, TabulumError } from './tabulum-client.js';

export interface DeliveredMessage extends Message {
  readonly lease_id: string;
  /** 1 for the first delivery. */
  readonly delivery_count: number;
}

/** Resolve when the message is dealt with; it is then acknowledged. A rejection leaves it to come again. */
export type MessageHandler = (message: DeliveredMessage) => Promise<void> | void;

export interface SubscriptionOptions {
  /** Seconds to deal with a message before it comes again; 1 to 43,200. */
  readonly visibility?: number;
  /** Messages on their way or being handled, 1 to 1000. */
  readonly max_unacked?: number;
}

export interface SocketOptions {
  /** Such as `http://127.0.0.1:8080`. */
  readonly baseUrl: string;
  readonly agentToken: string;
  /** The first wait before connecting again; it doubles up to `longestReconnectMs`. Milliseconds. */
  readonly firstReconnectMs?: number;
  readonly longestReconnectMs?: number;
  /** Told of each connection made and lost, and of handlers that failed. */
  readonly onEvent?: (event: SocketEvent) => void;
}

export type SocketEvent =
  | { readonly kind: 'connected' }
  | { readonly kind: 'disconnected'; readonly code: number }
  | { readonly kind: 'refused'; readonly status: number }
  | { readonly kind: 'handler_failed'; readonly message: DeliveredMessage; readonly error: unknown };

/** Close code of the server for a token that is good no more: connecting again is useless. */
const TOKEN_REVOKED = 4401;
/** A server sends pings more often than this; a connection without any is dead. */
const SILENCE_LIMIT_MS = 90_000;

interface PendingCall {
  readonly text: string;
  isSent: boolean;
  resolve(result: unknown): void;
  reject(error: TabulumError): void;
}

interface RpcFrame {
  readonly id?: number;
  readonly method?: string;
  readonly params?: DeliveredMessage;
  readonly result?: unknown;
  readonly error?: {
    readonly data: {
      readonly error: string;
      readonly message: string;
      readonly status: number;
      readonly retry_after?: number;
    };
  };
}

export class TabulumSocket {
  readonly #options: SocketOptions;
  readonly #calls = new Map<number, PendingCall>();
  #socket: WebSocket | null = null;
  #state: 'connecting' | 'connected' | 'waiting' | 'closed' = 'connecting';
  #nextId = 1;
  #reconnectMs: number;
  #timer: NodeJS.Timeout | undefined;
  #silence: NodeJS.Timeout | undefined;
  #handler: MessageHandler | null = null;
  #subscription: SubscriptionOptions = {};
  /** Messages of this connection, one after the other. */
  #handling: Promise<void> = Promise.resolve();

  /** Connects at once. */
  constructor(options: SocketOptions) {
    this.#options = options;
    this.#reconnectMs = this.#firstReconnectMs;
    this.#connect();
  }

  /** One call and its result. @throws TabulumError with the kernel's code and status, or `no_answer`. */
  call<Result>(method: string, params: object = {}): Promise<Result> {
    if (this.#state === 'closed') return Promise.reject(noAnswer(`${method}: the socket is closed`));
    const id = this.#nextId++;
    return new Promise<Result>((resolve, reject) => {
      const text = JSON.stringify({ jsonrpc: '2.0', id, method, params });
      const call: PendingCall = { text, isSent: false, resolve: (result) => resolve(result as Result), reject };
      this.#calls.set(id, call);
      if (this.#state === 'connected') this.#send(call);
    });
  }

  /** From now on, over every connection. Once per socket. */
  subscribe(handler: MessageHandler, options: SubscriptionOptions = {}): void {
    if (this.#handler !== null) throw new Error('this socket has a subscription already');
    this.#handler = handler;
    this.#subscription = options;
    if (this.#state === 'connected') this.#resubscribe();
  }

  /** Lets the handler finish what it has begun, then closes. What it had not begun goes back to the queue. */
  async close(): Promise<void> {
    this.#handler = null;
    await this.#handling;
    this.#end(noAnswer('the socket was closed'));
    this.#socket?.close(1000);
  }

  get #firstReconnectMs(): number {
    return this.#options.firstReconnectMs ?? 250;
  }

  #connect(): void {
    this.#state = 'connecting';
    const url = `${this.#options.baseUrl.replace(/^http/, 'ws').replace(/\/+$/, '')}/v1/connect`;
    const socket = new WebSocket(url, { headers: { Authorization: `Bearer ${this.#options.agentToken}` } });
    this.#socket = socket;
    socket.on('open', () => this.#opened());
    socket.on('ping', () => this.#heard());
    socket.on('message', (data) => this.#take(String(data), socket));
    socket.on('unexpected-response', (_request, response) => {
      const status = response.statusCode ?? 0;
      this.#options.onEvent?.({ kind: 'refused', status });
      // Anything but a shortage of room will not change by itself.
      if (status !== 503)
        this.#end(new TabulumError(status, 'refused', `the server refuses the connection: ${status}`));
      socket.terminate();
    });
    socket.on('error', () => {}); // always followed by 'close'
    socket.on('close', (code) => this.#lost(code));
  }

  #opened(): void {
    this.#state = 'connected';
    this.#reconnectMs = this.#firstReconnectMs;
    this.#heard();
    this.#options.onEvent?.({ kind: 'connected' });
    if (this.#handler !== null) this.#resubscribe();
    for (const call of this.#calls.values()) this.#send(call);
  }

  #resubscribe(): void {
    // A refusal (too many requests, say) ends this connection; the next one tries again.
    this.call('messages.subscribe', this.#subscription).catch(() => this.#socket?.close(1000));
  }

  #send(call: PendingCall): void {
    if (call.isSent) return;
    call.isSent = true;
    this.#socket?.send(call.text);
  }

  #take(text: string, socket: WebSocket): void {
    this.#heard();
    const frame = JSON.parse(text) as RpcFrame;
    if (frame.method === 'messages.deliver' && frame.params !== undefined) {
      const message = frame.params;
      this.#handling = this.#handling.then(() => this.#handle(message, socket));
      return;
    }
    const call = this.#calls.get(frame.id ?? -1);
    if (call === undefined) return;
    this.#calls.delete(frame.id ?? -1);
    if (frame.error === undefined) call.resolve(frame.result);
    else {
      const { status, error, message, retry_after: retryAfter } = frame.error.data;
      call.reject(new TabulumError(status, error, message, retryAfter));
    }
  }

  async #handle(message: DeliveredMessage, socket: WebSocket): Promise<void> {
    // Of a connection that is gone, or of a subscription that is over: it comes again.
    if (this.#handler === null || socket !== this.#socket || socket.readyState !== WebSocket.OPEN) return;
    try {
      await this.#handler(message);
    } catch (error) {
      this.#options.onEvent?.({ kind: 'handler_failed', message, error });
      return;
    }
    try {
      await this.call('messages.ack', { lease_ids: [message.lease_id] });
    } catch {
      // Without its acknowledgement the message comes again, which is what at-least-once means.
    }
  }

  #lost(code: number): void {
    clearTimeout(this.#silence);
    this.#options.onEvent?.({ kind: 'disconnected', code });
    for (const [id, call] of this.#calls) {
      if (!call.isSent) continue;
      this.#calls.delete(id);
      call.reject(noAnswer('the connection was lost before the answer came'));
    }
    if (code === TOKEN_REVOKED) this.#end(new TabulumError(401, 'unauthorized', 'the token was revoked'));
    if (this.#state === 'closed') return;
    this.#state = 'waiting';
    // Jitter, so that a crowd that lost its server does not come back as one.
    const waitMs = this.#reconnectMs * (0.5 + Math.random());
    this.#reconnectMs = Math.min(this.#reconnectMs * 2, this.#options.longestReconnectMs ?? 30_000);
    this.#timer = setTimeout(() => this.#connect(), waitMs);
  }

  #heard(): void {
    clearTimeout(this.#silence);
    this.#silence = setTimeout(() => this.#socket?.terminate(), SILENCE_LIMIT_MS);
    this.#silence.unref();
  }

  #end(error: TabulumError): void {
    this.#state = 'closed';
    clearTimeout(this.#timer);
    clearTimeout(this.#silence);
    for (const call of this.#calls.values()) call.reject(error);
    this.#calls.clear();
  }
}

function noAnswer(message: string): TabulumError {
  return new TabulumError(0, 'no_answer', message);
}
