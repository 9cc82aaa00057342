/** What a check of a data directory found. */
export interface Finding {
  /**
   * `log`           a line is damaged, incomplete, out of order, doubled, or in the wrong shard
   * `file`          a file is missing, cut off, or not what was written
   * `view`          a row of the store is not what the log makes it
   * `registration`  an agent or operator and its credential do not belong together
   */
  readonly kind: 'log' | 'file' | 'view' | 'registration';
  readonly shard: number | null;
  /** Within the data directory. */
  readonly file: string;
  /** Of the line, in the segment's plain form; null for a store. */
  readonly offsetBytes: number | null;
  readonly detail: string;
}

/** Findings beyond so many are counted, not kept. */
const MAX_KEPT = 1_000;

export class Findings {
  readonly kept: Finding[] = [];
  readonly notes: string[] = [];
  total = 0;

  add(finding: Finding): void {
    this.total += 1;
    if (this.kept.length < MAX_KEPT) this.kept.push(finding);
  }

  /** Something worth knowing that is no damage. */
  note(text: string): void {
    if (this.notes.length < MAX_KEPT) this.notes.push(text);
  }
}
