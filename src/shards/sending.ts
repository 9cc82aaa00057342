import { Buffer } from 'node:buffer';
import { randomUUID } from 'node:crypto';
import type { ApiErrorCode } from '../contract/errors.js';
import { isCircuitOpen } from './delivery-rows.js';
import { type EventBody, eventBody, messageSentBody } from './log-line.js';
import type { Mailboxes } from './mailboxes.js';
import { type MessageQueue, type QueuedMessage, SLOT, type SlotState } from './message-queue.js';
import type { Operation } from './operations.js';
import type { LogPosition } from './segments.js';
import type { ReplyTo } from './wire.js';

/**
 * Sending: puts messages into queues, within the limits of each and of all together.
 * Owns:  the number of messages dropped for others.
 * Never: drops a message that is on loan, or the first that waits to be pushed: when there is nothing else to drop, the
 *        new message is refused. Somebody is at work on those, and to the sender a full queue is the honest answer.
 */
/** What a line holds beside its body: seq, ts, crc; an upper bound. */
const LINE_FRAME_BYTES = 96;

export class Sending {
  readonly mailboxes: Mailboxes;
  private droppedCount = 0;
  /** Ids of messages that are sent at most once, and are on their way. */
  private readonly onceUnderWay = new Set<string>();
  /** A message to push was stored. */
  private readonly toPush: (agent: string) => void;

  constructor(mailboxes: Mailboxes, toPush: (agent: string) => void) {
    this.mailboxes = mailboxes;
    this.toPush = toPush;
  }

  /** As `send`, with an id chosen before; a repeat gets the first receipt, and sends nothing. */
  sendOnce(from: string, to: string, content: string, onceId: string, reply: ReplyTo): void | Promise<void> {
    const sentAtMs = this.mailboxes.parts.view.delivery.sentOnceAtMs(onceId);
    if (sentAtMs !== undefined) return reply.ok(onceId, sentAtMs, null);
    const queue = this.mailboxes.queueOf(to);
    if (queue !== undefined && this.onceUnderWay.has(onceId)) {
      return this.mailboxes.whenSettled(queue, () => this.sendOnce(from, to, content, onceId, reply), reply);
    }
    return this.send(from, to, content, onceId, reply);
  }

  /** `onceId`: the message's id, chosen before, if it is to be remembered; null for any other message. */
  send(from: string, to: string, content: string, onceId: string | null, reply: ReplyTo): void | Promise<void> {
    const { shard, commit, counters, settings } = this.mailboxes.parts;
    const queue = this.mailboxes.queueOf(to);
    if (queue === undefined || queue.isClosed) return reply.refuse('not_found');
    const full = queue.occupied >= settings.maxQueuePerAgent;
    if (full) {
      const isReject = settings.overflow === 'reject';
      if (isReject ? queue.stored >= settings.maxQueuePerAgent : hasNoRoom(queue)) return reply.refuse('store_full');
      if (isReject) return this.mailboxes.retryLater(() => this.send(from, to, content, onceId, reply), reply);
    }

    const messageId = onceId ?? randomUUID();
    let body = messageSentBody(messageId, from, to, content);
    if (queue.hasWebhook) body += ',"push":true';
    if (onceId !== null) body += ',"once":true';
    const reservedBytes = Buffer.byteLength(body) + LINE_FRAME_BYTES;
    if (!counters.reserve(shard, 'queuedBytes', reservedBytes, settings.maxQueuedBytes)) {
      return reply.refuse('store_full');
    }
    const isOnce = onceId !== null;
    if (isOnce) this.onceUnderWay.add(messageId);
    const operation = new SendOperation(this, queue, messageId, to, body, reservedBytes, full, isOnce, reply);
    queue.incoming += 1;
    if (!full) return commit.stage(operation);
    queue.dropping += 1;
    return this.mailboxes.whileReading(queue, this.sendAfterDrop(operation, queue, to));
  }

  sent(operation: SendOperation, atMs: number): void {
    const { to, pointer, queue, reservedBytes } = operation;
    const { view, counters, shard } = this.mailboxes.parts;
    if (operation.isDropping) queue.dropping -= 1;
    queue.incoming -= 1;
    if (operation.isOnce) {
      this.onceUnderWay.delete(operation.messageId);
      view.delivery.rememberSent(operation.messageId, atMs);
    }
    if (queue.hasWebhook && !isCircuitOpen(view.delivery.pushRow(to), atMs)) {
      view.addMessage(to, pointer.seq, { position: pointer.position, bytes: pointer.bytes, hold: 'push' });
      queue.push(pointer, SLOT.push);
      this.toPush(to);
    } else {
      view.addMessage(to, pointer.seq, pointer);
      queue.push(pointer);
      this.mailboxes.becameReady(queue);
    }
    counters.release(shard, 'queuedBytes', reservedBytes - pointer.bytes);
    this.mailboxes.wakeSeekers();
  }

  sendFailed(operation: SendOperation): void {
    const { counters, shard } = this.mailboxes.parts;
    if (operation.isDropping) operation.queue.dropping -= 1;
    operation.queue.incoming -= 1;
    if (operation.isOnce) this.onceUnderWay.delete(operation.messageId);
    counters.release(shard, 'queuedBytes', operation.reservedBytes);
    this.mailboxes.wakeSeekers();
  }

  dropped(): void {
    const { counters, shard } = this.mailboxes.parts;
    this.droppedCount += 1;
    counters.publish(shard, { droppedMessages: this.droppedCount });
  }

  /** Makes room by dropping the oldest message; its id is in the log, maybe no longer in memory. */
  private async sendAfterDrop(operation: SendOperation, queue: MessageQueue, to: string): Promise<void> {
    const { mailboxes } = this;
    const { commit, settings } = mailboxes.parts;
    queue.seekingRoom += 1;
    let oldest = claimOldest(queue);
    while (oldest === undefined && queue.occupied > settings.maxQueuePerAgent && !hasNoRoom(queue)) {
      // Everything that counts is on its way: the oldest of those becomes claimable with the next batch.
      commit.kick();
      await mailboxes.nextSettled();
      if (commit.isBroken) break;
      oldest = claimOldest(queue);
    }
    queue.seekingRoom -= 1;
    if (oldest === undefined && queue.occupied > settings.maxQueuePerAgent) {
      return operation.fail(commit.isBroken ? 'unavailable' : 'store_full');
    }
    if (oldest !== undefined) {
      const { message, state } = oldest;
      const messageId = (await mailboxes.read(message))?.messageId;
      if (messageId === undefined) mailboxes.removeDamaged(queue, to, message, state === SLOT.push);
      else operation.drop(message, state, messageId);
    }
    commit.stage(operation);
    commit.kick();
  }
}

/** True when all that counts is durable, and none of it may be dropped. */
function hasNoRoom(queue: MessageQueue): boolean {
  return queue.incoming === queue.seekingRoom && queue.unsettled === 0 && queue.oldestToDrop() === undefined;
}

function claimOldest(queue: MessageQueue): ReturnType<MessageQueue['oldestToDrop']> {
  const oldest = queue.oldestToDrop();
  if (oldest !== undefined) queue.move(oldest.message.seq, oldest.state, SLOT.claimed);
  return oldest;
}

class SendOperation implements Operation {
  bodies: readonly EventBody[];
  pointer: QueuedMessage = { seq: 0, position: 0, bytes: 0 };
  private dropped: QueuedMessage | null = null;
  private droppedState: SlotState = SLOT.ready;

  constructor(
    readonly sending: Sending,
    readonly queue: MessageQueue,
    readonly messageId: string,
    readonly to: string,
    body: EventBody,
    readonly reservedBytes: number,
    /** Its place is another's, who must be dropped for it. */
    readonly isDropping: boolean,
    readonly isOnce: boolean,
    readonly reply: ReplyTo,
  ) {
    this.bodies = [body];
  }

  /** Drops a claimed message for this one; both events stand or fall together. */
  drop(oldest: QueuedMessage, state: SlotState, messageId: string): void {
    this.dropped = oldest;
    this.droppedState = state;
    const { to } = this;
    const body = eventBody('message_dropped', to, { message_id: messageId, to, reason: 'queue_full' });
    this.bodies = [`${body},"ref":${oldest.seq}`, ...this.bodies];
  }

  /** Called last for the message's own event. */
  logged(seq: number, position: LogPosition, bytes: number): void {
    this.pointer = { seq, position, bytes };
  }

  apply(atMs: number): void {
    const { mailboxes } = this.sending;
    if (this.dropped !== null) {
      mailboxes.removed(this.queue, this.to, this.dropped, this.droppedState === SLOT.push);
      this.sending.dropped();
    }
    this.sending.sent(this, atMs);
  }

  answer(atMs: number): void {
    this.reply.ok(this.messageId, atMs, null);
  }

  fail(code: ApiErrorCode): void {
    if (this.dropped !== null) {
      this.queue.move(this.dropped.seq, SLOT.claimed, this.droppedState);
      this.sending.mailboxes.becameReady(this.queue);
    }
    this.sending.sendFailed(this);
    this.reply.refuse(code);
  }
}
