/**
 * Auth pool: the threads that run bcrypt, behind a bounded queue. The only importer of piscina.
 * Owns:      the pool threads and the count of accepted tasks.
 * Never:     grows past `threads + maxPending` accepted tasks, logs or keeps a token, or lets a pool error escape.
 * Failure:   a thread that dies takes its one task with it (`unavailable`); Piscina starts another in its place.
 */
import type { Worker } from 'node:worker_threads';
import { FixedQueue, Piscina } from 'piscina';
import { workerEntry } from '../installed-files.js';
import type { BcryptAnswer, BcryptTask } from './bcrypt-worker.js';
import { HASHER_UNAVAILABLE, type HasherStats, type HashReply, type PasswordHasher } from './password-hasher.js';

export interface BcryptPoolOptions {
  /** At least 1. Each thread runs one bcrypt at a time. */
  readonly threads: number;
  /** Tasks that may wait while every thread is busy; one more is refused. */
  readonly maxPending: number;
  /** bcrypt cost of new hashes, 4 to 31. */
  readonly cost: number;
  /** Told of each thread that ended by itself. Several within a minute mean that the machine or the build is broken. */
  readonly onThreadDeath?: (error: Error) => void;
}

export class BcryptPool implements PasswordHasher {
  private readonly pool: Piscina<BcryptTask, BcryptAnswer>;
  private readonly maxAccepted: number;
  private readonly threads: number;
  private readonly cost: number;
  private accepted = 0;
  private completed = 0;
  private closing = false;

  constructor(options: BcryptPoolOptions) {
    this.threads = options.threads;
    this.cost = options.cost;
    this.maxAccepted = options.threads + options.maxPending;
    this.pool = new Piscina<BcryptTask, BcryptAnswer>({
      filename: workerEntry('bcrypt'),
      name: 'runTask', // the export that runs
      minThreads: options.threads,
      maxThreads: options.threads,
      concurrentTasksPerWorker: 1,
      // Our own count below is the bound: Piscina's holds only once its queue has an entry, and grows while threads start.
      maxQueue: Math.max(1, this.maxAccepted),
      // Not the default queue: Piscina's is one array that all pools of a process share.
      taskQueue: new FixedQueue(),
      recordTiming: false,
    });
    const watched = new WeakSet<Worker>();
    const watch = () => {
      for (const thread of this.pool.threads) {
        if (watched.has(thread)) continue;
        watched.add(thread);
        let cause: unknown;
        thread.once('error', (error) => {
          cause = error;
        });
        thread.once('exit', (code) => {
          if (!this.closing) options.onThreadDeath?.(new Error(`bcrypt thread ended with code ${code}`, { cause }));
        });
      }
    };
    watch();
    this.pool.on('workerCreate', watch);
    // Emitted for a thread that dies idle, which its exit above reports. With no listener it would end the process.
    this.pool.on('error', watch);
  }

  async hash(token: string): Promise<HashReply<string>> {
    const answer = await this.run({ kind: 'hash', token, cost: this.cost });
    return typeof answer === 'string' ? { ok: true, value: answer } : HASHER_UNAVAILABLE;
  }

  async verify(token: string, hash: string): Promise<HashReply<boolean>> {
    const answer = await this.run({ kind: 'verify', token, hash });
    return typeof answer === 'boolean' ? { ok: true, value: answer } : HASHER_UNAVAILABLE;
  }

  stats(): HasherStats {
    const running = Math.min(this.accepted, this.threads);
    return { running, waiting: this.accepted - running, completed: this.completed };
  }

  /** Refuses new tasks and those still waiting; resolves when the threads have ended. Safe to call twice. */
  async close(): Promise<void> {
    this.closing = true;
    await this.pool.destroy();
  }

  /** Ends one thread, busy or not, as a crash would; for fault tests. Resolves when it is gone. */
  async terminateThread(): Promise<void> {
    await this.pool.threads[0]?.terminate();
  }

  private async run(task: BcryptTask): Promise<BcryptAnswer | undefined> {
    if (this.closing || this.accepted >= this.maxAccepted) return undefined;
    this.accepted++;
    try {
      const answer = await this.pool.run(task);
      this.completed++;
      return answer;
    } catch {
      // The thread died or the pool was closed under the task: both are told to the caller as `unavailable`, and a
      // death to `onThreadDeath`. The worker itself throws for nothing a token or a stored hash can hold.
      return undefined;
    } finally {
      this.accepted--;
    }
  }
}
