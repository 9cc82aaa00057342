/**
 * One request's answer: the only code that touches a native response.
 * Owns:      the native response until it is answered or aborted, the body bytes gathered for it, its deadline.
 * Never:     throws into the native module (that ends the process), answers twice, or touches a dead response: what comes
 *            after the answer or the abort is dropped.
 *
 * State: open -> done       answered, or aborted by the client
 *             -> lingering  answered in full but left unended, then closed
 * An answer that must be the last on its connection can't simply be ended: the native parser goes on to the next request
 * it finds in the same read, though it announced `Connection: close`. While an answer is not ended it closes the connection
 * at the next request instead of serving it. So such an answer is written whole through header calls, left unended, and
 * the connection closed soon after, which leaves the client time to read it.
 */
import { Buffer } from 'node:buffer';
import { STATUS_CODES } from 'node:http';
import { API_ERRORS, ApiError, type ApiErrorCode } from '../contract/errors.js';
import { MAX_BODY_BYTES } from '../contract/limits.js';
import type { Logger } from '../log.js';
import { type BodyBudget, BodyBuffer } from './body-buffer.js';
import type { Deadlined, DeadlineList, Sweeper } from './deadlines.js';
import type { RequestHead } from './head.js';
import type { HttpResponse } from './uws.js';
import type { WebSocketUpgrade } from './web-socket.js';

/** What all replies of one listener share. */
export interface ReplyRuntime {
  readonly sweeper: Sweeper;
  /** A body is coming in. */
  readonly reading: DeadlineList;
  /** The body is in, the answer pending. */
  readonly answering: DeadlineList;
  /** Answered, waiting to be closed. */
  readonly lingering: DeadlineList;
  /** Waiting for messages by the client's own wish. */
  readonly waiting: DeadlineList;
  readonly budget: BodyBudget;
  readonly logger: Logger;
  readonly counts: ReplyCounts;
  /** While draining: what refused and answered connections are told. */
  drain: DrainNotice | null;
  /** Told when the last open reply is answered. */
  onIdle: (() => void) | null;
}

export interface DrainNotice {
  /** RFC 3339; null promises nothing. */
  readonly expectedRecovery: string | null;
}

/** Counts since start, but `inHand`, which is now. */
export interface ReplyCounts {
  inHand: number;
  /** Answers by status. */
  readonly byStatus: Uint32Array;
  /** Clients that left before their answer. */
  aborted: number;
  readTimeouts: number;
  writeTimeouts: number;
}

/** Takes a request's whole body. It is valid during the call only. May throw: the error becomes the answer. */
export interface BodyReceiver {
  onBody(body: Buffer): void;
}

/** What an answer waits for. */
export interface Abortable {
  abort(): void;
}

/** As part of `X-RateLimit-*`; the limiter's verdict fits. */
export interface LimitFigures {
  readonly limit: number;
  readonly remaining: number;
  readonly resetEpochSeconds: number;
}

const JSON_TYPE = 'application/json';
/** An answer larger than the native module's 16 KiB cork leaves at once. */
const UNCORKING_BYTES = 17_000;
const STATUS_LINES: readonly string[] = Array.from({ length: 600 }, (_, status) => {
  return `${status} ${STATUS_CODES[status] ?? 'Status'}`;
});

type ReplyState = 'open' | 'lingering' | 'done';

export class Reply implements Deadlined {
  deadlines: DeadlineList | null = null;
  previous: Deadlined | null = null;
  next: Deadlined | null = null;
  sinceMs = 0;

  /** Set where the request asks to become a WebSocket; see `acceptWebSocket`. */
  upgrade: WebSocketUpgrade | null = null;
  /** Told when the client leaves while the answer waits. */
  private awaited: Abortable | null = null;

  private state: ReplyState = 'open';
  /** True while the request's handler runs, which the native module corks by itself. */
  private inHandler = true;
  /** The connection ends with this answer. */
  private closes: boolean;
  private readonly isHead: boolean;
  private readonly declaredBodyBytes: number;
  /** Header lines beyond Content-Type, each with CRLF before it. */
  private headers = '';
  private status = 200;
  private contentType = JSON_TYPE;
  private body = '';

  private receiver: BodyReceiver | null = null;
  private gathered: BodyBuffer | null = null;
  private bodyState: 'unread' | 'arriving' | 'complete' | 'too-large' = 'unread';

  /** Call first thing in the handler: it registers the abort callback, without which the native module ends the process. */
  constructor(
    private readonly response: HttpResponse,
    private readonly runtime: ReplyRuntime,
    head: RequestHead,
  ) {
    response.onAborted(() => this.onAborted());
    this.isHead = head.method === 'head';
    this.declaredBodyBytes = head.bodyBytes;
    // A chunked body's end is not certain enough (see `head.ts`), and nobody waits for megabytes that are refused already.
    this.closes = head.bodyBytes === -1 || head.bodyBytes > MAX_BODY_BYTES;
    runtime.counts.inHand++;
    runtime.answering.add(this);
  }

  /** False once it is answered or the client has left: further work for it is wasted. */
  get isOpen(): boolean {
    return this.state === 'open';
  }

  /** True while the request's own handler runs. */
  get isInHandler(): boolean {
    return this.inHandler;
  }

  /** The handler is about to return; from now on answers must be corked. */
  leaveHandler(): void {
    this.inHandler = false;
  }

  /** Text form of the socket's remote address. Only while the handler runs. */
  remoteAddress(): string {
    return Buffer.from(this.response.getRemoteAddressAsText()).toString('latin1');
  }

  /** Adds a header to whatever the answer will be. Values are ours, never a client's. */
  header(name: string, value: string): void {
    this.headers += `\r\n${name}: ${value}`;
  }

  limitHeaders(figures: LimitFigures): void {
    this.headers += `\r\nX-RateLimit-Limit: ${figures.limit}\r\nX-RateLimit-Remaining: ${figures.remaining}\r\nX-RateLimit-Reset: ${figures.resetEpochSeconds}`;
  }

  sendJson(status: number, json: string): void {
    if (this.state !== 'open') return;
    this.status = status;
    this.body = json;
    this.send();
  }

  /** @param contentType of `body`. */
  sendText(status: number, contentType: string, body: string): void {
    this.contentType = contentType;
    this.sendJson(status, body);
  }

  /** @param message what to do about it; the catalogue's when absent. */
  refuse(code: ApiErrorCode, message?: string, retryAfterSeconds = 1): void {
    if (this.state !== 'open') return;
    const { status, message: usual } = API_ERRORS[code];
    if (status === 503 || status === 429) this.header('Retry-After', String(retryAfterSeconds));
    if (status === 401) this.header('WWW-Authenticate', 'Bearer');
    this.sendJson(status, `{"error":"${code}","message":${JSON.stringify(message ?? usual)}}`);
  }

  /** Answers an error: an `ApiError` as it says, any other as `internal_error`, logged. */
  fail(error: unknown): void {
    if (error instanceof ApiError) {
      this.refuse(error.code, error.message, error.retryAfterSeconds);
      return;
    }
    this.runtime.logger.error({ err: error }, 'a request failed by a mistake of the server: answered 500');
    this.refuse('internal_error');
  }

  /**
   * Refuses a request whose body has no certain length, and closes the connection before another byte is parsed.
   * Padded past the native module's cork, so that it has left before the close. Only while the handler runs.
   */
  refuseHead(status: number, message: string): void {
    this.closes = true;
    const json = `{"error":"bad_request","message":${JSON.stringify(message)}}`;
    this.sendJson(status, json.padEnd(UNCORKING_BYTES));
    this.close();
  }

  /** Refuses a new request during a planned stop. */
  refuseDraining(notice: DrainNotice): void {
    this.header('Retry-After', '1');
    const recovery = notice.expectedRecovery === null ? '' : `,"expected_recovery":"${notice.expectedRecovery}"`;
    const message = 'The server is stopping. Try again after Retry-After seconds.';
    this.sendJson(503, `{"error":"unavailable","message":"${message}"${recovery}}`);
  }

  /** 204, for CORS preflights. */
  sendNothing(): void {
    this.sendJson(204, '');
  }

  /** The answer waits for `awaited`, as the client asked: the time limit for answers is that much longer from here on. */
  waitFor(awaited: Abortable): void {
    if (this.state !== 'open') return;
    this.awaited = awaited;
    this.moveTo(this.runtime.waiting);
  }

  /**
   * Ends this reply by handing its connection over: `takeOver` gets the native response and must upgrade it at once.
   * Not corked here, for the reason in `WebSocketUpgrade.accept`. False, and nothing happens, when it is answered or aborted already.
   */
  handOver(takeOver: (response: HttpResponse) => void): boolean {
    if (this.state !== 'open') return false;
    countStatus(this.runtime.counts.byStatus, 101);
    this.settle('done');
    takeOver(this.response);
    return true;
  }

  /** Starts gathering the body before it is known whether it will be wanted. Only while the handler runs. */
  holdBody(): void {
    if (this.bodyState === 'unread') this.startBody();
  }

  /**
   * Hands the whole body to `receiver`, now or when it is in. Call while the handler runs, or after `holdBody`.
   * Refuses instead: over 2 MiB 413, past the listener's byte budget 503, later than the read time limit 400.
   */
  readBody(receiver: BodyReceiver): void {
    if (this.state !== 'open') return;
    this.receiver = receiver;
    if (this.bodyState === 'unread') this.startBody();
    if (this.bodyState === 'too-large') this.refuseTooLarge();
    else if (this.bodyState === 'complete') this.deliverGathered(receiver);
  }

  onDeadline(list: DeadlineList): void {
    if (list === this.runtime.lingering) {
      this.state = 'done';
      this.close();
    } else if (list === this.runtime.reading) {
      this.runtime.counts.readTimeouts++;
      this.closes = true;
      this.refuse(
        'bad_request',
        'The body did not arrive in time. Send it at once, and as long as Content-Length says.',
      );
    } else {
      this.runtime.counts.writeTimeouts++;
      this.awaited?.abort();
      this.refuse(
        'unavailable',
        'The answer took too long. It may or may not have been done; look before you repeat it.',
      );
    }
  }

  private startBody(): void {
    if (!this.inHandler) throw new Error('a body must be asked for while its handler runs');
    this.bodyState = 'arriving';
    if (this.declaredBodyBytes > MAX_BODY_BYTES) {
      this.bodyState = 'too-large';
      return;
    }
    this.moveTo(this.runtime.reading);
    this.response.onData((chunk, isLast) => this.onChunk(chunk, isLast));
  }

  private onChunk(chunk: ArrayBuffer, isLast: boolean): void {
    if (this.state !== 'open' || this.bodyState !== 'arriving') return;
    try {
      const gatheredBytes = this.gathered === null ? 0 : this.gathered.sizeBytes;
      if (gatheredBytes + chunk.byteLength > MAX_BODY_BYTES) {
        this.bodyState = 'too-large';
        this.closes = true;
        this.releaseBody();
        this.moveTo(this.runtime.answering);
        if (this.receiver !== null) this.refuseTooLarge();
        return;
      }
      if (isLast && this.gathered === null && this.receiver !== null) {
        this.bodyState = 'complete';
        this.moveTo(this.runtime.answering);
        this.receiver.onBody(Buffer.from(chunk)); // no copy: it is parsed before this callback returns
        return;
      }
      this.gathered ??= new BodyBuffer(this.runtime.budget);
      if (!this.gathered.append(new Uint8Array(chunk))) {
        this.closes = true;
        this.refuse(
          'unavailable',
          'The server holds as many request bodies as it may. Try again after Retry-After seconds.',
        );
        return;
      }
      if (!isLast) return;
      this.bodyState = 'complete';
      this.moveTo(this.runtime.answering);
      if (this.receiver !== null) this.deliverGathered(this.receiver);
    } catch (error) {
      this.fail(error);
    }
  }

  private deliverGathered(receiver: BodyReceiver): void {
    try {
      receiver.onBody(this.gathered === null ? Buffer.alloc(0) : this.gathered.view());
    } catch (error) {
      this.fail(error);
    } finally {
      this.releaseBody();
    }
  }

  private refuseTooLarge(): void {
    this.closes = true;
    this.refuse('value_too_large', `The body is over ${MAX_BODY_BYTES} bytes. Send a smaller one.`);
  }

  private releaseBody(): void {
    this.gathered?.release();
    this.gathered = null;
  }

  private moveTo(list: DeadlineList): void {
    this.deadlines?.remove(this);
    list.add(this);
  }

  private onAborted(): void {
    if (this.state === 'done') return;
    if (this.state === 'lingering') {
      this.state = 'done';
      this.deadlines?.remove(this);
      return;
    }
    this.runtime.counts.aborted++;
    this.settle('done');
    this.awaited?.abort();
  }

  /** Leaves the state `open`, once. */
  private settle(next: ReplyState): void {
    this.state = next;
    this.deadlines?.remove(this);
    if (this.gathered !== null) this.releaseBody();
    this.receiver = null;
    const { runtime } = this;
    runtime.counts.inHand--;
    if (runtime.onIdle !== null && runtime.counts.inHand === 0) runtime.onIdle();
  }

  private send(): void {
    countStatus(this.runtime.counts.byStatus, this.status);
    // Ended without a body, a connection can't be told to close.
    if (this.runtime.drain !== null && (this.isHead || this.status === 204)) this.closes = true;
    this.settle(this.closes ? 'lingering' : 'done');
    if (this.closes) this.runtime.lingering.add(this);
    try {
      if (this.inHandler) this.write();
      else {
        outgoing = this;
        this.response.cork(writeOutgoing);
      }
    } catch (error) {
      this.runtime.logger.error({ err: error }, 'an answer could not be written: its connection is closed');
      this.close();
    }
  }

  /** Only `send` and its cork callback call it. Few native calls: each costs more than building the text it passes. */
  write(): void {
    const { response } = this;
    if (this.closes) {
      this.writeUnended();
      return;
    }
    if (this.status !== 200) response.writeStatus(STATUS_LINES[this.status] ?? '500 Internal Server Error');
    // One call for all headers: the native module copies the value as it is, line ends included.
    response.writeHeader('Content-Type', this.contentType + this.headers);
    if (this.isHead || this.status === 204) {
      // Without arguments: given a length, the native module waits for a body of that length, and drops the connection.
      if (this.isHead) response.writeHeader('Content-Length', String(Buffer.byteLength(this.body)));
      response.endWithoutBody();
    } else response.end(this.body, this.runtime.drain !== null);
  }

  private writeUnended(): void {
    // The native call adds a line end, which counts as the last two bytes of the body: JSON may end in white space.
    const bodyBytes = Buffer.byteLength(this.body);
    const length = this.isHead ? bodyBytes : bodyBytes + 2;
    const head = `${this.contentType}${this.headers}\r\nDate: ${new Date().toUTCString()}\r\nContent-Length: ${length}\r\nConnection: close\r\n`;
    this.response.writeStatus(STATUS_LINES[this.status] ?? '500 Internal Server Error');
    this.response.writeHeader('Content-Type', this.isHead ? head : `${head}\r\n${this.body}`);
  }

  private close(): void {
    this.state = 'done';
    this.deadlines?.remove(this);
    try {
      this.response.close();
    } catch (error) {
      this.runtime.logger.debug({ err: error }, 'the response was dead already');
    }
  }
}

function countStatus(byStatus: Uint32Array, status: number): void {
  byStatus[status] = (byStatus[status] ?? 0) + 1;
}

let outgoing: Reply | null = null;

/** The one cork callback: no closure per answer. */
const writeOutgoing = (): void => {
  const reply = outgoing;
  outgoing = null;
  reply?.write();
};
