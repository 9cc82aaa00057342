/**
 * A gateway in a thread of its own, as the main thread sees it.
 * Owns:      the worker.
 * Never:     terminates it: a thread with a live native app must close that first, so it is asked to.
 */
import { type Transferable, Worker } from 'node:worker_threads';
import { workerEntry } from '../installed-files.js';
import { PendingAnswers } from '../pending-answers.js';
import type { GatewayStats } from './gateway.js';
import type { GatewayCommand, GatewayNotice, GatewayWorkerData } from './gateway-worker.js';
import './uws-header-limit.js'; // in the main thread, before the first native app

export interface GatewayThread {
  readonly port: number;
  /** As `Gateway.drain`. */
  drain(): Promise<void>;
  /** Closes its connections and resolves when the thread has ended. */
  close(): Promise<void>;
  /** True once the thread has forgotten the subject, or is no more; false when it does not say so within `timeoutMs`. */
  revoke(subject: string, timeoutMs: number): Promise<boolean>;
  /** undefined when the thread does not answer within `timeoutMs`. */
  stats(timeoutMs: number): Promise<GatewayStats | undefined>;
}

/**
 * Starts the thread; resolves once it listens.
 * @param transfer the ports within `data`.
 * @param onDeath told when the thread ends without having been asked to. Its connections are gone, the others go on.
 * @throws Error with one clear line when it can't listen.
 */
export async function startGatewayThread(
  data: GatewayWorkerData,
  transfer: readonly Transferable[],
  onDeath: (error: Error) => void,
): Promise<GatewayThread> {
  const worker = new Worker(workerEntry('gateway'), { workerData: data, transferList: [...transfer], name: data.name });
  const thread = new RunningThread(worker, onDeath);
  await thread.listening;
  return thread;
}

class RunningThread implements GatewayThread {
  port = 0;
  readonly listening: Promise<void>;
  private state: 'starting' | 'listening' | 'closing' | 'ended' = 'starting';
  private readonly ended: Promise<void>;
  private readonly waitingForDrain: (() => void)[] = [];
  private readonly pendingStats = new PendingAnswers<GatewayStats>();
  private readonly pendingRevocations = new PendingAnswers<true>();

  constructor(
    private readonly worker: Worker,
    onDeath: (error: Error) => void,
  ) {
    let cause: unknown;
    worker.on('error', (error) => {
      cause = error;
    });
    this.listening = new Promise((resolve, reject) => {
      worker.on('message', (notice: GatewayNotice) => {
        if (notice.kind === 'listening') {
          this.port = notice.port;
          this.state = 'listening';
          resolve();
        } else if (notice.kind === 'failed') {
          this.state = 'closing';
          reject(new Error(notice.message));
        } else this.onNotice(notice);
      });
      worker.once('exit', () => reject(new Error('a gateway thread ended while it started', { cause })));
    });
    this.ended = new Promise((resolve) => {
      worker.once('exit', (code) => {
        const wasListening = this.state === 'listening';
        this.state = 'ended';
        for (const drained of this.waitingForDrain.splice(0)) drained();
        this.pendingRevocations.settleAll(true);
        resolve();
        if (wasListening) onDeath(new Error(`a gateway thread ended with code ${code}`, { cause }));
      });
    });
  }

  drain(): Promise<void> {
    if (this.state !== 'listening') return Promise.resolve();
    return new Promise((resolve) => {
      this.waitingForDrain.push(resolve);
      this.post({ kind: 'drain' });
    });
  }

  close(): Promise<void> {
    if (this.state === 'listening') {
      this.state = 'closing';
      this.post({ kind: 'close' });
    }
    return this.ended;
  }

  async revoke(subject: string, timeoutMs: number): Promise<boolean> {
    if (this.state === 'ended') return true;
    const isDone = await this.pendingRevocations.ask(timeoutMs, (id) => this.post({ kind: 'revoke', subject, id }));
    return isDone ?? false;
  }

  stats(timeoutMs: number): Promise<GatewayStats | undefined> {
    return this.pendingStats.ask(timeoutMs, (id) => this.post({ kind: 'stats', id }));
  }

  private onNotice(notice: GatewayNotice): void {
    if (notice.kind === 'drained') for (const drained of this.waitingForDrain.splice(0)) drained();
    else if (notice.kind === 'revoked') this.pendingRevocations.settle(notice.id, true);
    else if (notice.kind === 'stats') this.pendingStats.settle(notice.id, notice.stats);
  }

  private post(command: GatewayCommand): void {
    this.worker.postMessage(command);
  }
}
