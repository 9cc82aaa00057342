/**
 * The observation API over HTTP: who may ask how often, which route answers, and the way to the live stream.
 * Owns:      the rate limit of each client address.
 * Never:     takes a token, a body, or a request that changes anything.
 */
import { ApiError } from '../contract/errors.js';
import { VERSION } from '../contract/version.js';
import type { RequestHead } from '../gateway/head.js';
import { type ClientIp, createClientIp } from '../gateway/limits/client-ip.js';
import { rateLimit } from '../gateway/limits/gcra.js';
import { createLimiterMemory, LIMIT_CATEGORY, SharedLimiter } from '../gateway/limits/shared-limiter.js';
import { parseQuery } from '../gateway/query.js';
import type { Reply } from '../gateway/reply.js';
import { acceptWebSocket } from '../gateway/web-socket.js';
import type { EventStream } from './event-stream.js';
import type { ObserveRoute, observeRoutes } from './observe-routes.js';
import { filterParameters, type Parameters, seqParameter } from './parameters.js';
import type { StaticPage } from './static-page.js';

export const STREAM_PATH = '/observe/events/stream';

/** Client addresses counted at once; past it 503. */
const MAX_CLIENTS = 1 << 16;
const MINUTE_MS = 60_000;
const ALLOWED_METHODS = 'GET, OPTIONS';
const EXPOSED_HEADERS = 'X-RateLimit-Limit, X-RateLimit-Remaining, X-RateLimit-Reset, Retry-After';
const HEALTH = JSON.stringify({ status: 'ok', version: VERSION });

export interface ObserveApiOptions {
  readonly requestsPerMinPerIp: number;
  readonly trustedProxies: readonly string[];
  readonly routes: ReturnType<typeof observeRoutes>;
  readonly page: StaticPage;
  readonly stream: EventStream;
  /** Before an answer that shows data: takes in what is durable by now. */
  catchUp(): Promise<void>;
  /** Of the last look. */
  watermark(): number;
}

export class ObserveApi {
  private readonly clientIp: ClientIp;
  private readonly limiter: SharedLimiter;

  constructor(private readonly options: ObserveApiOptions) {
    this.clientIp = createClientIp(options.trustedProxies);
    const limit = rateLimit(options.requestsPerMinPerIp, MINUTE_MS);
    // Observers have one limit for everything; the limiter wants a figure for each of the kernel's categories.
    this.limiter = new SharedLimiter(createLimiterMemory(MAX_CLIENTS), {
      message_send: limit,
      message_read: limit,
      state_read: limit,
      state_write: limit,
      registry_read: limit,
      operator_registration: limit,
    });
  }

  dispatch(reply: Reply, head: RequestHead): void {
    if (this.options.page.answer(reply, head)) return;
    reply.header('Access-Control-Allow-Origin', '*');
    reply.header('Access-Control-Expose-Headers', EXPOSED_HEADERS);
    reply.header('X-Content-Type-Options', 'nosniff');
    if (!this.passLimit(reply, head)) return;
    const { path } = head;
    const isStream = path === STREAM_PATH;
    const isHealth = path === '/observe/health';
    const found = isStream || isHealth ? null : this.find(path);
    if (found === undefined) return reply.refuse('not_found');
    if (head.method === 'options') {
      reply.header('Access-Control-Allow-Methods', ALLOWED_METHODS);
      reply.header('Access-Control-Allow-Headers', 'Content-Type');
      reply.header('Access-Control-Max-Age', '86400');
      reply.sendNothing();
    } else if (head.method !== 'get') {
      reply.header('Allow', ALLOWED_METHODS);
      reply.refuse('method_not_allowed');
    } else if (isHealth) {
      reply.sendJson(200, HEALTH);
    } else {
      const parameters = parseQuery(head.query());
      if (found === null) this.openStream(reply, parameters);
      else this.answer(reply, parameters, found);
    }
  }

  private find(path: string): { readonly route: ObserveRoute; readonly rest: string } | undefined {
    const { exact, prefixed } = this.options.routes;
    const route = exact.get(path);
    if (route !== undefined) return { route, rest: '' };
    for (const [prefix, prefixedRoute] of prefixed) {
      if (path.startsWith(prefix)) return { route: prefixedRoute, rest: path.slice(prefix.length) };
    }
    return undefined;
  }

  private answer(reply: Reply, parameters: Parameters, { route, rest }: { route: ObserveRoute; rest: string }): void {
    this.options
      .catchUp()
      .then(() => route(parameters, rest))
      .then(
        (json) => reply.sendJson(200, json),
        (error: unknown) => reply.fail(error),
      );
  }

  private openStream(reply: Reply, parameters: Parameters): void {
    const filter = filterParameters(parameters);
    const since = seqParameter(parameters, 'since', null);
    const notices = parameters.get('notices') ?? '';
    if (notices !== '' && notices !== '1' && notices !== '0') {
      throw new ApiError('bad_request', 'notices: must be 0 or 1.');
    }
    const { stream } = this.options;
    acceptWebSocket(reply, (socket) => {
      // What is durable by now is history to one who did not ask for it, though it may not be in the index yet.
      const from = since ?? this.options.watermark();
      return stream.watch(socket, { filter, since: from, wantsNotices: notices === '1' });
    });
  }

  private passLimit(reply: Reply, head: RequestHead): boolean {
    const nowMs = Date.now();
    const ip = this.clientIp(reply.remoteAddress(), head.forwardedFor);
    const slot = this.limiter.acquire(`ip:${ip}`, nowMs + MINUTE_MS, nowMs);
    if (slot === -1) {
      reply.refuse('unavailable');
      return false;
    }
    const verdict = this.limiter.check(slot, LIMIT_CATEGORY.state_read, nowMs);
    reply.limitHeaders(verdict);
    if (verdict.allowed) return true;
    reply.refuse('rate_limited', undefined, verdict.retryAfterSeconds);
    return false;
  }
}
