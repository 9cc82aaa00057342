import { Counter, collectDefaultMetrics, Gauge, Registry } from 'prom-client';
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
  engine(): EngineTotals;
}

/** Sums over all shards. */
export interface EngineTotals {
  readonly stateBytes: number;
  readonly keys: number;
  readonly agents: number;
  readonly queuedMessages: number;
  readonly queuedBytes: number;
  readonly droppedMessages: number;
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
  const answers = counter('tabulum_http_answers_total', 'Answers of the kernel API by status', ['status']);
  const inHand = gauge('tabulum_http_requests_in_hand', 'Requests that are not answered yet');
  const bodyBytes = gauge('tabulum_http_buffered_body_bytes', 'Request bodies being gathered');
  const sessionHits = counter('tabulum_session_cache_hits_total', 'Requests answered from the session cache');
  const sessionMisses = counter('tabulum_session_cache_misses_total', 'Tokens that needed a credential lookup');
  const bcrypts = counter('tabulum_bcrypts_total', 'bcrypt runs finished');
  const bcryptRunning = gauge('tabulum_bcrypt_running', 'bcrypt runs under way');
  const bcryptWaiting = gauge('tabulum_bcrypt_waiting', 'bcrypt runs waiting for a thread');

  return async () => {
    const engine = sources.engine();
    stateBytes.set(engine.stateBytes);
    keys.set(engine.keys);
    agents.set(engine.agents);
    queuedMessages.set(engine.queuedMessages);
    queuedBytes.set(engine.queuedBytes);
    setCounter(dropped, engine.droppedMessages);

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
    return registry.metrics();
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
