/**
 * Pages of events backwards in time. The API goes forwards from a `seq`; sequence numbers have gaps, and a filter makes more
 * of them, so the distance to go back is found by trying, and remembered.
 * Never: holds events.
 */
import { api, type EventFilter, type ObservedEvent } from './api.js';

export interface OlderPage {
  /** Rising `seq`. */
  readonly events: readonly ObservedEvent[];
  /** Every matching event from this `seq` on, up to where the page was asked for, is in it. 1 at the log's beginning. */
  readonly fromSeq: number;
}

const PAGE_MAX = 1000;
const GROWTH = 8;

export class BackwardPager {
  /** Sequence numbers per matching event, as seen last. */
  private spread = 1.25;

  constructor(private readonly filter: EventFilter) {}

  /** The last matching events before `beforeSeq`: at least `atLeast`, or all there are; a few hundred more at times. */
  async before(beforeSeq: number, atLeast: number, abort: AbortSignal): Promise<OlderPage> {
    let collected: ObservedEvent[] = [];
    let upTo = beforeSeq;
    let span = Math.ceil(atLeast * this.spread);
    while (upTo > 1 && collected.length < atLeast) {
      const since = Math.max(0, upTo - 1 - span);
      const page = await api.events(since, PAGE_MAX, this.filter, abort);
      const inside = page.events.filter((event) => event.seq < upTo);
      const reachesEnd = !page.has_more || inside.length < page.events.length || page.next_cursor >= upTo - 1;
      if (!reachesEnd) {
        span = Math.max(PAGE_MAX, Math.floor(span / 4)); // denser than thought: a thousand numbers always fit
        continue;
      }
      collected = [...inside, ...collected];
      const covered = upTo - 1 - since;
      if (inside.length > 0) this.spread = Math.max(1, covered / inside.length);
      upTo = since + 1;
      span = inside.length === 0 ? covered * GROWTH : Math.ceil((atLeast - collected.length) * this.spread * 1.5) + 1;
    }
    return { events: collected, fromSeq: upTo };
  }
}
