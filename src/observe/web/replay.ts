/**
 * Plays history: a clock of its own that runs through the log at a chosen speed and hands out what happened.
 * Owns:      the clock, the pages fetched ahead. Events come in rising `seq`, each once.
 * Never:     holds more than a few pages; jumps over an event (only over time in which nothing happened).
 */
import { signal } from '@preact/signals';
import { ApiFailure, api, NO_FILTER, type ObservedEvent } from './api.js';

export interface ReplayState {
  readonly playing: boolean;
  /** The replay's time, epoch milliseconds. */
  readonly atMs: number;
  /** `seq` of the event handed out last. */
  readonly seq: number;
  readonly loading: boolean;
  /** The newest event was handed out. */
  readonly atEnd: boolean;
  readonly failure: string | null;
}

const PAGE = 500;
const FETCH_AT = 250;
/** Time without events that would take longer than this to watch is cut short to it. */
const LONGEST_QUIET_MS = 1_200;
/** Past this a frame would stutter; the clock waits. */
const MAX_EVENTS_A_FRAME = 200;
/** A frame after a long pause of the tab counts as this long. */
const LONGEST_FRAME_MS = 100;

export class Replay {
  readonly state = signal<ReplayState>({
    playing: false,
    atMs: 0,
    seq: 0,
    loading: false,
    atEnd: false,
    failure: null,
  });
  speed = 10;
  private ahead: ObservedEvent[] = [];
  private since = 0;
  private moreToCome = true;
  private abort = new AbortController();
  /** The page under way; whoever needs it waits for the same one. */
  private fetching: Promise<void> | null = null;
  private frame = 0;
  private lastFrameMs = 0;

  constructor(private readonly onEvents: (events: readonly ObservedEvent[]) => void) {}

  /** Goes to the place behind event `seq`, whose time is `atMs`; 0 is the beginning. */
  async seek(seq: number, atMs: number | null): Promise<void> {
    this.abort.abort();
    this.abort = new AbortController();
    this.ahead = [];
    this.since = seq;
    this.moreToCome = true;
    this.fetching = null;
    this.set({ seq, loading: false, atEnd: false, failure: null, ...(atMs !== null && { atMs }) });
    await this.fetchAhead();
    const next = this.ahead[0];
    if (atMs === null && next !== undefined) this.set({ atMs: Date.parse(next.ts) });
  }

  /** Goes to a moment, and stays where it is when `abort` or a failure, told in the state, comes before it is known.
   *  @param onLeave called right before the place is another one */
  async seekTime(atMs: number, abort: AbortSignal, onLeave: () => void): Promise<void> {
    try {
      const { seq } = await api.seqAt(new Date(atMs).toISOString(), abort);
      if (abort.aborted) return;
      onLeave();
      await this.seek(seq, atMs);
    } catch (error) {
      if (abort.aborted) return;
      if (!(error instanceof ApiFailure)) throw error;
      this.set({ failure: error.message });
    }
  }

  play(): void {
    if (this.state.peek().playing) return;
    this.set({ playing: true });
    this.lastFrameMs = performance.now();
    this.frame = requestAnimationFrame(this.tick);
  }

  pause(): void {
    cancelAnimationFrame(this.frame);
    this.set({ playing: false });
  }

  close(): void {
    this.pause();
    this.abort.abort();
  }

  /** Hands out the next event at once, however far away it is. */
  async step(): Promise<void> {
    this.pause();
    this.set({ failure: null });
    // Again when the place was changed meanwhile
    while (this.ahead.length === 0 && this.moreToCome && this.state.peek().failure === null) await this.fetchAhead();
    const next = this.ahead.shift();
    if (next !== undefined) this.hand([next], Date.parse(next.ts));
  }

  private readonly tick = (nowMs: number): void => {
    if (!this.state.peek().playing) return;
    this.frame = requestAnimationFrame(this.tick);
    const passedMs = Math.min(LONGEST_FRAME_MS, Math.max(0, nowMs - this.lastFrameMs));
    this.lastFrameMs = nowMs;
    const [first] = this.ahead;
    if (first === undefined) {
      if (this.moreToCome) void this.fetchAhead();
      else {
        this.pause();
        this.set({ atEnd: true });
      }
      return;
    }
    const quietMs = LONGEST_QUIET_MS * this.speed;
    let atMs = this.state.peek().atMs + passedMs * this.speed;
    if (Date.parse(first.ts) - atMs > quietMs) atMs = Date.parse(first.ts) - quietMs;
    let count = 0;
    while (count < this.ahead.length && count < MAX_EVENTS_A_FRAME && timeOf(this.ahead[count]) <= atMs) count++;
    const due = this.ahead.splice(0, count);
    // Held up by the bound: the clock waits for the events.
    if (count === MAX_EVENTS_A_FRAME) atMs = Math.min(atMs, timeOf(due.at(-1)));
    this.hand(due, atMs);
    if (this.ahead.length < FETCH_AT && this.moreToCome) void this.fetchAhead();
  };

  private hand(events: readonly ObservedEvent[], atMs: number): void {
    const last = events.at(-1);
    this.set({ atMs, ...(last !== undefined && { seq: last.seq }) });
    if (events.length > 0) this.onEvents(events);
  }

  private fetchAhead(): Promise<void> {
    if (!this.moreToCome) return Promise.resolve();
    if (this.fetching !== null) return this.fetching;
    const fetching = this.fetchPage().finally(() => {
      if (this.fetching === fetching) this.fetching = null;
    });
    this.fetching = fetching;
    return fetching;
  }

  private async fetchPage(): Promise<void> {
    this.set({ loading: true, failure: null });
    const { signal: aborted } = this.abort;
    try {
      const page = await api.events(this.since, PAGE, NO_FILTER, aborted);
      if (aborted.aborted) return;
      this.ahead.push(...page.events);
      this.since = page.next_cursor;
      this.moreToCome = page.has_more;
      this.set({ loading: false });
    } catch (error) {
      if (aborted.aborted) return;
      if (!(error instanceof ApiFailure)) throw error;
      this.pause();
      this.set({ loading: false, failure: error.message });
    }
  }

  private set(change: Partial<ReplayState>): void {
    this.state.value = { ...this.state.peek(), ...change };
  }
}

function timeOf(event: ObservedEvent | undefined): number {
  return event === undefined ? Number.POSITIVE_INFINITY : Date.parse(event.ts);
}
