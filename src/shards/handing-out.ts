import type { ReceivedMessage } from '../contract/engine.js';
import type { ApiErrorCode } from '../contract/errors.js';
import { internalBody } from './internal-records.js';
import { type Lease, leaseId } from './leases.js';
import { type EventBody, eventBody } from './log-line.js';
import type { Mailboxes } from './mailboxes.js';
import { type MessageQueue, type QueuedMessage, SLOT } from './message-queue.js';
import type { Operation } from './operations.js';
import type { ReplyTo } from './wire.js';

/** Handing out: the two ways in which claimed messages reach an agent, as operations on their way through a batch. */

/** For good: each message is logged as delivered. */
export class ReceiveOperation implements Operation {
  readonly bodies: readonly EventBody[];

  constructor(
    readonly mailboxes: Mailboxes,
    readonly queue: MessageQueue,
    readonly agent: string,
    readonly claimed: readonly QueuedMessage[],
    readonly messages: readonly ReceivedMessage[],
    readonly remaining: number,
    readonly reply: ReplyTo,
  ) {
    this.bodies = claimed.map((pointer, index) =>
      deliveredBody(agent, (messages[index] as ReceivedMessage).messageId, 'pull', pointer.seq),
    );
  }

  logged(): void {}

  apply(): void {
    for (const pointer of this.claimed) this.mailboxes.removed(this.queue, this.agent, pointer, false);
  }

  answer(): void {
    const flat: unknown[] = [];
    for (const { messageId, from, to, content, sentAtMs } of this.messages) {
      flat.push(messageId, from, to, content, sentAtMs);
    }
    this.reply.ok(flat, this.remaining, null);
  }

  fail(code: ApiErrorCode): void {
    this.mailboxes.released(this.queue, this.claimed);
    this.reply.refuse(code);
  }
}

/** Leases of one delivery: one record for all of them. */
export class LeaseOperation implements Operation {
  readonly bodies: readonly EventBody[];

  constructor(
    readonly mailboxes: Mailboxes,
    readonly agent: string,
    readonly leases: readonly Lease[],
    readonly messages: readonly ReceivedMessage[],
    readonly remaining: number,
    readonly reply: ReplyTo,
  ) {
    const [first] = leases;
    if (first === undefined || first.owner !== null) {
      this.bodies = [];
      return;
    }
    const refs = leases.map(({ message }) => message.seq);
    const counts = leases.map(({ deliveryCount }) => deliveryCount);
    const data = { to: agent, lease: first.token, until_ms: first.dueMs, refs, counts };
    this.bodies = [internalBody('messages_leased', data)];
  }

  logged(): void {}

  apply(): void {
    const { view } = this.mailboxes.parts;
    for (const { message, token, dueMs, deliveryCount } of this.leases) {
      const { seq, position, bytes } = message;
      const hold = { lease: token, untilMs: dueMs, count: deliveryCount };
      view.delivery.holdMessage(this.agent, seq, { position, bytes, hold });
    }
    this.grant();
  }

  grant(): void {
    for (const lease of this.leases) this.mailboxes.leases.grant(lease);
  }

  answer(): void {
    const flat: unknown[] = [];
    this.messages.forEach(({ messageId, from, to, content, sentAtMs }, index) => {
      const { message, token, deliveryCount } = this.leases[index] as Lease;
      flat.push(messageId, from, to, content, sentAtMs, leaseId(message.seq, token), deliveryCount);
    });
    this.reply.ok(flat, this.remaining, null);
  }

  fail(code: ApiErrorCode): void {
    for (const { queue, message } of this.leases) {
      queue.move(message.seq, SLOT.changing, SLOT.ready);
      this.mailboxes.becameReady(queue);
    }
    this.reply.refuse(code);
  }
}

export function deliveredBody(to: string, messageId: string, method: 'pull' | 'push', ref: number): EventBody {
  const body = eventBody('message_delivered', to, { message_id: messageId, to, delivery_method: method });
  return `${body},"ref":${ref}`;
}
