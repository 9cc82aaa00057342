import type { Server } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { MessageChannel, Worker } from 'node:worker_threads';
import type { DeathWatch } from '../death-watch.js';
import { workerEntry } from '../installed-files.js';
import type { Logger } from '../log.js';
import { AdminEngine } from './admin-engine.js';
import { type ConnectedEngine, connectEngine, type EngineConnection, type ShardPort } from './connect-engine.js';
import { lockDataDirectory, openManifest, shardDirectory } from './data-directory.js';
import { realDisk } from './disk.js';
import { createVersionMemory } from './key-versions.js';
import type { RecoveryReport } from './recovery.js';
import type { EngineSettings } from './settings.js';
import type { ShardCommand, ShardReport, ShardWorkerData } from './shard-worker.js';
import { createCounterMemory, type ShardCell, SharedCounters } from './shared-counters.js';

/**
 * The sharded engine as a whole: starts one thread for each shard and keeps them running.
 * Owns:      the data directory's lock, the shard threads, the shared counters.
 * Never:     sees a request; gateways talk to the shards directly.
 * Failure:   a shard that dies or breaks is reopened through recovery while the others go on, until `deaths` says no.
 */
/** A shard whose disk failed goes on reading for this long before it is reopened. */
const REOPEN_DELAY_MS = 1_000;
/** A broken shard that does not let go of its files in this time is ended. */
const CLOSE_LIMIT_MS = 10_000;

export interface ShardedEngineOptions {
  readonly dataDir: string;
  /** null: as the data directory has it. */
  readonly shards: number | null;
  readonly settings: EngineSettings;
  readonly logger: Logger;
  readonly deaths: DeathWatch;
  /** A shard can't be reopened: the process should end. */
  onFatal(error: Error): void;
}

interface ShardThread {
  readonly shard: number;
  readonly worker: Worker;
  /** `broken`: it only reads, and is about to be reopened. */
  state: 'starting' | 'serving' | 'broken' | 'gone';
  /** It broke on a full disk, which is nobody's death. */
  outOfSpace: boolean;
}

/** Takes the directory, recovers all shards and resolves when they serve. Rejects with DataDirectoryError. */
export async function openShardedEngine(options: ShardedEngineOptions): Promise<ShardedEngine> {
  const lock = await lockDataDirectory(options.dataDir);
  try {
    const manifest = await openManifest(realDisk, options.dataDir, options.shards);
    const engine = new ShardedEngine(options, lock, manifest.shards);
    await engine.start();
    return engine;
  } catch (error) {
    lock.close();
    throw error;
  }
}

export class ShardedEngine {
  private readonly options: ShardedEngineOptions;
  private readonly lock: Server;
  private readonly counters: SharedCounters;
  private readonly versionMemory: SharedArrayBuffer;
  private readonly threads: ShardThread[] = [];
  /** One for each connected gateway. */
  private readonly controls: MessageChannel[] = [];
  private readonly connected: { disconnect(): void }[] = [];
  private closing = false;
  /** Shards opened again after they died or broke. */
  private reopened = 0;
  readonly shards: number;

  constructor(options: ShardedEngineOptions, lock: Server, shards: number) {
    this.options = options;
    this.lock = lock;
    this.shards = shards;
    this.counters = new SharedCounters(createCounterMemory(shards));
    this.versionMemory = createVersionMemory(shards);
  }

  async start(): Promise<void> {
    const reports: Promise<RecoveryReport>[] = [];
    for (let shard = 0; shard < this.shards; shard++) reports.push(this.startShard(shard));
    const started = await Promise.all(reports);
    const replayedEvents = started.reduce((sum, report) => sum + report.replayedEvents, 0);
    const damagedLines = started.reduce((sum, report) => sum + report.damagedLines, 0);
    this.options.logger.info({ shards: this.shards, replayedEvents, damagedLines }, 'shards recovered');
  }

  /** What another thread hands to `connectEngine`; transfer `control` with it. */
  connection(): EngineConnection {
    const channel = new MessageChannel();
    this.controls.push(channel);
    for (const thread of this.threads) if (isReading(thread)) this.attach(thread, channel);
    return {
      counterMemory: this.counters.memory,
      versionMemory: this.versionMemory,
      totalStateBytes: this.options.settings.maxCapacityBytes,
      control: channel.port2,
    };
  }

  /** An engine for use in this thread. */
  async connect(): Promise<ConnectedEngine> {
    const engine = await connectEngine(this.connection());
    this.connected.push(engine);
    return engine;
  }

  /** What only the person who runs the server may do, for use in this thread. */
  async connectAdmin(): Promise<AdminEngine> {
    const engine = new AdminEngine(this.connection());
    this.connected.push(engine);
    await engine.connected;
    return engine;
  }

  /** True when every shard takes requests. */
  get isReady(): boolean {
    return this.threads.every((thread) => thread.state === 'serving');
  }

  /** The counters all threads share; also what observers go by. */
  get counterMemory(): SharedArrayBuffer {
    return this.counters.memory;
  }

  /** What the shards report about themselves, summed up; all of one moment. */
  totals(): Readonly<Record<ShardCell | 'reopenings', number>> {
    return { ...this.counters.snapshot(), reopenings: this.reopened };
  }

  /** Finishes what the shards have accepted; resolves when all is on disk and every thread has ended. */
  async close(): Promise<void> {
    this.closing = true;
    for (const engine of this.connected) engine.disconnect();
    await Promise.all(this.threads.map((thread) => this.closeShard(thread)));
    for (const channel of this.controls) channel.port1.close();
    await new Promise((resolve) => this.lock.close(resolve));
  }

  private async closeShard(thread: ShardThread): Promise<void> {
    if (thread.state === 'gone') return;
    await new Promise<void>((resolve) => {
      thread.worker.once('exit', () => resolve());
      thread.worker.postMessage({ type: 'close' } satisfies ShardCommand);
    });
  }

  /** Resolves when the shard serves; rejects when it dies before. */
  private startShard(shard: number): Promise<RecoveryReport> {
    const workerData: ShardWorkerData = {
      shard,
      directory: shardDirectory(this.options.dataDir, shard),
      counterMemory: this.counters.memory,
      versionMemory: this.versionMemory,
      settings: this.options.settings,
    };
    const worker = new Worker(workerEntry('shard'), { workerData, name: `shard-${shard}` });
    const thread: ShardThread = { shard, worker, state: 'starting', outOfSpace: false };
    this.threads[shard] = thread;
    return new Promise((resolve, reject) => {
      let lastError: Error | null = null;
      worker.on('error', (error) => {
        lastError = error instanceof Error ? error : new Error(String(error));
        reject(lastError);
      });
      worker.on('exit', (exitCode) => {
        const wasOpen = isReading(thread);
        thread.state = 'gone';
        this.counters.endPublication(shard);
        const error = lastError ?? new Error(`thread ended with ${exitCode}`);
        if (!wasOpen) reject(error);
        else if (!this.closing) this.died(thread, error);
      });
      worker.on('message', (report: ShardReport) => {
        if (report.type === 'ready') {
          thread.state = 'serving';
          for (const channel of this.controls) this.attach(thread, channel);
          resolve(report.recovery);
        } else if (report.type === 'broken') {
          thread.state = 'broken';
          thread.outOfSpace = report.outOfSpace;
          setTimeout(() => this.endBroken(thread), REOPEN_DELAY_MS).unref();
        }
      });
    });
  }

  private attach(thread: ShardThread, channel: MessageChannel): void {
    const { port1, port2 } = new MessageChannel();
    thread.worker.postMessage({ type: 'attach', port: port1 } satisfies ShardCommand, [port1]);
    channel.port1.postMessage({ shard: thread.shard, port: port2 } satisfies ShardPort, [port2]);
  }

  private endBroken({ worker }: ShardThread): void {
    if (this.closing) return;
    const limit = setTimeout(() => void worker.terminate(), CLOSE_LIMIT_MS).unref();
    worker.once('exit', () => clearTimeout(limit));
    worker.postMessage({ type: 'close' } satisfies ShardCommand);
  }

  private died({ shard, outOfSpace }: ShardThread, error: Error): void {
    for (const channel of this.controls) {
      channel.port1.postMessage({ shard, port: null } satisfies ShardPort);
    }
    if (outOfSpace) this.options.logger.warn({ shard }, 'shard closed for want of room on the disk: opened again');
    else if (!this.options.deaths.record(`shard-${shard}`, error)) return;
    void this.reopen(shard);
  }

  /** Tries until it works or `deaths` says that it never will. */
  private async reopen(shard: number): Promise<void> {
    const { logger, deaths } = this.options;
    while (!this.closing) {
      try {
        const recovery = await this.startShard(shard);
        this.reopened += 1;
        logger.warn({ shard, ...recovery }, 'shard thread restarted through recovery');
        return;
      } catch (cause) {
        if (this.closing || !deaths.record(`shard-${shard}`, new Error("can't be reopened", { cause }))) return;
        await sleep(REOPEN_DELAY_MS);
      }
    }
  }
}

function isReading({ state }: ShardThread): boolean {
  return state === 'serving' || state === 'broken';
}
