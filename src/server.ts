import { once } from 'node:events';
import { createServer } from 'node:net';
import { MessageChannel } from 'node:worker_threads';
import { type Admin, startAdmin } from './admin/admin.js';
import { byLawRoutes } from './admin/by-law-routes.js';
import { createMetrics } from './admin/metrics.js';
import { Removals } from './admin/removals.js';
import { Revocations, type SessionHolder } from './admin/revocations.js';
import { BcryptPool } from './auth-pool/bcrypt-pool.js';
import { ProvenHasher } from './auth-pool/proven-hasher.js';
import { serveHasher } from './auth-pool/remote-hasher.js';
import type { Config, ListenAddress } from './config/config.js';
import { DeathWatch } from './death-watch.js';
import { loadServerKey } from './gateway/auth/server-key.js';
import { ConnectionCounts, createConnectionCounts } from './gateway/connect/connection-counts.js';
import { type Gateway, type GatewayStats, startGateway } from './gateway/gateway.js';
import { type GatewayThread, startGatewayThread } from './gateway/gateway-thread.js';
import { createLimiterMemory, kernelRates, SharedLimiter } from './gateway/limits/shared-limiter.js';
import type { Logger } from './log.js';
import { type Observer, startObserver } from './observe/observer.js';
import type { AdminEngine } from './shards/admin-engine.js';
import { realDisk } from './shards/disk.js';
import { engineSettings } from './shards/settings.js';
import { openShardedEngine, type ShardedEngine } from './shards/sharded-engine.js';
import { startWebhookThread, type WebhookThread } from './webhooks/webhook-thread.js';

/**
 * The server: wires data directory, shards, auth pool, gateways, observer and admin, in this order, and ends them in
 * the reverse one.
 * Owns: the order of start and stop. Holds no data and sees no request.
 */

/** A gateway thread that does not tell its figures in this time is left out of the metrics. */
const STATS_TIMEOUT_MS = 1_000;
/** A gateway thread that has not forgotten a revoked subject in this time makes the revocation's answer 503. */
const REVOKE_TIMEOUT_MS = 5_000;
/** Requests in hand may take this long to finish once a stop is asked for. */
const DRAIN_LIMIT_MS = 5_000;

export interface RunningServer {
  readonly addresses: {
    readonly kernel: ListenAddress;
    readonly observe: ListenAddress;
    readonly admin: ListenAddress;
  };
  readonly shards: number;
  /** Stops taking requests, finishes those in hand, flushes, and resolves when everything has ended. */
  stop(): Promise<void>;
}

/**
 * Resolves when every listener serves.
 * @param onFatal told when the process can't go on; it must end with a non-zero code.
 * @throws Error with one clear line: directory in use, address taken, damaged key or manifest.
 */
export async function startServer(
  config: Config,
  logger: Logger,
  onFatal: (error: Error) => void,
): Promise<RunningServer> {
  const deaths = new DeathWatch(logger, onFatal);
  const shards = await openShardedEngine({
    dataDir: config.dataDir,
    shards: config.topology.shards,
    settings: engineSettings(config),
    logger,
    deaths,
    onFatal,
  });
  const parts = new ServerParts(config, logger, deaths, shards, onFatal);
  try {
    await parts.start();
  } catch (error) {
    await parts.stop();
    throw error;
  }
  return {
    addresses: {
      kernel: { host: config.server.listenAddr.host, port: parts.kernelPort },
      observe: { host: config.observe.listenAddr.host, port: parts.observer?.port ?? 0 },
      admin: { host: config.admin.listenAddr.host, port: parts.admin?.port ?? 0 },
    },
    shards: shards.shards,
    stop: () => parts.stop(),
  };
}

class ServerParts {
  kernelPort = 0;
  observer: Observer | null = null;
  admin: Admin | null = null;
  private gateway: Gateway | null = null;
  private readonly threads = new Set<GatewayThread>();
  /** Settles when those that take a dead one's place have started. */
  private threadsRestarting: Promise<unknown> = Promise.resolve();
  private webhooks: WebhookThread | null = null;
  private webhooksStarting: Promise<void> = Promise.resolve();
  private adminEngine: AdminEngine | null = null;
  private removals: Removals | null = null;
  private revocations: Revocations | null = null;
  private readonly pool: BcryptPool;
  private readonly hasher: ProvenHasher;
  private readonly limiterMemory = createLimiterMemory();
  private readonly connectionCounts: ConnectionCounts;
  private readonly hmacServerKey: Buffer;
  private stopping: Promise<void> | null = null;

  constructor(
    private readonly config: Config,
    private readonly logger: Logger,
    private readonly deaths: DeathWatch,
    private readonly shards: ShardedEngine,
    private readonly onFatal: (error: Error) => void,
  ) {
    this.hmacServerKey = loadServerKey(config.dataDir);
    const connectionMemory = createConnectionCounts(config.topology.gateways, config.connect);
    this.connectionCounts = new ConnectionCounts(connectionMemory, 0, config.connect);
    this.pool = new BcryptPool({
      threads: config.auth.poolThreads,
      maxPending: config.auth.maxPending,
      cost: config.auth.bcryptCost,
      onThreadDeath: (error) => deaths.record('bcrypt', error),
    });
    this.hasher = new ProvenHasher(this.pool);
  }

  async start(): Promise<void> {
    const { config, logger } = this;
    const engine = await this.shards.connectAdmin();
    this.adminEngine = engine;
    const removals = await Removals.open({
      dataDir: config.dataDir,
      engine,
      disk: realDisk,
      logger,
      onRemoved: () => this.observer?.redacted(),
    });
    this.removals = removals;
    const revocations = new Revocations(engine, () => this.sessionHolders(), logger);
    this.revocations = revocations;
    this.admin = await startAdmin({
      config,
      logger,
      routes: byLawRoutes({ removals, revocations }),
      readiness: () => this.readiness(),
      metrics: createMetrics({
        gateways: () => this.gatewayStats(),
        hasher: () => this.hasher.stats(),
        byLaw: () => ({
          removals: removals.count,
          revokedAgents: revocations.count('agent'),
          revokedOperators: revocations.count('operator'),
        }),
        engine: () => this.shards.totals(),
        threadRegistries: async () => {
          const webhooks = await this.webhooks?.metrics(STATS_TIMEOUT_MS);
          return webhooks === undefined ? [] : [webhooks];
        },
      }),
    });
    this.observer = await startObserver(config, this.shards.counterMemory, logger);

    const { gateways } = config.topology;
    const shared = gateways > 1;
    // Threads sharing a port would also share it with a stranger: make sure that nobody has it.
    if (shared) await probePort(config.server.listenAddr);
    this.gateway = await startGateway({
      config,
      engine: await this.shards.connect(),
      hasher: this.hasher,
      hmacServerKey: this.hmacServerKey,
      limiter: new SharedLimiter(this.limiterMemory, kernelRates(config.rateLimits)),
      connectionCounts: this.connectionCounts,
      logger,
      listen: { ...config.server.listenAddr, shared },
    });
    this.kernelPort = this.gateway.port;
    for (let number = 1; number < gateways; number++) await this.startGatewayThread(number);
    // Not waited for: agents need it for nothing, and what is to be pushed waits.
    this.startWebhooks();
  }

  /** However often it is asked to, the server stops once; everybody waits for the same end. */
  stop(): Promise<void> {
    this.stopping ??= this.end();
    return this.stopping;
  }

  private async end(): Promise<void> {
    const webhooksStopped = this.stopWebhooks();
    const drainThreads = (): Promise<unknown> => Promise.all([...this.threads].map((thread) => thread.drain()));
    // One that starts just now ends with the others: left alone it would abort the process.
    const restarted = this.threadsRestarting.then(drainThreads);
    const drained = Promise.all([this.gateway?.drain(), drainThreads(), restarted]);
    if (!(await withinMs(drained, DRAIN_LIMIT_MS))) {
      this.logger.warn({ limitMs: DRAIN_LIMIT_MS }, 'requests in hand were not finished in time: connections closed');
    }
    this.gateway?.close();
    await Promise.all([...this.threads].map((thread) => thread.close()));
    await Promise.all([this.observer?.close(), this.admin?.close(), this.pool.close(), webhooksStopped]);
    // Before the shards go: what a removal waits for then ends at once.
    this.adminEngine?.disconnect();
    await this.removals?.close();
    await this.shards.close();
  }

  private async startGatewayThread(number: number): Promise<void> {
    const { config } = this;
    const engine = this.shards.connection();
    const { port1, port2 } = new MessageChannel();
    serveHasher(port1, this.hasher);
    const thread = await startGatewayThread(
      {
        name: `gateway-${number}`,
        config,
        engine,
        hasherPort: port2,
        limiterMemory: this.limiterMemory,
        connectionMemory: this.connectionCounts.memory,
        number,
        hmacServerKey: this.hmacServerKey,
        listen: { host: config.server.listenAddr.host, port: this.kernelPort, shared: true },
      },
      [engine.control, port2],
      (error) => {
        this.threads.delete(thread);
        this.connectionCounts.forgetGateway(number); // its sockets are gone
        if (this.stopping !== null || !this.deaths.record(`gateway-${number}`, error)) return;
        const restarted = this.startGatewayThread(number).catch((failure: Error) => {
          if (this.stopping === null) this.onFatal(failure);
        });
        this.threadsRestarting = Promise.all([this.threadsRestarting, restarted]);
      },
    );
    this.threads.add(thread);
    await this.revocations?.tell(sessionsOf(thread));
  }

  private sessionHolders(): SessionHolder[] {
    const { gateway } = this;
    const others = [...this.threads].map(sessionsOf);
    if (gateway === null) return others;
    const own: SessionHolder = {
      revoke: async (subject) => {
        gateway.revoke(subject);
        return true;
      },
    };
    return [own, ...others];
  }

  private startWebhooks(): void {
    const engine = this.shards.connection();
    const starting = startWebhookThread({ config: this.config, engine }, (error) => {
      this.webhooks = null;
      if (this.stopping === null && this.deaths.record('webhooks', error)) this.startWebhooks();
    });
    this.webhooksStarting = starting.then(
      (thread) => {
        this.webhooks = thread;
      },
      (error: Error) => {
        if (this.stopping === null) this.onFatal(error);
      },
    );
  }

  private async stopWebhooks(): Promise<void> {
    await withinMs(this.webhooksStarting, DRAIN_LIMIT_MS); // one that starts waits for shards, which may be away
    await this.webhooks?.stop(DRAIN_LIMIT_MS);
  }

  private async gatewayStats(): Promise<GatewayStats[]> {
    const others = await Promise.all([...this.threads].map((thread) => thread.stats(STATS_TIMEOUT_MS)));
    const all = [this.gateway?.stats(), ...others];
    return all.filter((stats) => stats !== undefined);
  }

  private readiness(): { ready: boolean; reason?: string } {
    if (this.stopping !== null) return { ready: false, reason: 'the server is stopping' };
    if (this.gateway === null) return { ready: false, reason: 'the server is starting' };
    if (!this.shards.isReady) return { ready: false, reason: 'a shard is being reopened' };
    return { ready: true };
  }
}

function sessionsOf(thread: GatewayThread): SessionHolder {
  return { revoke: (subject) => thread.revoke(subject, REVOKE_TIMEOUT_MS) };
}

async function probePort({ host, port }: ListenAddress): Promise<void> {
  if (port === 0) return;
  const probe = createServer();
  probe.listen({ host, port, exclusive: true });
  try {
    await once(probe, 'listening');
  } catch (error) {
    throw new Error(`can't listen on ${host}:${port}: ${error instanceof Error ? error.message : String(error)}`);
  }
  probe.close();
  await once(probe, 'close');
}

async function withinMs(work: Promise<unknown>, limitMs: number): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined;
  const expired = new Promise<false>((resolve) => {
    timer = setTimeout(() => resolve(false), limitMs);
  });
  const finished = await Promise.race([work.then(() => true), expired]);
  clearTimeout(timer);
  return finished;
}
