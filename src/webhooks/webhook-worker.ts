/**
 * Entry of the webhook thread.
 * Owns:      the dispatcher and its line to the engine.
 * Commands:  `WebhookCommand` from the parent; `WebhookNotice` to it.
 * Failure:   a mistake of the server ends the thread. Posts in hand are repeated by the next one: at least once.
 */
import { isMainThread, type MessagePort, parentPort, workerData } from 'node:worker_threads';
import type { Config } from '../config/config.js';
import { createLogger } from '../log.js';
import { connectEngine, type EngineConnection } from '../shards/connect-engine.js';
import { AgentHistory } from './agent-history.js';
import { WebhookDispatcher } from './dispatcher.js';
import { createAddressFinder } from './host-addresses.js';
import { LazyPoster } from './lazy-poster.js';
import { type MetricsJson, WebhookMetrics } from './webhook-metrics.js';

/** All plain data and a port: it crosses threads as `workerData`. */
export interface WebhookWorkerData {
  readonly config: Config;
  readonly engine: EngineConnection;
}

export type WebhookCommand =
  | { readonly kind: 'stop'; readonly limitMs: number }
  | { readonly kind: 'stats'; readonly id: number };

export type WebhookNotice =
  | { readonly kind: 'started' }
  | { readonly kind: 'stats'; readonly id: number; readonly metrics: MetricsJson };

/** Posts slower than this on average wait in the slow lane; with short time limits, in proportion. */
const SLOW_POST_MS = 1_000;
const SLOW_SHARE_OF_TIMEOUT = 4;

/** Posts until told to stop. */
export async function runWebhookWorker({ config, engine }: WebhookWorkerData, parent: MessagePort): Promise<void> {
  const logger = createLogger('webhooks', config.log.level);
  const tell = (notice: WebhookNotice): void => parent.postMessage(notice);
  const onFault = (error: unknown): void => {
    logger.fatal({ err: error }, 'webhook thread ends by a mistake of the server: posts in hand will be repeated');
    process.exit(1); // this thread only
  };
  process.on('uncaughtException', onFault);

  const { connectTimeoutMs, totalTimeoutMs, maxConcurrency, allowNetworks } = config.webhook;
  const connected = await connectEngine(engine);
  const metrics = new WebhookMetrics();
  const slowPostMs = Math.min(SLOW_POST_MS, totalTimeoutMs / SLOW_SHARE_OF_TIMEOUT);
  const dispatcher = new WebhookDispatcher({
    engine: connected,
    poster: new LazyPoster(
      { connectTimeoutMs, totalTimeoutMs, maxConcurrency, allowNetworks },
      createAddressFinder(allowNetworks.length > 0),
    ),
    history: new AgentHistory(config.rateLimits.webhookOutboundPerMin, slowPostMs),
    metrics,
    rules: config.webhook,
    maxConcurrency,
    logger,
    now: Date.now,
    onFault,
  });
  parent.on('message', (command: WebhookCommand) => {
    if (command.kind === 'stop') {
      dispatcher.stop(command.limitMs).then(() => process.exit(0), onFault); // this thread only
      return;
    }
    const { inFlight, waiting } = dispatcher;
    metrics
      .read({ inFlight, waiting }, Date.now())
      .then((read) => tell({ kind: 'stats', id: command.id, metrics: read }), onFault);
  });
  dispatcher.start();
  tell({ kind: 'started' });
}

if (!isMainThread && parentPort !== null) await runWebhookWorker(workerData as WebhookWorkerData, parentPort);
