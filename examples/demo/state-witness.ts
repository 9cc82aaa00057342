/**
 * One agent's memory of the shared state: counts conflicts, and catches reads that no linearizable store can give.
 * Every value names its writer and how often that writer has written the key: `<address>#<n>`.
 */
import type { StateEntry } from '../tabulum-client.js';

export class StateWitness {
  writes = 0;
  reads = 0;
  conflicts = 0;
  readonly staleReads: string[] = [];
  /** Own writes per key, tried ones included. */
  readonly #tried = new Map<string, number>();
  /** Keys whose latest writer was, as far as this agent knows, itself. */
  readonly #mine = new Set<string>();
  /** The highest count seen, by key and writer. */
  readonly #seen = new Map<string, number>();

  nextValue(writer: string, key: string): string {
    const count = (this.#tried.get(key) ?? 0) + 1;
    this.#tried.set(key, count);
    return `${writer}#${count}`;
  }

  /** The latest `nextValue` was acknowledged. */
  wrote(writer: string, key: string): void {
    this.writes++;
    this.#mine.add(key);
    this.#seen.set(`${key} ${writer}`, this.#tried.get(key) ?? 0);
  }

  read(reader: string, key: string, entry: StateEntry | null): void {
    this.reads++;
    const wasMine = this.#mine.delete(key);
    if (entry === null) return;
    const [writer = '', count = ''] = entry.value.split('#');
    const seenKey = `${key} ${writer}`;
    const seen = this.#seen.get(seenKey) ?? 0;
    if (entry.key !== key || writer !== entry.last_modified_by || !/^\d+$/.test(count)) {
      this.staleReads.push(`${key} holds ${JSON.stringify(entry)}`);
    } else if (Number(count) < seen) {
      this.staleReads.push(`${reader} saw write ${count} of ${writer} to ${key} after write ${seen}`);
    } else {
      this.#seen.set(seenKey, Number(count));
    }
    if (writer === reader) this.#mine.add(key);
    else if (wasMine) this.conflicts++;
  }
}
