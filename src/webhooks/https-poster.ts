/**
 * Posts to webhooks over HTTPS with undici.
 * Owns:  the connections, kept for a moment after a post.
 * Never: follows a redirect, keeps a byte of an answer's body, or tells what a URL is: errors have a code only.
 * Bound: an answer's head 16 KiB (undici's limit), its body 64 KiB and one second, beyond which the connection is cut;
 *        idle connections 512: past that a post closes its own.
 */
import type { Buffer } from 'node:buffer';
import { Agent, type Dispatcher, errors } from 'undici';
import type { PostResult } from './delivery-rules.js';
import type { FindAddresses } from './host-addresses.js';
import { ADDRESS_REFUSED, type ConnectSettings, JudgedConnect } from './judged-connect.js';
import type { SignedMessage } from './signed-message.js';

export interface PosterSettings extends ConnectSettings {
  /** From the call to the answer's status, connecting included. */
  readonly totalTimeoutMs: number;
  /** Posts at once; sockets beyond these are idle. */
  readonly maxConcurrency: number;
}

export interface Poster {
  /** Never rejects; resolves within the total timeout, plus a second to let a body end. */
  post(url: string, message: SignedMessage): Promise<PostResult>;
  /** Ends every post in hand as `abandoned`, and closes all connections. */
  close(): Promise<void>;
}

const MAX_BODY_BYTES = 65_536;
const BODY_LIMIT_MS = 1_000;
/** A connection is kept this long for the next post to the same host, whatever longer time the host offers. */
const KEEP_ALIVE_MS = 4_000;
const MAX_IDLE_SOCKETS = 512;
/** Informational answers (1xx) before the real one. */
const MAX_EARLY_ANSWERS = 8;

export class HttpsPoster implements Poster {
  private readonly agent: Agent;
  private readonly connector: JudgedConnect;
  private readonly maxKeptSockets: number;
  private readonly inHand = new Set<Exchange>();

  constructor(
    private readonly settings: PosterSettings,
    findAddresses: FindAddresses,
  ) {
    this.connector = new JudgedConnect(settings, findAddresses);
    this.maxKeptSockets = settings.maxConcurrency + MAX_IDLE_SOCKETS;
    // `Agent`, not `EnvHttpProxyAgent`: proxies named by the environment are not asked.
    this.agent = new Agent({
      connect: this.connector.connect,
      pipelining: 1,
      keepAliveTimeout: KEEP_ALIVE_MS,
      keepAliveMaxTimeout: KEEP_ALIVE_MS,
      // One timer for each post, in `Exchange`, exact where undici's count seconds.
      headersTimeout: 0,
      bodyTimeout: 0,
    });
  }

  async post(url: string, message: SignedMessage): Promise<PostResult> {
    const target = postableUrl(url);
    if (target === null) return { kind: 'address_refused' };
    const exchange = new Exchange(this.settings.totalTimeoutMs);
    this.inHand.add(exchange);
    this.agent.dispatch(
      {
        origin: target.origin,
        path: target.pathname + target.search,
        method: 'POST',
        headers: message.headers,
        body: message.body,
        reset: this.connector.openSockets >= this.maxKeptSockets,
      },
      exchange,
    );
    const result = await exchange.ended;
    this.inHand.delete(exchange);
    return result;
  }

  async close(): Promise<void> {
    for (const exchange of this.inHand) exchange.abandon();
    await this.agent.destroy();
  }
}

/** As at registration; a URL that was stored before a rule came into being is not posted to. */
function postableUrl(url: string): URL | null {
  if (!URL.canParse(url)) return null;
  const parsed = new URL(url);
  return parsed.protocol === 'https:' && parsed.username === '' && parsed.password === '' ? parsed : null;
}

const CUT_OFF = new Error('the rest of the answer is of no interest');

/** One post and what comes back. The result is fixed by the first of: status, fault, time over. */
class Exchange implements Dispatcher.DispatchHandler {
  readonly ended: Promise<PostResult>;
  private result: PostResult | null = null;
  private settle: (result: PostResult) => void = () => {};
  private controller: Dispatcher.DispatchController | null = null;
  private timer: NodeJS.Timeout;
  private earlyAnswers = 0;
  private bodyBytes = 0;

  constructor(totalTimeoutMs: number) {
    this.ended = new Promise((resolve) => {
      this.settle = resolve;
    });
    this.timer = setTimeout(() => this.end({ kind: 'timeout' }), totalTimeoutMs);
  }

  abandon(): void {
    this.end({ kind: 'abandoned' });
  }

  /** A connection is there. */
  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.controller = controller;
    if (this.result !== null) controller.abort(CUT_OFF); // too late
  }

  onResponseStart(controller: Dispatcher.DispatchController, status: number): void {
    if (status < 200) {
      this.earlyAnswers += 1;
      if (this.earlyAnswers > MAX_EARLY_ANSWERS) this.end({ kind: 'unreachable', code: 'TOO_MANY_EARLY_ANSWERS' });
      return;
    }
    if (this.result !== null) return controller.abort(CUT_OFF);
    this.result = status < 300 ? { kind: 'delivered', status } : { kind: 'refused', status };
    // The body matters only in that the connection is free again once it has ended.
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.cutOff(), BODY_LIMIT_MS);
  }

  onResponseData(_controller: Dispatcher.DispatchController, chunk: Buffer): void {
    this.bodyBytes += chunk.length;
    if (this.bodyBytes > MAX_BODY_BYTES) this.cutOff();
  }

  onResponseEnd(): void {
    this.end(this.result ?? { kind: 'unreachable', code: 'NO_STATUS' });
  }

  onResponseError(_controller: Dispatcher.DispatchController, error: Error): void {
    this.end(this.result ?? resultOfError(error));
  }

  private cutOff(): void {
    this.end(this.result ?? { kind: 'timeout' });
  }

  /** The first result stands. Whatever still goes on on the connection ends with it. */
  private end(result: PostResult): void {
    clearTimeout(this.timer);
    this.result ??= result;
    this.settle(this.result);
    this.controller?.abort(CUT_OFF); // without effect on an exchange that is complete
  }
}

function resultOfError(error: Error): PostResult {
  const code = 'code' in error && typeof error.code === 'string' ? error.code : 'UNKNOWN';
  if (code === ADDRESS_REFUSED) return { kind: 'address_refused' };
  if (error instanceof errors.ConnectTimeoutError) return { kind: 'timeout' };
  return { kind: 'unreachable', code };
}
