/**
 * The observer as the main thread sees it: start, address, end.
 * Owns:      the observer thread. It is asked to close, never terminated: its native listener must go first.
 */
import { Worker } from 'node:worker_threads';
import '../gateway/uws-header-limit.js'; // in the main thread, before the first native app
import type { Config } from '../config/config.js';
import type { Logger } from '../log.js';
import { workerEntry } from '../worker-entry.js';
import type { ObserverCommand, ObserverNotice, ObserverWorkerData } from './observer-worker.js';

export interface Observer {
  readonly port: number;
  /** Closes its connections and resolves when the thread has ended. */
  close(): Promise<void>;
}

/**
 * Starts the observer thread; resolves once it listens. A death of the thread later is logged: agents don't need it.
 * @throws Error with one clear line when it can't listen.
 */
export function startObserver(config: Config, logger: Logger): Promise<Observer> {
  const data: ObserverWorkerData = {
    listen: config.observe.listenAddr,
    requestsPerMinPerIp: config.observe.requestsPerMinPerIp,
    trustedProxies: config.server.trustedProxies,
    readTimeoutMs: config.server.readTimeoutMs,
    writeTimeoutMs: config.server.writeTimeoutMs,
    logLevel: config.log.level,
  };
  const worker = new Worker(workerEntry('observer'), { workerData: data, name: 'observer' });
  let state: 'starting' | 'listening' | 'closing' = 'starting';
  let cause: unknown;
  worker.on('error', (error) => {
    cause = error;
  });
  const ended = new Promise<void>((resolve) => {
    worker.once('exit', (code) => {
      if (state === 'listening') {
        logger.error(
          { err: cause, code },
          'the observer thread ended: the observation API is down, agents are not affected',
        );
      }
      resolve();
    });
  });
  const close = (): Promise<void> => {
    if (state === 'listening') worker.postMessage({ kind: 'close' } satisfies ObserverCommand);
    state = 'closing';
    return ended;
  };
  return new Promise((resolve, reject) => {
    worker.on('message', (notice: ObserverNotice) => {
      if (notice.kind === 'listening') {
        state = 'listening';
        resolve({ port: notice.port, close });
      } else reject(new Error(notice.message));
    });
    worker.once('exit', () => reject(new Error('the observer thread ended while it started', { cause })));
  });
}
