/**
 * The live stream: one WebSocket at a time, opened again when it breaks, going on after the last event that was seen.
 * Owns:      the socket, the retry clock, the resume position. Invariant: events are handed out in rising `seq`, none
 *            twice; the server replays from `since`, so a break leaves no gap.
 * Never:     holds events. A view that can't keep up is the server's to drop; the stream then resumes.
 */
import { signal } from '@preact/signals';
import { ApiFailure, api, type EventFilter, filterParameters, type ObservedEvent } from './api.js';

export type LiveState =
  | { readonly kind: 'off' }
  | { readonly kind: 'connecting'; readonly attempt: number }
  | { readonly kind: 'live' }
  | { readonly kind: 'waiting'; readonly attempt: number; readonly retryAtMs: number; readonly reason: string };

/** State of the page's stream, for the header and the banner. */
export const liveState = signal<LiveState>({ kind: 'off' });
/** Rises with every removal told by the stream, and when the stream opens where there were removals. */
export const removalsSeen = signal(0);

/** Removals in the log when it was last looked at, null if it could not be. Views that load again open their stream again:
 *  only what is new may make them load again, or it would never end. */
let removalsKnown: number | null = 0;

/** What a removal notice says: the key or the message whose content is gone. */
export interface RemovalNotice {
  /** When; what was written under the key later is another value. */
  readonly ts: string;
  readonly key?: string;
  readonly message_id?: string;
  readonly reason?: string;
}

export interface StreamHandlers {
  readonly onEvents: (events: readonly ObservedEvent[]) => void;
  readonly onRemoval?: (notice: RemovalNotice) => void;
}

const FIRST_RETRY_MS = 500;
const MAX_RETRY_MS = 15_000;
/** A tab in the background gets no animation frames; events are then handed out this often. */
const HIDDEN_FLUSH_MS = 500;
/** Those that may have happened while a page was loading are among the last few. */
const MAX_CAUGHT_UP_REMOVALS = 100;
/** A browser may keep a hidden tab from doing so: no more than this waits. */
const MAX_BATCH_EVENTS = 5_000;

export class LiveStream {
  /** `seq` of the last event handed out or known from a page: the stream goes on after it. */
  private lastSeq: number;
  private socket: WebSocket | null = null;
  private attempt = 0;
  private timer: number | undefined;
  private closed = false;
  private batch: ObservedEvent[] = [];
  private flushAsked = false;

  constructor(
    private readonly filter: EventFilter,
    since: number,
    private readonly handlers: StreamHandlers,
  ) {
    this.lastSeq = since;
    current?.close();
    current = this;
    this.connect();
  }

  /** Ends it; no handler is called any more. */
  close(): void {
    this.closed = true;
    window.clearTimeout(this.timer);
    this.drop();
    if (current === this) {
      current = null;
      liveState.value = { kind: 'off' };
    }
  }

  retryNow(): void {
    if (this.closed || liveState.peek().kind !== 'waiting') return;
    window.clearTimeout(this.timer);
    this.connect();
  }

  private connect(): void {
    liveState.value = { kind: 'connecting', attempt: this.attempt };
    const url = new URL('/observe/events/stream', location.href);
    url.protocol = location.protocol === 'https:' ? 'wss:' : 'ws:';
    url.search = new URLSearchParams({
      ...filterParameters(this.filter),
      since: String(this.lastSeq),
      notices: '1',
    }).toString();
    const socket = new WebSocket(url);
    this.socket = socket;
    socket.onopen = () => {
      this.attempt = 0;
      liveState.value = { kind: 'live' };
      void this.catchUpOnRemovals();
    };
    socket.onmessage = (message: MessageEvent<string>) => this.take(message.data);
    socket.onclose = (event) => {
      if (this.socket === socket) this.wait(event.reason);
    };
  }

  /** No notice came of removals between what the view has loaded and the moment this stream was open. */
  private async catchUpOnRemovals(): Promise<void> {
    try {
      const { removals, total } = await api.removals();
      if (this.closed) return;
      if (total !== removalsKnown) removalsSeen.value++;
      removalsKnown = total;
      for (const removal of removals.slice(-MAX_CAUGHT_UP_REMOVALS)) this.handlers.onRemoval?.(removal);
    } catch (error) {
      if (!(error instanceof ApiFailure)) throw error;
      if (removalsKnown !== null) removalsSeen.value++; // views look for themselves
      removalsKnown = null;
    }
  }

  private take(text: string): void {
    const frame = JSON.parse(text) as Record<string, unknown>;
    const { seq } = frame;
    if (typeof seq !== 'number' || typeof frame.type !== 'string') {
      this.flush(); // a removal may be of one of these
      removalsSeen.value++;
      if (removalsKnown !== null) removalsKnown++;
      this.handlers.onRemoval?.(frame as unknown as RemovalNotice);
      return;
    }
    if (seq <= this.lastSeq) return;
    this.lastSeq = seq;
    this.batch.push(frame as unknown as ObservedEvent);
    if (this.batch.length >= MAX_BATCH_EVENTS) this.flush();
    if (this.flushAsked) return;
    this.flushAsked = true;
    if (document.hidden) window.setTimeout(() => this.flush(), HIDDEN_FLUSH_MS);
    else requestAnimationFrame(() => this.flush());
  }

  /** Once per frame, however many events came: drawing each by itself would not keep up. */
  private flush(): void {
    this.flushAsked = false;
    if (this.closed || this.batch.length === 0) return;
    const events = this.batch;
    this.batch = [];
    this.handlers.onEvents(events);
  }

  private wait(reason: string): void {
    this.drop();
    if (this.closed) return;
    const exponentialMs = Math.min(MAX_RETRY_MS, FIRST_RETRY_MS * 2 ** this.attempt);
    const waitMs = exponentialMs * (0.75 + Math.random() / 2); // apart from other pages after a restart
    this.attempt++;
    liveState.value = { kind: 'waiting', attempt: this.attempt, retryAtMs: Date.now() + waitMs, reason };
    this.timer = window.setTimeout(() => this.connect(), waitMs);
  }

  private drop(): void {
    const { socket } = this;
    this.socket = null;
    if (socket === null) return;
    socket.onmessage = null;
    socket.onclose = null;
    // Closing it before it is open would be told to the reader's console as a failure.
    socket.onopen = () => socket.close();
    if (socket.readyState !== WebSocket.CONNECTING) socket.close();
  }
}

let current: LiveStream | null = null;

export function retryNow(): void {
  current?.retryNow();
}

window.addEventListener('online', retryNow);
