import type { ApiErrorCode } from '../contract/errors.js';
import { deliveredBody } from './handing-out.js';
import { internalBody } from './internal-records.js';
import type { Lease } from './leases.js';
import type { EventBody } from './log-line.js';
import type { Mailboxes } from './mailboxes.js';
import { type MessageQueue, SLOT } from './message-queue.js';
import type { Operation } from './operations.js';
import type { ReplyTo } from './wire.js';

/**
 * Acknowledging: ends leases, for good or to hand the message out again.
 * Never: looks beyond the queue of the agent that asks, so nobody ends another's lease.
 *
 * Where another operation under way ends the same lease, its outcome is waited for: until then nobody can be told
 * whether the lease is known.
 */
export class Acknowledging {
  private readonly mailboxes: Mailboxes;

  constructor(mailboxes: Mailboxes) {
    this.mailboxes = mailboxes;
  }

  /** Answers with the number acknowledged, and the ids that mean nothing (an id given twice, the second time). */
  acknowledge(agent: string, ids: readonly string[], reply: ReplyTo): void | Promise<void> {
    const queue = this.mailboxes.queueOf(agent);
    if (queue === undefined) return reply.ok(0, ids, null);
    if (this.isSettling(queue, ids)) {
      return this.mailboxes.whenSettled(queue, () => this.acknowledge(agent, ids, reply), reply);
    }
    const found: Lease[] = [];
    const unknown: string[] = [];
    for (const id of ids) {
      const lease = this.mailboxes.leases.find(queue, id);
      if (lease === undefined || lease.isEnding) {
        unknown.push(id);
        continue;
      }
      this.mailboxes.leases.suspend(lease);
      queue.move(lease.message.seq, SLOT.leased, SLOT.claimed);
      found.push(lease);
    }
    if (found.length === 0) return reply.ok(0, unknown, null);
    const messageIds = found.map(({ messageId }) => messageId);
    if (messageIds.every((id) => id !== null)) {
      return this.stage(queue, agent, found, messageIds as string[], unknown, reply);
    }
    return this.mailboxes.whileReading(queue, this.acknowledgeFromLog(queue, agent, found, unknown, reply));
  }

  /** Unknown ids are ignored. */
  giveBack(agent: string, ids: readonly string[], reply: ReplyTo): void | Promise<void> {
    const queue = this.mailboxes.queueOf(agent);
    if (queue === undefined) return reply.ok(null, null, null);
    if (this.isSettling(queue, ids)) {
      return this.mailboxes.whenSettled(queue, () => this.giveBack(agent, ids, reply), reply);
    }
    const { leases } = this.mailboxes;
    const durable: Lease[] = [];
    for (const id of ids) {
      const lease = leases.find(queue, id);
      if (lease === undefined || lease.isEnding) continue;
      if (lease.owner !== null) {
        leases.end(lease);
        continue;
      }
      leases.suspend(lease);
      queue.move(lease.message.seq, SLOT.leased, SLOT.changing);
      durable.push(lease);
    }
    if (durable.length === 0) return reply.ok(null, null, null);
    this.mailboxes.parts.commit.stage(new ReturnOperation(this.mailboxes, queue, agent, durable, reply));
  }

  private isSettling(queue: MessageQueue, ids: readonly string[]): boolean {
    if (queue.unsettled === 0) return false;
    return ids.some((id) => this.mailboxes.leases.find(queue, id)?.isEnding === true);
  }

  /** After a restart nobody knows the ids of the messages by heart. */
  private async acknowledgeFromLog(
    queue: MessageQueue,
    agent: string,
    found: readonly Lease[],
    unknown: readonly string[],
    reply: ReplyTo,
  ): Promise<void> {
    const read = await Promise.all(
      found.map(async ({ message, messageId }) => messageId ?? (await this.mailboxes.read(message))?.messageId),
    );
    const acknowledged: Lease[] = [];
    const messageIds: string[] = [];
    found.forEach((lease, index) => {
      const messageId = read[index];
      if (messageId === undefined) {
        this.mailboxes.removeDamaged(queue, agent, lease.message, false);
      } else {
        acknowledged.push(lease);
        messageIds.push(messageId);
      }
    });
    this.stage(queue, agent, acknowledged, messageIds, unknown, reply);
    this.mailboxes.parts.commit.kick();
  }

  private stage(
    queue: MessageQueue,
    agent: string,
    leases: readonly Lease[],
    messageIds: readonly string[],
    unknown: readonly string[],
    reply: ReplyTo,
  ): void {
    const operation = new AckOperation(this.mailboxes, queue, agent, leases, messageIds, unknown, reply);
    this.mailboxes.parts.commit.stage(operation);
  }
}

class AckOperation implements Operation {
  readonly bodies: readonly EventBody[];

  constructor(
    readonly mailboxes: Mailboxes,
    readonly queue: MessageQueue,
    readonly agent: string,
    readonly leases: readonly Lease[],
    messageIds: readonly string[],
    readonly unknown: readonly string[],
    readonly reply: ReplyTo,
  ) {
    this.bodies = leases.map(({ message }, index) =>
      deliveredBody(agent, messageIds[index] as string, 'pull', message.seq),
    );
  }

  logged(): void {}

  apply(): void {
    for (const { message } of this.leases) this.mailboxes.removed(this.queue, this.agent, message, false);
    this.mailboxes.wakeSeekers();
  }

  answer(): void {
    this.reply.ok(this.leases.length, this.unknown, null);
  }

  fail(code: ApiErrorCode): void {
    for (const lease of this.leases) {
      this.queue.move(lease.message.seq, SLOT.claimed, SLOT.leased);
      this.mailboxes.leases.resume(lease);
    }
    this.reply.refuse(code);
  }
}

class ReturnOperation implements Operation {
  readonly bodies: readonly EventBody[];

  constructor(
    readonly mailboxes: Mailboxes,
    readonly queue: MessageQueue,
    readonly agent: string,
    readonly leases: readonly Lease[],
    readonly reply: ReplyTo,
  ) {
    this.bodies = [internalBody('leases_returned', { to: agent, refs: leases.map(({ message }) => message.seq) })];
  }

  logged(): void {}

  apply(): void {
    const { leases, parts } = this.mailboxes;
    for (const lease of this.leases) {
      const { seq, position, bytes } = lease.message;
      const hold = { lease: lease.token, untilMs: 0, count: lease.deliveryCount };
      parts.view.delivery.holdMessage(this.agent, seq, { position, bytes, hold });
      leases.end(lease, SLOT.changing);
    }
  }

  answer(): void {
    this.reply.ok(null, null, null);
  }

  fail(code: ApiErrorCode): void {
    for (const lease of this.leases) {
      this.queue.move(lease.message.seq, SLOT.changing, SLOT.leased);
      this.mailboxes.leases.resume(lease);
    }
    this.reply.refuse(code);
  }
}
