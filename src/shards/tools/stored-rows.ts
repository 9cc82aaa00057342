import type { Buffer } from 'node:buffer';
import { statSync } from 'node:fs';
import { type Database, open, type RootDatabase } from 'lmdb';
import type { Credential } from '../../contract/engine.js';
import { jsonCodec, type PendingRegistration, type ViewMeta } from '../row-codecs.js';

/**
 * Stored rows: the tables of one shard's LMDB file as they lie on the disk, for tools.
 * Never:     writes a row, makes a table, or holds a snapshot across two pages.
 * Invariant: reads what the last checkpoint committed; on a running server's file, use a hot copy (`copyStoreTo`).
 */

/** Rows read at a time; nothing is held open between two pages. */
const PAGE_ROWS = 1_000;

export interface StoredRow {
  readonly key: Buffer;
  readonly value: Buffer;
}

/** The file can't be an intact store. */
export class StoreDamagedError extends Error {
  constructor(
    readonly path: string,
    readonly reason: string,
  ) {
    super(`${path}: ${reason}`);
    this.name = 'StoreDamagedError';
  }
}

const metaCodec = jsonCodec<ViewMeta>();
const credentialCodec = jsonCodec<Credential>();
const pendingCodec = jsonCodec<PendingRegistration>();

export class StoredRows {
  private readonly tables = new Map<string, Database<Buffer, Buffer> | undefined>();

  private constructor(
    readonly path: string,
    private readonly env: RootDatabase<Buffer, Buffer>,
  ) {}

  /** @throws StoreDamagedError when there is no such file, or it is shorter than its own page count says. */
  static open(path: string): StoredRows {
    let fileBytes: number;
    let env: RootDatabase<Buffer, Buffer>;
    try {
      fileBytes = statSync(path).size;
      env = open<Buffer, Buffer>({
        path,
        noSubdir: true,
        maxDbs: 16,
        readOnly: true,
        encoding: 'binary',
        keyEncoding: 'binary',
      });
    } catch (error) {
      throw new StoreDamagedError(path, `can't be opened: ${error instanceof Error ? error.message : String(error)}`);
    }
    // Reading a mapped page beyond the end of the file would end the process.
    const { lastPageNumber, pageSize } = env.getStats() as { lastPageNumber: number; pageSize: number };
    if ((lastPageNumber + 1) * pageSize > fileBytes) {
      void env.close();
      throw new StoreDamagedError(path, `is cut off: ${fileBytes} bytes, ${(lastPageNumber + 1) * pageSize} expected`);
    }
    return new StoredRows(path, env);
  }

  tableNames(): string[] {
    return Array.from(this.env.getKeys(), (name) => name.toString('latin1').replace(/\0$/, '')).sort();
  }

  count(table: string): number {
    return this.table(table)?.getKeysCount() ?? 0;
  }

  get(table: string, key: Buffer): Buffer | undefined {
    return this.table(table)?.get(key);
  }

  /** All rows in byte order of their keys; none for a table that is not there. */
  *rows(table: string): Generator<StoredRow> {
    const db = this.table(table);
    if (db === undefined) return;
    let start: Buffer | null = null;
    for (;;) {
      const range: { limit: number; start?: Buffer; exclusiveStart?: boolean } =
        start === null ? { limit: PAGE_ROWS } : { limit: PAGE_ROWS, start, exclusiveStart: true };
      const page: StoredRow[] = Array.from(db.getRange(range), ({ key, value }) => ({ key, value }));
      yield* page;
      const last = page.at(-1);
      if (page.length < PAGE_ROWS || last === undefined) return;
      start = last.key;
    }
  }

  /** Undefined for a store that has never had a checkpoint. */
  meta(): ViewMeta | undefined {
    for (const { value } of this.rows('meta')) return metaCodec.decode(value);
    return undefined;
  }

  *credentials(): Generator<Credential> {
    for (const { value } of this.rows('credentials')) yield credentialCodec.decode(value);
  }

  *pendingRegistrations(): Generator<PendingRegistration> {
    for (const { value } of this.rows('pending_registrations')) yield pendingCodec.decode(value);
  }

  /** Writes a consistent, compacted copy to `path`, whatever another process does meanwhile; not yet synced. */
  async copyTo(path: string): Promise<void> {
    await this.env.backup(path, true);
  }

  async close(): Promise<void> {
    await this.env.close();
  }

  private table(name: string): Database<Buffer, Buffer> | undefined {
    if (!this.tables.has(name)) {
      // Read-only: undefined when there is no such table.
      const db: Database<Buffer, Buffer> | undefined = this.env.openDB<Buffer, Buffer>(name, {
        encoding: 'binary',
        keyEncoding: 'binary',
      });
      this.tables.set(name, db);
    }
    return this.tables.get(name);
  }
}
