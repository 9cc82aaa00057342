/**
 * The private listener of the person who runs the server: probes, metrics, and `/admin/*` behind a key.
 * Owns:      its listener. Runs on the main thread.
 * Never:     shows `/admin/*` exists when no key is set, or compares a key in a time that depends on it.
 */
import { createHash, timingSafeEqual } from 'node:crypto';
import type { Config } from '../config/config.js';
import { bearerToken } from '../gateway/call.js';
import type { RequestHead } from '../gateway/head.js';
import { startListener } from '../gateway/listener.js';
import type { Reply } from '../gateway/reply.js';
import type { Logger } from '../log.js';

export interface AdminOptions {
  readonly config: Config;
  readonly logger: Logger;
  readonly readiness: () => Readiness;
  /** Prometheus text. A rejection becomes 500, logged. */
  readonly metrics: () => Promise<string>;
}

export interface Readiness {
  readonly ready: boolean;
  /** For the person on call; shown by `/readyz`. */
  readonly reason?: string;
}

export interface Admin {
  readonly port: number;
  close(): Promise<void>;
}

const PROMETHEUS_TYPE = 'text/plain; version=0.0.4; charset=utf-8';

/** @throws Error with one clear line when the address can't be listened on. */
export async function startAdmin(options: AdminOptions): Promise<Admin> {
  const { config, logger } = options;
  const keyDigest = config.admin.key === null ? null : digest(config.admin.key);
  const listener = await startListener(
    {
      ...config.admin.listenAddr,
      shared: false,
      readTimeoutMs: config.server.readTimeoutMs,
      writeTimeoutMs: config.server.writeTimeoutMs,
      expectedRecoveryMs: null,
      logger,
    },
    (reply, head) => dispatch(options, keyDigest, reply, head),
  );
  return { port: listener.port, close: async () => listener.close() };
}

function dispatch(options: AdminOptions, keyDigest: Buffer | null, reply: Reply, head: RequestHead): void {
  const { path } = head;
  if (path === '/admin' || path.startsWith('/admin/')) {
    if (keyDigest !== null && !holdsKey(keyDigest, head.authorization)) {
      reply.refuse('unauthorized', 'Send the admin key as "Authorization: Bearer <key>".');
    } else reply.refuse('not_found');
    return;
  }
  if (path !== '/livez' && path !== '/readyz' && path !== '/metrics') {
    reply.refuse('not_found');
  } else if (head.method !== 'get' && head.method !== 'head') {
    reply.header('Allow', 'GET, HEAD');
    reply.refuse('method_not_allowed');
  } else if (path === '/livez') {
    reply.sendJson(200, '{"status":"ok"}');
  } else if (path === '/readyz') {
    const { ready, reason } = options.readiness();
    if (ready) reply.sendJson(200, '{"status":"ready"}');
    else reply.refuse('unavailable', `The server is not ready: ${reason ?? 'it is starting or stopping'}.`);
  } else {
    options.metrics().then(
      (text) => reply.sendText(200, PROMETHEUS_TYPE, text),
      (error: unknown) => reply.fail(error),
    );
  }
}

/** Digests have one length, so that comparing them takes one time, whatever was sent. */
function holdsKey(keyDigest: Buffer, authorization: string | undefined): boolean {
  const sent = bearerToken(authorization);
  return sent !== undefined && timingSafeEqual(digest(sent), keyDigest);
}

function digest(text: string): Buffer {
  return createHash('sha256').update(text, 'utf8').digest();
}
