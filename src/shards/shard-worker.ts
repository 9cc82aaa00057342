import assert from 'node:assert/strict';
import { type MessagePort, parentPort, workerData } from 'node:worker_threads';
import { createLogger } from '../log.js';
import { realDisk } from './disk.js';
import { KeyVersions } from './key-versions.js';
import type { RecoveryReport } from './recovery.js';
import type { EngineSettings } from './settings.js';
import { Shard } from './shard.js';
import { SharedCounters } from './shared-counters.js';
import { Outbox, type WireBatch } from './wire.js';

/** Thread entry of one shard: ties a `Shard` to its message ports, and to the supervisor that started it. */
export interface ShardWorkerData {
  readonly shard: number;
  readonly directory: string;
  readonly counterMemory: SharedArrayBuffer;
  readonly versionMemory: SharedArrayBuffer;
  readonly settings: EngineSettings;
}

/** Supervisor to shard. */
export type ShardCommand = { readonly type: 'attach'; readonly port: MessagePort } | { readonly type: 'close' };

/** Shard to supervisor. */
export type ShardReport =
  | { readonly type: 'ready'; readonly recovery: RecoveryReport }
  | { readonly type: 'broken'; readonly message: string; readonly outOfSpace: boolean }
  | { readonly type: 'closed' };

assert(parentPort !== null, 'shard-worker runs as a worker thread');
const supervisor = parentPort;
const { shard: shardNumber, directory, counterMemory, versionMemory, settings } = workerData as ShardWorkerData;

function report(message: ShardReport): void {
  supervisor.postMessage(message);
}

const logger = createLogger(`shard-${shardNumber}`, settings.logLevel);
const shard = await Shard.open({
  shard: shardNumber,
  directory,
  disk: realDisk,
  counters: new SharedCounters(counterMemory),
  versions: new KeyVersions(versionMemory),
  settings,
  logger,
  onBroken: (error, outOfSpace) => {
    logger.error({ shard: shardNumber, err: error, outOfSpace }, 'shard takes no more writes until it is reopened');
    report({ type: 'broken', message: error.message, outOfSpace });
  },
});

supervisor.on('message', (command: ShardCommand) => {
  if (command.type === 'attach') attach(command.port);
  else void close();
});
report({ type: 'ready', recovery: shard.recovery });

function attach(port: MessagePort): void {
  const outbox = new Outbox(port);
  shard.attach(outbox);
  port.on('message', (batch: WireBatch) => shard.handle(batch, outbox));
  port.on('close', () => shard.detach(outbox));
}

async function close(): Promise<void> {
  await shard.close();
  report({ type: 'closed' });
  supervisor.close();
}
