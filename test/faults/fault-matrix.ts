/**
 * The fault matrix: what each fault does to writers, to readers, and afterwards. The fault tests hold each row against
 * what they saw (`observed`), and a test holds the table in docs/durability.md against these rows.
 * `node build/test/faults/print-matrix.js` prints the table.
 */
import assert from 'node:assert/strict';

export interface Observation {
  /** Statuses that mutations got while the fault lasted. */
  readonly writes: string;
  readonly reads: string;
  readonly after: string;
}

export const FAULT_MATRIX = {
  'kill -9 under load': {
    writes: 'no answer',
    reads: 'no answer',
    after: 'everything answered is there; each answer of all lives fits one order',
  },
  'power loss, the last bytes are lost (simulated disk)': {
    writes: 'no answer',
    reads: 'no answer',
    after: 'everything answered is there; the rest is whole or absent',
  },
  'power loss, any pages of the last write are lost (simulated disk)': {
    writes: 'no answer',
    reads: 'no answer',
    after: 'everything answered is there; the rest is whole or absent',
  },
  'power loss at any call, while recovering too (simulated disk)': {
    writes: 'no answer',
    reads: 'no answer',
    after: 'everything answered is there; the rest is whole or absent',
  },
  'fdatasync of the log fails once': {
    writes: '503',
    reads: '200',
    after: 'not retried; the shard is opened again and takes writes',
  },
  'fdatasync of the log fails for good': {
    writes: '503',
    reads: '200',
    after: 'the process ends with code 1',
  },
  'fdatasync of the log is slow': {
    writes: '200, late',
    reads: '200, the value before until the write is durable',
    after: 'nothing',
  },
  'write to the log fails with EIO (simulated disk)': {
    writes: '503',
    reads: '200',
    after: 'everything answered is there after reopening',
  },
  'the disk fills up': {
    writes: '507',
    reads: '200',
    after: 'writes are taken again when there is room; nothing was reopened',
  },
  'the disk is full from one moment to the next': {
    writes: '507',
    reads: '200',
    after: 'writes are taken again when there is room; nothing was reopened',
  },
  'start on a full disk': {
    writes: '507',
    reads: '200',
    after: 'writes are taken again when there is room; nothing was reopened',
  },
  'a shard thread dies': {
    writes: '200, 503',
    reads: '200, 503',
    after: 'opened again through recovery; other shards never noticed',
  },
  'three thread deaths within a minute': {
    writes: 'no answer',
    reads: 'no answer',
    after: 'the process ends with code 1',
  },
  'a bcrypt thread dies': {
    writes: '503',
    reads: '200',
    after: 'another thread takes its place',
  },
  'a bit of the log flips': {
    writes: '200',
    reads: '200',
    after: 'that line is reported with its place, skipped and counted; all others are kept',
  },
  'a flushed page of the log reads as zeros': {
    writes: '200',
    reads: '200',
    after: 'that line is reported with its place, skipped and counted; all others are kept',
  },
} as const satisfies Readonly<Record<string, Observation>>;

export type Fault = keyof typeof FAULT_MATRIX;

/** Fails unless what a test saw is what the matrix says. */
export function observed(fault: Fault, seen: Observation): void {
  assert.deepEqual(seen, FAULT_MATRIX[fault], `the fault matrix says otherwise of: ${fault}`);
}

/** Statuses as the matrix writes them: each once, rising. */
export function statuses(seen: Iterable<number>): string {
  return [...new Set(seen)].sort((a, b) => a - b).join(', ');
}

/** The table as Markdown. */
export function renderMatrix(): string {
  const rows = Object.entries(FAULT_MATRIX).map(
    ([fault, row]) => `| ${fault} | ${row.writes} | ${row.reads} | ${row.after} |`,
  );
  return ['| fault | writes | reads | afterwards |', '|---|---|---|---|', ...rows].join('\n');
}
