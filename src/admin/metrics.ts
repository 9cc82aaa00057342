import { AggregatorRegistry, Counter, collectDefaultMetrics, Gauge, Registry } from 'prom-client';
import type { HasherStats } from '../auth-pool/password-hasher.js';
import type { GatewayStats } from '../gateway/gateway.js';

/**
 * Metrics of the whole process as Prometheus text. Values are read when somebody asks, never pushed.
 * Owns: the registry.
 */
export interface MetricSources {
  /** Of each gateway thread that answered in time. */
  gateways(): Promise<readonly GatewayStats[]>;
  hasher(): HasherStats;
  byLaw(): { readonly removals: number; readonly revokedAgents: number; readonly revokedOperators: number };
  engine(): EngineTotals;
  /** Of threads that keep their own registry, as its `getMetricsAsJSON` gives them; those that answered in time. */
  threadRegistries(): Promise<readonly object[]>;
}

/** Sums over all shards. */
export interface EngineTotals {
  readonly stateBytes: number;
  readonly keys: number;
  readonly agents: number;
  readonly queuedMessages: number;
  readonly queuedBytes: number;
  readonly droppedMessages: number;
  readonly damagedLines: number;
  readonly unloggedReads: number;
  /** Shards that only read, after an I/O error. */
  readonly readOnly: number;
  /** Shards whose disk is too full for writes. */
  readonly spaceShort: number;
  readonly reopenings: number;
}

/** Returns the function that renders them. */
export function createMetrics(sources: MetricSources): () => Promise<string> {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  const gauge = (name: string, help: string): Gauge => new Gauge({ name, help, registers: [registry] });
  const counter = (name: string, help: string, labelNames: string[] = []): Counter =>
    new Counter({ name, help, labelNames, registers: [registry] });

  const stateBytes = gauge('tabulum_state_bytes', 'Key and value bytes of live state keys');
  const keys = gauge('tabulum_state_keys', 'Live state keys');
  const agents = gauge('tabulum_agents', 'Registered agents');
  const queuedMessages = gauge('tabulum_queued_messages', 'Messages waiting in queues');
  const queuedBytes = gauge('tabulum_queued_bytes', 'Event log bytes of messages waiting in queues');
  const dropped = counter('tabulum_messages_dropped_total', 'Messages dropped because their queue was full');
  const readOnly = gauge(
    'tabulum_shards_read_only',
    'Shards that take no writes since an I/O error; they are reopened',
  );
  const spaceShort = gauge(
    'tabulum_shards_out_of_space',
    'Shards that refuse writes because their disk is nearly full',
  );
  const reopenings = counter('tabulum_shard_reopenings_total', 'Shards opened again after their thread died or broke');
  const damagedLines = gauge(
    'tabulum_log_damaged_lines',
    'Event log lines skipped as damaged at the last opening and since',
  );
  const unloggedReads = counter('tabulum_unlogged_reads_total', 'Reads whose events had no room on the disk');
  const answers = counter('tabulum_http_answers_total', 'Answers of the kernel API by status', ['status']);
  const inHand = gauge('tabulum_http_requests_in_hand', 'Requests that are not answered yet');
  const bodyBytes = gauge('tabulum_http_buffered_body_bytes', 'Request bodies being gathered');
  const sessionHits = counter('tabulum_session_cache_hits_total', 'Requests answered from the session cache');
  const sessionMisses = counter('tabulum_session_cache_misses_total', 'Tokens that needed a credential lookup');
  const bcrypts = counter('tabulum_bcrypts_total', 'bcrypt runs finished');
  const bcryptRunning = gauge('tabulum_bcrypt_running', 'bcrypt runs under way');
  const bcryptWaiting = gauge('tabulum_bcrypt_waiting', 'bcrypt runs waiting for a thread');

  const removals = counter('tabulum_removals_total', 'Contents removed by law');
  const revocations = counter('tabulum_revocations_total', 'Tokens revoked, by whose they were', ['type']);

  return async () => {
    const byLaw = sources.byLaw();
    setCounter(removals, byLaw.removals);
    revocations.reset();
    revocations.inc({ type: 'agent' }, byLaw.revokedAgents);
    revocations.inc({ type: 'operator' }, byLaw.revokedOperators);
    const engine = sources.engine();
    stateBytes.set(engine.stateBytes);
    keys.set(engine.keys);
    agents.set(engine.agents);
    queuedMessages.set(engine.queuedMessages);
    queuedBytes.set(engine.queuedBytes);
    setCounter(dropped, engine.droppedMessages);
    readOnly.set(engine.readOnly);
    spaceShort.set(engine.spaceShort);
    setCounter(reopenings, engine.reopenings);
    damagedLines.set(engine.damagedLines);
    setCounter(unloggedReads, engine.unloggedReads);

    const gateways = await sources.gateways();
    answers.reset();
    for (const gateway of gateways) {
      for (const [status, count] of Object.entries(gateway.answers)) answers.inc({ status }, count);
    }
    inHand.set(sum(gateways, (gateway) => gateway.inHand));
    bodyBytes.set(sum(gateways, (gateway) => gateway.bufferedBodyBytes));
    setCounter(
      sessionHits,
      sum(gateways, (gateway) => gateway.auth.hits),
    );
    setCounter(
      sessionMisses,
      sum(gateways, (gateway) => gateway.auth.misses),
    );

    const hasher = sources.hasher();
    setCounter(bcrypts, hasher.completed);
    bcryptRunning.set(hasher.running);
    bcryptWaiting.set(hasher.waiting);
    const ofThreads = AggregatorRegistry.aggregate([...(await sources.threadRegistries())]);
    return `${await registry.metrics()}\n${await ofThreads.metrics()}`;
  };
}

/** The source counts by itself; prom-client's counters only go up by steps. */
function setCounter(counter: Counter, value: number): void {
  counter.reset();
  counter.inc(value);
}

function sum<Item>(items: readonly Item[], figureOf: (item: Item) => number): number {
  let total = 0;
  for (const item of items) total += figureOf(item);
  return total;
}
