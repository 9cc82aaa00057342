import type { Server } from 'node:net';
import { MessageChannel, Worker } from 'node:worker_threads';
import type { DeathWatch } from '../death-watch.js';
import type { Logger } from '../log.js';
import { workerEntry } from '../worker-entry.js';
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
  worker: Worker;
  ready: boolean;
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
  private readonly connected: ConnectedEngine[] = [];
  private closing = false;
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
    for (const thread of this.threads) if (thread.ready) this.attach(thread, channel);
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

  /** True when every shard takes requests. */
  get isReady(): boolean {
    return this.threads.every((thread) => thread.ready);
  }

  /** What the shards report about themselves, summed up; all of one moment. */
  totals(): Readonly<Record<ShardCell, number>> {
    return this.counters.snapshot();
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
    const thread: ShardThread = { shard, worker, ready: false };
    this.threads[shard] = thread;
    return new Promise((resolve, reject) => {
      let lastError: Error | null = null;
      worker.on('error', (error) => {
        lastError = error instanceof Error ? error : new Error(String(error));
        reject(lastError);
      });
      worker.on('exit', (exitCode) => {
        const wasReady = thread.ready;
        thread.ready = false;
        if (!this.closing && wasReady) this.died(shard, lastError ?? new Error(`thread ended with ${exitCode}`));
      });
      worker.on('message', (report: ShardReport) => {
        if (report.type === 'ready') {
          thread.ready = true;
          for (const channel of this.controls) this.attach(thread, channel);
          resolve(report.recovery);
        } else if (report.type === 'broken') {
          setTimeout(() => {
            if (!this.closing) worker.postMessage({ type: 'close' } satisfies ShardCommand);
          }, REOPEN_DELAY_MS).unref();
        }
      });
    });
  }

  private attach(thread: ShardThread, channel: MessageChannel): void {
    const { port1, port2 } = new MessageChannel();
    thread.worker.postMessage({ type: 'attach', port: port1 } satisfies ShardCommand, [port1]);
    channel.port1.postMessage({ shard: thread.shard, port: port2 } satisfies ShardPort, [port2]);
  }

  private died(shard: number, error: Error): void {
    const { logger } = this.options;
    for (const channel of this.controls) {
      channel.port1.postMessage({ shard, port: null } satisfies ShardPort);
    }
    if (!this.options.deaths.record(`shard-${shard}`, error)) return;
    this.startShard(shard).then(
      (recovery) => logger.info({ shard, ...recovery }, 'shard thread restarted through recovery'),
      (cause: unknown) => this.options.onFatal(new Error(`shard ${shard} can't be reopened`, { cause })),
    );
  }
}
