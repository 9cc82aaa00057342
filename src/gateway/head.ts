/**
 * Checks of a request's head that uWebSockets.js leaves out, against request smuggling: two parties that see different
 * body lengths in one request also see different next requests. One pass over the headers, no allocation of its own.
 * Owns:      the one `RequestHead` of this thread, overwritten by the next request.
 * Never:     touches the body.
 *
 * What the native parser already refuses (seen on this build): no Host, HTTP/1.0, Content-Length beside
 * Transfer-Encoding, a Content-Length that is not digits, control bytes in target or header, spaces in header names,
 * folded header lines, more than about 100 headers. It lets pass: repeated Content-Length, any Transfer-Encoding,
 * repeated Host, and a head of any size if it comes in one read. It also misreads chunk extensions (`5;a=b`) as part of
 * the chunk's length, and takes trailers for a next request: so no connection outlives a chunked body (see `Reply`).
 */
import type { HttpRequest } from './uws.js';
import { MAX_HEAD_BYTES } from './uws-header-limit.js';

/** Decimal digits of the longest length taken; 10^15 is far over any limit and still exact as a number. */
const MAX_LENGTH_DIGITS = 15;

/** 16 bytes in base64. */
const WEB_SOCKET_KEY = /^[A-Za-z0-9+/]{22}==$/;

export interface HeadProblem {
  /** 431: the head is too large. */
  readonly status: 400 | 431;
  readonly message: string;
}

/** What the gateway needs of a request's head. Valid while its handler runs: copy what is needed later. */
export class RequestHead {
  /** Lower case. */
  method = '';
  /** Raw: percent-encoded, unnormalised, without the query. */
  path = '';
  authorization: string | undefined;
  contentType: string | undefined;
  forwardedFor: string | undefined;
  idempotencyKey: string | undefined;
  /** Bytes of body announced; 0 when none is, -1 when it comes in chunks. */
  bodyBytes = 0;
  private request: HttpRequest | null = null;
  private headBytes = 0;
  private hosts = 0;
  private contentLengths = 0;
  private transferEncodings = 0;
  private repeated = false;
  private malformedLength = false;
  private unknownEncoding = false;
  private readonly visit = (name: string, value: string): void => this.header(name, value);

  /** Takes in a new request; null when its head is sound. Otherwise answer and close: its body has no certain length. */
  read(request: HttpRequest): HeadProblem | null {
    this.request = request;
    this.method = request.getMethod();
    this.path = request.getUrl();
    this.authorization = undefined;
    this.contentType = undefined;
    this.forwardedFor = undefined;
    this.idempotencyKey = undefined;
    this.bodyBytes = 0;
    this.headBytes = this.path.length;
    this.hosts = 0;
    this.contentLengths = 0;
    this.transferEncodings = 0;
    this.repeated = false;
    this.malformedLength = false;
    this.unknownEncoding = false;
    request.forEach(this.visit);
    // One compare for nearly every request.
    if (this.hosts === 1 && this.contentLengths + this.transferEncodings === 0 && !this.repeated) {
      return this.headBytes <= MAX_HEAD_BYTES ? null : TOO_LARGE;
    }
    return this.problem();
  }

  /** The raw query string, empty when there is none. */
  query(): string {
    return this.request?.getQuery() ?? '';
  }

  /**
   * The key of a well-formed WebSocket upgrade (RFC 6455 section 4.2.1), null of any other request. The native module looks
   * at nothing but the key's length. A request with a body is none: its body would be taken for WebSocket frames.
   */
  webSocketKey(): string | null {
    const { request } = this;
    if (request === null || this.bodyBytes !== 0 || this.method !== 'get') return null;
    if (request.getHeader('upgrade').toLowerCase() !== 'websocket') return null;
    if (request.getHeader('sec-websocket-version') !== '13') return null;
    const tokens = request.getHeader('connection').toLowerCase().split(',');
    if (!tokens.some((token) => token.trim() === 'upgrade')) return null;
    const key = request.getHeader('sec-websocket-key');
    return WEB_SOCKET_KEY.test(key) ? key : null;
  }

  /** Forgets the native request, which is dead once the handler returns. */
  release(): void {
    this.request = null;
  }

  private problem(): HeadProblem | null {
    if (this.headBytes > MAX_HEAD_BYTES) return TOO_LARGE;
    if (this.hosts !== 1) return BAD_HOST;
    if (this.contentLengths > 1 || this.malformedLength) return BAD_LENGTH;
    if (this.transferEncodings > 0) {
      if (this.transferEncodings > 1 || this.unknownEncoding || this.contentLengths > 0) return BAD_ENCODING;
      this.bodyBytes = -1;
    }
    return this.repeated ? REPEATED : null;
  }

  private header(name: string, value: string): void {
    this.headBytes += name.length + value.length + 4;
    // Names come lower-cased; comparing lengths first spares nearly all string comparisons.
    switch (name.length) {
      case 4:
        if (name === 'host') this.hosts++;
        return;
      case 12:
        if (name === 'content-type') {
          if (this.contentType !== undefined) this.repeated = true;
          this.contentType = value;
        }
        return;
      case 13:
        if (name === 'authorization') {
          if (this.authorization !== undefined) this.repeated = true;
          this.authorization = value;
        }
        return;
      case 14:
        if (name === 'content-length') {
          this.contentLengths++;
          if (isDecimal(value)) this.bodyBytes = Number(value);
          else this.malformedLength = true;
        }
        return;
      case 15:
        if (name === 'x-forwarded-for') {
          // A list may be spread over several lines: the order of lines is the order of the list.
          this.forwardedFor = this.forwardedFor === undefined ? value : `${this.forwardedFor},${value}`;
        } else if (name === 'idempotency-key') {
          if (this.idempotencyKey !== undefined) this.repeated = true;
          this.idempotencyKey = value;
        }
        return;
      case 17:
        if (name === 'transfer-encoding') {
          this.transferEncodings++;
          if (value !== 'chunked') this.unknownEncoding = true;
        }
        return;
    }
  }
}

const TOO_LARGE: HeadProblem = {
  status: 431,
  message: `The request line and headers are over ${MAX_HEAD_BYTES} bytes. Send fewer or shorter ones.`,
};
const BAD_HOST: HeadProblem = { status: 400, message: 'Send exactly one Host header.' };
const BAD_LENGTH: HeadProblem = { status: 400, message: 'Send Content-Length at most once, in decimal digits only.' };
const BAD_ENCODING: HeadProblem = {
  status: 400,
  message: 'Send Transfer-Encoding as exactly "chunked" and without Content-Length, or not at all.',
};
const REPEATED: HeadProblem = {
  status: 400,
  message: 'Send Authorization, Content-Type and Idempotency-Key at most once each.',
};

function isDecimal(text: string): boolean {
  if (text.length === 0 || text.length > MAX_LENGTH_DIGITS) return false;
  for (let index = 0; index < text.length; index++) {
    const unit = text.charCodeAt(index);
    if (unit < 0x30 || unit > 0x39) return false;
  }
  return true;
}
