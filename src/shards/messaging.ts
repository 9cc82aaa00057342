import type { PushOutcome } from '../contract/engine.js';
import type { ApiErrorCode } from '../contract/errors.js';
import { Acknowledging } from './acknowledging.js';
import { SendClaims } from './idempotency.js';
import { Mailboxes, type MessagingParts } from './mailboxes.js';
import { PushQueue } from './push-queue.js';
import { type LeaseTerms, ReceiveRequest } from './receive-request.js';
import { Receiving } from './receiving.js';
import { Sending } from './sending.js';
import { OPS, type Op, type Outbox, type ReplyTo } from './wire.js';

/**
 * Messaging: all that one shard does about messages, put together from its parts.
 * Owns: the wire form of its operations, and when its parts forget, report, and end.
 */
/** Between two looks for idempotency keys whose time is over... */
const FORGET_INTERVAL_MS = 1_000;
/** ...which look at this many at most, and go on with the next batch if there were as many. */
const FORGOTTEN_AT_ONCE = 1_024;

/** `[waitMs, waitId]`; the id is the engine client's, for `cancelWait`. */
export type WireWait = readonly [waitMs: number, waitId: number];
/** `[limit, visibilityMs, holder]` */
export type WireLease = readonly [limit: number, visibilityMs: number, holder: LeaseTerms['holder']];

export class Messaging {
  private readonly parts: MessagingParts;
  private readonly mailboxes: Mailboxes;
  private readonly sending: Sending;
  private readonly receiving: Receiving;
  private readonly acknowledging: Acknowledging;
  private readonly pushQueue: PushQueue;
  private readonly claims: SendClaims;
  private forgetAtMs = 0;
  private reportedLeases = 0;
  private reportedWaits = 0;

  constructor(parts: MessagingParts) {
    this.parts = parts;
    this.mailboxes = new Mailboxes(parts, (queues) => this.receiving.serve(queues));
    this.receiving = new Receiving(this.mailboxes);
    this.acknowledging = new Acknowledging(this.mailboxes);
    this.pushQueue = new PushQueue(this.mailboxes);
    this.sending = new Sending(this.mailboxes, (agent) => this.pushQueue.arrived(agent));
    this.claims = new SendClaims(this.mailboxes);
  }

  /** The hottest operation, apart from the others. */
  send(from: string, to: string, content: string, reply: ReplyTo): void | Promise<void> {
    return this.sending.send(from, to, content, null, reply);
  }

  receive(agent: string, limit: number, wait: WireWait | null, reply: ReplyTo): void | Promise<void> {
    return this.receiving.receive(requestOf(agent, limit, null, wait, reply));
  }

  /** Any other operation that changes something, or may. */
  mutate(op: Op, a: string, b: unknown, c: unknown, reply: ReplyTo): void | Promise<void> {
    switch (op) {
      case OPS.leaseMessages: {
        const [limit, visibilityMs, holder] = b as WireLease;
        const terms = { visibilityMs, holder };
        return this.receiving.receive(requestOf(a, limit, terms, c as WireWait | null, reply));
      }
      case OPS.ackMessages:
        return this.acknowledging.acknowledge(a, b as readonly string[], reply);
      case OPS.returnLeases:
        return this.acknowledging.giveBack(a, b as readonly string[], reply);
      case OPS.awaitPush:
        return this.pushQueue.ask(reply);
      case OPS.peekPush:
        return this.pushQueue.peek(a, reply);
      case OPS.settlePush: {
        const [messageId, outcome] = b as readonly [string, PushOutcome];
        return this.pushQueue.settle(a, messageId, outcome, reply);
      }
      case OPS.claimSend:
        return this.claims.claim(a, b as string, c as string, reply);
      case OPS.releaseSend:
        return this.claims.release(a, b as string, c as string, reply);
      case OPS.sendOnce: {
        const [content, messageId] = c as readonly [string, string];
        return this.sending.sendOnce(a, b as string, content, messageId, reply);
      }
      default:
        throw new Error(`unknown operation ${op}`);
    }
  }

  cancelWait(waitId: number, reply: ReplyTo): void {
    this.receiving.cancel(reply.outbox, waitId);
    reply.ok(null, null, null);
  }

  finishSend(from: string, key: string, attemptId: string, reply: ReplyTo): void {
    this.claims.finish(from, key, attemptId, reply);
  }

  /** An engine client is no more: nobody waits for its answers, and what it held comes back. */
  detach(outbox: Outbox): void {
    this.receiving.detach(outbox);
    this.mailboxes.detach(outbox);
    this.pushQueue.detach(outbox);
    this.claims.detach(outbox);
  }

  /** The agent's token was revoked: nothing more is sent or pushed to it, and nobody waits for it. */
  revoked(agent: string): void {
    this.mailboxes.revoked(agent);
    this.receiving.endOf(agent);
  }

  /** Between two batches. */
  sweep(): void {
    this.mailboxes.sweep();
    const nowMs = Date.now();
    if (nowMs < this.forgetAtMs) return;
    const forgotten = this.parts.view.delivery.forgetExpired(nowMs, FORGOTTEN_AT_ONCE);
    if (forgotten < FORGOTTEN_AT_ONCE) this.forgetAtMs = nowMs + FORGET_INTERVAL_MS;
  }

  /** Publishes what no batch does. */
  report(): void {
    const { counters, shard } = this.parts;
    const leasedMessages = this.mailboxes.leases.count;
    const waits = this.receiving.waiting;
    if (leasedMessages === this.reportedLeases && waits === this.reportedWaits) return;
    this.reportedLeases = leasedMessages;
    this.reportedWaits = waits;
    counters.publish(shard, { leasedMessages, waits });
  }

  /** Answers all that wait: with nothing because the shard stops (null), or with why it can't go on. */
  endWaits(code: ApiErrorCode | null): void {
    this.receiving.endAll(code);
    this.pushQueue.endAll();
    this.mailboxes.wakeSeekers();
  }

  /** Ends all timers. */
  close(): void {
    this.receiving.close();
    this.mailboxes.leases.close();
  }
}

function requestOf(
  agent: string,
  limit: number,
  terms: LeaseTerms | null,
  wait: WireWait | null,
  reply: ReplyTo,
): ReceiveRequest {
  if (wait === null) return new ReceiveRequest(agent, limit, terms, 0, 0, reply);
  const [waitMs, waitId] = wait;
  return new ReceiveRequest(agent, limit, terms, Date.now() + waitMs, waitId, reply);
}
