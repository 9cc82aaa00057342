/**
 * Entry of the observer thread: the observation service on what the server's threads share.
 * Owns:      the service; its listener is closed before the thread ends, however it ends.
 * Never:     is waited for by agents: what it knows it reads from files and shared counters.
 */
import { isMainThread, type MessagePort, parentPort, workerData } from 'node:worker_threads';
import { createLogger } from '../log.js';
import type { Manifest } from '../shards/data-directory.js';
import { SharedCounters } from '../shards/shared-counters.js';
import { ObservationService, type ObservationSettings, yieldToAgents } from './observation-service.js';
import { SharedWatermark } from './watermark-source.js';

export interface ObserverWorkerData {
  readonly settings: ObservationSettings;
  readonly manifest: Manifest;
  readonly counterMemory: SharedArrayBuffer;
  /** Builds the index anew. */
  readonly anew: boolean;
}

export type ObserverCommand = { readonly kind: 'close' } | { readonly kind: 'redacted' };

export type ObserverNotice =
  | { readonly kind: 'listening'; readonly port: number }
  | { readonly kind: 'failed'; readonly message: string };

/** How often observers in other processes learn of what is new. */
const PUBLISH_MS = 20;

async function runObserver(data: ObserverWorkerData, parent: MessagePort): Promise<void> {
  const { settings, manifest, counterMemory, anew } = data;
  const logger = createLogger('observer', settings.logLevel);
  const tell = (notice: ObserverNotice): void => parent.postMessage(notice);
  yieldToAgents(logger);
  let service: ObservationService | null = null;
  const die = (error: unknown): void => {
    logger.fatal({ err: error }, 'the observer thread ends by a mistake of the server: its connections are closed');
    service?.abandon();
    process.exit(1); // this thread only
  };
  process.on('uncaughtException', die);
  const watermark = new SharedWatermark(new SharedCounters(counterMemory), settings.dataDir);
  setInterval(() => watermark.publish(Date.now()), PUBLISH_MS);
  try {
    service = await ObservationService.start(settings, manifest, watermark, anew, die);
  } catch (error) {
    tell({ kind: 'failed', message: error instanceof Error ? error.message : String(error) });
    process.exit(1); // this thread only
  }
  const started = service;
  parent.on('message', (command: ObserverCommand) => {
    if (command.kind === 'redacted') started.lookForRemovals();
    else {
      started.close().then(() => {
        watermark.close();
        process.exit(0); // this thread only
      }, die);
    }
  });
  tell({ kind: 'listening', port: started.port });
}

if (!isMainThread && parentPort !== null) await runObserver(workerData as ObserverWorkerData, parentPort);
