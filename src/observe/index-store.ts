/**
 * Index store: the LMDB environment of the observers' index.
 * Owns:      the environment and its tables; whether what is on disk can be trusted.
 * Never:     decides what is in a row.
 * Failure:   it can be deleted at any time: it is built anew from the log.
 *
 * LMDB syncs nothing (`noSync`): its flushes would stand in the way of the event log's. Transactions stay whole when the
 * process dies, as the system keeps its pages. Not so when the machine stops: so `index.json` beside the file names the
 * boot in which it was written, and an index of another boot is deleted unless it was flushed by a clean close.
 */
import { Buffer } from 'node:buffer';
import { closeSync, fsync, mkdirSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { type Database, open, type RootDatabase } from 'lmdb';
import type { Logger } from '../log.js';
import { INDEX_FORMAT } from './index-rows.js';

export type Table = Database<Buffer, Buffer>;

const TABLE_NAMES = [
  /** seq -> place */
  'events',
  /** agent or everybody, type, last seq -> block of seqs */
  'lists',
  /** address -> figures, and seqs that make no block yet */
  'agents',
  /** agent number -> address */
  'agent_ids',
  /** from, to -> messages */
  'edges',
  /** key -> last write, and seqs that make no block yet */
  'state',
  /** keys that were removed by law, and not written since */
  'removed_keys',
  /** counted ranges of state keys */
  'key_counts',
  /** key's hash, first seq -> block of seqs of writes and deletions */
  'history',
  /** agent or everybody, slot of time -> counts */
  'activity',
  'meta',
] as const;
export type TableName = (typeof TABLE_NAMES)[number];

/** Address space, not memory. LMDB grows beyond it by mapping the file a second time, which looks like memory. */
const MAP_BYTES = 64 * 2 ** 30;
const META_KEY = Buffer.from('meta', 'latin1');
const fsyncAsync = promisify(fsync);

/** What an index belongs to; another one is built anew. */
interface IndexStamp {
  readonly format: number;
  /** Identifies the data directory's contents. */
  readonly source: string;
  readonly boot: string;
  readonly flushed: boolean;
}

export class IndexStore {
  private constructor(
    private readonly directory: string,
    private readonly stamp: IndexStamp,
    private readonly env: RootDatabase<Buffer, Buffer>,
    private readonly tables: Readonly<Record<TableName, Table>>,
  ) {}

  /** @param source changes whenever the log is another one, not when it grows. @param anew deletes what is there. */
  static open(directory: string, source: string, anew: boolean, logger: Logger): IndexStore {
    mkdirSync(directory, { recursive: true });
    const boot = bootId();
    const found = readStamp(directory);
    const reason = anew ? 'asked for' : staleReason(found, source, boot);
    if (reason !== null) {
      if (found !== null) logger.warn({ directory, reason }, 'the observation index is deleted and built anew');
      for (const name of ['index.mdb', 'index.mdb-lock']) rmSync(join(directory, name), { force: true });
    }
    const stamp: IndexStamp = { format: INDEX_FORMAT, source, boot, flushed: false };
    writeStamp(directory, stamp);
    const env = open<Buffer, Buffer>({
      path: join(directory, 'index.mdb'),
      noSubdir: true,
      maxDbs: TABLE_NAMES.length + 1,
      mapSize: MAP_BYTES,
      noSync: true,
      overlappingSync: false,
      encoding: 'binary',
      keyEncoding: 'binary',
    });
    const tables = Object.fromEntries(
      TABLE_NAMES.map((name) => [
        name,
        env.openDB<Buffer, Buffer>(name, { encoding: 'binary', keyEncoding: 'binary' }),
      ]),
    ) as Record<TableName, Table>;
    return new IndexStore(directory, stamp, env, tables);
  }

  table(name: TableName): Table {
    return this.tables[name];
  }

  readMeta<Meta>(): Meta | null {
    const bytes = this.tables.meta.get(META_KEY);
    return bytes === undefined ? null : (JSON.parse(bytes.toString('utf8')) as Meta);
  }

  /** All that `change` puts and `meta`, or nothing. Visible on return. */
  commit<Meta>(change: () => Meta): void {
    this.env.transactionSync(() => {
      this.tables.meta.putSync(META_KEY, Buffer.from(JSON.stringify(change()), 'utf8'));
    });
  }

  /** Flushes, so that the index is good for the next boot too; if `patienceMs` is over first, it is not. */
  async close(patienceMs: number): Promise<void> {
    await this.env.close();
    const flushed = this.flush().then(() => true);
    let timer: NodeJS.Timeout | undefined;
    const given = new Promise<boolean>((resolve) => {
      timer = setTimeout(() => resolve(false), patienceMs);
    });
    if (await Promise.race([flushed, given])) writeStamp(this.directory, { ...this.stamp, flushed: true });
    clearTimeout(timer);
  }

  private async flush(): Promise<void> {
    const fd = openSync(join(this.directory, 'index.mdb'), 'r');
    try {
      await fsyncAsync(fd);
    } finally {
      closeSync(fd);
    }
  }
}

function staleReason(found: IndexStamp | null, source: string, boot: string): string | null {
  if (found === null) return 'there is none';
  if (found.format !== INDEX_FORMAT) return 'it has another format';
  if (found.source !== source) return 'it belongs to another event log';
  if (found.boot !== boot && !found.flushed) return 'the machine stopped before it was flushed';
  return null;
}

function readStamp(directory: string): IndexStamp | null {
  try {
    return JSON.parse(readFileSync(join(directory, 'index.json'), 'utf8')) as IndexStamp;
  } catch (error) {
    if (error instanceof SyntaxError) return { format: 0, source: '', boot: '', flushed: false };
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return null;
    throw error;
  }
}

/** Synced: that a flushed index is in use again must be known before it changes. */
function writeStamp(directory: string, stamp: IndexStamp): void {
  writeFileSync(join(directory, 'index.json'), `${JSON.stringify(stamp)}\n`, { flush: true });
}

/** Changes when the machine starts anew. */
function bootId(): string {
  try {
    return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
  } catch {
    return `unknown-${process.pid}`; // no such file here: every process counts as a boot of its own
  }
}
