/**
 * The observation service as a whole, in whatever thread or process it runs: follows the log, serves API, stream and page.
 * Owns:      the index, the open segments, the listener.
 * Never:     changes anything but its index; talks to shards or gateways.
 */

import { readlinkSync } from 'node:fs';
import { constants, setPriority } from 'node:os';
import { join } from 'node:path';
import type { Config } from '../config/config.js';
import { type HttpListener, startListener } from '../gateway/listener.js';
import { PAGE_DIRECTORY } from '../installed-files.js';
import { createLogger, type Logger } from '../log.js';
import { type Manifest, shardDirectory } from '../shards/data-directory.js';
import { EventIndex } from './event-index.js';
import { EventRate } from './event-rate.js';
import { EventReader } from './event-reader.js';
import { EventStream, MAX_UNREAD_BYTES } from './event-stream.js';
import { Follower } from './follower.js';
import { MergedLog } from './merged-log.js';
import { NetworkDocument } from './network.js';
import { ObserveApi, STREAM_PATH } from './observe-api.js';
import { observeRoutes } from './observe-routes.js';
import { SegmentFiles } from './segment-files.js';
import { ShardTail } from './shard-tail.js';
import { StaticPage } from './static-page.js';
import { TransparencyLog } from './transparency.js';
import type { WatermarkSource } from './watermark-source.js';

/** What it needs of the configuration: no key, no secret. Plain data. */
export interface ObservationSettings {
  readonly dataDir: string;
  readonly indexDir: string;
  readonly observe: Config['observe'];
  readonly trustedProxies: readonly string[];
  readonly readTimeoutMs: number;
  readonly writeTimeoutMs: number;
  readonly totalStateBytes: number;
  readonly logLevel: Config['log']['level'];
}

export function observationSettings(config: Config, indexDir: string): ObservationSettings {
  return {
    dataDir: config.dataDir,
    indexDir,
    observe: config.observe,
    trustedProxies: config.server.trustedProxies,
    readTimeoutMs: config.server.readTimeoutMs,
    writeTimeoutMs: config.server.writeTimeoutMs,
    totalStateBytes: config.state.maxCapacityBytes,
    logLevel: config.log.level,
  };
}

/** One event of 1 MiB may take six times that in JSON, and comes with others of its batch. */
const MAX_SOCKET_BUFFER_BYTES = MAX_UNREAD_BYTES + 9 * 1024 * 1024;
/** Watchers have nothing to say. */
const MAX_WATCHER_MESSAGE_BYTES = 1024;
const REMOVALS_LOOK_MS = 100;
/** What flushing the index may take at the end. */
const CLOSE_PATIENCE_MS = 3_000;

export class ObservationService {
  private readonly timer: NodeJS.Timeout;
  private closing: Promise<void> | null = null;

  private constructor(
    private readonly listener: HttpListener,
    private readonly follower: Follower,
    private readonly index: EventIndex,
    private readonly reader: EventReader,
    /** Contents were removed and the transparency log says so: nothing that is shown from now on has them. */
    readonly lookForRemovals: () => void,
  ) {
    this.timer = setInterval(() => this.lookForRemovals(), REMOVALS_LOOK_MS);
  }

  /**
   * Resolves when it listens; the index may still be catching up.
   * @param anew builds the index anew.
   * @param onFailed told when it can't go on: it must be closed and started anew.
   * @throws Error with one clear line when the address can't be listened on.
   */
  static async start(
    settings: ObservationSettings,
    manifest: Manifest,
    source: WatermarkSource,
    anew: boolean,
    onFailed: (error: unknown) => void,
  ): Promise<ObservationService> {
    const logger = createLogger('observer', settings.logLevel);
    const { shards } = manifest;
    const files = Array.from({ length: shards }, (_, shard) => {
      return new SegmentFiles(join(shardDirectory(settings.dataDir, shard), 'log'));
    });
    const index = await openIndex(settings, manifest, files, anew, logger);
    const { positions, lastSeqs } = index.figures;
    const tails = files.map((shardFiles, shard) => {
      return new ShardTail(shard, shardFiles, logger, positions[shard] as number, lastSeqs[shard] as number);
    });
    const transparency = new TransparencyLog(settings.dataDir);
    const reader = new EventReader(files);
    const stream = new EventStream({ index, reader, transparency, logger });
    const rate = new EventRate();
    const log = new MergedLog(tails);
    const follower = new Follower({
      source,
      log,
      index,
      watchers: () => stream.size,
      onBatch: (lines) => {
        stream.publish(lines);
        for (const { event } of lines) rate.add(Date.parse(event.ts));
      },
      onFailed,
    });
    const routes = observeRoutes({
      index,
      reader,
      transparency,
      network: new NetworkDocument(index),
      rate,
      totalStateBytes: settings.totalStateBytes,
      progress: () => ({ watermark: follower.watermark, isCurrent: follower.isCurrent, watchers: stream.size }),
    });
    const lookForRemovals = (): void => {
      const added = transparency.refresh();
      if (added.length === 0) return;
      reader.forget();
      log.forget();
      for (const removal of added) stream.notify({ type: 'redaction', ...removal });
    };
    const api = new ObserveApi({
      requestsPerMinPerIp: settings.observe.requestsPerMinPerIp,
      trustedProxies: settings.trustedProxies,
      routes,
      page: new StaticPage(PAGE_DIRECTORY),
      stream,
      catchUp: () => {
        lookForRemovals();
        return follower.catchUp();
      },
      watermark: () => source.now?.().watermark ?? follower.watermark,
    });
    try {
      const listener = await listen(settings, logger, api);
      return new ObservationService(listener, follower, index, reader, lookForRemovals);
    } catch (error) {
      await follower.stop();
      await index.close(0);
      throw error;
    }
  }

  get port(): number {
    return this.listener.port;
  }

  /** Tells watchers, closes all connections and files. */
  close(): Promise<void> {
    this.closing ??= this.end();
    return this.closing;
  }

  /** The listener only, at once: for a thread that is about to die. */
  abandon(): void {
    this.listener.close();
  }

  private async end(): Promise<void> {
    clearInterval(this.timer);
    const patience = new Promise<void>((resolve) => setTimeout(resolve, 500).unref());
    await Promise.race([this.listener.drain(), patience]);
    this.listener.close();
    await this.follower.stop();
    this.reader.forget();
    await this.index.close(CLOSE_PATIENCE_MS);
  }
}

function listen(settings: ObservationSettings, logger: Logger, api: ObserveApi): Promise<HttpListener> {
  const { listenAddr, websocket } = settings.observe;
  return startListener(
    {
      ...listenAddr,
      shared: false,
      readTimeoutMs: settings.readTimeoutMs,
      writeTimeoutMs: settings.writeTimeoutMs,
      expectedRecoveryMs: null,
      logger,
      webSocket: {
        path: STREAM_PATH,
        maxMessageBytes: MAX_WATCHER_MESSAGE_BYTES,
        maxBufferedBytes: MAX_SOCKET_BUFFER_BYTES,
        stallTimeoutMs: websocket.writeTimeoutMs,
        pingIntervalMs: websocket.pingIntervalMs,
        maxDurationMs: websocket.maxDurationMs,
        maxConnections: websocket.maxConnections,
      },
    },
    (reply, head) => api.dispatch(reply, head),
  );
}

/** The index as it was left; built anew when the log does not go on where it stopped. */
async function openIndex(
  settings: ObservationSettings,
  manifest: Manifest,
  files: readonly SegmentFiles[],
  anew: boolean,
  logger: Logger,
): Promise<EventIndex> {
  const source = `${manifest.id} ${manifest.created_at} ${manifest.shards}`;
  const open = (again: boolean): EventIndex =>
    EventIndex.open(settings.indexDir, source, manifest.shards, again, logger);
  const index = open(anew);
  const { lastLines, lastSeqs } = index.figures;
  for (const [shard, shardFiles] of files.entries()) {
    const place = lastLines[shard];
    if (place === undefined || place.bytes === 0) continue;
    const [event] = await shardFiles.readLines([place]);
    if (event?.seq === lastSeqs[shard]) continue;
    logger.warn({ shard, ...place }, 'the event log is not the one that was indexed');
    await index.close(0);
    return open(true);
  }
  return index;
}

/**
 * Lets everything else on the machine go first: agents before spectators. Linux takes a thread for a process here, and
 * `/proc/thread-self` names the calling one. Elsewhere nothing happens.
 */
export function yieldToAgents(logger: Logger): void {
  try {
    const threadId = Number(readlinkSync('/proc/thread-self').split('/').at(-1));
    setPriority(threadId, constants.priority.PRIORITY_BELOW_NORMAL);
  } catch (error) {
    logger.debug({ err: error }, 'the observer runs with the priority of everything else');
  }
}
