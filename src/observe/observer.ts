/**
 * The observer as the main thread sees it: start, address, restart, end.
 * Owns:      the observer thread. It is asked to close, never terminated: its native listener must go first.
 * Failure:   a thread that dies is started again, at the same address, and goes on with its index; after a second death
 *            in a row with a new one. If that does not help the observation API stays down: agents don't need it.
 */
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import '../gateway/uws-header-limit.js'; // in the main thread, before the first native app
import type { Config } from '../config/config.js';
import { DeathWatch } from '../death-watch.js';
import { workerEntry } from '../installed-files.js';
import type { Logger } from '../log.js';
import { readManifest } from '../shards/data-directory.js';
import { observationSettings } from './observation-service.js';
import type { ObserverCommand, ObserverNotice, ObserverWorkerData } from './observer-worker.js';

export interface Observer {
  readonly port: number;
  /** The transparency log has a new entry: nothing shown from now on may have the content that was removed. */
  redacted(): void;
  /** Closes its connections and resolves when the thread has ended. */
  close(): Promise<void>;
}

/** Its place in the data directory. */
export function observerIndexDir(dataDir: string): string {
  return join(dataDir, 'observe', 'index');
}

/** What killed a thread may be over by then. */
const RESTART_DELAY_MS = 1_000;
/** A thread that ran for this long died of something new. */
const STABLE_MS = 60_000;

/**
 * Starts the observer thread on a directory whose shards are open; resolves once it listens.
 * @throws Error with one clear line when it can't listen.
 */
export async function startObserver(
  config: Config,
  counterMemory: SharedArrayBuffer,
  logger: Logger,
): Promise<Observer> {
  const observer = new ObserverThread(config, counterMemory, logger);
  await observer.start(false);
  return observer;
}

class ObserverThread implements Observer {
  port: number;
  private worker: Worker | null = null;
  private ended: Promise<void> = Promise.resolve();
  private closing = false;
  private deathsInRow = 0;
  private readonly deaths: DeathWatch;

  constructor(
    private readonly config: Config,
    private readonly counterMemory: SharedArrayBuffer,
    private readonly logger: Logger,
  ) {
    this.port = config.observe.listenAddr.port;
    this.deaths = new DeathWatch(logger, (error) => {
      logger.error({ err: error }, 'the observation API stays down; agents are not affected');
    });
  }

  start(anew: boolean): Promise<void> {
    const { config } = this;
    const manifest = readManifest(config.dataDir);
    if (manifest === null) throw new Error(`${config.dataDir} has no manifest`);
    const settings = observationSettings(config, observerIndexDir(config.dataDir));
    const workerData: ObserverWorkerData = {
      settings: {
        ...settings,
        // A thread that is started again listens where the first one did.
        observe: { ...config.observe, listenAddr: { ...config.observe.listenAddr, port: this.port } },
      },
      manifest,
      counterMemory: this.counterMemory,
      anew,
    };
    const worker = new Worker(workerEntry('observer'), { workerData, name: 'observer' });
    this.worker = worker;
    let isListening = false;
    let cause: Error | null = null;
    const startedMs = Date.now();
    worker.on('error', (error) => {
      cause = error instanceof Error ? error : new Error(String(error));
    });
    return new Promise((resolve, reject) => {
      this.ended = new Promise((end) => {
        worker.once('exit', (code) => {
          const error = cause ?? new Error(`the observer thread ended with ${code}`);
          reject(error);
          end();
          if (!isListening || this.closing) return;
          this.deathsInRow = Date.now() - startedMs < STABLE_MS ? this.deathsInRow + 1 : 1;
          this.died(error);
        });
      });
      worker.on('message', (notice: ObserverNotice) => {
        if (notice.kind === 'listening') {
          isListening = true;
          this.port = notice.port;
          resolve();
        } else reject(new Error(notice.message));
      });
    });
  }

  redacted(): void {
    this.worker?.postMessage({ kind: 'redacted' } satisfies ObserverCommand);
  }

  close(): Promise<void> {
    this.closing = true;
    this.worker?.postMessage({ kind: 'close' } satisfies ObserverCommand);
    return this.ended;
  }

  private died(error: Error): void {
    if (!this.deaths.record('observer', error)) return;
    setTimeout(() => this.startAgain(), RESTART_DELAY_MS).unref();
  }

  private startAgain(): void {
    if (this.closing) return;
    this.start(this.deathsInRow > 1).then(
      () => this.logger.info({ port: this.port }, 'observer thread restarted'),
      (cause: unknown) => this.logger.error({ err: cause }, 'the observation API stays down; agents are not affected'),
    );
  }
}
