/**
 * Event stream: the watchers of the live stream.
 * Owns:      each watcher's place in the log, and whether it reads history or takes events as they come.
 * Never:     waits for a watcher, or keeps events for one beyond the bound: it is dropped, and told where to go on.
 * Invariant: a watcher gets every event after its first place that passes its filter, once, in `seq` order.
 *
 * State of a watcher: replaying -> live -> closed. It replays page by page from the index, as fast as it reads. It goes
 * live in the same turn in which it has reached the end of the index: the next batch begins behind that.
 */
import { Buffer } from 'node:buffer';
import { type WebSocketConnection, type WebSocketSession, WS_CLOSE } from '../gateway/web-socket.js';
import type { Logger } from '../log.js';
import type { EventFilter, EventIndex } from './event-index.js';
import type { EventReader } from './event-reader.js';
import { typeIdOf } from './event-types.js';
import { publicEventJson } from './public-event.js';
import type { TailLine } from './shard-tail.js';
import type { TransparencyLog } from './transparency.js';

/** A live watcher with more than this unread is dropped; the connection itself allows for more, see the service. */
export const MAX_UNREAD_BYTES = 1024 * 1024;
/**
 * Live watchers are served so many at a time, with a pause in between: one long run of sends, and of clients that wake up
 * for them, is what agents' slowest requests would wait for (bench/scenarios/observers.ts).
 */
const SERVED_AT_ONCE = 10;
const SERVING_PAUSE_MS = 3;
/** A replaying watcher is given its next page when it has read the one before. */
const REPLAY_PAGE_EVENTS = 200;
const REPLAY_PAGE_BYTES = 512 * 1024;

export interface EventStreamOptions {
  readonly index: EventIndex;
  readonly reader: EventReader;
  readonly transparency: TransparencyLog;
  readonly logger: Logger;
}

export interface WatcherTerms {
  readonly filter: EventFilter;
  /** Events after this one. */
  readonly since: number;
  /** It also wants to be told of removals. */
  readonly wantsNotices: boolean;
}

export class EventStream {
  private readonly watchers = new Set<Watcher>();
  private round: Round | null = null;

  constructor(private readonly options: EventStreamOptions) {}

  get size(): number {
    return this.watchers.size;
  }

  /** A new watcher at an open socket. */
  watch(socket: WebSocketConnection, terms: WatcherTerms): WebSocketSession {
    const watcher = new Watcher(this.options, socket, terms, () => this.watchers.delete(watcher));
    this.watchers.add(watcher);
    watcher.replaySoon();
    return watcher;
  }

  /** Events that have just come into the index. Each is encoded once, whoever wants it. All are sent before the next. */
  publish(lines: readonly TailLine[]): void {
    while (this.round !== null) this.serve(this.round);
    if (this.watchers.size === 0) return;
    const { transparency } = this.options;
    const events = lines.map((line) => new StreamEvent(line, transparency)).filter((event) => event.typeId !== 0);
    this.round = { events, watchers: [...this.watchers], served: 0, pause: undefined };
    this.serve(this.round);
  }

  /** A message to those who asked for notices. Contents may have been removed: nobody is sent from memory what is not sent yet. */
  notify(notice: object): void {
    const { round } = this;
    if (round !== null) {
      clearTimeout(round.pause);
      this.round = null;
      for (const watcher of round.watchers.slice(round.served)) watcher.readAgain();
    }
    const text = JSON.stringify(notice);
    for (const watcher of this.watchers) watcher.notify(text);
  }

  private serve(round: Round): void {
    const { events, watchers, served } = round;
    round.served = Math.min(served + SERVED_AT_ONCE, watchers.length);
    for (const watcher of watchers.slice(served, round.served)) watcher.offer(events);
    clearTimeout(round.pause);
    if (round.served === watchers.length) this.round = null;
    else round.pause = setTimeout(() => this.serve(round), SERVING_PAUSE_MS);
  }
}

/** One batch of events on its way to those who watched when it came. */
interface Round {
  readonly events: readonly StreamEvent[];
  readonly watchers: readonly Watcher[];
  served: number;
  pause: NodeJS.Timeout | undefined;
}

class StreamEvent {
  readonly seq: number;
  readonly typeId: number;
  readonly agent: string | undefined;
  private encoded: Buffer | null = null;

  constructor(
    private readonly line: TailLine,
    private readonly transparency: TransparencyLog,
  ) {
    this.seq = line.event.seq;
    this.typeId = typeIdOf(line.event.type);
    this.agent = line.event.agent;
  }

  get text(): Buffer {
    this.encoded ??= Buffer.from(publicEventJson(this.line.event, this.transparency), 'utf8');
    return this.encoded;
  }
}

class Watcher implements WebSocketSession {
  private readonly filter: EventFilter;
  private isLive = false;
  private isReplaying = false;
  private isClosed = false;
  /** All events up to here that pass the filter were sent. */
  private sentSeq: number;

  constructor(
    private readonly options: EventStreamOptions,
    private readonly socket: WebSocketConnection,
    private readonly terms: WatcherTerms,
    private readonly onGone: () => void,
  ) {
    this.filter = terms.filter;
    this.sentSeq = terms.since;
  }

  /** Watchers have nothing to say. */
  onMessage(): void {}

  onWritable(): void {
    this.replaySoon();
  }

  onStop(): void {
    this.socket.close(WS_CLOSE.goingAway, 'the server stops');
  }

  onClose(): void {
    this.isClosed = true;
    this.onGone();
  }

  notify(text: string): void {
    if (this.terms.wantsNotices && !this.isClosed) this.socket.send(text);
  }

  offer(events: readonly StreamEvent[]): void {
    if (!this.isLive || this.isClosed) return;
    const { agent, typeIds } = this.filter;
    const texts: Buffer[] = [];
    for (const event of events) {
      if (event.seq <= this.sentSeq) continue; // before the place it asked for
      if (agent !== null && event.agent !== agent) continue;
      if (typeIds !== null && !typeIds.includes(event.typeId)) continue;
      texts.push(event.text);
    }
    if (texts.length === 0) return;
    if (this.socket.bufferedBytes > MAX_UNREAD_BYTES) return this.drop();
    this.socket.sendAll(texts);
    this.sentSeq = Math.max(this.sentSeq, (events.at(-1) as StreamEvent).seq);
  }

  /** Goes on from the index and the disk, behind what was sent. */
  readAgain(): void {
    this.isLive = false;
    this.replaySoon();
  }

  replaySoon(): void {
    if (this.isLive || this.isReplaying || this.isClosed) return;
    this.isReplaying = true;
    this.replay()
      .catch((error: unknown) => {
        this.options.logger.error({ err: error }, 'a watcher could not be given its history: socket closed');
        this.socket.close(WS_CLOSE.internalError);
      })
      .finally(() => {
        this.isReplaying = false;
      });
  }

  /** Until it is live, or has a page to read first. */
  private async replay(): Promise<void> {
    const { index, reader, transparency } = this.options;
    while (!this.isClosed && this.socket.bufferedBytes === 0) {
      const places = index.eventsAfter(this.filter, this.sentSeq, REPLAY_PAGE_EVENTS);
      // From the same moment as the page: behind a page that is not full there is nothing up to here.
      const reachedSeq = index.lastSeq;
      let count = 0;
      let bytes = 0;
      while (count < places.length && bytes < REPLAY_PAGE_BYTES) bytes += places[count++]?.bytes ?? 0;
      const page = places.slice(0, count);
      const events = await reader.read(page);
      if (this.isClosed) return;
      const texts: string[] = [];
      for (const event of events) if (event !== null) texts.push(publicEventJson(event, transparency));
      if (texts.length > 0) this.socket.sendAll(texts);
      const isWhole = count === places.length && places.length < REPLAY_PAGE_EVENTS;
      this.sentSeq = Math.max(this.sentSeq, isWhole ? reachedSeq : (page.at(-1)?.seq ?? 0));
      if (isWhole && index.lastSeq === reachedSeq) {
        this.isLive = true;
        return;
      }
      await new Promise(setImmediate);
    }
  }

  private drop(): void {
    this.options.logger.info(
      { bufferedBytes: this.socket.bufferedBytes, maxBufferedBytes: MAX_UNREAD_BYTES, sentSeq: this.sentSeq },
      'slow watcher: dropped',
    );
    this.isLive = false;
    this.isClosed = true;
    this.socket.close(WS_CLOSE.tryAgainLater, `slow consumer: read faster, or come back with since=${this.sentSeq}`);
  }
}
