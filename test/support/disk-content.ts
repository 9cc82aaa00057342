/**
 * What a file on a disk in memory holds, and how its changes are lost in a power cut.
 * Owns: the bytes of one file in one state. Small writes to it are made in place: lives by the thousand depend on it.
 */
import { Buffer } from 'node:buffer';

/** A change of a file that no sync has made durable yet. */
export type Change =
  | { readonly kind: 'write'; readonly positionBytes: number; readonly bytes: Buffer }
  | { readonly kind: 'truncate'; readonly sizeBytes: number };

const MIN_MEMORY_BYTES = 1024;

/** Bytes that change. Past its end its memory holds zeros, as gaps are zeros in a sparse file. */
export class DiskContent {
  private memory: Buffer;
  private sizeBytes: number;
  /** Nobody else looks at `memory`. */
  private isOwned = false;

  /** @param bytes as it begins; they are never changed */
  constructor(bytes: Buffer) {
    this.memory = bytes;
    this.sizeBytes = bytes.length;
  }

  get length(): number {
    return this.sizeBytes;
  }

  apply(change: Change): void {
    if (change.kind === 'truncate') {
      const { sizeBytes } = change;
      this.own(sizeBytes);
      if (sizeBytes < this.sizeBytes) this.memory.fill(0, sizeBytes, this.sizeBytes);
      this.sizeBytes = sizeBytes;
      return;
    }
    const end = change.positionBytes + change.bytes.length;
    this.own(end);
    change.bytes.copy(this.memory, change.positionBytes);
    this.sizeBytes = Math.max(this.sizeBytes, end);
  }

  /** A copy of a part; less of it behind the end. */
  slice(fromBytes: number, toBytes: number): Buffer {
    return Buffer.from(this.memory.subarray(fromBytes, Math.min(toBytes, this.sizeBytes)));
  }

  /** All of it as it is now, whatever changes later. */
  snapshot(): Buffer {
    this.isOwned = false;
    return this.memory.subarray(0, this.sizeBytes);
  }

  /** Makes sure that `memory` may be changed, and has room up to `sizeBytes`. */
  private own(sizeBytes: number): void {
    if (this.isOwned && sizeBytes <= this.memory.length) return;
    const needed = Math.max(this.sizeBytes, sizeBytes, MIN_MEMORY_BYTES);
    const memory = Buffer.alloc(needed > this.memory.length ? needed * 2 : needed);
    this.memory.copy(memory, 0, 0, this.sizeBytes);
    this.memory = memory;
    this.isOwned = true;
  }
}

/** The content after all `changes`. */
export function contentAfter(content: Buffer, changes: readonly Change[]): Buffer {
  if (changes.length === 0) return content;
  const changed = new DiskContent(content);
  for (const change of changes) changed.apply(change);
  return changed.snapshot();
}

/** The first changes, the last of them torn. `choose`, asked for a number in 0..n, says how many and where. */
export function tornAfter(changes: readonly Change[], choose: (most: number) => number): Change[] {
  const survivors = changes.slice(0, choose(changes.length));
  const last = survivors.at(-1);
  if (last?.kind === 'write') {
    survivors[survivors.length - 1] = { ...last, bytes: last.bytes.subarray(0, choose(last.bytes.length)) };
  }
  return survivors;
}

const PAGE_BYTES = 4096;

/** A write as the page cache keeps it: each page reaches the disk by itself, or not. */
export function pagesOf(change: Change): Change[] {
  if (change.kind !== 'write') return [change];
  const pages: Change[] = [];
  for (let from = 0; from < change.bytes.length; ) {
    const positionBytes = change.positionBytes + from;
    const to = Math.min(change.bytes.length, from + PAGE_BYTES - (positionBytes % PAGE_BYTES));
    pages.push({ kind: 'write', positionBytes, bytes: change.bytes.subarray(from, to) });
    from = to;
  }
  return pages;
}

export function withoutZeros(bytes: Buffer): Buffer {
  let length = bytes.length;
  while (length > 0 && bytes[length - 1] === 0) length--;
  return bytes.subarray(0, length);
}
