/**
 * Seq lists: which events are an agent's or everybody's, by type, and which wrote or deleted a state key, in order.
 * Owns:      the rows of the tables `lists` and `history`.
 * Invariant: the newest seqs lie open, in the row of the agent or the key, which each of its events changes anyway; the
 *            older ones lie in blocks, each a row that never changes again. Nothing is in both.
 *
 * A row for each seq would cost more than all else: each is put into another page.
 */
import { Buffer } from 'node:buffer';
import { hash } from 'node:crypto';
import { decodeBlock, EVERYBODY_OPEN_KEY, encodeBlock, historyKey, listKey } from './index-rows.js';
import type { Table } from './index-store.js';

/** An agent's row should stay small: so many seqs lie open at most, and so many are in a block at most. */
export const BLOCK_SEQS = 64;
/** The same of a state key, of which there are many that are written a few times only. */
export const HISTORY_BLOCK_SEQS = 16;
const MAX_SEQ = Number.MAX_SAFE_INTEGER;
/** [type: u8][seq: f64] */
const ENTRY_BYTES = 9;
const NOTHING = Buffer.alloc(0);

/** The newest events of an agent or of everybody, of all types, in order: those in its row, and what a batch adds to them. */
export class OpenList {
  /** Type number and `seq` in turn. */
  private added: number[] = [];

  /** @param stored as it was written; kept, not changed */
  constructor(private stored: Buffer = NOTHING) {}

  static ofEverybody(lists: Table): OpenList {
    return new OpenList(lists.get(EVERYBODY_OPEN_KEY));
  }

  /** @param seq above all that are in the list */
  add(typeId: number, seq: number): void {
    this.added.push(typeId, seq);
  }

  /** Moves all into blocks when there are too many of them to stay. Before `bytes` and `write`. */
  settle(lists: Table, ownerId: number): void {
    if (this.bytes < BLOCK_SEQS * ENTRY_BYTES) return;
    const byType = new Map<number, number[]>();
    for (let at = 0; at < this.stored.length; at += ENTRY_BYTES) {
      pushTo(byType, this.stored[at] as number, this.stored.readDoubleLE(at + 1));
    }
    for (let i = 0; i < this.added.length; i += 2) pushTo(byType, this.added[i] as number, this.added[i + 1] as number);
    for (const [typeId, seqs] of byType) {
      for (let from = 0; from < seqs.length; from += BLOCK_SEQS) {
        const block = seqs.slice(from, from + BLOCK_SEQS);
        lists.putSync(listKey(ownerId, typeId, block.at(-1) as number), encodeBlock(block));
      }
    }
    this.stored = NOTHING;
    this.added = [];
  }

  /** As it is written. */
  get bytes(): number {
    return this.stored.length + (this.added.length / 2) * ENTRY_BYTES;
  }

  /** Into a row that has room for it. */
  write(row: Buffer, offset: number): void {
    let at = offset + this.stored.copy(row, offset);
    for (let i = 0; i < this.added.length; i += 2) {
      row[at] = this.added[i] as number;
      row.writeDoubleLE(this.added[i + 1] as number, at + 1);
      at += ENTRY_BYTES;
    }
  }

  /** Those of one type that lie open in the row, after `since`. */
  after(typeId: number, since: number): number[] {
    const found: number[] = [];
    for (let at = 0; at < this.stored.length; at += ENTRY_BYTES) {
      if (this.stored[at] !== typeId) continue;
      const seq = this.stored.readDoubleLE(at + 1);
      if (seq > since) found.push(seq);
    }
    return found;
  }
}

function pushTo(lists: Map<number, number[]>, typeId: number, seq: number): void {
  const seqs = lists.get(typeId);
  if (seqs === undefined) lists.set(typeId, [seq]);
  else seqs.push(seq);
}

/** The first `limit` seqs of one type after `since`. Cost: at most so many rows. A block's key has the last `seq` in it. */
export function listAfter(
  lists: Table,
  ownerId: number,
  open: OpenList,
  typeId: number,
  since: number,
  limit: number,
): number[] {
  const found: number[] = [];
  const range = { start: listKey(ownerId, typeId, since + 1), end: listKey(ownerId, typeId, MAX_SEQ), limit };
  for (const { value } of lists.getRange(range)) {
    for (const seq of decodeBlock(value)) if (seq > since) found.push(seq);
    if (found.length >= limit) return found.slice(0, limit);
  }
  found.push(...open.after(typeId, since));
  return found.slice(0, limit);
}

/** @param seq above all that are in the history */
export function appendToHistory(history: Table, key: string, open: number[], seq: number): void {
  open.push(seq);
  if (open.length === HISTORY_BLOCK_SEQS) closeHistory(history, key, open);
}

/** Makes a block of what is open, whatever it is: for a key that has no row any more to keep it in. */
export function closeHistory(history: Table, key: string, open: number[]): void {
  const [first] = open;
  if (first === undefined) return;
  history.putSync(historyKey(hashOfStateKey(key), first), encodeBlock(open));
  open.length = 0;
}

/** The last `limit` seqs before `before`, newest first. Cost: so many rows at most. A block's key has the first `seq` in it. */
export function historyBefore(
  history: Table,
  key: string,
  open: readonly number[],
  before: number,
  limit: number,
): number[] {
  const found = open.filter((seq) => seq < before).reverse();
  if (before === 0 || found.length >= limit) return found.slice(0, limit);
  const keyHash = hashOfStateKey(key);
  const range = { start: historyKey(keyHash, before - 1), end: historyKey(keyHash, 0), reverse: true, limit };
  for (const { value } of history.getRange(range)) {
    for (const seq of decodeBlock(value).reverse()) if (seq < before) found.push(seq);
    if (found.length >= limit) break;
  }
  return found.slice(0, limit);
}

function hashOfStateKey(key: string): Buffer {
  return hash('sha256', key, 'buffer');
}
