/**
 * Entry of a further gateway thread, which shares the port with the others.
 * Owns:      its gateway; it closes it before the thread ends, since a live native app in a dead thread aborts the process.
 * Commands:  `GatewayCommand` from the parent; `GatewayNotice` to it.
 */
import { Buffer } from 'node:buffer';
import { isMainThread, type MessagePort, parentPort, workerData } from 'node:worker_threads';
import { connectHasher } from '../auth-pool/remote-hasher.js';
import type { Config } from '../config/config.js';
import { createLogger } from '../log.js';
import { connectEngine, type EngineConnection } from '../shards/connect-engine.js';
import { ConnectionCounts, type ConnectionCountsMemory } from './connect/connection-counts.js';
import { type Gateway, type GatewayContext, type GatewayStats, startGateway } from './gateway.js';
import { kernelRates, type LimiterMemory, SharedLimiter } from './limits/shared-limiter.js';

/** All plain data and ports: it crosses threads as `workerData`. */
export interface GatewayWorkerData {
  /** Tells the threads apart in logs. */
  readonly name: string;
  readonly config: Config;
  readonly engine: EngineConnection;
  /** Other end: `serveHasher`. */
  readonly hasherPort: MessagePort;
  readonly limiterMemory: LimiterMemory;
  readonly connectionMemory: ConnectionCountsMemory;
  /** From 1; 0 is the main thread's. The thread that takes a dead one's place has the same. */
  readonly number: number;
  readonly hmacServerKey: Uint8Array;
  readonly listen: GatewayContext['listen'];
}

export type GatewayCommand =
  | { readonly kind: 'drain' | 'close' }
  | { readonly kind: 'revoke'; readonly subject: string; readonly id: number }
  | { readonly kind: 'stats'; readonly id: number };

export type GatewayNotice =
  | { readonly kind: 'listening'; readonly port: number }
  | { readonly kind: 'failed'; readonly message: string }
  | { readonly kind: 'drained' }
  | { readonly kind: 'revoked'; readonly id: number }
  | { readonly kind: 'stats'; readonly id: number; readonly stats: GatewayStats };

/** Serves until told to close. Whatever ends the thread, the gateway is closed first. */
export async function runGatewayWorker(data: GatewayWorkerData, parent: MessagePort): Promise<void> {
  const { config } = data;
  const logger = createLogger(data.name, config.log.level);
  const tell = (notice: GatewayNotice): void => parent.postMessage(notice);
  let gateway: Gateway;
  try {
    gateway = await startGateway({
      config,
      engine: await connectEngine(data.engine),
      hasher: connectHasher(data.hasherPort),
      hmacServerKey: Buffer.from(data.hmacServerKey),
      limiter: new SharedLimiter(data.limiterMemory, kernelRates(config.rateLimits)),
      connectionCounts: new ConnectionCounts(data.connectionMemory, data.number, config.connect),
      logger,
      listen: data.listen,
    });
  } catch (error) {
    tell({ kind: 'failed', message: error instanceof Error ? error.message : String(error) });
    process.exit(1); // this thread only; the ports it was given end with it
  }
  process.on('uncaughtException', (error) => {
    logger.fatal({ err: error }, 'gateway thread ends by a mistake of the server: its connections are closed');
    gateway.close();
    process.exit(1); // this thread only
  });
  parent.on('message', (command: GatewayCommand) => {
    switch (command.kind) {
      case 'drain':
        gateway.drain().then(() => tell({ kind: 'drained' }));
        return;
      case 'revoke':
        gateway.revoke(command.subject);
        tell({ kind: 'revoked', id: command.id });
        return;
      case 'stats':
        tell({ kind: 'stats', id: command.id, stats: gateway.stats() });
        return;
      case 'close':
        gateway.close();
        process.exit(0); // this thread only; ports to shards and hasher end with it
    }
  });
  tell({ kind: 'listening', port: gateway.port });
}

if (!isMainThread && parentPort !== null) await runGatewayWorker(workerData as GatewayWorkerData, parentPort);
