/**
 * The private listener of the person who runs the server: probes, metrics, and `/admin/*` behind a key.
 * Owns:      its listener. Runs on the main thread.
 * Never:     shows `/admin/*` exists when no key is set, or compares a key in a time that depends on it.
 */
import { createHash, timingSafeEqual } from 'node:crypto';
import type { Config } from '../config/config.js';
import { bearerToken, Call, isJsonType } from '../gateway/call.js';
import type { RequestHead } from '../gateway/head.js';
import { startListener } from '../gateway/listener.js';
import type { Reply } from '../gateway/reply.js';
import { type Route, RouteTable } from '../gateway/routes.js';
import type { Logger } from '../log.js';

export interface AdminOptions {
  readonly config: Config;
  readonly logger: Logger;
  readonly readiness: () => Readiness;
  /** Prometheus text. A rejection becomes 500, logged. */
  readonly metrics: () => Promise<string>;
  /** Below `/admin/`, for those who hold the key. */
  readonly routes?: readonly Route[];
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
  const routes = new RouteTable(options.routes ?? []);
  const listener = await startListener(
    {
      ...config.admin.listenAddr,
      shared: false,
      readTimeoutMs: config.server.readTimeoutMs,
      writeTimeoutMs: config.server.writeTimeoutMs,
      expectedRecoveryMs: null,
      logger,
    },
    (reply, head) => dispatch(options, routes, keyDigest, reply, head),
  );
  return { port: listener.port, close: async () => listener.close() };
}

function dispatch(
  options: AdminOptions,
  routes: RouteTable,
  keyDigest: Buffer | null,
  reply: Reply,
  head: RequestHead,
): void {
  const { path } = head;
  if (path === '/admin' || path.startsWith('/admin/')) {
    if (keyDigest === null) reply.refuse('not_found');
    else if (holdsKey(keyDigest, head.authorization)) dispatchToHolder(routes, reply, head);
    else reply.refuse('unauthorized', 'Send the admin key as "Authorization: Bearer <key>".');
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

function dispatchToHolder(routes: RouteTable, reply: Reply, head: RequestHead): void {
  const resource = routes.find(head.path);
  const route = resource?.routes.get(head.method);
  if (resource === undefined) {
    reply.refuse('not_found');
  } else if (route === undefined) {
    reply.header('Allow', resource.allow);
    reply.refuse('method_not_allowed');
  } else {
    const query = route.takesQuery ? head.query() : '';
    const call = new Call(reply, route, head.path, query, head.contentType, undefined);
    if (!route.takesBody) route.handle(call);
    else if (isJsonType(call.contentType)) reply.readBody(call);
    else reply.refuse('unsupported_media_type');
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
