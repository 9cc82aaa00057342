import type { Buffer } from 'node:buffer';
import { join } from 'node:path';
import { DataDirectoryError, shardDirectory } from '../data-directory.js';
import { realDisk } from '../disk.js';
import { LineReader } from '../log-reader.js';
import { fromByteString } from '../overlay-table.js';
import { RecentLog } from '../recent-log.js';
import { shardOf } from '../routing.js';
import { type QueueRow, queueCodec, type ViewMeta } from '../row-codecs.js';
import { seqOfQueueKey } from '../store-keys.js';
import type { Progress } from './progress.js';
import { storePath } from './store-snapshots.js';
import { StoredRows } from './stored-rows.js';

/**
 * Comparing the shards of a new count with the old ones: every row of every old store is in the new store that owns it,
 * and there are no others. A queue's row lies elsewhere in the new log; the line there must be its message's.
 */

/** Made anew, or left behind. */
const NOT_COMPARED = new Set(['meta', 'key_counts', 'pending_registrations', 'filler']);
/** A replay remembers what the old shard has forgotten since, as its time was over. */
const MAY_HAVE_MORE = new Set(['send_claims', 'sent_once', 'expiries']);
const TOTALS: readonly (keyof ViewMeta)[] = ['stateBytes', 'keys', 'agents', 'queuedMessages', 'queuedBytes'];

/** Returns how many rows were compared. @throws DataDirectoryError at the first difference. */
export async function compareShards(
  dataDir: string,
  from: number,
  workDir: string,
  to: number,
  progress: Progress,
): Promise<number> {
  const before: StoredRows[] = [];
  const after: StoredRows[] = [];
  const readers: LineReader[] = [];
  try {
    for (let shard = 0; shard < from; shard++) before.push(StoredRows.open(storePath(dataDir, shard)));
    for (let shard = 0; shard < to; shard++) {
      after.push(StoredRows.open(storePath(workDir, shard)));
      readers.push(new LineReader(realDisk, join(shardDirectory(workDir, shard), 'log'), new RecentLog(1)));
    }
    const tables = new Set([...before, ...after].flatMap((rows) => rows.tableNames()));
    let compared = 0;
    progress.stage('compare', 0);
    for (const table of tables) {
      if (NOT_COMPARED.has(table)) continue;
      for (const rows of before) {
        for (const { key, value } of rows.rows(table)) {
          await compareRow(table, key, value, after, readers);
          compared += 1;
        }
      }
      const [old, now] = [countOf(before, table), countOf(after, table)];
      if (old !== now && !(MAY_HAVE_MORE.has(table) && now > old)) {
        throw new DataDirectoryError(`reshard: ${table} has ${now} rows instead of ${old}; the original is untouched`);
      }
    }
    for (const total of TOTALS) {
      const [old, now] = [totalOf(before, total), totalOf(after, total)];
      if (old !== now)
        throw new DataDirectoryError(`reshard: ${total} is ${now} instead of ${old}; the original is untouched`);
    }
    return compared;
  } finally {
    for (const rows of [...before, ...after]) await rows.close();
    for (const reader of readers) await reader.close();
  }
}

async function compareRow(
  table: string,
  key: Buffer,
  value: Buffer,
  after: readonly StoredRows[],
  readers: readonly LineReader[],
): Promise<void> {
  const name = ownerOfRow(table, key, value);
  const owners = name === null ? [...after.keys()] : [shardOf(name, after.length)];
  for (const owner of owners) {
    const found = after[owner]?.get(table, key);
    if (found === undefined) continue;
    if (found.equals(value)) {
      if (table !== 'queues') return;
    } else if (table !== 'queues') break;
    if (await isSameMessage(key, value, found, readers[owner] as LineReader)) return;
  }
  const shown = JSON.stringify(key.toString('utf8'));
  throw new DataDirectoryError(`reshard: ${table} ${shown} is not as it was; the original is untouched`);
}

/** Null when the key does not tell: then it may be in any shard. */
function ownerOfRow(table: string, key: Buffer, value: Buffer): string | null {
  const text = key.toString('latin1');
  switch (table) {
    case 'state':
      return fromByteString(text);
    case 'agents':
    case 'operators':
    case 'credentials':
    case 'push_agents':
      return text;
    case 'agent_order':
      return value.toString('latin1');
    case 'queues':
    case 'send_claims':
      return text.slice(0, text.indexOf(':'));
    default:
      return null;
  }
}

async function isSameMessage(key: Buffer, before: Buffer, after: Buffer, reader: LineReader): Promise<boolean> {
  const [old, now] = [queueCodec.decode(before), queueCodec.decode(after)];
  const heldAs = ({ bytes, hold }: QueueRow): string => JSON.stringify([bytes, hold]);
  if (heldAs(old) !== heldAs(now)) return false;
  const line = await reader.read(now.position, now.bytes);
  return line?.type === 'message_sent' && line.seq === seqOfQueueKey(key.toString('latin1'));
}

function countOf(stores: readonly StoredRows[], table: string): number {
  return stores.reduce((count, rows) => count + rows.count(table), 0);
}

function totalOf(stores: readonly StoredRows[], total: keyof ViewMeta): number {
  return stores.reduce((sum, rows) => sum + (rows.meta()?.[total] ?? 0), 0);
}
