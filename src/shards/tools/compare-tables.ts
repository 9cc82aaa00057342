import type { Buffer } from 'node:buffer';
import { SEND_CLAIM_MS, SENT_ONCE_MS } from '../delivery-rows.js';
import type { LoggedEvent } from '../log-line.js';
import { toByteString } from '../overlay-table.js';
import { jsonCodec, type SendClaimRow, timeCodec } from '../row-codecs.js';
import { offsetOf, segmentOf } from '../segments.js';
import { expiryKeysBefore, seqOfQueueKey } from '../store-keys.js';
import type { Finding, Findings } from './findings.js';
import { type SourceItem, segmentFile } from './log-source.js';
import type { StoreSnapshot } from './store-snapshots.js';
import { type StoredRow, StoredRows } from './stored-rows.js';

/**
 * Comparing a store with the one that a replay of the log made.
 */

/** Not made by the log, or checked in another way: credentials, totals, what is under way. */
const NOT_COMPARED = new Set(['credentials', 'meta', 'pending_registrations', 'filler', 'key_counts']);

/** What a row is about, so that the line of the log that made it can be found. */
export interface RowName {
  readonly table: string;
  readonly key: string;
}

/** A finding about a row; `offsetBytes` is found later. */
type RowFinding = Finding & { readonly row: RowName };

/** Returns how many rows were compared. */
export async function compareTables(
  stored: StoredRows,
  replayedPath: string,
  snapshot: StoreSnapshot,
  findings: Findings,
): Promise<number> {
  const replayed = StoredRows.open(replayedPath);
  try {
    const tables = new Set([...stored.tableNames(), ...replayed.tableNames()]);
    let compared = 0;
    for (const table of tables) {
      if (NOT_COMPARED.has(table)) continue;
      compared += compareTable(table, stored, replayed, snapshot, findings);
    }
    checkKeyCounts(stored, snapshot, findings);
    return compared;
  } finally {
    await replayed.close();
  }
}

function compareTable(
  table: string,
  stored: StoredRows,
  replayed: StoredRows,
  { shard, file }: StoreSnapshot,
  findings: Findings,
): number {
  const different = (key: Buffer, what: string): void => {
    const row: RowName = { table, key: key.toString('latin1') };
    const detail = `${table} ${JSON.stringify(key.toString('utf8'))}: ${what}`;
    findings.add({ kind: 'view', shard, file, offsetBytes: null, detail, row } as RowFinding);
  };
  const nowMs = Date.now();
  let compared = 0;
  const left = stored.rows(table);
  const right = replayed.rows(table);
  let a = next(left);
  let b = next(right);
  while (a !== null || b !== null) {
    compared += 1;
    const order = a === null ? 1 : b === null ? -1 : a.key.compare(b.key);
    if (order < 0 && a !== null) {
      different(a.key, 'the store has a row that the log does not make');
      a = next(left);
    } else if (order > 0 && b !== null) {
      if (!isForgettable(table, b, nowMs)) different(b.key, 'the log makes a row that the store does not have');
      b = next(right);
    } else if (a !== null && b !== null) {
      if (!a.value.equals(b.value)) different(a.key, 'the row is not what the log makes it');
      a = next(left);
      b = next(right);
    }
  }
  return compared;
}

const claimCodec = jsonCodec<SendClaimRow>();

/** Rows that a shard forgets by itself once their time is over. */
function isForgettable(table: string, { key, value }: StoredRow, nowMs: number): boolean {
  if (table === 'expiries') return key.toString('latin1') < expiryKeysBefore(nowMs);
  if (table === 'send_claims') return claimCodec.decode(value).claimedAtMs + SEND_CLAIM_MS <= nowMs;
  return table === 'sent_once' && timeCodec.decode(value) + SENT_ONCE_MS <= nowMs;
}

function next(rows: Generator<StoredRow>): StoredRow | null {
  const result = rows.next();
  return result.done === true ? null : result.value;
}

/** Each range's count is that of the keys in it; where ranges begin depends on the order of changes, and is not compared. */
function checkKeyCounts(stored: StoredRows, { shard, file }: StoreSnapshot, findings: Findings): void {
  const keys = stored.rows('state');
  let key = next(keys);
  const ranges = stored.rows('key_counts');
  let range = next(ranges);
  while (range !== null) {
    const following = next(ranges);
    let counted = 0;
    // The first byte of a range's row only keeps its key from being empty.
    const end = following?.key.subarray(1);
    while (key !== null && (end === undefined || key.key.compare(end) < 0)) {
      counted += 1;
      key = next(keys);
    }
    const expected = range.value.readUInt32LE(0);
    if (expected !== counted) {
      const start = JSON.stringify(range.key.subarray(1).toString('utf8'));
      const detail = `key_counts: the range from ${start} says ${expected} keys and has ${counted}`;
      findings.add({ kind: 'view', shard, file, offsetBytes: null, detail });
    }
    range = following;
  }
  if (key !== null) {
    findings.add({ kind: 'view', shard, file, offsetBytes: null, detail: 'key_counts: some keys are in no range' });
  }
}

/** Null when no finding is about a row. */
export function locateRows(findings: Findings): RowLocator | null {
  const sought = findings.kept.filter((finding): finding is RowFinding => 'row' in finding);
  return sought.length === 0 ? null : new RowLocator(findings, sought);
}

/** Finds, for rows that differ, the last line of the log that speaks of them. */
class RowLocator {
  private readonly byName = new Map<string, RowFinding>();
  private readonly places = new Map<RowFinding, { readonly file: string; readonly offsetBytes: number }>();

  constructor(
    private readonly findings: Findings,
    sought: readonly RowFinding[],
  ) {
    for (const finding of sought) {
      const { table, key } = finding.row;
      this.byName.set(`${finding.shard} ${table === 'queues' ? `seq ${seqOfQueueKey(key)}` : key}`, finding);
    }
  }

  look(item: SourceItem, dataDir: string): void {
    if (item.kind !== 'event') return;
    for (const name of namesIn(item.event)) {
      const finding = this.byName.get(`${item.shard} ${name}`);
      if (finding === undefined) continue;
      const file = segmentFile(dataDir, item.shard, segmentOf(item.position));
      this.places.set(finding, { file, offsetBytes: offsetOf(item.position) });
    }
  }

  /** Adds the places found to the findings. */
  done(): void {
    this.findings.kept.forEach((finding, index) => {
      if (!('row' in finding)) return;
      const { row: _row, ...shown } = finding as RowFinding;
      const place = this.places.get(finding as RowFinding);
      const detail = place === undefined ? shown.detail : `${shown.detail} (${shown.file})`;
      this.findings.kept[index] = { ...shown, ...place, detail };
    });
  }
}

function namesIn(event: LoggedEvent): string[] {
  const data = event.data as { readonly key?: string; readonly address?: string; readonly operator_id?: string };
  const isWrite = event.type === 'state_written' || event.type === 'state_deleted';
  if (isWrite && data.key !== undefined) return [toByteString(data.key)];
  if (event.type === 'agent_registered' && data.address !== undefined) return [data.address];
  if (event.type === 'operator_created' && data.operator_id !== undefined) return [data.operator_id];
  return [`seq ${event.seq}`];
}
