import type { ReceivedMessage } from '../contract/engine.js';

/**
 * Messages sent a moment ago, kept so that delivering them need not read the log.
 * Owns: the newest messages within a byte bound; the oldest leave first. Losing one costs a read, nothing else.
 *
 * The order of leaving is a list of its own: a Map emptied from its front is walked past all it has lost at each look.
 */
const MIN_LEFT_ENTRIES = 1_024;

export class RecentMessages {
  private readonly maxBytes: number;
  private readonly bySeq = new Map<number, { readonly message: ReceivedMessage; readonly bytes: number }>();
  /** Rising; entries before `oldest` have left, those behind may have been removed. */
  private seqs: number[] = [];
  private oldest = 0;
  private bytes = 0;

  constructor(maxBytes: number) {
    this.maxBytes = maxBytes;
  }

  add(seq: number, message: ReceivedMessage, bytes: number): void {
    this.bySeq.set(seq, { message, bytes });
    this.seqs.push(seq);
    this.bytes += bytes;
    while (this.bytes > this.maxBytes || this.seqs.length - this.oldest > 2 * this.bySeq.size + MIN_LEFT_ENTRIES) {
      const seqToLeave = this.seqs[this.oldest];
      if (seqToLeave === undefined) break;
      this.oldest += 1;
      this.remove(seqToLeave);
    }
    if (this.oldest > MIN_LEFT_ENTRIES && this.oldest * 2 > this.seqs.length) {
      this.seqs = this.seqs.slice(this.oldest);
      this.oldest = 0;
    }
  }

  get(seq: number): ReceivedMessage | undefined {
    return this.bySeq.get(seq)?.message;
  }

  remove(seq: number): void {
    const entry = this.bySeq.get(seq);
    if (entry === undefined) return;
    this.bySeq.delete(seq);
    this.bytes -= entry.bytes;
  }
}
