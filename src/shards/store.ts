import { Buffer } from 'node:buffer';
import { statSync } from 'node:fs';
import { type Database, open, type RootDatabase } from 'lmdb';
import type { Credential } from '../contract/engine.js';
import { type ByteString, OverlayTable, type RowCodec } from './overlay-table.js';
import {
  type AgentRow,
  countCodec,
  jsonCodec,
  type OperatorRow,
  type PendingRegistration,
  type PushRow,
  type QueueRow,
  queueCodec,
  type SendClaimRow,
  type StateRow,
  stateCodec,
  textCodec,
  timeCodec,
  type ViewMeta,
} from './row-codecs.js';
import { logPosition } from './segments.js';

/**
 * Store: the LMDB environment of one shard (the only importer of lmdb besides its table type).
 * Owns:      the environment, all tables, the checkpoint under way.
 * Never:     decides what is in a row.
 * Invariant: a checkpoint is one LMDB transaction: rows and `meta.appliedSeq` change together or not at all.
 * Failure:   a failed commit is final for the environment; only reopening the shard helps.
 *
 * LMDB syncs every commit (`overlappingSync: false`): a checkpoint is rare, so it may as well be safe by itself.
 */

const META_KEY = 'view';

const PAGE_BYTES = 4096;
const META_PAGES = 2;
/** A row that takes exactly one page of its own: a page less its header. */
const FILLER_BYTES = PAGE_BYTES - 24;
/** 8 MiB in one transaction; handing more over at once would stop the shard for too long. */
const FILLER_ROUND_ROWS = 2_048;
const FILLER_MARK = Buffer.from('mark');

const TOUCH_ROUND_ROWS = 512;
/** Rows on either side of a deleted one: dozens of leaves at least. */
const NEIGHBOURS = 4_096;

export class Store {
  private readonly path: string;
  private readonly env: RootDatabase<Buffer, Buffer>;
  private readonly tables: OverlayTable<unknown>[] = [];
  private readonly meta: OverlayTable<ViewMeta>;
  private readonly pending: Database<Buffer, Buffer>;
  /** What lies under `state`. */
  private readonly stateRows: Database<Buffer, Buffer>;
  /** Rows that are there for a moment, to take up free pages. */
  private readonly filler: Database<Buffer, Buffer>;
  private readonly databases: Database<Buffer, Buffer>[] = [];
  private runningCheckpoint: Promise<void> | null = null;

  readonly state: OverlayTable<StateRow>;
  readonly keyCounts: OverlayTable<number>;
  readonly agents: OverlayTable<AgentRow>;
  /** Registration order: `orderKey` -> address. */
  readonly agentOrder: OverlayTable<string>;
  readonly operators: OverlayTable<OperatorRow>;
  readonly credentials: OverlayTable<Credential>;
  /** `queueKey` -> place of the message in the log. */
  readonly queues: OverlayTable<QueueRow>;
  /** Address -> what is to be pushed, and how that went. */
  readonly pushAgents: OverlayTable<PushRow>;
  /** `sendClaimName` -> what an idempotency key stands for. */
  readonly sendClaims: OverlayTable<SendClaimRow>;
  /** Id of a message that may be sent again with the same key -> when it was sent. */
  readonly sentOnce: OverlayTable<number>;
  /** `expiryKey` of the rows of the last two; no values. */
  readonly expiries: OverlayTable<string>;

  constructor(path: string) {
    this.path = path;
    this.env = open<Buffer, Buffer>({
      path,
      noSubdir: true,
      maxDbs: 32,
      overlappingSync: false,
      encoding: 'binary',
      keyEncoding: 'binary',
    });
    this.meta = this.table('meta', jsonCodec<ViewMeta>());
    this.stateRows = this.open('state');
    this.state = this.tableOn(this.stateRows, stateCodec);
    this.keyCounts = this.table('key_counts', countCodec);
    this.agents = this.table('agents', jsonCodec<AgentRow>());
    this.agentOrder = this.table('agent_order', textCodec);
    this.operators = this.table('operators', jsonCodec<OperatorRow>());
    this.credentials = this.table('credentials', jsonCodec<Credential>());
    this.queues = this.table('queues', queueCodec);
    this.pushAgents = this.table('push_agents', jsonCodec<PushRow>());
    this.sendClaims = this.table('send_claims', jsonCodec<SendClaimRow>());
    this.sentOnce = this.table('sent_once', timeCodec);
    this.expiries = this.table('expiries', textCodec);
    this.pending = this.open('pending_registrations');
    this.filler = this.open('filler');
  }

  /** As of the last checkpoint; zeros for a new store. */
  loadMeta(): ViewMeta {
    return (
      this.meta.get(META_KEY) ?? {
        appliedSeq: 0,
        replayFrom: logPosition(1, 0),
        stateBytes: 0,
        keys: 0,
        agents: 0,
        queuedMessages: 0,
        queuedBytes: 0,
      }
    );
  }

  /** Size of LMDB's file, which only grows: it uses its own free pages first. */
  get fileBytes(): number {
    return statSync(this.path).size;
  }

  /** Rows that the next checkpoint will write. */
  get changedRows(): number {
    let rows = 0;
    for (const table of this.tables) rows += table.changedRows;
    return rows;
  }

  get isCheckpointing(): boolean {
    return this.runningCheckpoint !== null;
  }

  /**
   * Commits all changed rows and `meta` in one synced LMDB transaction. Blocks this thread for a microsecond or two a
   * row while they are handed over; the commit itself runs in LMDB's own thread. Never two at a time.
   */
  async checkpoint(meta: ViewMeta): Promise<void> {
    while (this.runningCheckpoint !== null) await this.runningCheckpoint;
    this.runningCheckpoint = this.commit(meta);
    try {
      await this.runningCheckpoint;
    } finally {
      this.runningCheckpoint = null;
    }
  }

  /** Durable on return. `subject` is the agent address or operator id. */
  async putPending(subject: string, pending: PendingRegistration): Promise<void> {
    await committed(this.pending.put(Buffer.from(subject, 'latin1'), Buffer.from(JSON.stringify(pending), 'utf8')));
    await this.env.flushed;
  }

  getPending(subject: string): PendingRegistration | undefined {
    const bytes = this.pending.get(Buffer.from(subject, 'latin1'));
    return bytes === undefined ? undefined : (JSON.parse(bytes.toString('utf8')) as PendingRegistration);
  }

  /** The registration is complete, or was never logged. Need not be durable: recovery finds out again. */
  async removePending(subject: string): Promise<void> {
    await committed(this.pending.remove(Buffer.from(subject, 'latin1')));
  }

  pendingSubjects(): string[] {
    return Array.from(this.pending.getKeys(), (key) => key.toString('latin1'));
  }

  /**
   * Leaves nothing in LMDB's file of state that is no more, as far as that can be done; durable on return. Call it after
   * a checkpoint; none runs meanwhile. Deleting a row leaves its bytes in the unused middle of its page, or in a page
   * that is free now. Pages that a reader of another process still looks at are left out.
   * @param key that was deleted. Cost: some thousand rows around it and all free pages are written, in LMDB's own thread.
   */
  async eraseRemains(key: ByteString, isStopped: () => boolean): Promise<void> {
    while (this.runningCheckpoint !== null) await this.runningCheckpoint;
    this.runningCheckpoint = this.touchLeaves(Buffer.from(key, 'latin1'), isStopped);
    try {
      await this.runningCheckpoint;
    } finally {
      this.runningCheckpoint = null;
    }
    await this.overwriteFreePages(isStopped);
  }

  /**
   * LMDB writes a changed page anew, elsewhere, and takes along only what is in use of it: so each leaf is changed that
   * may have held the key. A leaf's rows leave it for its neighbours, so they are not far.
   */
  private async touchLeaves(key: Buffer, isStopped: () => boolean): Promise<void> {
    const rows = this.stateRows;
    const before = Array.from(rows.getKeys({ start: key, reverse: true, limit: NEIGHBOURS }), (each) =>
      Buffer.from(each),
    );
    let start = before.at(-1) ?? key;
    let rowsLeft = before.length + NEIGHBOURS;
    while (rowsLeft > 0 && !isStopped()) {
      rowsLeft -= TOUCH_ROUND_ROWS;
      const keys = Array.from(rows.getKeys({ start, limit: TOUCH_ROUND_ROWS }), (each) => Buffer.from(each));
      const round = this.env.batch(() => {
        for (const each of keys) touch(rows, successor(each));
      });
      await committed(round);
      const last = keys.at(-1);
      if (last === undefined || keys.length < TOUCH_ROUND_ROWS) break;
      start = successor(last);
    }
    await this.env.flushed;
  }

  /** LMDB uses free pages again, but leaves in them what was there. */
  private async overwriteFreePages(isStopped: () => boolean): Promise<void> {
    await committed(this.filler.clearAsync()); // a crash may have left some
    // Pages that a transaction has freed are used again by the second one after it.
    for (let turn = 0; turn < 2; turn++) {
      await committed(this.filler.put(FILLER_MARK, Buffer.from([turn])));
      await this.env.flushed;
    }
    const zeros = Buffer.alloc(FILLER_BYTES);
    const rows = Math.ceil(this.fileBytes / PAGE_BYTES) - this.usedPages();
    for (let first = 0; first < rows && !isStopped(); first += FILLER_ROUND_ROWS) {
      const end = Math.min(first + FILLER_ROUND_ROWS, rows);
      const round = this.env.batch(() => {
        // Rejections surface once, through the batch.
        for (let row = first; row < end; row++) void this.filler.put(fillerKey(row), zeros).catch(() => {});
      });
      await committed(round);
    }
    await this.env.flushed;
    await committed(this.filler.clearAsync());
    await this.env.flushed;
  }

  /** Pages of all tables' trees and of LMDB's own. */
  private usedPages(): number {
    const root = statsOf(this.env);
    let pages = META_PAGES + pagesOf(root) + (root.free === undefined ? 0 : pagesOf(root.free));
    for (const database of this.databases) pages += pagesOf(statsOf(database));
    return pages;
  }

  /** Also after a failed checkpoint: an environment that stays open would be shared with whoever opens it next. */
  async close(): Promise<void> {
    await Promise.allSettled([this.runningCheckpoint]);
    await this.env.close();
  }

  private async commit(meta: ViewMeta): Promise<void> {
    this.meta.put(META_KEY, meta);
    await committed(
      this.env.batch(() => {
        for (const table of this.tables) table.flush();
      }),
    );
    await this.env.flushed;
    for (const table of this.tables) table.flushed();
  }

  private table<Row>(name: string, codec: RowCodec<Row>): OverlayTable<Row> {
    return this.tableOn(this.open(name), codec);
  }

  private tableOn<Row>(database: Database<Buffer, Buffer>, codec: RowCodec<Row>): OverlayTable<Row> {
    const table = new OverlayTable<Row>(database, codec);
    this.tables.push(table as OverlayTable<unknown>);
    return table;
  }

  private open(name: string): Database<Buffer, Buffer> {
    const database = this.env.openDB<Buffer, Buffer>(name, { encoding: 'binary', keyEncoding: 'binary' });
    this.databases.push(database);
    return database;
  }
}

/**
 * Changes the leaf that `key` would be in, and nothing else: it comes and goes. Values are left alone, whatever their
 * size. Only inside a batch, whose rejection tells of all.
 */
function touch(rows: Database<Buffer, Buffer>, key: Buffer): void {
  if (rows.doesExist(key)) return;
  void rows.put(key, Buffer.alloc(0)).catch(() => {});
  void rows.remove(key).catch(() => {});
}

/** The key right behind. */
function successor(key: Buffer): Buffer {
  return Buffer.concat([key, Buffer.from([0])]);
}

function fillerKey(row: number): Buffer {
  const key = Buffer.allocUnsafe(4);
  key.writeUInt32BE(row, 0);
  return key;
}

/** What lmdb's `getStats` says, which its types leave open. */
interface PageStats {
  readonly treeBranchPageCount: number;
  readonly treeLeafPageCount: number;
  readonly overflowPages: number;
  readonly free?: PageStats;
}

function statsOf(database: { getStats(): object }): PageStats {
  return database.getStats() as PageStats;
}

function pagesOf(stats: PageStats): number {
  return stats.treeBranchPageCount + stats.treeLeafPageCount + stats.overflowPages;
}

/** lmdb's error for a failed commit carries a second rejection, which nobody else would handle; its cause is in there. */
async function committed(write: Promise<unknown>): Promise<void> {
  try {
    await write;
  } catch (error) {
    const cause: unknown =
      error instanceof Error && 'commitError' in error ? await rejectionOf(error.commitError) : null;
    throw cause === null ? error : new Error('LMDB could not commit', { cause });
  }
}

async function rejectionOf(promise: unknown): Promise<unknown> {
  try {
    await promise;
    return null;
  } catch (error) {
    return error;
  }
}
