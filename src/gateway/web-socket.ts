/**
 * WebSockets of one listener: taking upgrade requests that `dispatch` allowed, sending with back-pressure, pings, time
 * limits, and closing all of them. What messages mean is the session's business.
 * Owns:      the native sockets from upgrade to close, their number, their alarms.
 * Never:     lets an error of a session reach the native module, drops a message in silence, touches a closed socket, or
 *            gathers more than `maxBufferedBytes` for a client that does not read (and one message beyond), or more than
 *            `maxTotalBufferedBytes` for all of them together.
 *
 * An upgrade request is an HTTP request until it is accepted: it goes through `dispatch` with a `Reply` like any other, so
 * refusals are ordinary answers, and may come later. `acceptWebSocket` ends that life.
 * State: open -> closed, once; `onClose` is told whoever closed it, and nothing after that.
 */
import { Buffer } from 'node:buffer';
import type { Logger } from '../log.js';
import type { Deadlined, DeadlineList, Sweeper } from './deadlines.js';
import type { Reply } from './reply.js';
import type { HttpResponse, NativeWebSocket, UpgradeContext, WebSocketRoute } from './uws.js';

export interface WebSocketOptions {
  /** Exact path of upgrade requests; anything else is served as plain HTTP. */
  readonly path: string;
  /** A larger message ends the connection at once (the client sees 1006 or 1009). */
  readonly maxMessageBytes: number;
  /** A socket with more than this sent and not yet taken by the client is cut off at the next send. */
  readonly maxBufferedBytes: number;
  /** Over all sockets; past it those that have bytes waiting are cut off as they are sent more. 256 MiB when absent. */
  readonly maxTotalBufferedBytes?: number;
  /** A client must take each byte within this time, twice this at the latest; else it is cut off. */
  readonly stallTimeoutMs: number;
  /** A client that stays silent for a whole interval after a ping is cut off. */
  readonly pingIntervalMs: number;
  /** Then the socket is closed with 1001, and the client may connect again. */
  readonly maxDurationMs: number;
  /** Open at once on this listener; past it 503 `too_many_connections`. */
  readonly maxConnections: number;
}

/** Counts since start, but `open` and `bufferedBytes`, which are now. */
export interface WebSocketStats {
  readonly open: number;
  /** Sent and not yet taken, over all sockets. */
  readonly bufferedBytes: number;
  readonly accepted: number;
  /** Refused by `maxConnections`. */
  readonly refused: number;
  /** Cut off: too slow in reading. */
  readonly slow: number;
  /** Cut off: no answer to a ping. */
  readonly silent: number;
}

/** What one connection means. Its methods may throw: the socket is then closed with 1011, and the error logged. */
export interface WebSocketSession {
  /** @param message valid during the call only: copy or parse it now. Text is well-formed UTF-8. */
  onMessage(message: Buffer, isBinary: boolean): void;
  /** All that was sent has been taken: `bufferedBytes` is 0 again after it was not. */
  onWritable(): void;
  /** The server stops: finish what is in hand, then close with `WS_CLOSE.goingAway`. */
  onStop(): void;
  /** The socket is gone. Told exactly once, and last. @param code 1006 when there was no closing handshake. */
  onClose(code: number): void;
}

/** RFC 6455 section 7.4, and two of our own from its private range. */
export const WS_CLOSE = {
  normal: 1000,
  goingAway: 1001,
  unsupportedData: 1003,
  policyViolation: 1008,
  internalError: 1011,
  tryAgainLater: 1013,
  unauthorized: 4401,
} as const;

const MAX_TOTAL_BUFFERED_BYTES = 256 * 1024 * 1024;
const NO_HANDSHAKE = 1006;
/** The native module takes 0 or 8 to 960. */
const MIN_IDLE_SECONDS = 8;
const MAX_IDLE_SECONDS = 960;

/**
 * Makes a WebSocket of an upgrade request. Call it from `dispatch`, or later from a turn of its own (`setImmediate`), never
 * from a microtask that may run within another request's callback: the native module would confuse the two connections.
 * Nothing happens when the client has left meanwhile. Refuses: 400 when it is no WebSocket upgrade, 503 `too_many_connections` past the listener's bound.
 * @param open makes the session; it may send at once.
 * @returns false when it was refused or the client has left.
 */
export function acceptWebSocket(reply: Reply, open: (socket: WebSocketConnection) => WebSocketSession): boolean {
  if (!reply.isOpen) return false;
  const upgrade = reply.upgrade;
  if (upgrade === null) {
    reply.header('Upgrade', 'websocket');
    reply.refuse(
      'bad_request',
      'This path takes WebSockets only: send Upgrade: websocket, Connection: Upgrade, Sec-WebSocket-Version: 13 and a Sec-WebSocket-Key.',
    );
    return false;
  }
  return upgrade.accept(reply, open);
}

/** A request that asks to become a WebSocket; hangs at its `Reply`. */
export class WebSocketUpgrade {
  constructor(
    private readonly part: WebSocketPart,
    private readonly key: string,
    private readonly context: UpgradeContext,
  ) {}

  /** @internal use `acceptWebSocket`. */
  accept(reply: Reply, open: (socket: WebSocketConnection) => WebSocketSession): boolean {
    const { part } = this;
    if (part.isFull) {
      part.counts.refused++;
      reply.refuse('too_many_connections');
      return false;
    }
    const connection = new WebSocketConnection(part, open);
    const handOver = (): boolean =>
      reply.handOver((response: HttpResponse) => {
        response.upgrade({ connection }, this.key, '', '', this.context);
      });
    // This release, when it corks a response that is upgraded meanwhile, looks at the WebSocket's memory as if it were a
    // response's, and cuts the new connection off if a certain bit is set there (uWebSockets pull request 1929). It
    // does not look when the upgrade is not corked; it then complains on standard error, which is harmless.
    return handOver();
  }
}

/** The WebSocket side of one `HttpListener`, which makes it, drains it and closes it. */
export class WebSocketPart {
  readonly counts = { accepted: 0, refused: 0, slow: 0, silent: 0 };
  readonly pings: DeadlineList;
  readonly stalls: DeadlineList;
  readonly lifetimes: DeadlineList;
  readonly open = new Set<WebSocketConnection>();
  /** As last seen of each socket. */
  totalBufferedBytes = 0;
  readonly maxTotalBufferedBytes: number;
  private stopping = false;
  private onEmpty: (() => void) | null = null;

  constructor(
    readonly options: WebSocketOptions,
    sweeper: Sweeper,
    readonly logger: Logger,
  ) {
    this.maxTotalBufferedBytes = options.maxTotalBufferedBytes ?? MAX_TOTAL_BUFFERED_BYTES;
    this.pings = sweeper.list(options.pingIntervalMs);
    this.stalls = sweeper.list(options.stallTimeoutMs);
    this.lifetimes = sweeper.list(options.maxDurationMs);
  }

  get isFull(): boolean {
    return this.open.size >= this.options.maxConnections;
  }

  /** What the native module is told. `onUpgrade` gets every request that looks like an upgrade at the path. */
  route(onUpgrade: WebSocketRoute['behavior']['upgrade']): WebSocketRoute {
    const { path, maxMessageBytes, maxBufferedBytes, pingIntervalMs } = this.options;
    // Beyond our own pings: it also ends a closing handshake that the client never answers.
    const idleSeconds = Math.ceil((2 * pingIntervalMs) / 1000) + MIN_IDLE_SECONDS;
    return {
      path,
      behavior: {
        maxPayloadLength: maxMessageBytes,
        maxBackpressure: maxBufferedBytes,
        closeOnBackpressureLimit: 1,
        idleTimeout: Math.min(MAX_IDLE_SECONDS, idleSeconds),
        sendPingsAutomatically: false,
        upgrade: onUpgrade,
        open: (native) => native.getUserData().connection.opened(native),
        message: (native, message, isBinary) => native.getUserData().connection.received(message, isBinary),
        drain: (native) => native.getUserData().connection.drained(),
        ping: (native) => native.getUserData().connection.heard(),
        pong: (native) => native.getUserData().connection.heard(),
        close: (native, code) => native.getUserData().connection.closed(code),
      },
    };
  }

  /** Tells every session to stop; resolves when all sockets are closed. */
  drain(): Promise<void> {
    if (!this.stopping) {
      this.stopping = true;
      for (const connection of [...this.open]) connection.stop();
    }
    if (this.open.size === 0) return Promise.resolve();
    return new Promise((resolve) => {
      const told = this.onEmpty;
      this.onEmpty = () => {
        told?.();
        resolve();
      };
    });
  }

  stats(): WebSocketStats {
    let bufferedBytes = 0;
    for (const connection of this.open) bufferedBytes += connection.bufferedBytes;
    return { open: this.open.size, bufferedBytes, ...this.counts };
  }

  /** @internal */
  added(connection: WebSocketConnection): void {
    this.open.add(connection);
    this.counts.accepted++;
    // It was being accepted when the stop began.
    if (this.stopping) connection.stop();
  }

  /** @internal */
  removed(connection: WebSocketConnection): void {
    this.open.delete(connection);
    if (this.open.size === 0) this.onEmpty?.();
  }
}

/** One open socket, as its session sees it. What is called after the close does nothing. */
export class WebSocketConnection {
  private native: NativeWebSocket | null = null;
  private session: WebSocketSession | null = null;
  private isClosed = false;
  /** Something came in since the last ping. */
  private isHeard = true;
  /** Bytes given to the native module, frames' heads included, and how many of them a running stall alarm wants taken. */
  private sentBytes = 0;
  private wantedBytes = 0;
  /** As counted in the total. */
  private countedBytes = 0;
  private readonly pingAlarm = new Alarm(() => this.ping());
  private readonly stallAlarm = new Alarm(() => this.checkStall());
  private readonly lifeAlarm = new Alarm(() => this.close(WS_CLOSE.goingAway, 'maximum duration reached'));

  /** @internal made by `acceptWebSocket`. */
  constructor(
    private readonly part: WebSocketPart,
    private readonly makeSession: (socket: WebSocketConnection) => WebSocketSession,
  ) {}

  get isOpen(): boolean {
    return this.native !== null;
  }

  /** Sent and not yet taken by the client, beyond what the system buffers. Stop sending while this is not small. */
  get bufferedBytes(): number {
    return this.native === null ? 0 : this.native.getBufferedAmount();
  }

  /** Sends one text message. @param text well-formed; as bytes, UTF-8. Cheap: one system call outside of callbacks. */
  send(text: string | Uint8Array): void {
    const { native } = this;
    if (native === null) return;
    const waitingBytes = native.getBufferedAmount();
    if (waitingBytes > 0 && this.isOverBounds(waitingBytes)) return;
    const status = native.send(text, false);
    if (status === DROPPED) {
      this.cutOffSlow('more bytes wait for it than it may');
      return;
    }
    const payloadBytes = typeof text === 'string' ? Buffer.byteLength(text) : text.length;
    this.sentBytes += payloadBytes + frameHeadBytes(payloadBytes);
    if (status === BUFFERED) this.noteBacklog();
  }

  /** As `send` for each, with one system call for all of them as far as they are small. */
  sendAll(texts: readonly (string | Uint8Array)[]): void {
    this.native?.cork(() => {
      for (const text of texts) this.send(text);
    });
    // Corked sends show what the system did not take only afterwards.
    this.noteBacklog();
  }

  /** Closes with a closing handshake; what was sent before still arrives. @param reason at most 123 bytes. */
  close(code: number, reason = ''): void {
    this.native?.end(code, reason);
  }

  /** Cuts the connection at once; what is buffered is lost. The client sees no close code. */
  terminate(): void {
    this.native?.close();
  }

  /** @internal the native module's events, from here on. */
  opened(native: NativeWebSocket): void {
    this.native = native;
    const { part } = this;
    part.pings.add(this.pingAlarm);
    part.lifetimes.add(this.lifeAlarm);
    this.guarded(() => {
      this.session = this.makeSession(this);
    });
    if (this.isClosed) this.endSession(NO_HANDSHAKE);
    else part.added(this);
  }

  /** @internal */
  received(message: ArrayBuffer, isBinary: boolean): void {
    this.isHeard = true;
    try {
      this.session?.onMessage(Buffer.from(message), isBinary);
    } catch (error) {
      this.failed(error);
    }
  }

  /** @internal */
  drained(): void {
    if (this.noteBacklog() > 0) return;
    this.guarded(() => this.session?.onWritable());
  }

  /** @internal */
  heard(): void {
    this.isHeard = true;
  }

  /** @internal */
  stop(): void {
    this.guarded(() => this.session?.onStop());
  }

  /** @internal */
  closed(code: number): void {
    this.native = null;
    this.isClosed = true;
    this.noteBacklog();
    this.pingAlarm.silence();
    this.stallAlarm.silence();
    this.lifeAlarm.silence();
    this.endSession(code);
    this.part.removed(this);
  }

  private endSession(code: number): void {
    const { session } = this;
    this.session = null;
    if (session !== null) this.guarded(() => session.onClose(code));
  }

  private ping(): void {
    if (this.native === null) return;
    if (!this.isHeard) {
      this.part.counts.silent++;
      this.terminate();
      return;
    }
    this.isHeard = false;
    if (this.native.ping() !== DROPPED) this.sentBytes += frameHeadBytes(0);
    // What was sent within callbacks is corked, and shows only now.
    this.noteBacklog();
    this.part.pings.add(this.pingAlarm);
  }

  /** Brings the total up to date, and the stall alarm: it runs while anything waits. Returns what waits now. */
  private noteBacklog(): number {
    const { bufferedBytes } = this;
    this.part.totalBufferedBytes += bufferedBytes - this.countedBytes;
    this.countedBytes = bufferedBytes;
    if (bufferedBytes === 0) this.stallAlarm.silence();
    else if (this.stallAlarm.deadlines === null) {
      this.wantedBytes = this.sentBytes;
      this.part.stalls.add(this.stallAlarm);
    }
    return bufferedBytes;
  }

  private checkStall(): void {
    if (this.sentBytes - this.bufferedBytes < this.wantedBytes) this.cutOffSlow('it takes too long to read');
    else this.noteBacklog();
  }

  /** Cuts it off when more must not be sent to it. */
  private isOverBounds(waitingBytes: number): boolean {
    const { part } = this;
    if (waitingBytes > part.options.maxBufferedBytes) this.cutOffSlow('more bytes wait for it than it may');
    else if (part.totalBufferedBytes > part.maxTotalBufferedBytes) {
      this.cutOffSlow('more bytes wait for all clients together than may');
    } else return false;
    return true;
  }

  private cutOffSlow(why: string): void {
    const { bufferedBytes, part } = this;
    part.counts.slow++;
    part.logger.info(
      { why, bufferedBytes, maxBufferedBytes: part.options.maxBufferedBytes, path: part.options.path },
      'slow consumer: socket closed',
    );
    this.terminate();
  }

  private guarded(work: () => void): void {
    try {
      work();
    } catch (error) {
      this.failed(error);
    }
  }

  private failed(error: unknown): void {
    this.part.logger.error({ err: error }, 'a WebSocket session failed by a mistake of the server: socket closed');
    this.close(WS_CLOSE.internalError);
  }
}

/** Answers of the native `send`: 1 is "with the system". */
const BUFFERED = 0;
const DROPPED = 2;

/** Bytes before the payload of a server's frame, RFC 6455 section 5.2. */
function frameHeadBytes(payloadBytes: number): number {
  if (payloadBytes < 126) return 2;
  return payloadBytes < 65_536 ? 4 : 10;
}

class Alarm implements Deadlined {
  deadlines: DeadlineList | null = null;
  previous: Deadlined | null = null;
  next: Deadlined | null = null;
  sinceMs = 0;

  constructor(readonly onDeadline: () => void) {}

  silence(): void {
    this.deadlines?.remove(this);
  }
}
