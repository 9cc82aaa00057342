import assert from 'node:assert/strict';
import { Buffer } from 'node:buffer';
import type { Database } from 'lmdb';

/**
 * Overlay table: one LMDB table with the rows that are visible but not yet committed to it laid over.
 * Owns:      the changed rows of this checkpoint interval (`active`) and those of the checkpoint under way (`flushing`).
 * Never:     commits by itself; the store gathers the changes of all tables into one LMDB transaction.
 * Invariant: a row is in `active`, else in `flushing`, else in LMDB; a tombstone (undefined) hides what lies below.
 *
 * Keys are byte strings: one UTF-16 unit (0-255) for each byte of the key, so that `<` is byte order, as in LMDB.
 */
export interface RowCodec<Row> {
  encode(row: Row): Buffer;
  decode(bytes: Buffer): Row;
  /** Size of a row, for tables that `sizeOf` is asked of: of the row itself, and as it lies in LMDB. */
  sizeOf?(row: Row): number;
  storedSizeOf?(bytes: Buffer): number;
}

export type ByteString = string;

/** The UTF-8 bytes of `text` as a byte string; `text` itself when it is ASCII. */
export function toByteString(text: string): ByteString {
  for (let i = 0; i < text.length; i++) {
    if (text.charCodeAt(i) > 127) return Buffer.from(text, 'utf8').toString('latin1');
  }
  return text;
}

export function fromByteString(bytes: ByteString): string {
  for (let i = 0; i < bytes.length; i++) {
    if (bytes.charCodeAt(i) > 127) return Buffer.from(bytes, 'latin1').toString('utf8');
  }
  return bytes;
}

/** The smallest byte string above everything that begins with `prefix`; null when there is none. */
export function prefixEnd(prefix: ByteString): ByteString | null {
  let end = prefix.length;
  while (end > 0 && prefix.charCodeAt(end - 1) === 255) end--;
  if (end === 0) return null;
  return prefix.slice(0, end - 1) + String.fromCharCode(prefix.charCodeAt(end - 1) + 1);
}

/** So many changed keys are looked through one by one in each listing, before they are put in order among the others. */
const MAX_LATEST_KEYS = 256;

/** Rows changed in one interval. The sorted order is made only when somebody lists, from what came since. */
class ChangedRows<Row> {
  readonly rows = new Map<ByteString, Row | undefined>();
  private sorted: ByteString[] = [];
  private unsorted: ByteString[] = [];

  set(key: ByteString, row: Row | undefined): void {
    const before = this.rows.size;
    this.rows.set(key, row);
    if (this.rows.size !== before) this.unsorted.push(key);
  }

  /** All but the latest keys, which `latestKeys` has. O(changed rows) once for each `MAX_LATEST_KEYS` new ones, else free. */
  sortedKeys(): readonly ByteString[] {
    if (this.unsorted.length > MAX_LATEST_KEYS) {
      this.sorted = mergeSorted(this.sorted, this.unsorted.sort());
      this.unsorted = [];
    }
    return this.sorted;
  }

  /** Those of the range that are not among `sortedKeys`, in order. */
  latestKeys(start: ByteString, end: ByteString | null): ByteString[] {
    return this.unsorted.filter((key) => key >= start && (end === null || key < end)).sort();
  }
}

function mergeSorted(a: readonly string[], b: readonly string[]): string[] {
  const merged: string[] = [];
  let i = 0;
  let j = 0;
  for (;;) {
    const left = a[i];
    const right = b[j];
    if (left === undefined && right === undefined) return merged;
    if (right === undefined || (left !== undefined && left < right)) {
      merged.push(left as string);
      i++;
    } else {
      merged.push(right);
      j++;
    }
  }
}

/** Index of the first key that is not below `bound`. */
function lowerBound(keys: readonly ByteString[], bound: ByteString): number {
  let low = 0;
  let high = keys.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((keys[middle] as string) < bound) low = middle + 1;
    else high = middle;
  }
  return low;
}

export interface KeyRange {
  /** First key that may be returned. */
  readonly start: ByteString;
  /** First key beyond; null for none. */
  readonly end: ByteString | null;
  readonly limit: number;
}

const UNCHANGED = Symbol('unchanged');

export class OverlayTable<Row> {
  private readonly db: Database<Buffer, Buffer>;
  private readonly codec: RowCodec<Row>;
  private active = new ChangedRows<Row>();
  private flushing: ChangedRows<Row> | null = null;
  /** Keys of rows that are to leave no trace. */
  private readonly erased = new Set<ByteString>();

  constructor(db: Database<Buffer, Buffer>, codec: RowCodec<Row>) {
    this.db = db;
    this.codec = codec;
  }

  get(key: ByteString): Row | undefined {
    const changed = this.changed(key);
    if (changed !== UNCHANGED) return changed;
    // The buffer is lmdb's own and holds until the next read: decode before anything else happens.
    const stored = this.db.getBinaryFast(Buffer.from(key, 'latin1'));
    return stored === undefined ? undefined : this.codec.decode(stored);
  }

  /** As the codec measures it, without decoding what LMDB holds; -1 when there is no such row. */
  sizeOf(key: ByteString): number {
    const { sizeOf, storedSizeOf } = this.codec;
    assert(sizeOf !== undefined && storedSizeOf !== undefined, 'rows of this table have no size');
    const changed = this.changed(key);
    if (changed !== UNCHANGED) return changed === undefined ? -1 : sizeOf(changed);
    const stored = this.db.getBinaryFast(Buffer.from(key, 'latin1'));
    return stored === undefined ? -1 : storedSizeOf(stored);
  }

  has(key: ByteString): boolean {
    const changed = this.changed(key);
    return changed === UNCHANGED ? this.db.doesExist(Buffer.from(key, 'latin1')) : changed !== undefined;
  }

  put(key: ByteString, row: Row): void {
    this.active.set(key, row);
  }

  remove(key: ByteString): void {
    this.active.set(key, undefined);
  }

  /** As `remove`; what LMDB holds of the row is overwritten with zeros before it is deleted there. */
  erase(key: ByteString): void {
    this.remove(key);
    this.erased.add(key);
  }

  /** Keys in byte order. Cost: the page, and the rows changed lately. */
  keys(range: KeyRange): ByteString[] {
    const active = this.active.sortedKeys();
    const flushing = this.flushing?.sortedKeys() ?? [];
    const latest = mergeSorted(
      this.active.latestKeys(range.start, range.end),
      this.flushing?.latestKeys(range.start, range.end) ?? [],
    );
    let a = lowerBound(active, range.start);
    let f = lowerBound(flushing, range.start);
    let l = 0;
    const found: ByteString[] = [];
    let from: ByteString | null = range.start;
    while (from !== null && found.length < range.limit) {
      const stored = this.storedKeys(from, range.end, range.limit - found.length);
      // Fewer than asked for: LMDB has no more, so the overlay alone may go on to the end of the range.
      const isLastPage = stored.length < range.limit - found.length;
      const pageEnd: ByteString | null = isLastPage ? range.end : successor(stored[stored.length - 1] as string);
      let s = 0;
      while (found.length < range.limit) {
        const key = smallest(stored[s], active[a], flushing[f], latest[l]);
        if (key === undefined || (pageEnd !== null && key >= pageEnd)) break;
        if (stored[s] === key) s++;
        if (active[a] === key) a++;
        if (flushing[f] === key) f++;
        while (latest[l] === key) l++; // both overlays may have it
        // A key that only LMDB knows is there: it came from LMDB's own page.
        if (this.changed(key) !== undefined) found.push(key);
      }
      from = isLastPage ? null : pageEnd;
    }
    return found;
  }

  get changedRows(): number {
    return this.active.rows.size;
  }

  /** Freezes the changed rows for a checkpoint and queues them on LMDB; only inside the store's batch. */
  flush(): void {
    const flushing = this.active;
    this.flushing = flushing;
    this.active = new ChangedRows<Row>();
    for (const key of this.erased) this.overwrite(Buffer.from(key, 'latin1'));
    this.erased.clear();
    for (const [key, row] of flushing.rows) {
      const storedKey = Buffer.from(key, 'latin1');
      // Rejections surface once, through the batch that holds these writes.
      if (row === undefined) void this.db.remove(storedKey).catch(reportedByBatch);
      else void this.db.put(storedKey, this.codec.encode(row)).catch(reportedByBatch);
    }
  }

  /**
   * A row of the same size takes the very place of the old one in its page, which deleting alone would leave as it is.
   * A row that was put again after it was erased is treated likewise: it is written anew right behind this.
   */
  private overwrite(storedKey: Buffer): void {
    const stored = this.db.getBinaryFast(storedKey);
    if (stored !== undefined) void this.db.put(storedKey, Buffer.alloc(stored.length)).catch(reportedByBatch);
  }

  /** The checkpoint is committed: LMDB now has the rows itself. */
  flushed(): void {
    this.flushing = null;
  }

  /** The row as the overlay has it, undefined for a tombstone; UNCHANGED when only LMDB knows. */
  private changed(key: ByteString): Row | undefined | typeof UNCHANGED {
    const active = this.active.rows;
    const row = active.get(key);
    if (row !== undefined || active.has(key)) return row;
    const flushing = this.flushing?.rows;
    return flushing?.has(key) ? flushing.get(key) : UNCHANGED;
  }

  private storedKeys(start: ByteString, end: ByteString | null, limit: number): ByteString[] {
    const options =
      end === null
        ? { start: Buffer.from(start, 'latin1'), limit }
        : { start: Buffer.from(start, 'latin1'), end: Buffer.from(end, 'latin1'), limit };
    return Array.from(this.db.getKeys(options), (key) => key.toString('latin1'));
  }
}

function reportedByBatch(): void {}

function successor(key: ByteString): ByteString {
  return `${key}\u0000`;
}

function smallest(
  a: string | undefined,
  b: string | undefined,
  c: string | undefined,
  d: string | undefined,
): string | undefined {
  let least = a;
  if (b !== undefined && (least === undefined || b < least)) least = b;
  if (c !== undefined && (least === undefined || c < least)) least = c;
  if (d !== undefined && (least === undefined || d < least)) least = d;
  return least;
}
