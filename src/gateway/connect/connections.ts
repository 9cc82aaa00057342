/**
 * All WebSockets of agents on one gateway thread.
 * Owns:      who is connected here, and looking after credentials while connections live.
 * Never:     keeps a token; a credential is found again by its public lookup.
 * Invariant: every connection here holds one place of `ConnectionCounts`, from before it is accepted until it is closed.
 */
import type { Engine } from '../../contract/engine.js';
import type { Logger } from '../../log.js';
import type { Call } from '../call.js';
import type { HandlerContext } from '../context.js';
import type { SharedLimiter } from '../limits/shared-limiter.js';
import type { Reply } from '../reply.js';
import type { Route } from '../routes.js';
import { acceptWebSocket, type WebSocketConnection } from '../web-socket.js';
import { AgentConnection, type ConnectionDeps } from './connection.js';
import type { ConnectionCounts } from './connection-counts.js';
import { connectMethods } from './methods.js';

export const CONNECT_PATH = '/v1/connect';

export interface ConnectStats {
  /** Calls not yet answered. */
  readonly callsInHand: number;
  readonly subscriptions: number;
  /** Messages delivered to subscriptions and not yet acknowledged. */
  readonly unacked: number;
}

const LONGEST_CHECK_INTERVAL_MS = 1_000;

export class AgentConnections {
  private readonly byAgent = new Map<string, Set<AgentConnection>>();
  private readonly deps: ConnectionDeps;
  private readonly engine: Engine;
  private readonly logger: Logger;
  private readonly maxPerAgent: number;
  private readonly sessionTtlMs: number;
  private readonly timer: NodeJS.Timeout;

  constructor(
    context: HandlerContext,
    limiter: SharedLimiter,
    private readonly counts: ConnectionCounts,
    logger: Logger,
  ) {
    const { config, engine, waits } = context;
    this.engine = engine;
    this.logger = logger;
    this.maxPerAgent = config.connect.maxConnectionsPerAgent;
    this.sessionTtlMs = config.auth.sessionTtlMs;
    this.deps = {
      engine,
      limiter,
      waits,
      methods: connectMethods(context),
      logger,
      maxInFlight: config.connect.maxInFlight,
      onClosed: (connection) => this.forget(connection),
    };
    this.timer = setInterval(() => this.checkCredentials(), Math.min(this.sessionTtlMs, LONGEST_CHECK_INTERVAL_MS));
    this.timer.unref();
  }

  /** `GET /v1/connect`. */
  route(): Route {
    return {
      method: 'get',
      path: CONNECT_PATH,
      principal: 'agent',
      limit: null,
      takesBody: false,
      takesQuery: false,
      keepsLookup: true,
      handle: (call) => this.acceptSafely(call),
    };
  }

  /** Closes the agent's connections; the engine must refuse its credential already. */
  revoke(agent: string): void {
    for (const connection of [...(this.byAgent.get(agent) ?? [])]) connection.revoke();
  }

  /** No more checks; the connections are the listener's to close. */
  stop(): void {
    clearInterval(this.timer);
  }

  stats(): ConnectStats {
    const stats = { callsInHand: 0, subscriptions: 0, unacked: 0 };
    for (const connection of this.all()) {
      stats.callsInHand += connection.callsInHand;
      stats.unacked += connection.unacked;
      if (connection.isSubscribed) stats.subscriptions++;
    }
    return stats;
  }

  /**
   * The native module takes an upgrade for one of the request whose bytes it is parsing. A token that was looked up is
   * known in a microtask, which may run while it parses another connection's: so that upgrade gets a turn of its own.
   */
  private acceptSafely(call: Call): void {
    if (call.reply.isInHandler) {
      this.accept(call);
      return;
    }
    setImmediate(() => {
      try {
        this.accept(call);
      } catch (error) {
        call.reply.fail(error);
      }
    });
  }

  private accept({ reply, subject, credentialLookup }: Call): void {
    let opened: AgentConnection | null = null;
    const open = (socket: WebSocketConnection): AgentConnection => {
      opened = new AgentConnection(socket, this.deps, subject, credentialLookup);
      this.remember(opened);
      return opened;
    };
    // One that asks for no WebSocket is told so, and takes no place.
    if (reply.upgrade !== null && !this.takePlace(reply, subject)) return;
    try {
      acceptWebSocket(reply, open);
    } finally {
      // From its opening on, the connection's close gives the place back.
      if (reply.upgrade !== null && opened === null) this.counts.giveBack(subject);
    }
  }

  private takePlace(reply: Reply, agent: string): boolean {
    const admission = this.counts.take(agent);
    if (admission === 'taken') return true;
    const own = `This agent has ${this.maxPerAgent} connections open, as many as it may. Close one first.`;
    reply.refuse('too_many_connections', admission === 'agent-full' ? own : undefined);
    return false;
  }

  private remember(connection: AgentConnection): void {
    const connections = this.byAgent.get(connection.agent);
    if (connections === undefined) this.byAgent.set(connection.agent, new Set([connection]));
    else connections.add(connection);
  }

  private forget(connection: AgentConnection): void {
    this.counts.giveBack(connection.agent);
    const connections = this.byAgent.get(connection.agent);
    connections?.delete(connection);
    if (connections?.size === 0) this.byAgent.delete(connection.agent);
  }

  /** A revocation that did not reach this thread takes effect within `auth.session_ttl` all the same. */
  private checkCredentials(): void {
    const nowMs = Date.now();
    for (const connection of this.all()) {
      if (nowMs - connection.checkedAtMs < this.sessionTtlMs) continue;
      connection.checkedAtMs = nowMs;
      this.engine.findCredential(connection.lookup).then(
        (found) => {
          if (found.ok ? found.value.subject !== connection.agent : found.code === 'not_found') connection.revoke();
        },
        (error: unknown) => this.logger.error({ err: error }, "a connection's credential could not be looked up"),
      );
    }
  }

  private *all(): Generator<AgentConnection> {
    for (const connections of this.byAgent.values()) yield* connections;
  }
}
