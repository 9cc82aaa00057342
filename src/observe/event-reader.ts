/** Reads the lines that the index points at, shard by shard, and hands them back in the order asked for. */
import type { LoggedEvent } from '../shards/log-line.js';
import type { LinePlace, SegmentFiles } from './segment-files.js';

export interface ShardPlace extends LinePlace {
  readonly shard: number;
}

/** Lines of one page together; a page has at least one, whatever its size. */
const MAX_PAGE_BYTES = 8 * 1024 * 1024;

export class EventReader {
  /** @param files of each shard */
  constructor(private readonly files: readonly SegmentFiles[]) {}

  /** Null for a line that is damaged or gone. */
  async read(places: readonly ShardPlace[]): Promise<(LoggedEvent | null)[]> {
    const events = new Array<LoggedEvent | null>(places.length).fill(null);
    for (let shard = 0; shard < this.files.length; shard++) {
      const wanted: number[] = [];
      for (let i = 0; i < places.length; i++) if (places[i]?.shard === shard) wanted.push(i);
      if (wanted.length === 0) continue;
      const found = await (this.files[shard] as SegmentFiles).readLines(wanted.map((i) => places[i] as ShardPlace));
      for (const [n, i] of wanted.entries()) events[i] = found[n] ?? null;
    }
    return events;
  }

  async readOne(place: ShardPlace): Promise<LoggedEvent | null> {
    const [event] = await this.read([place]);
    return event ?? null;
  }

  /** What is open may show contents that were removed. */
  forget(): void {
    for (const files of this.files) files.forget();
  }
}

/** How many of the places a page may have, so that its lines fit into memory. */
export function placesInPage(places: readonly ShardPlace[]): number {
  let bytes = 0;
  let count = 0;
  for (const place of places) {
    bytes += place.bytes;
    if (count > 0 && bytes > MAX_PAGE_BYTES) break;
    count += 1;
  }
  return count;
}
