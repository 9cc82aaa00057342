import { Buffer } from 'node:buffer';
import { type Database, open, type RootDatabase } from 'lmdb';
import type { Credential } from '../contract/engine.js';
import { OverlayTable, type RowCodec } from './overlay-table.js';
import {
  type AgentRow,
  countCodec,
  jsonCodec,
  type OperatorRow,
  type PendingRegistration,
  type QueueRow,
  queueCodec,
  type StateRow,
  stateCodec,
  textCodec,
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

export class Store {
  private readonly env: RootDatabase<Buffer, Buffer>;
  private readonly tables: OverlayTable<unknown>[] = [];
  private readonly meta: OverlayTable<ViewMeta>;
  private readonly pending: Database<Buffer, Buffer>;
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

  constructor(path: string) {
    this.env = open<Buffer, Buffer>({
      path,
      noSubdir: true,
      maxDbs: 16,
      overlappingSync: false,
      encoding: 'binary',
      keyEncoding: 'binary',
    });
    this.meta = this.table('meta', jsonCodec<ViewMeta>());
    this.state = this.table('state', stateCodec);
    this.keyCounts = this.table('key_counts', countCodec);
    this.agents = this.table('agents', jsonCodec<AgentRow>());
    this.agentOrder = this.table('agent_order', textCodec);
    this.operators = this.table('operators', jsonCodec<OperatorRow>());
    this.credentials = this.table('credentials', jsonCodec<Credential>());
    this.queues = this.table('queues', queueCodec);
    this.pending = this.open('pending_registrations');
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
    await this.runningCheckpoint;
    this.runningCheckpoint = this.commit(meta);
    try {
      await this.runningCheckpoint;
    } finally {
      this.runningCheckpoint = null;
    }
  }

  /** Durable on return. `subject` is the agent address or operator id. */
  async putPending(subject: string, pending: PendingRegistration): Promise<void> {
    await this.pending.put(Buffer.from(subject, 'latin1'), Buffer.from(JSON.stringify(pending), 'utf8'));
    await this.env.flushed;
  }

  getPending(subject: string): PendingRegistration | undefined {
    const bytes = this.pending.get(Buffer.from(subject, 'latin1'));
    return bytes === undefined ? undefined : (JSON.parse(bytes.toString('utf8')) as PendingRegistration);
  }

  /** The registration is complete, or was never logged. Need not be durable: recovery finds out again. */
  async removePending(subject: string): Promise<void> {
    await this.pending.remove(Buffer.from(subject, 'latin1'));
  }

  pendingSubjects(): string[] {
    return Array.from(this.pending.getKeys(), (key) => key.toString('latin1'));
  }

  async close(): Promise<void> {
    await this.runningCheckpoint;
    await this.env.close();
  }

  private async commit(meta: ViewMeta): Promise<void> {
    this.meta.put(META_KEY, meta);
    await this.env.batch(() => {
      for (const table of this.tables) table.flush();
    });
    await this.env.flushed;
    for (const table of this.tables) table.flushed();
  }

  private table<Row>(name: string, codec: RowCodec<Row>): OverlayTable<Row> {
    const table = new OverlayTable<Row>(this.open(name), codec);
    this.tables.push(table as OverlayTable<unknown>);
    return table;
  }

  private open(name: string): Database<Buffer, Buffer> {
    return this.env.openDB<Buffer, Buffer>(name, { encoding: 'binary', keyEncoding: 'binary' });
  }
}
