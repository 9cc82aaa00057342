/**
 * Figures of the webhook dispatcher, kept in its thread; the admin service merges them into its own when it is asked.
 * Owns: the registry, and the list of circuits opened here and not closed yet (at most 100,000, the oldest go first).
 */
import { Counter, Gauge, Histogram, Registry } from 'prom-client';
import type { CountedResult } from './delivery-rules.js';

/** As `Registry.getMetricsAsJSON` gives them: plain data, which crosses threads. */
export type MetricsJson = Awaited<ReturnType<Registry['getMetricsAsJSON']>>;

const MAX_CIRCUITS = 100_000;
const LATENCY_BUCKETS_SECONDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];
const RESULTS: readonly CountedResult['kind'][] = ['delivered', 'refused', 'timeout', 'address_refused', 'unreachable'];

export interface LiveFigures {
  readonly inFlight: number;
  readonly waiting: number;
}

export class WebhookMetrics {
  private readonly registry = new Registry();
  private readonly inFlight: Gauge;
  private readonly waiting: Gauge;
  private readonly openCircuits: Gauge;
  private readonly posts: Counter;
  private readonly undeliverable: Counter;
  private readonly latency: Histogram;
  /** Epoch ms at which each open circuit ends. One duration for all, so the order of entry is the order of end. */
  private readonly circuits = new Map<string, number>();

  constructor() {
    const registers = [this.registry];
    this.inFlight = new Gauge({ name: 'tabulum_webhook_posts_in_flight', help: 'Webhook posts under way', registers });
    this.waiting = new Gauge({
      name: 'tabulum_webhook_agents_waiting',
      help: 'Agents with messages to push that are not being posted to: backoff, pace, or no free slot',
      registers,
    });
    this.openCircuits = new Gauge({
      name: 'tabulum_webhook_open_circuits',
      help: 'Circuits opened since the start that are still open',
      registers,
    });
    this.posts = new Counter({
      name: 'tabulum_webhook_posts_total',
      help: 'Webhook posts by result',
      labelNames: ['result'],
      registers,
    });
    this.undeliverable = new Counter({
      name: 'tabulum_webhook_undeliverable_total',
      help: 'Messages that went to the pull queue after their last attempt',
      registers,
    });
    this.latency = new Histogram({
      name: 'tabulum_webhook_post_seconds',
      help: 'Time of a webhook post from start to end, whatever its result',
      buckets: LATENCY_BUCKETS_SECONDS,
      registers,
    });
    for (const result of RESULTS) this.posts.inc({ result }, 0);
  }

  countPost(result: CountedResult, tookMs: number): void {
    this.posts.inc({ result: result.kind });
    this.latency.observe(tookMs / 1000);
  }

  countUndeliverable(): void {
    this.undeliverable.inc();
  }

  /** @param openUntilMs 0 for a circuit that is closed. */
  noteCircuit(address: string, openUntilMs: number, nowMs: number): void {
    this.circuits.delete(address);
    if (openUntilMs > nowMs) this.circuits.set(address, openUntilMs);
    for (const [oldest, untilMs] of this.circuits) {
      if (untilMs > nowMs && this.circuits.size <= MAX_CIRCUITS) break;
      this.circuits.delete(oldest);
    }
  }

  async read(live: LiveFigures, nowMs: number): Promise<MetricsJson> {
    this.inFlight.set(live.inFlight);
    this.waiting.set(live.waiting);
    this.noteCircuit('', 0, nowMs); // those whose time is over go
    this.openCircuits.set(this.circuits.size);
    return this.registry.getMetricsAsJSON();
  }
}
