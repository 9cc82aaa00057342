/**
 * An HTTP listener: socket, head checks, time limits, byte budget, draining. What requests mean is `dispatch`'s business.
 * Used by the kernel API, the observation API and the admin listener alike.
 * Owns:      the native app and the runtime of its replies.
 * Never:     lets an error of `dispatch` reach the native module.
 */
import { MAX_WAIT_SECONDS } from '../contract/limits.js';
import type { Logger } from '../log.js';
import { BodyBudget } from './body-buffer.js';
import { Sweeper } from './deadlines.js';
import { RequestHead } from './head.js';
import { isoTime } from './iso-time.js';
import { Reply, type ReplyRuntime } from './reply.js';
import { type HttpRequest, type HttpResponse, type ListeningApp, listenOn, type UpgradeContext } from './uws.js';
import { type WebSocketOptions, WebSocketPart, type WebSocketStats, WebSocketUpgrade } from './web-socket.js';

export interface ListenerOptions {
  readonly host: string;
  /** 0 lets the system choose. */
  readonly port: number;
  /** Several threads on one port; see `listenOn`. */
  readonly shared: boolean;
  readonly readTimeoutMs: number;
  readonly writeTimeoutMs: number;
  /** While draining, answers promise service again this long after the drain began; null promises nothing. */
  readonly expectedRecoveryMs: number | null;
  readonly logger: Logger;
  /** All request bodies being gathered together; 128 MiB when absent. */
  readonly maxBufferedBodyBytes?: number;
  /** Where it takes WebSockets: `dispatch` calls `acceptWebSocket`. Nowhere when absent. */
  readonly webSocket?: WebSocketOptions;
}

/** Must answer `reply` now or later, or leave that to the time limit. `head` is valid during the call only. */
export type Dispatch = (reply: Reply, head: RequestHead) => void;

export interface ListenerStats {
  readonly inHand: number;
  /** Answers since start, by status. */
  readonly answers: Readonly<Record<string, number>>;
  readonly aborted: number;
  readonly readTimeouts: number;
  readonly writeTimeouts: number;
  readonly bufferedBodyBytes: number;
  readonly webSockets?: WebSocketStats;
}

const MAX_BUFFERED_BODY_BYTES = 128 * 1024 * 1024;
/** How long a client may take to read the last answer on a connection that is then closed. */
const LINGER_MS = 300;

export class HttpListener {
  readonly port: number;
  private readonly listening: ListeningApp;
  private readonly runtime: ReplyRuntime;
  private readonly options: ListenerOptions;
  private closed = false;

  /** @internal use `startListener`. */
  constructor(
    listening: ListeningApp,
    runtime: ReplyRuntime,
    options: ListenerOptions,
    private readonly webSockets: WebSocketPart | null,
  ) {
    this.port = listening.port;
    this.listening = listening;
    this.runtime = runtime;
    this.options = options;
  }

  /**
   * New requests get 503, WebSocket sessions are told to stop; resolves when the requests in hand are answered and the
   * sockets closed, at the latest after the time limits.
   */
  async drain(): Promise<void> {
    const answered = this.drainRequests();
    await this.webSockets?.drain();
    await answered;
  }

  private drainRequests(): Promise<void> {
    const { runtime } = this;
    if (runtime.drain === null) {
      const { expectedRecoveryMs } = this.options;
      const expectedRecovery = expectedRecoveryMs === null ? null : isoTime(Date.now() + expectedRecoveryMs);
      runtime.drain = { expectedRecovery };
    }
    if (runtime.counts.inHand === 0) return Promise.resolve();
    return new Promise((resolve) => {
      const told = runtime.onIdle;
      runtime.onIdle = () => {
        told?.();
        resolve();
      };
    });
  }

  /** Closes every connection at once. Do it before the thread ends: a live app in a dead thread aborts the process. */
  close(): void {
    if (this.closed) return;
    this.closed = true;
    this.runtime.sweeper.stop();
    this.listening.app.close();
  }

  stats(): ListenerStats {
    const { counts, budget } = this.runtime;
    const answers: Record<string, number> = {};
    for (let status = 0; status < counts.byStatus.length; status++) {
      const count = counts.byStatus[status] ?? 0;
      if (count > 0) answers[status] = count;
    }
    return {
      inHand: counts.inHand,
      answers,
      aborted: counts.aborted,
      readTimeouts: counts.readTimeouts,
      writeTimeouts: counts.writeTimeouts,
      bufferedBodyBytes: budget.usedBytes,
      ...(this.webSockets === null ? {} : { webSockets: this.webSockets.stats() }),
    };
  }
}

/** @throws Error with one clear line when the address can't be listened on. */
export async function startListener(options: ListenerOptions, dispatch: Dispatch): Promise<HttpListener> {
  const sweeper = new Sweeper(Math.min(options.readTimeoutMs, options.writeTimeoutMs, LINGER_MS));
  const runtime: ReplyRuntime = {
    sweeper,
    reading: sweeper.list(options.readTimeoutMs),
    answering: sweeper.list(options.writeTimeoutMs),
    lingering: sweeper.list(LINGER_MS),
    waiting: sweeper.list(MAX_WAIT_SECONDS * 1000 + options.writeTimeoutMs),
    budget: new BodyBudget(options.maxBufferedBodyBytes ?? MAX_BUFFERED_BODY_BYTES),
    logger: options.logger,
    counts: { inHand: 0, byStatus: new Uint32Array(600), aborted: 0, readTimeouts: 0, writeTimeouts: 0 },
    drain: null,
    onIdle: null,
  };
  const head = new RequestHead();
  const webSockets =
    options.webSocket === undefined ? null : new WebSocketPart(options.webSocket, sweeper, options.logger);
  const onRequest = (response: HttpResponse, request: HttpRequest, context?: UpgradeContext): void => {
    const problem = head.read(request);
    const reply = new Reply(response, runtime, head); // from here on an error can be answered
    try {
      if (context !== undefined && webSockets !== null) {
        const key = head.webSocketKey();
        if (key !== null) reply.upgrade = new WebSocketUpgrade(webSockets, key, context);
      }
      if (problem !== null) reply.refuseHead(problem.status, problem.message);
      else if (runtime.drain !== null) reply.refuseDraining(runtime.drain);
      else dispatch(reply, head);
    } catch (error) {
      reply.fail(error);
    }
    head.release();
    reply.leaveHandler();
  };
  try {
    const route = webSockets?.route(onRequest) ?? null;
    const listening = await listenOn(options.host, options.port, options.shared, onRequest, route);
    return new HttpListener(listening, runtime, options, webSockets);
  } catch (error) {
    sweeper.stop();
    throw error;
  }
}
