/**
 * Removals by law, from the request to the transparency log.
 * Owns:      the order of their steps, the transparency log, the intent of the one under way.
 * Never:     runs two at a time; gives up one that has begun: it is tried again until it is done, or by the next start.
 *
 *   find (404 if there is none) -> intent on disk -> out of store and log -> transparency entry on disk
 *     -> shards forget it -> intent cleared -> observers told -> answer
 *
 * Whatever step a crash interrupts, a start begins the chain again behind the intent: every step may be repeated.
 */
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { EngineReply } from '../contract/engine.js';
import type { ApiErrorCode } from '../contract/errors.js';
import type { TransparencyEntry } from '../contract/redaction.js';
import type { Logger } from '../log.js';
import type { AdminEngine } from '../shards/admin-engine.js';
import type { Disk } from '../shards/disk.js';
import { clearIntent, loadIntent, type RemovalIntent, storeIntent } from '../shards/removal-intent.js';
import { contentHash, type RemovalTarget } from '../shards/removal-scan.js';
import { backupsHolding } from '../shards/tools/backup-records.js';
import { TransparencyLog } from '../shards/transparency-log.js';

/** A shard that is away is asked again after this time. */
const RETRY_DELAY_MS = 500;
/** A start waits this long for a removal that a crash interrupted; agents' service must not hang on a full disk. */
const START_LIMIT_MS = 20_000;
/** Waiting for their turn, the one under way included; past it `unavailable`. */
const MAX_WAITING = 64;

export interface RemovalOptions {
  readonly dataDir: string;
  readonly engine: Pick<AdminEngine, 'findContent' | 'removeContent' | 'settleRemoval'>;
  readonly disk: Disk;
  readonly logger: Logger;
  /** The content is gone and the entry is durable: open pages may be told. */
  readonly onRemoved: (entry: TransparencyEntry) => void;
}

export interface Removal {
  readonly entry: TransparencyEntry;
  /** Archives that can't be read, and may still hold it. */
  readonly unreadable: readonly string[];
  /** Backups that were made before, and still hold it as far as their records tell. */
  readonly backups: readonly string[];
}

/** What a removal waits for is over: the server stops. The next start finishes what had begun. */
class Stopped extends Error {
  constructor() {
    super('the server stops; the removal is finished at its next start');
    this.name = 'Stopped';
  }
}

export class Removals {
  private readonly options: RemovalOptions;
  private readonly transparency: TransparencyLog;
  private readonly stopping = new AbortController();
  private last: Promise<unknown> = Promise.resolve();
  private waiting = 0;
  private removed = 0;
  /** Its intent is on the disk: nothing else may begin before it is finished. */
  private begun: RemovalIntent | null = null;

  /**
   * Finishes the removal that an earlier process had begun: nothing should serve before this resolves. Where it can't be
   * finished soon, as on a full disk, it goes on by itself, and `isFinishing` says so.
   */
  static async open(options: RemovalOptions, startLimitMs = START_LIMIT_MS): Promise<Removals> {
    const { disk, dataDir, logger } = options;
    const removals = new Removals(options, await TransparencyLog.open(disk, dataDir));
    const begun = await loadIntent(disk, dataDir);
    if (begun === null) return removals;
    removals.begun = begun;
    const finished = removals.finish(begun).then(() => {
      logger.warn({ removal: begun.id }, 'finished a removal that the last process had begun');
    });
    removals.last = finished.catch(() => {}); // told below, or by the next removal, which has to finish it first
    const limit = new AbortController();
    const expired = sleep(startLimitMs, undefined, { signal: limit.signal, ref: false }).catch(() => {});
    await Promise.race([finished, expired]);
    limit.abort();
    if (removals.isFinishing) {
      logger.error({ removal: begun.id }, 'a removal that the last process had begun is not finished yet; it goes on');
    }
    return removals;
  }

  private constructor(options: RemovalOptions, transparency: TransparencyLog) {
    this.options = options;
    this.transparency = transparency;
  }

  /** A removal that an earlier process had begun waits for a shard or for room. */
  get isFinishing(): boolean {
    return this.begun !== null && this.waiting === 0;
  }

  /** Oldest first. */
  get entries(): readonly TransparencyEntry[] {
    return this.transparency.entries;
  }

  /** Since start. */
  get count(): number {
    return this.removed;
  }

  /**
   * Removes the content; durable, logged and out of every reader's sight on resolution. `not_found`: there is none, or
   * none any more. `store_full`: no room for what must be noted first. `unavailable`: a shard is away, or too many wait.
   * Cost: reading the whole event log once.
   */
  async remove(target: RemovalTarget, reason: string): Promise<EngineReply<Removal>> {
    if (this.waiting >= MAX_WAITING || this.stopping.signal.aborted) return { ok: false, code: 'unavailable' };
    this.waiting += 1;
    const turn = this.last.then(() => this.removeInTurn(target, reason));
    this.last = turn.catch(() => {}); // its caller is told; the next one is not concerned
    try {
      return await turn;
    } catch (error) {
      if (error instanceof Stopped) return { ok: false, code: 'unavailable' };
      throw error;
    } finally {
      this.waiting -= 1;
    }
  }

  /** Begins nothing any more; resolves when nothing is under way. What waits for a shard is left to the next start. */
  async close(): Promise<void> {
    this.stopping.abort();
    await this.last;
  }

  private async removeInTurn(target: RemovalTarget, reason: string): Promise<EngineReply<Removal>> {
    const { engine, disk, dataDir, logger } = this.options;
    if (this.stopping.signal.aborted) return { ok: false, code: 'unavailable' };
    if (this.begun !== null) await this.finish(this.begun);
    const id = randomUUID();
    const found = await engine.findContent(id, target);
    if (!found.ok) return found;
    if (!found.value.isFound) return { ok: false, code: 'not_found' };
    // A damaged line alone has no content that anybody could be sure of.
    const hash = found.value.contentHash ?? contentHash('');
    const intent: RemovalIntent = { id, target, reason, ts: new Date().toISOString(), contentHash: hash };
    try {
      await storeIntent(disk, dataDir, intent);
    } catch (error) {
      await clearIntent(disk, dataDir); // nothing has begun, and nothing must begin by itself
      logger.error({ err: error, removal: id }, 'removal not begun: its intent could not be written');
      return { ok: false, code: refusalOf(error) };
    }
    this.begun = intent;
    return { ok: true, value: await this.finish(intent) };
  }

  private async finish(intent: RemovalIntent): Promise<Removal> {
    const { engine, disk, dataDir, logger, onRemoved } = this.options;
    const { id, target } = intent;
    let entry = this.transparency.entries.findLast((each) => each.ts === intent.ts && isOf(each, target));
    let unreadable: readonly string[] = [];
    let firstSeq = 0;
    if (entry === undefined) {
      const removed = await this.insist(id, () => engine.removeContent(id, target));
      ({ unreadable, firstSeq } = removed);
      entry = entryOf(intent, removed.contentHash ?? intent.contentHash);
      await this.insistOnEntry(id, entry);
    }
    await this.insist(id, () => engine.settleRemoval(id));
    await clearIntent(disk, dataDir);
    this.begun = null;
    this.removed += 1;
    logger.info({ removal: id, action: entry.action, reason: entry.reason, unreadable }, 'content removed');
    onRemoved(entry);
    return { entry, unreadable, backups: backupsHolding(dataDir, firstSeq) };
  }

  /** There is no way back: a shard that refuses is asked until it does it. */
  private async insist<T>(id: string, work: () => Promise<EngineReply<T>>): Promise<T> {
    for (let attempt = 1; ; attempt++) {
      const reply = await work();
      if (reply.ok) return reply.value;
      await this.beforeRetry(id, attempt, reply.code);
    }
  }

  private async insistOnEntry(id: string, entry: TransparencyEntry): Promise<void> {
    for (let attempt = 1; ; attempt++) {
      try {
        await this.transparency.append(entry);
        return;
      } catch (error) {
        await this.beforeRetry(id, attempt, refusalOf(error));
      }
    }
  }

  private async beforeRetry(removal: string, attempt: number, code: ApiErrorCode): Promise<void> {
    const { logger } = this.options;
    if (attempt === 1) logger.warn({ removal, code }, 'a removal that has begun waits for a shard or for room');
    try {
      await sleep(RETRY_DELAY_MS, undefined, { signal: this.stopping.signal });
    } catch {
      throw new Stopped();
    }
  }
}

function entryOf({ target, reason, ts }: RemovalIntent, hash: string): TransparencyEntry {
  const rest = { reason, performed_by: 'admin', content_hash: hash } as const;
  return target.kind === 'state'
    ? { ts, action: 'state_key_removed', key: target.key, ...rest }
    : { ts, action: 'message_redacted', message_id: target.messageId, ...rest };
}

function isOf(entry: TransparencyEntry, target: RemovalTarget): boolean {
  return target.kind === 'state' ? entry.key === target.key : entry.message_id === target.messageId;
}

function refusalOf(error: unknown): ApiErrorCode {
  const isFull = error instanceof Error && 'code' in error && (error.code === 'ENOSPC' || error.code === 'EDQUOT');
  return isFull ? 'store_full' : 'unavailable';
}
