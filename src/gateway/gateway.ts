/**
 * The kernel API of one thread: checks every request in the order the contract fixes - route and method,
 * authentication, rate limit, content type, body - and hands it to its handler.
 * Owns:      the listener, this thread's session cache, the leases on limiter entries.
 * Never:     does work for a request before the checks allow it; knows nothing of shards, files or databases.
 */
import type { Config } from '../config/config.js';
import { MAX_FRAME_BYTES } from '../contract/limits.js';
import type { PrincipalKind } from '../contract/tokens.js';
import { TOKEN_PREFIX, tokenLookup } from '../contract/tokens.js';
import { agentRoutes } from './agents.js';
import { Authenticator, type AuthenticatorStats, type AuthResult, type Session } from './auth/authenticator.js';
import { bearerToken, Call, isJsonType } from './call.js';
import { AgentConnections, CONNECT_PATH, type ConnectStats } from './connect/connections.js';
import type { GatewayContext, HandlerContext } from './context.js';
import { createGate } from './gates/gate.js';
import type { RequestHead } from './head.js';
import { type ClientIp, createClientIp } from './limits/client-ip.js';
import { LIMIT_CATEGORY, type LimitCategory } from './limits/shared-limiter.js';
import { type HttpListener, type ListenerStats, startListener } from './listener.js';
import { messageRoutes } from './messages.js';
import { operatorRoutes } from './operators.js';
import { registryRoutes } from './registry.js';
import type { Reply } from './reply.js';
import { RouteTable } from './routes.js';
import { stateRoutes } from './state.js';
import { systemRoutes } from './system.js';
import { Waits } from './waits.js';
import type { WebSocketOptions } from './web-socket.js';

export type { GatewayContext } from './context.js';

const HOUR_MS = 3_600_000;

export interface GatewayStats extends ListenerStats {
  readonly auth: AuthenticatorStats;
  readonly connect: ConnectStats;
  /** Requests and subscriptions that wait for messages now. */
  readonly waiting: number;
}

export interface Gateway {
  readonly port: number;
  /** Stops taking requests (503 from now on), ends all waits for messages, closes WebSockets once their calls are answered;
   *  resolves when nothing is in hand, at the latest when the time limits end. */
  drain(): Promise<void>;
  /** Closes every connection at once. Needed before the thread ends. */
  close(): void;
  /** Forgets the subject's sessions here and closes its WebSockets; call it once the engine refuses its credential. */
  revoke(subject: string): void;
  stats(): GatewayStats;
}

/** @throws Error with one clear line when the address can't be listened on. */
export async function startGateway(context: GatewayContext): Promise<Gateway> {
  const gateway = new KernelGateway(context);
  const { server } = context.config;
  const listener = await startListener(
    {
      ...context.listen,
      readTimeoutMs: server.readTimeoutMs,
      writeTimeoutMs: server.writeTimeoutMs,
      expectedRecoveryMs: server.expectedRecoveryMs,
      logger: context.logger,
      webSocket: connectOptions(context.config.connect),
    },
    (reply, head) => gateway.dispatch(reply, head),
  );
  return handleOf(gateway, listener);
}

function handleOf(gateway: KernelGateway, listener: HttpListener): Gateway {
  return {
    port: listener.port,
    drain: () => {
      const drained = listener.drain();
      gateway.waits.stop();
      return drained;
    },
    close: () => {
      gateway.connections.stop();
      listener.close();
    },
    revoke: (subject) => {
      gateway.authenticator.revoke(subject);
      gateway.connections.revoke(subject);
    },
    stats: () => ({
      ...listener.stats(),
      auth: gateway.authenticator.stats(),
      connect: gateway.connections.stats(),
      waiting: gateway.waits.size,
    }),
  };
}

/** Answers of the largest kind: a hundred long messages, or a value whose every byte is escaped. */
const MAX_SOCKET_BACKLOG_BYTES = 16 * 1024 * 1024;

function connectOptions(connect: Config['connect']): WebSocketOptions {
  return {
    path: CONNECT_PATH,
    maxMessageBytes: MAX_FRAME_BYTES,
    maxBufferedBytes: MAX_SOCKET_BACKLOG_BYTES,
    stallTimeoutMs: connect.writeTimeoutMs,
    pingIntervalMs: connect.pingIntervalMs,
    maxDurationMs: connect.maxDurationMs,
    // Over all gateway threads: AgentConnections refuses before this one does.
    maxConnections: connect.maxConnections,
  };
}

class KernelGateway {
  readonly authenticator: Authenticator;
  readonly connections: AgentConnections;
  readonly waits = new Waits();
  private readonly context: GatewayContext;
  private readonly routes: RouteTable;
  private readonly clientIp: ClientIp;

  constructor(context: GatewayContext) {
    const { config, engine, hasher, hmacServerKey } = context;
    const now = Date.now;
    this.context = context;
    this.clientIp = createClientIp(config.server.trustedProxies);
    this.authenticator = new Authenticator({
      engine,
      hasher,
      sessionTtlMs: config.auth.sessionTtlMs,
      hmacServerKey,
      now,
    });
    const handlers: HandlerContext = {
      config,
      engine,
      hasher,
      hmacServerKey,
      now,
      gate: createGate(config.verification),
      waits: this.waits,
    };
    this.connections = new AgentConnections(handlers, context.limiter, context.connectionCounts, context.logger);
    this.routes = new RouteTable([
      ...stateRoutes(handlers),
      ...messageRoutes(handlers),
      this.connections.route(),
      ...registryRoutes(handlers),
      ...operatorRoutes(handlers),
      ...agentRoutes(handlers),
      ...systemRoutes(),
    ]);
  }

  dispatch(reply: Reply, head: RequestHead): void {
    const resource = this.routes.find(head.path);
    if (resource === undefined) {
      reply.refuse('not_found', 'There is no such path. GET /v1/openapi.json lists those there are.');
      return;
    }
    const route = resource.routes.get(head.method);
    if (route === undefined) {
      reply.header('Allow', resource.allow);
      reply.refuse('method_not_allowed');
      return;
    }
    const query = route.takesQuery ? head.query() : '';
    const call = new Call(reply, route, head.path, query, head.contentType, head.idempotencyKey);
    if (route.principal === 'anyone') this.admitAnyone(call, head);
    else this.authenticate(call, route.principal, bearerToken(head.authorization));
  }

  private admitAnyone(call: Call, head: RequestHead): void {
    const { limit } = call.route;
    if (limit !== null) {
      const ip = this.clientIp(call.reply.remoteAddress(), head.forwardedFor);
      const nowMs = Date.now();
      const slot = this.context.limiter.acquire(`ip:${ip}`, nowMs + HOUR_MS, nowMs);
      if (!this.passLimit(call, slot, LIMIT_CATEGORY[limit], nowMs)) return;
    }
    this.takeBody(call);
  }

  private authenticate(call: Call, kind: PrincipalKind, token: string | undefined): void {
    // A token of the wrong kind, or none at all, costs nothing more.
    if (token === undefined || !token.startsWith(TOKEN_PREFIX[kind])) {
      call.reply.refuse('unauthorized');
      return;
    }
    if (call.route.keepsLookup === true) call.credentialLookup = tokenLookup(token);
    const session = this.authenticator.cached(token);
    if (session !== undefined) {
      this.admit(call, kind, session);
      return;
    }
    // The body may be here before the answer: it must be asked for now.
    if (call.route.takesBody) call.reply.holdBody();
    this.authenticator.authenticate(token).then(
      (result) => this.authenticated(call, kind, result),
      (error: unknown) => call.reply.fail(error),
    );
  }

  private authenticated(call: Call, kind: PrincipalKind, result: AuthResult): void {
    if (!call.reply.isOpen) return;
    try {
      if (result.ok) this.admit(call, kind, result.session);
      else call.reply.refuse(result.code);
    } catch (error) {
      call.reply.fail(error);
    }
  }

  private admit(call: Call, kind: PrincipalKind, session: Session): void {
    if (session.kind !== kind) {
      call.reply.refuse('unauthorized');
      return;
    }
    call.subject = session.subject;
    const { limit } = call.route;
    if (limit !== null) {
      const nowMs = Date.now();
      // The entry is ours until the session ends; the session's next life asks anew and finds the same figures.
      if (session.limiterSlot === -1) {
        session.limiterSlot = this.context.limiter.acquire(session.subject, session.expiresAtMs, nowMs);
      }
      if (!this.passLimit(call, session.limiterSlot, LIMIT_CATEGORY[limit], nowMs)) return;
    }
    this.takeBody(call);
  }

  private passLimit(call: Call, slot: number, category: LimitCategory, nowMs: number): boolean {
    if (slot === -1) {
      call.reply.refuse('unavailable');
      return false;
    }
    const verdict = this.context.limiter.check(slot, category, nowMs);
    call.reply.limitHeaders(verdict);
    if (verdict.allowed) return true;
    call.reply.refuse('rate_limited', undefined, verdict.retryAfterSeconds);
    return false;
  }

  private takeBody(call: Call): void {
    if (!call.route.takesBody) call.route.handle(call);
    else if (!isJsonType(call.contentType)) call.reply.refuse('unsupported_media_type');
    else call.reply.readBody(call);
  }
}
