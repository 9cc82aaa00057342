/**
 * Entry of the observer thread: the public, read-only API, on a listener of its own so that spectators never slow agents
 * down. So far it has its health route only.
 * Owns:      its listener and its rate-limit memory; it closes the listener before the thread ends.
 * Never:     takes a token, changes anything, or talks to the gateway.
 */
import { isMainThread, type MessagePort, parentPort, workerData } from 'node:worker_threads';
import type { Config } from '../config/config.js';
import { VERSION } from '../contract/version.js';
import type { RequestHead } from '../gateway/head.js';
import { type ClientIp, createClientIp } from '../gateway/limits/client-ip.js';
import { rateLimit } from '../gateway/limits/gcra.js';
import { createLimiterMemory, LIMIT_CATEGORY, SharedLimiter } from '../gateway/limits/shared-limiter.js';
import { type HttpListener, startListener } from '../gateway/listener.js';
import type { Reply } from '../gateway/reply.js';
import { createLogger } from '../log.js';

/** Only what the thread needs: no key, no data directory. */
export interface ObserverWorkerData {
  readonly listen: Config['observe']['listenAddr'];
  readonly requestsPerMinPerIp: number;
  readonly trustedProxies: readonly string[];
  readonly readTimeoutMs: number;
  readonly writeTimeoutMs: number;
  readonly logLevel: Config['log']['level'];
}

export type ObserverCommand = { readonly kind: 'close' };

export type ObserverNotice =
  | { readonly kind: 'listening'; readonly port: number }
  | { readonly kind: 'failed'; readonly message: string };

/** Client addresses counted at once; past it 503. */
const MAX_CLIENTS = 1 << 16;
const MINUTE_MS = 60_000;
const ALLOWED_METHODS = 'GET, OPTIONS';
const HEALTH = JSON.stringify({ status: 'ok', version: VERSION });

class ObservationApi {
  private readonly clientIp: ClientIp;
  private readonly limiter: SharedLimiter;

  constructor(data: ObserverWorkerData) {
    this.clientIp = createClientIp(data.trustedProxies);
    const limit = rateLimit(data.requestsPerMinPerIp, MINUTE_MS);
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
    reply.header('Access-Control-Allow-Origin', '*');
    reply.header(
      'Access-Control-Expose-Headers',
      'X-RateLimit-Limit, X-RateLimit-Remaining, X-RateLimit-Reset, Retry-After',
    );
    if (!this.passLimit(reply, head)) return;
    if (head.path !== '/observe/health') {
      reply.refuse('not_found');
    } else if (head.method === 'get') {
      reply.sendJson(200, HEALTH);
    } else if (head.method === 'options') {
      reply.header('Access-Control-Allow-Methods', ALLOWED_METHODS);
      reply.header('Access-Control-Allow-Headers', 'Content-Type');
      reply.header('Access-Control-Max-Age', '86400');
      reply.sendNothing();
    } else {
      reply.header('Allow', ALLOWED_METHODS);
      reply.refuse('method_not_allowed');
    }
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

async function runObserver(data: ObserverWorkerData, parent: MessagePort): Promise<void> {
  const logger = createLogger('observer', data.logLevel);
  const tell = (notice: ObserverNotice): void => parent.postMessage(notice);
  const api = new ObservationApi(data);
  let listener: HttpListener;
  try {
    listener = await startListener(
      {
        ...data.listen,
        shared: false,
        readTimeoutMs: data.readTimeoutMs,
        writeTimeoutMs: data.writeTimeoutMs,
        expectedRecoveryMs: null,
        logger,
      },
      (reply, head) => api.dispatch(reply, head),
    );
  } catch (error) {
    tell({ kind: 'failed', message: error instanceof Error ? error.message : String(error) });
    process.exit(1); // this thread only
  }
  process.on('uncaughtException', (error) => {
    logger.fatal({ err: error }, 'observer thread ends by a mistake of the server: its connections are closed');
    listener.close();
    process.exit(1); // this thread only
  });
  parent.on('message', (_command: ObserverCommand) => {
    listener.close();
    process.exit(0); // this thread only
  });
  tell({ kind: 'listening', port: listener.port });
}

if (!isMainThread && parentPort !== null) await runObserver(workerData as ObserverWorkerData, parentPort);
