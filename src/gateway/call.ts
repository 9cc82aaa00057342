/**
 * One API request on its way from the gateway's checks to its handler: what was asked, by whom, and where to answer.
 * Owns:      parsing of the body into JSON.
 * Never:     touches a socket; that is `Reply`.
 */
import { isAscii, isUtf8 } from 'node:buffer';
import type { EngineReply } from '../contract/engine.js';
import { ApiError, type ApiErrorCode } from '../contract/errors.js';
import type { BodyReceiver, Reply } from './reply.js';
import type { Route } from './routes.js';

/** What to say where the catalogue's message is too general. */
export type RefusalMessages = Readonly<Partial<Record<ApiErrorCode, string>>>;

export class Call implements BodyReceiver {
  /** Operator id or agent address; empty on routes without a principal. */
  subject = '';
  /** Parsed JSON, not yet validated. */
  body: unknown;
  /** The public part of the token, where `route.keepsLookup`. */
  credentialLookup = '';

  constructor(
    readonly reply: Reply,
    readonly route: Route,
    /** Raw, still percent-encoded. */
    readonly path: string,
    /** Raw, still percent-encoded, without `?`. */
    readonly query: string,
    readonly contentType: string | undefined,
    readonly idempotencyKey: string | undefined,
  ) {}

  /** `Reply` calls it with the whole body. */
  onBody(body: Buffer): void {
    this.body = parseJson(body);
    this.route.handle(this);
  }

  /** Answers with what the engine says, once it does. `render` turns its value into JSON text. */
  answer<T>(
    pending: Promise<EngineReply<T>>,
    status: number,
    render: (value: T, call: Call) => string,
    messages?: RefusalMessages,
  ): void {
    pending.then(
      (reply) => {
        if (!this.reply.isOpen) return;
        try {
          if (reply.ok) this.reply.sendJson(status, render(reply.value, this));
          else this.reply.refuse(reply.code, messages?.[reply.code]);
        } catch (error) {
          this.reply.fail(error);
        }
      },
      (error: unknown) => this.reply.fail(error),
    );
  }

  /** Runs a handler of several steps; what it throws becomes the answer. */
  run(steps: () => Promise<void>): void {
    steps().catch((error: unknown) => this.reply.fail(error));
  }
}

/** The value, or the engine's refusal thrown as an `ApiError`. */
export function unwrap<T>(reply: EngineReply<T>, messages?: RefusalMessages): T {
  if (reply.ok) return reply.value;
  throw new ApiError(reply.code, messages?.[reply.code]);
}

/** @throws ApiError `bad_request` for malformed UTF-8 (a byte order mark too) and malformed JSON. */
function parseJson(body: Buffer): unknown {
  // ASCII, the usual case, becomes a one-byte string: the cheapest to make and to parse.
  const ascii = isAscii(body);
  if (!ascii && !isUtf8(body)) throw new ApiError('bad_request', 'body: must be well-formed UTF-8.');
  try {
    return JSON.parse(ascii ? body.toString('latin1') : body.toString('utf8'));
  } catch {
    throw new ApiError('bad_request', 'body: must be JSON.');
  }
}

const JSON_TYPE = 'application/json';

/** True for `application/json` in any case, with or without parameters. */
export function isJsonType(contentType: string | undefined): boolean {
  if (contentType === undefined) return false;
  if (contentType === JSON_TYPE) return true;
  const semicolon = contentType.indexOf(';');
  const type = semicolon === -1 ? contentType : contentType.slice(0, semicolon);
  return type.trim().toLowerCase() === JSON_TYPE;
}

/** The token of `Bearer <token>`, the scheme in any case; undefined when there is none. */
export function bearerToken(authorization: string | undefined): string | undefined {
  if (authorization === undefined || authorization.length < 8 || authorization.charCodeAt(6) !== 0x20) return undefined;
  const scheme = authorization.slice(0, 6);
  if (scheme !== 'Bearer' && scheme.toLowerCase() !== 'bearer') return undefined;
  // RFC 9110 section 11.4: one or more spaces after the scheme.
  return authorization.charCodeAt(7) === 0x20 ? authorization.slice(7).trimStart() : authorization.slice(7);
}
