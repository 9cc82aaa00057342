import type { MessagePort } from 'node:worker_threads';
import type { ApiErrorCode } from '../contract/errors.js';
import { type Op, Outbox, STRIDE, type WireBatch } from './wire.js';

/**
 * A gateway's end of the line to one shard.
 * Owns:      the requests in flight, and the batch of this loop turn.
 * Never:     retries; a shard that goes away answers `unavailable` for everything in flight.
 */

/** Requests one gateway may have in flight at one shard; past it, `unavailable`. */
export const MAX_IN_FLIGHT_PER_SHARD = 16_384;

/** An answer as it came over: `code` is null when the operation was done. */
export interface WireReply {
  readonly code: ApiErrorCode | null;
  readonly x: unknown;
  readonly y: unknown;
  readonly z: unknown;
}

const UNAVAILABLE: WireReply = { code: 'unavailable', x: null, y: null, z: null };

export class ShardClient {
  private outbox: Outbox | null = null;
  private port: MessagePort | null = null;
  private flushScheduled = false;
  /** Resolvers by request id; free ids are used again. */
  private readonly resolvers: (((reply: WireReply) => void) | null)[] = [];
  private readonly freeIds: number[] = [];
  private readonly flush = (): void => {
    this.flushScheduled = false;
    this.outbox?.flush();
  };

  /** Joins this turn's message to the shard. Resolves with its answer; never rejects. */
  call(op: Op, a: unknown, b: unknown, c: unknown): Promise<WireReply> {
    const outbox = this.outbox;
    if (outbox === null || this.inFlight >= MAX_IN_FLIGHT_PER_SHARD) return Promise.resolve(UNAVAILABLE);
    const id = this.freeIds.pop() ?? this.resolvers.length;
    outbox.push(op, id, a, b, c);
    if (!this.flushScheduled) {
      this.flushScheduled = true;
      setImmediate(this.flush);
    }
    return new Promise((resolve) => {
      this.resolvers[id] = resolve;
    });
  }

  get inFlight(): number {
    return this.resolvers.length - this.freeIds.length;
  }

  /** A (re)started shard: what was in flight at the old one is lost. */
  connect(port: MessagePort): void {
    this.disconnect();
    this.port = port;
    this.outbox = new Outbox(port);
    port.on('message', (replies: WireBatch) => this.receive(replies));
  }

  disconnect(): void {
    this.port?.close();
    this.port = null;
    this.outbox = null;
    for (let id = 0; id < this.resolvers.length; id++) this.settle(id, UNAVAILABLE);
  }

  private receive(replies: WireBatch): void {
    for (let i = 0; i < replies.length; i += STRIDE) {
      this.settle(replies[i] as number, {
        code: replies[i + 1] as ApiErrorCode | null,
        x: replies[i + 2],
        y: replies[i + 3],
        z: replies[i + 4],
      });
    }
  }

  private settle(id: number, reply: WireReply): void {
    const resolve = this.resolvers[id];
    if (resolve === null || resolve === undefined) return;
    this.resolvers[id] = null;
    this.freeIds.push(id);
    resolve(reply);
  }
}
