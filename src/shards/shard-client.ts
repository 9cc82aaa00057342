import type { MessagePort } from 'node:worker_threads';
import type { EngineRefusal, EngineReply } from '../contract/engine.js';
import type { ApiErrorCode } from '../contract/errors.js';
import { type Op, Outbox, STRIDE, type WireBatch } from './wire.js';

/**
 * A gateway's end of the line to one shard.
 * Owns:      the requests in flight, and the batch of this loop turn.
 * Never:     retries; a shard that goes away answers `unavailable` for everything in flight.
 */

/** Requests one gateway may have in flight at one shard; past it, `unavailable`. */
export const MAX_IN_FLIGHT_PER_SHARD = 16_384;
/** What may be told without an answer coming back before a call must show that the shard keeps up. */
const MAX_TOLD_WITHOUT_REPLY = 8_192;
const NO_REPLY = -1;
/**
 * A batch is sent at the end of the first loop turn that adds nothing to it, or when it has this many entries. Under
 * load a turn is over after a handful of requests, and waking the shard for each handful costs more than the requests.
 */
const MAX_GATHERED = 32;

/** What the parts of an answer mean. One function for each operation, never a closure: it runs for every request. */
export type Decode<T> = (x: unknown, y: unknown, z: unknown, key: unknown) => T;

const UNAVAILABLE: EngineRefusal = { ok: false, code: 'unavailable' };

interface InFlight {
  readonly resolve: (reply: EngineReply<never>) => void;
  readonly decode: Decode<unknown>;
  /** The operation's second argument, which some answers repeat. */
  readonly key: unknown;
}

export class ShardClient {
  private outbox: Outbox | null = null;
  private port: MessagePort | null = null;
  private flushScheduled = false;
  private toldSinceReply = 0;
  /** Calls that the shard answers only when something happens. */
  private waits = 0;
  /** By request id; free ids are used again. */
  private readonly requests: (InFlight | null)[] = [];
  private readonly freeIds: number[] = [];
  private sizeLastTurn = 0;
  /** Runs at the end of each loop turn while something is to be sent. */
  private readonly flush = (): void => {
    const size = this.outbox?.size ?? 0;
    // When nobody else waits for this shard there is no load: the request must not wait either.
    const isAlone = this.inFlight <= size;
    if (size > this.sizeLastTurn && size < MAX_GATHERED && !isAlone) {
      this.sizeLastTurn = size;
      setImmediate(this.flush);
      return;
    }
    this.flushScheduled = false;
    this.sizeLastTurn = 0;
    this.outbox?.flush();
  };

  /** Joins this turn's message to the shard. Resolves with its answer; never rejects. */
  call<T>(op: Op, a: unknown, b: unknown, c: unknown, decode: Decode<T>): Promise<EngineReply<T>> {
    const outbox = this.outbox;
    if (outbox === null || this.inFlight >= MAX_IN_FLIGHT_PER_SHARD) return Promise.resolve(UNAVAILABLE);
    const id = this.freeIds.pop() ?? this.requests.length;
    outbox.push(op, id, a, b, c);
    this.flushThisTurn();
    return new Promise<EngineReply<T>>((resolve) => {
      this.requests[id] = { resolve: resolve as InFlight['resolve'], decode, key: b };
    });
  }

  /** As `call`, for what may take its time: it does not count as in flight, for it says nothing of the shard's load. */
  async callAndWait<T>(op: Op, a: unknown, b: unknown, c: unknown, decode: Decode<T>): Promise<EngineReply<T>> {
    this.waits += 1;
    try {
      return await this.call(op, a, b, c, decode);
    } finally {
      this.waits -= 1;
    }
  }

  /**
   * Tells the shard something that it does not answer. False, and nothing is told, when the shard is away or has not
   * answered anything for long: then `call` finds out how it is.
   */
  tell(op: Op, a: unknown, b: unknown): boolean {
    if (this.outbox === null || this.toldSinceReply >= MAX_TOLD_WITHOUT_REPLY) return false;
    this.toldSinceReply += 1;
    this.outbox.push(op, NO_REPLY, a, b, null);
    this.flushThisTurn();
    return true;
  }

  private flushThisTurn(): void {
    if (this.flushScheduled) return;
    this.flushScheduled = true;
    setImmediate(this.flush);
  }

  get inFlight(): number {
    return this.requests.length - this.freeIds.length - this.waits;
  }

  get isConnected(): boolean {
    return this.outbox !== null;
  }

  /** A (re)started shard: what was in flight at the old one is lost. */
  connect(port: MessagePort): void {
    this.disconnect();
    this.port = port;
    this.toldSinceReply = 0;
    this.outbox = new Outbox(port);
    port.on('message', (replies: WireBatch) => this.receive(replies));
  }

  disconnect(): void {
    this.port?.close();
    this.port = null;
    this.outbox = null;
    for (let id = 0; id < this.requests.length; id++) this.take(id)?.resolve(UNAVAILABLE);
  }

  private receive(replies: WireBatch): void {
    this.toldSinceReply = 0;
    for (let i = 0; i < replies.length; i += STRIDE) {
      const request = this.take(replies[i] as number);
      if (request === null) continue;
      const code = replies[i + 1] as ApiErrorCode | null;
      if (code === null) {
        const value = request.decode(replies[i + 2], replies[i + 3], replies[i + 4], request.key);
        request.resolve({ ok: true, value: value as never });
      } else {
        request.resolve({ ok: false, code });
      }
    }
  }

  private take(id: number): InFlight | null {
    const request = this.requests[id] ?? null;
    if (request === null) return null;
    this.requests[id] = null;
    this.freeIds.push(id);
    return request;
  }
}
