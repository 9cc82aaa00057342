import { randomUUID } from 'node:crypto';
import type { ReceivedMessage } from '../contract/engine.js';
import type { ApiErrorCode } from '../contract/errors.js';
import { DueTimes } from './due-times.js';
import { LeaseOperation, ReceiveOperation } from './handing-out.js';
import { Lease, timesHandedOut } from './leases.js';
import type { Mailboxes } from './mailboxes.js';
import { type MessageQueue, type QueuedMessage, SLOT } from './message-queue.js';
import type { ReceiveRequest } from './receive-request.js';
import type { Outbox, ReplyTo } from './wire.js';

/**
 * Receiving: hands messages out, for good or on loan, and keeps those who wait for one.
 * Owns:      the waits of one shard.
 * Never:     hands out a message that is not durable, or one that somebody else has; claims one for a cancelled wait.
 *
 * A request claims messages at once, so that nobody else gets them, and is answered when that is durable. Its place in
 * the order of operations is this moment: before every send that is not durable yet. Where that can't be - others'
 * operations that are not durable have changed what it would find - it waits for them and looks again.
 *
 * Who waits costs a few hundred bytes and nothing else: looking and parking is one step, so no message comes between,
 * and a message wakes the first of those who wait, not all.
 */
/** Past it, `unavailable`: some hundred bytes each, here and at the gateway. */
export const MAX_WAITS_PER_SHARD = 32_768;

export class Receiving {
  private readonly mailboxes: Mailboxes;
  private readonly due = new DueTimes<ReceiveRequest>((request) => this.timedOut(request));
  /** Of each outbox, by the numbers it gave them. */
  private readonly waits = new Map<Outbox, Map<number, ReceiveRequest>>();
  private waitCount = 0;

  constructor(mailboxes: Mailboxes) {
    this.mailboxes = mailboxes;
  }

  get waiting(): number {
    return this.waitCount;
  }

  receive(request: ReceiveRequest): void | Promise<void> {
    if (request.mayWait) {
      if (this.waitCount >= MAX_WAITS_PER_SHARD) return request.reply.refuse('unavailable');
      this.begin(request);
    }
    return this.look(request);
  }

  /** Ends a wait at once, with an empty answer. Too late, and without effect, when it has claimed messages. */
  cancel(outbox: Outbox, waitId: number): void {
    const request = this.waits.get(outbox)?.get(waitId);
    if (request === undefined) return;
    const wasParked = this.end(request);
    request.isCancelled = true;
    if (wasParked) answerEmpty(request.reply);
  }

  /** Nobody listens to this outbox any more. */
  detach(outbox: Outbox): void {
    for (const request of this.waits.get(outbox)?.values() ?? []) {
      this.end(request);
      request.isCancelled = true;
    }
  }

  /** Serves those who wait at these queues, as far as there are messages. */
  serve(queues: Iterable<MessageQueue>): void {
    const { commit, track } = this.mailboxes.parts;
    const answered = new Set<Outbox>();
    for (const queue of queues) {
      let available = queue.ready;
      for (const request of queue.waiting ?? []) {
        if (available <= 0) break;
        available -= request.limit;
        queue.waiting?.delete(request);
        track(this.look(request), request.reply);
        answered.add(request.reply.outbox);
      }
    }
    commit.kick();
    for (const outbox of answered) outbox.flush();
  }

  /** Answers all who wait: the shard stops (null), or failed. */
  endAll(code: ApiErrorCode | null): void {
    for (const [outbox, requests] of this.waits) {
      for (const request of requests.values()) {
        const wasParked = this.end(request);
        if (!wasParked) continue;
        if (code === null) answerEmpty(request.reply);
        else request.reply.refuse(code);
      }
      outbox.flush();
    }
  }

  /** The agent's token was revoked: its waits end with nothing. */
  endOf(agent: string): void {
    for (const request of [...(this.mailboxes.queueOf(agent)?.waiting ?? [])]) {
      if (this.end(request)) answerEmpty(request.reply);
      request.reply.outbox.flush();
    }
  }

  /** No wait ends by time any more. */
  close(): void {
    this.due.close();
  }

  private look(request: ReceiveRequest): void | Promise<void> {
    const { agent, reply } = request;
    const queue = this.mailboxes.queueOf(agent);
    if (queue === undefined) this.end(request);
    // What it was woken for is for the next who waits.
    else if (request.isCancelled && queue.ready > 0) this.mailboxes.becameReady(queue);
    if (queue === undefined || request.isCancelled) return answerEmpty(reply);
    if (queue.reading !== null) return this.mailboxes.afterReading(queue.reading, () => this.look(request));
    if (queue.ready === 0) {
      // What operations under way put back wakes it.
      if (request.mayWait) return this.park(queue, request);
      if (queue.unsettled === 0) return answerEmpty(reply);
    }
    if (queue.ready === 0 || queue.dropping > 0) return this.mailboxes.retryLater(() => this.look(request), reply);

    const claimed = queue.claim(request.limit, request.terms === null ? SLOT.claimed : SLOT.changing);
    const messages: ReceivedMessage[] = [];
    for (const pointer of claimed) {
      const recent = this.mailboxes.readRecent(pointer);
      if (recent === undefined) break;
      messages.push(recent);
    }
    if (messages.length === claimed.length) return this.handOut(queue, request, claimed, messages);
    return this.mailboxes.whileReading(queue, this.handOutFromLog(queue, request, claimed));
  }

  private async handOutFromLog(
    queue: MessageQueue,
    request: ReceiveRequest,
    claimed: readonly QueuedMessage[],
  ): Promise<void> {
    const found = await Promise.all(claimed.map((pointer) => this.mailboxes.read(pointer)));
    const pointers: QueuedMessage[] = [];
    const messages: ReceivedMessage[] = [];
    const state = request.terms === null ? SLOT.claimed : SLOT.changing;
    claimed.forEach((pointer, index) => {
      const message = found[index];
      if (message === undefined) {
        if (state === SLOT.changing) queue.move(pointer.seq, state, SLOT.claimed);
        this.mailboxes.removeDamaged(queue, request.agent, pointer, false);
      } else if (request.isCancelled) {
        queue.move(pointer.seq, state, SLOT.ready);
      } else {
        pointers.push(pointer);
        messages.push(message);
      }
    });
    if (request.isCancelled) {
      this.mailboxes.becameReady(queue);
      answerEmpty(request.reply);
    } else {
      this.handOut(queue, request, pointers, messages);
    }
    this.mailboxes.parts.commit.kick();
  }

  /** From here on it is too late to cancel. */
  private handOut(
    queue: MessageQueue,
    request: ReceiveRequest,
    claimed: readonly QueuedMessage[],
    messages: readonly ReceivedMessage[],
  ): void {
    this.end(request);
    const { mailboxes } = this;
    const { agent, terms, reply } = request;
    const { commit } = mailboxes.parts;
    if (terms === null) {
      return commit.stage(new ReceiveOperation(mailboxes, queue, agent, claimed, messages, queue.ready, reply));
    }
    const untilMs = Date.now() + terms.visibilityMs;
    const token = newToken();
    const owner = terms.holder === 'connection' ? reply.outbox : null;
    const leases = claimed.map((pointer, index) => {
      const count = timesHandedOut(queue, pointer.seq) + 1;
      return new Lease(queue, pointer, token, untilMs, count, owner, (messages[index] as ReceivedMessage).messageId);
    });
    const operation = new LeaseOperation(mailboxes, agent, leases, messages, queue.ready, reply);
    if (owner === null) return commit.stage(operation);
    operation.grant();
    operation.answer();
  }

  private begin(request: ReceiveRequest): void {
    const { outbox } = request.reply;
    const ofOutbox = this.waits.get(outbox);
    if (ofOutbox === undefined) this.waits.set(outbox, new Map([[request.waitId, request]]));
    else ofOutbox.set(request.waitId, request);
    this.waitCount += 1;
    this.due.add(request);
  }

  private park(queue: MessageQueue, request: ReceiveRequest): void {
    queue.waiting ??= new Set();
    queue.waiting.add(request);
  }

  /** It may not wait any more. True when it was parked: then it must be answered, or look again. */
  private end(request: ReceiveRequest): boolean {
    if (!request.mayWait) return false;
    request.mayWait = false;
    const { outbox } = request.reply;
    const ofOutbox = this.waits.get(outbox);
    ofOutbox?.delete(request.waitId);
    if (ofOutbox?.size === 0) this.waits.delete(outbox);
    this.waitCount -= 1;
    this.due.remove(request);
    return this.mailboxes.queueOf(request.agent)?.waiting?.delete(request) ?? false;
  }

  private timedOut(request: ReceiveRequest): void {
    const { commit, track } = this.mailboxes.parts;
    if (!this.end(request)) return;
    // Once more, for what an operation under way may have taken only for now.
    track(this.look(request), request.reply);
    commit.kick();
    request.reply.outbox.flush();
  }
}

function answerEmpty(reply: ReplyTo): void {
  reply.ok([], 0, null);
}

/** 48 random bits: enough that nobody acknowledges by accident what he was not handed; others' queues are out of reach. */
function newToken(): string {
  return randomUUID().slice(-12);
}
