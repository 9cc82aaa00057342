import type { Buffer } from 'node:buffer';
import { type Database, open, type RootDatabase } from 'lmdb';

/**
 * Table writer: puts rows into an LMDB file in large transactions, for tools that make or prepare one.
 * Never: used on a file that a shard has open.
 */
const ROWS_PER_TRANSACTION = 20_000;

export class TableWriter {
  private readonly env: RootDatabase<Buffer, Buffer>;
  private readonly tables = new Map<string, Database<Buffer, Buffer>>();
  private changes: { readonly table: string; readonly key: Buffer; readonly value: Buffer | null }[] = [];

  constructor(path: string) {
    this.env = open<Buffer, Buffer>({
      path,
      noSubdir: true,
      maxDbs: 16,
      overlappingSync: false,
      encoding: 'binary',
      keyEncoding: 'binary',
    });
  }

  /** `value` null removes the row. Await it: it commits now and then. */
  async put(table: string, key: Buffer, value: Buffer | null): Promise<void> {
    this.changes.push({ table, key, value });
    if (this.changes.length >= ROWS_PER_TRANSACTION) await this.commit();
  }

  /** As committed: call `commit` before. */
  get(table: string, key: Buffer): Buffer | undefined {
    return this.table(table).get(key);
  }

  async clear(table: string): Promise<void> {
    await this.commit();
    await this.table(table).clearAsync();
    await this.env.flushed;
  }

  /** Durable when it resolves. */
  async commit(): Promise<void> {
    const changes = this.changes;
    this.changes = [];
    for (const { table } of changes) this.table(table);
    await this.env.transaction(() => {
      for (const { table, key, value } of changes) {
        if (value === null) this.table(table).removeSync(key);
        else this.table(table).putSync(key, value);
      }
    });
    await this.env.flushed;
  }

  async close(): Promise<void> {
    await this.commit();
    await this.env.close();
  }

  private table(name: string): Database<Buffer, Buffer> {
    let table = this.tables.get(name);
    if (table === undefined) {
      table = this.env.openDB<Buffer, Buffer>(name, { encoding: 'binary', keyEncoding: 'binary' });
      this.tables.set(name, table);
    }
    return table;
  }
}
