/** One connection to `/v1/connect`, as thin as can be: subscribes, takes what is pushed, acknowledges it in batches. */
import { once } from 'node:events';
import WebSocket from 'ws';

export interface Pushed {
  readonly message_id: string;
  readonly content: string;
  readonly lease_id: string;
}

interface Frame {
  readonly id?: number;
  readonly method?: string;
  readonly params?: Pushed;
  readonly error?: { readonly message: string };
}

export class RpcConnection {
  readonly #socket: WebSocket;
  readonly #onMessage: (message: Pushed) => void;
  #toAck: string[] = [];
  #nextId = 1;
  #acksUnderWay = 0;
  #subscribed: () => void = () => {};
  #failed: (error: Error) => void = () => {};
  #idle: (() => void) | null = null;

  private constructor(socket: WebSocket, onMessage: (message: Pushed) => void) {
    this.#socket = socket;
    this.#onMessage = onMessage;
    socket.on('message', (data) => this.#take(JSON.parse(String(data)) as Frame));
  }

  /** Resolves when it is subscribed. @param onMessage told of each message; it is then acknowledged. */
  static async subscribe(
    url: string,
    token: string,
    maxUnacked: number,
    onMessage: (message: Pushed) => void,
  ): Promise<RpcConnection> {
    const socket = new WebSocket(`${url.replace(/^http/, 'ws')}/v1/connect`, {
      headers: { Authorization: `Bearer ${token}` },
    });
    await once(socket, 'open');
    const connection = new RpcConnection(socket, onMessage);
    await new Promise<void>((resolve, reject) => {
      connection.#subscribed = resolve;
      connection.#failed = reject;
      connection.#call('messages.subscribe', { max_unacked: maxUnacked, visibility: 600 });
    });
    return connection;
  }

  /** Resolves when every acknowledgement is answered. */
  async acknowledged(): Promise<void> {
    if (this.#acksUnderWay === 0 && this.#toAck.length === 0) return;
    await new Promise<void>((resolve) => {
      this.#idle = resolve;
    });
  }

  close(): void {
    this.#socket.terminate();
  }

  #call(method: string, params: object): void {
    this.#socket.send(JSON.stringify({ jsonrpc: '2.0', id: this.#nextId++, method, params }));
  }

  #take(frame: Frame): void {
    if (frame.method === 'messages.deliver' && frame.params !== undefined) {
      this.#onMessage(frame.params);
      this.#toAck.push(frame.params.lease_id);
      if (this.#toAck.length === 1) setImmediate(() => this.#ack());
      return;
    }
    if (frame.error !== undefined) {
      this.#failed(new Error(frame.error.message));
    } else if (frame.id === 1) {
      this.#subscribed();
    } else {
      this.#acksUnderWay--;
      if (this.#acksUnderWay === 0 && this.#toAck.length === 0) this.#idle?.();
    }
  }

  #ack(): void {
    this.#acksUnderWay++;
    this.#call('messages.ack', { lease_ids: this.#toAck.splice(0) });
  }
}
