/**
 * The part of the log that the feed holds: a run of matching events without gaps, growing at both ends as the reader
 * scrolls and as the stream brings more, cut where nobody looks. A million events behind it cost nothing.
 * Owns:      the run, what came in while the reader held still, the requests under way.
 * Invariant: between the oldest and newest `seq` covered, every event that matches is in `rows`.
 */
import { signal } from '@preact/signals';
import { ApiFailure, api, type EventFilter, type ObservedEvent } from './api.js';
import { searchable } from './event-kinds.js';
import { BackwardPager } from './event-pages.js';
import { LiveStream, type RemovalNotice } from './live-stream.js';

export interface WindowState {
  /** Rising `seq`. */
  readonly rows: readonly ObservedEvent[];
  /** Nothing matching is older than the first row. */
  readonly reachedStart: boolean;
  /** The last row is the newest known, but for `pending`. */
  readonly reachedHead: boolean;
  readonly loading: 'first' | 'older' | 'newer' | null;
  readonly failure: string | null;
  /** Matching events that came in while held. */
  readonly pending: number;
  /** Rows ever added at the newest end of the run less those taken away there. */
  readonly addedOnTop: number;
  /** Lowest `seq` looked at so far. */
  readonly searchedTo: number;
  /** A search looked through as many pages as it does by itself. */
  readonly searchRests: boolean;
}

export interface WindowQuery {
  readonly filter: EventFilter;
  /** Lower case; empty for none. */
  readonly search: string;
  /** Start around this event; 0 for the newest. */
  readonly aroundSeq: number;
}

const PAGE = 200;
const MAX_ROWS = 4_000;
/** Of what waits, so many are kept, the newest. */
const MAX_PENDING = 2_000;
/** Pages of up to 1,000 events that a search goes back by itself. */
const SEARCH_PAGES = 8;
const SEARCH_WANTED = 40;
const REDACTED = '[REDACTED \u2014 see /observe/transparency]';

const EMPTY: WindowState = {
  rows: [],
  reachedStart: false,
  reachedHead: true,
  loading: 'first',
  failure: null,
  pending: 0,
  addedOnTop: 0,
  searchedTo: Number.MAX_SAFE_INTEGER,
  searchRests: false,
};

export class EventWindow {
  readonly state = signal<WindowState>(EMPTY);
  private readonly pager: BackwardPager;
  private readonly abort = new AbortController();
  private stream: LiveStream | null = null;
  private held: ObservedEvent[] = [];
  private isHeld: boolean;
  /** Rises when the run is replaced or cut: what was asked for at an end of the old one does not fit this one. */
  private run = 0;

  /** Asks for nothing yet: a window may be made while drawing and never be shown. */
  constructor(private readonly query: WindowQuery) {
    this.pager = new BackwardPager(query.filter);
    this.isHeld = query.aroundSeq > 0;
  }

  /** To be called once. */
  open(): void {
    void this.start();
  }

  close(): void {
    this.abort.abort();
    this.stream?.close();
  }

  /** While held, what comes in waits and is counted. */
  hold(held: boolean): void {
    this.isHeld = held;
    if (!held && this.state.peek().pending > 0) this.release();
  }

  /** The newest events, whatever was looked at. */
  toHead(): void {
    this.isHeld = false;
    if (this.state.peek().reachedHead) this.release();
    else void this.start(0);
  }

  /** After a failure: what failed is tried again. */
  retry(): void {
    const { rows, searchedTo } = this.state.peek();
    const nothingYet = rows.length === 0 && searchedTo === EMPTY.searchedTo;
    if (this.stream === null || nothingYet) void this.start();
    else void this.loadOlder(true);
  }

  async loadOlder(goOn = false): Promise<void> {
    const { loading, reachedStart, rows, searchedTo, searchRests } = this.state.peek();
    if (loading !== null || reachedStart || (searchRests && !goOn)) return;
    await this.load('older', async () => {
      const { run } = this;
      let before = Math.min(searchedTo, rows[0]?.seq ?? searchedTo);
      const found: ObservedEvent[] = [];
      const pages = this.query.search === '' ? 1 : SEARCH_PAGES;
      const wanted = this.query.search === '' ? PAGE : SEARCH_WANTED;
      for (let page = 0; page < pages && before > 1 && found.length < wanted; page++) {
        const size = this.query.search === '' ? PAGE : 800;
        const older = await this.pager.before(before, size, this.abort.signal);
        found.unshift(...older.events.filter((event) => this.matches(event)));
        before = older.fromSeq;
      }
      if (run !== this.run) return;
      this.set({ searchRests: this.query.search !== '' && before > 1 && found.length < wanted });
      this.addOlder(found, before);
    });
  }

  async loadNewer(): Promise<void> {
    const { loading, reachedHead, rows } = this.state.peek();
    if (loading !== null || reachedHead) return;
    await this.load('newer', async () => {
      const { run } = this;
      const since = rows.at(-1)?.seq ?? 0;
      const page = await api.events(since, PAGE, this.query.filter, this.abort.signal);
      if (run !== this.run) return;
      const state = this.state.peek();
      const found = page.events.filter((event) => this.matches(event) && event.seq > (state.rows.at(-1)?.seq ?? 0));
      this.addNewer(found);
      // What the stream brought meanwhile joins when it is asked for, unless too much has passed: then from the head.
      if (!page.has_more) this.set({ reachedHead: true });
    });
  }

  private async start(around = this.query.aroundSeq): Promise<void> {
    this.held = [];
    this.run++;
    this.set(EMPTY);
    await this.load('first', async () => {
      const { last_seq: head } = await api.overview(this.abort.signal);
      if (this.stream === null) {
        this.stream = new LiveStream(this.query.filter, head, {
          onEvents: (events) => this.take(events),
          onRemoval: (notice) => this.redact(notice),
        });
      }
      if (around > 0 && around <= head) await this.startAround(around, head);
      else await this.startAtHead(head);
    });
    if (this.query.search !== '' && this.state.peek().failure === null) await this.loadOlder();
  }

  private async startAtHead(head: number): Promise<void> {
    const older = await this.pager.before(head + 1, PAGE, this.abort.signal);
    const rows = older.events.filter((event) => this.matches(event));
    this.set({ rows, searchedTo: older.fromSeq, reachedStart: older.fromSeq <= 1, reachedHead: true });
  }

  private async startAround(seq: number, head: number): Promise<void> {
    const older = await this.pager.before(seq, PAGE / 2, this.abort.signal);
    const page = await api.events(seq - 1, PAGE, this.query.filter, this.abort.signal);
    const newer = page.events.filter((event) => event.seq <= head);
    const rows = [...older.events, ...newer].filter((event) => this.matches(event));
    const reachedHead = !page.has_more || newer.length < page.events.length;
    this.set({ rows, searchedTo: older.fromSeq, reachedStart: older.fromSeq <= 1, reachedHead });
  }

  private async load(what: 'first' | 'older' | 'newer', work: () => Promise<void>): Promise<void> {
    this.set({ loading: what, failure: null });
    try {
      await work();
      this.set({ loading: null });
      if (!this.isHeld && this.state.peek().pending > 0) this.release(); // what came in during the work
    } catch (error) {
      if (this.abort.signal.aborted) return;
      if (!(error instanceof ApiFailure)) throw error;
      this.set({ loading: null, failure: error.message });
    }
  }

  private take(events: readonly ObservedEvent[]): void {
    const matching = this.query.search === '' ? events : events.filter((event) => this.matches(event));
    if (matching.length === 0) return;
    const { pending, loading, reachedHead } = this.state.peek();
    const isBusy = loading !== null && loading !== 'older'; // older ones join at the other end
    if (!this.isHeld && !isBusy && reachedHead) {
      this.addNewer(matching);
      return;
    }
    this.held = [...this.held, ...matching].slice(-MAX_PENDING);
    this.set({ pending: pending + matching.length });
  }

  private release(): void {
    const { pending, reachedHead } = this.state.peek();
    if (!reachedHead) return;
    if (pending > this.held.length) {
      // More than was kept: the run that was shown ends here, and the newest one takes its place.
      this.run++;
      this.set({ rows: [], reachedStart: false, searchedTo: Number.MAX_SAFE_INTEGER });
    }
    const last = this.state.peek().rows.at(-1)?.seq ?? 0;
    const events = this.held.filter((event) => event.seq > last);
    this.held = [];
    this.set({ pending: 0 });
    this.addNewer(events);
  }

  private addNewer(events: readonly ObservedEvent[]): void {
    if (events.length === 0) return;
    const { rows, addedOnTop } = this.state.peek();
    const all = [...rows, ...events];
    const surplus = all.length > MAX_ROWS + PAGE ? all.length - MAX_ROWS : 0;
    if (surplus > 0) this.run++;
    this.set({
      rows: surplus > 0 ? all.slice(surplus) : all,
      addedOnTop: addedOnTop + events.length,
      ...(surplus > 0 && { reachedStart: false, searchedTo: Number.MAX_SAFE_INTEGER }),
    });
  }

  private addOlder(events: readonly ObservedEvent[], searchedTo: number): void {
    const { rows, addedOnTop } = this.state.peek();
    const all = [...events, ...rows];
    const surplus = all.length > MAX_ROWS + PAGE ? all.length - MAX_ROWS : 0;
    this.set({
      rows: surplus > 0 ? all.slice(0, MAX_ROWS) : all,
      addedOnTop: addedOnTop - surplus,
      searchedTo,
      reachedStart: searchedTo <= 1,
      ...(surplus > 0 && { reachedHead: false }),
    });
  }

  private redact(notice: RemovalNotice): void {
    const redacted = (event: ObservedEvent): ObservedEvent => {
      const { data } = event;
      const byMessage = notice.message_id !== undefined && data.message_id === notice.message_id;
      const byKey = notice.key !== undefined && data.key === notice.key && event.ts <= notice.ts;
      if (byMessage && 'content' in data) return { ...event, redacted: true, data: { ...data, content: REDACTED } };
      if (byKey && event.type === 'state_written')
        return { ...event, redacted: true, data: { ...data, value: REDACTED } };
      return event;
    };
    this.held = this.held.map(redacted);
    this.set({ rows: this.state.peek().rows.map(redacted) });
  }

  private matches(event: ObservedEvent): boolean {
    return this.query.search === '' || searchable(event).includes(this.query.search);
  }

  private set(change: Partial<WindowState>): void {
    this.state.value = { ...this.state.peek(), ...change };
  }
}
