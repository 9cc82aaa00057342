/**
 * The webhook dispatcher as the main thread sees it.
 * Owns:      the worker.
 */
import { Worker } from 'node:worker_threads';
import { workerEntry } from '../installed-files.js';
import { PendingAnswers } from '../pending-answers.js';
import type { MetricsJson } from './webhook-metrics.js';
import type { WebhookCommand, WebhookNotice, WebhookWorkerData } from './webhook-worker.js';

export interface WebhookThread {
  /** No more posts; those in hand may finish within `limitMs`. Resolves when the thread has ended; nothing is lost. */
  stop(limitMs: number): Promise<void>;
  /** undefined when the thread does not answer within `timeoutMs`. */
  metrics(timeoutMs: number): Promise<MetricsJson | undefined>;
}

/** A thread that is still there this long after its posts had to be over is ended: it loses nothing by that. */
const STOP_GRACE_MS = 1_000;

/**
 * Starts the thread; resolves once it takes messages to push.
 * @param onDeath told when the thread ends without having been asked to. Messages wait for the next one.
 * @throws Error when it ends while it starts.
 */
export async function startWebhookThread(
  data: WebhookWorkerData,
  onDeath: (error: Error) => void,
): Promise<WebhookThread> {
  const worker = new Worker(workerEntry('webhooks'), {
    workerData: data,
    transferList: [data.engine.control],
    name: 'webhooks',
  });
  const thread = new RunningThread(worker, onDeath);
  await thread.started;
  return thread;
}

class RunningThread implements WebhookThread {
  readonly started: Promise<void>;
  private state: 'starting' | 'running' | 'stopping' | 'ended' = 'starting';
  private readonly ended: Promise<void>;
  private readonly pendingMetrics = new PendingAnswers<MetricsJson>();

  constructor(
    private readonly worker: Worker,
    onDeath: (error: Error) => void,
  ) {
    let cause: unknown;
    worker.on('error', (error) => {
      cause = error;
    });
    this.started = new Promise((resolve, reject) => {
      worker.on('message', (notice: WebhookNotice) => {
        if (notice.kind === 'started') {
          this.state = 'running';
          resolve();
        } else {
          this.pendingMetrics.settle(notice.id, notice.metrics);
        }
      });
      worker.once('exit', () => reject(new Error('the webhook thread ended while it started', { cause })));
    });
    this.ended = new Promise((resolve) => {
      worker.once('exit', (code) => {
        const wasRunning = this.state === 'running';
        this.state = 'ended';
        resolve();
        if (wasRunning) onDeath(new Error(`the webhook thread ended with code ${code}`, { cause }));
      });
    });
  }

  async stop(limitMs: number): Promise<void> {
    if (this.state === 'running') {
      this.state = 'stopping';
      this.post({ kind: 'stop', limitMs });
    }
    const grace = setTimeout(() => void this.worker.terminate(), limitMs + STOP_GRACE_MS);
    await this.ended;
    clearTimeout(grace);
  }

  metrics(timeoutMs: number): Promise<MetricsJson | undefined> {
    if (this.state !== 'running') return Promise.resolve(undefined);
    return this.pendingMetrics.ask(timeoutMs, (id) => this.post({ kind: 'stats', id }));
  }

  private post(command: WebhookCommand): void {
    this.worker.postMessage(command);
  }
}
