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

  /**
   * The last matching events before `beforeSeq`: at least `atLeast`, or all there are; a few hundred more at times. Fewer,
   * but one at least, where events are so large that the API cuts its pages by bytes: then that many would be too much.
   */
  async before(beforeSeq: number, atLeast: number, abort: AbortSignal): Promise<OlderPage> {
    let collected: ObservedEvent[] = [];
    let upTo = beforeSeq;
    let span = Math.ceil(atLeast * this.spread);
    let isHeavy = false;
    while (upTo > 1 && collected.length < (isHeavy ? 1 : atLeast)) {
      const since = Math.max(0, upTo - 1 - span);
      const page = await api.events(since, PAGE_MAX, this.filter, abort);
      const inside = page.events.filter((event) => event.seq < upTo);
      const reachesEnd = !page.has_more || inside.length < page.events.length || page.next_cursor >= upTo - 1;
      if (!reachesEnd) {
        // Denser than thought; or heavier: a page has one event at least, so it ends when the span is one.
        isHeavy ||= page.events.length < PAGE_MAX;
        span = Math.max(1, Math.floor(Math.min(span, upTo - 1) / 4));
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
