import type { ReceivedMessage } from '../contract/engine.js';

/**
 * Messages sent a moment ago, kept so that delivering them need not read the log.
 * Owns: the newest messages within a byte bound; the oldest leave first. Losing one costs a read, nothing else.
 */
export class RecentMessages {
  readonly #maxBytes: number;
  readonly #bySeq = new Map<number, { readonly message: ReceivedMessage; readonly bytes: number }>();
  #bytes = 0;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  add(seq: number, message: ReceivedMessage, bytes: number): void {
    this.#bySeq.set(seq, { message, bytes });
    this.#bytes += bytes;
    while (this.#bytes > this.#maxBytes) {
      const oldest = this.#bySeq.keys().next();
      if (oldest.done) return;
      this.remove(oldest.value);
    }
  }

  get(seq: number): ReceivedMessage | undefined {
    return this.#bySeq.get(seq)?.message;
  }

  remove(seq: number): void {
    const entry = this.#bySeq.get(seq);
    if (entry === undefined) return;
    this.#bySeq.delete(seq);
    this.#bytes -= entry.bytes;
  }
}
