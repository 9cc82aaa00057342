import type { PushAgent, PushOutcome } from '../contract/engine.js';
import type { ApiErrorCode } from '../contract/errors.js';
import { deliveredBody } from './handing-out.js';
import { internalBody } from './internal-records.js';
import type { EventBody } from './log-line.js';
import type { Mailboxes } from './mailboxes.js';
import { type MessageQueue, type QueuedMessage, SLOT } from './message-queue.js';
import type { Operation } from './operations.js';
import type { Outbox, ReplyTo } from './wire.js';

/**
 * Push queue: which agents have messages for their webhook, and what became of each post.
 * Owns:      who has been handed out to the dispatcher.
 * Never:     decides when to try again or whether a circuit opens: it keeps what the dispatcher decided, durably.
 * Invariant: the push row of an agent counts its messages in the state `push`; it is there while there are any, or
 *            while failures must be remembered. So a start finds the agents without reading queues.
 */
/** Agents in one answer. */
const MAX_HANDED_OUT_AT_ONCE = 1_000;

/** The id of an agent's first message to push, once it has been read. */
interface Head {
  readonly seq: number;
  readonly messageId: string;
}

export class PushQueue {
  private readonly mailboxes: Mailboxes;
  /** Who asks for agents; somebody else means that all must be handed out again. */
  private caller: Outbox | null = null;
  private asking: ReplyTo | null = null;
  /** Agents with messages to push that nobody works on. */
  private readonly fresh = new Set<string>();
  private readonly handedOut = new Map<string, Head | null>();
  private handOutScheduled = false;

  constructor(mailboxes: Mailboxes) {
    this.mailboxes = mailboxes;
  }

  /** Answers as soon as there are agents to hand out. A second question ends the first. */
  ask(reply: ReplyTo): void {
    this.endAll();
    if (reply.outbox !== this.caller) {
      this.caller = reply.outbox;
      this.handedOut.clear();
      for (const address of this.mailboxes.parts.view.delivery.pushAgents()) this.fresh.add(address);
    }
    this.asking = reply;
    this.handOut();
  }

  /** A message to push was stored for this agent. */
  arrived(agent: string): void {
    if (this.handedOut.has(agent)) return;
    this.fresh.add(agent);
    if (this.asking === null || this.handOutScheduled) return;
    this.handOutScheduled = true;
    queueMicrotask(() => {
      this.handOutScheduled = false;
      this.handOut();
    });
  }

  /** Answers with the first message to push. Rejects on an I/O error. */
  async peek(agent: string, reply: ReplyTo): Promise<void> {
    const queue = this.mailboxes.queueOf(agent);
    for (;;) {
      const head = queue?.toPush(1)[0];
      if (queue === undefined || queue.isClosed || head === undefined) {
        this.handedOut.delete(agent);
        return reply.refuse('not_found');
      }
      const message = await this.mailboxes.read(head);
      // While it was read another call may have settled it.
      if (queue.toPush(1)[0]?.seq !== head.seq) continue;
      if (message === undefined) {
        this.removeDamaged(queue, agent, head);
        continue;
      }
      if (this.handedOut.has(agent)) this.handedOut.set(agent, { seq: head.seq, messageId: message.messageId });
      const { messageId, from, to, content, sentAtMs } = message;
      return reply.ok([messageId, from, to, content, sentAtMs], null, null);
    }
  }

  /** Answers with what to push next. When the message is no longer the first to push, that is all it does. */
  async settle(agent: string, messageId: string, outcome: PushOutcome, reply: ReplyTo): Promise<void> {
    const { commit } = this.mailboxes.parts;
    const queue = this.mailboxes.queueOf(agent);
    const head = queue?.toPush(1)[0];
    if (queue === undefined || head === undefined) return this.answerNext(agent, reply);
    const known = this.handedOut.get(agent);
    const headId = known?.seq === head.seq ? known.messageId : (await this.mailboxes.read(head))?.messageId;
    const isStillHead = queue.toPush(1)[0]?.seq === head.seq;
    if (headId === undefined && isStillHead) this.removeDamaged(queue, agent, head);
    if (headId !== messageId || !isStillHead) return this.answerNext(agent, reply);
    if (outcome.kind !== 'retry') {
      queue.move(head.seq, SLOT.push, outcome.kind === 'delivered' ? SLOT.claimed : SLOT.changing);
    }
    commit.stage(new SettleOperation(this, queue, agent, head, messageId, outcome, reply));
    commit.kick();
  }

  settled(queue: MessageQueue, agent: string, head: QueuedMessage, outcome: PushOutcome, atMs: number): void {
    const { view } = this.mailboxes.parts;
    switch (outcome.kind) {
      case 'delivered':
        this.mailboxes.removed(queue, agent, head, true);
        view.delivery.pushDelivered(agent);
        break;
      case 'retry':
        view.delivery.pushRetried(agent, outcome.attempts, outcome.nextAttemptAtMs);
        return;
      case 'undeliverable': {
        const { failedInRow, circuitOpenUntilMs } = outcome;
        view.delivery.pushGivenUp(agent, head.seq, failedInRow, circuitOpenUntilMs, atMs);
        queue.move(head.seq, SLOT.changing, SLOT.ready);
        if (circuitOpenUntilMs > atMs) {
          for (const { seq } of queue.toPush(queue.waitingToPush)) queue.move(seq, SLOT.push, SLOT.ready);
        }
        this.mailboxes.becameReady(queue);
        break;
      }
    }
    this.mailboxes.wakeSeekers();
  }

  /** What to push next for this agent; null when there is nothing: then it is handed out again when there is. */
  answerNext(agent: string, reply: ReplyTo): void {
    const next = this.agentToPush(agent);
    if (next === null) {
      this.handedOut.delete(agent);
    } else {
      this.fresh.delete(agent);
      if (!this.handedOut.has(agent)) this.handedOut.set(agent, null);
    }
    reply.ok(next, null, null);
  }

  detach(outbox: Outbox): void {
    if (this.caller !== outbox) return;
    this.caller = null;
    this.asking = null;
  }

  /** Ends the question that is open with an empty answer. */
  endAll(): void {
    const { asking } = this;
    this.asking = null;
    asking?.ok([], null, null);
    asking?.outbox.flush();
  }

  private handOut(): void {
    const { asking } = this;
    if (asking === null) return;
    const agents: PushAgent[] = [];
    for (const address of this.fresh) {
      if (agents.length >= MAX_HANDED_OUT_AT_ONCE) break;
      this.fresh.delete(address);
      const agent = this.agentToPush(address);
      if (agent === null) continue;
      this.handedOut.set(address, null);
      agents.push(agent);
    }
    if (agents.length === 0) return;
    this.asking = null;
    asking.ok(agents, null, null);
    asking.outbox.flush();
  }

  private agentToPush(address: string): PushAgent | null {
    const { view } = this.mailboxes.parts;
    const webhook = view.agent(address)?.webhook ?? null;
    const { waiting, attempts, nextAttemptAtMs, failedInRow } = view.delivery.pushRow(address);
    if (webhook === null || waiting === 0) return null;
    return { address, url: webhook.url, secret: webhook.secret, attempts, nextAttemptAtMs, failedInRow };
  }

  private removeDamaged(queue: MessageQueue, agent: string, message: QueuedMessage): void {
    queue.move(message.seq, SLOT.push, SLOT.claimed);
    this.mailboxes.removeDamaged(queue, agent, message, true);
  }
}

class SettleOperation implements Operation {
  readonly bodies: readonly EventBody[];

  constructor(
    readonly pushQueue: PushQueue,
    readonly queue: MessageQueue,
    readonly agent: string,
    readonly head: QueuedMessage,
    messageId: string,
    readonly outcome: PushOutcome,
    readonly reply: ReplyTo,
  ) {
    this.bodies = [settledBody(agent, head.seq, messageId, outcome)];
  }

  logged(): void {}

  apply(atMs: number): void {
    this.pushQueue.settled(this.queue, this.agent, this.head, this.outcome, atMs);
  }

  answer(): void {
    this.pushQueue.answerNext(this.agent, this.reply);
  }

  fail(code: ApiErrorCode): void {
    const { kind } = this.outcome;
    if (kind === 'delivered') this.queue.move(this.head.seq, SLOT.claimed, SLOT.push);
    if (kind === 'undeliverable') this.queue.move(this.head.seq, SLOT.changing, SLOT.push);
    this.reply.refuse(code);
  }
}

function settledBody(to: string, ref: number, messageId: string, outcome: PushOutcome): EventBody {
  switch (outcome.kind) {
    case 'delivered':
      return deliveredBody(to, messageId, 'push', ref);
    case 'retry': {
      const { attempts, nextAttemptAtMs } = outcome;
      return internalBody('push_retried', { to, attempts, next_attempt_at_ms: nextAttemptAtMs });
    }
    case 'undeliverable': {
      const { failedInRow, circuitOpenUntilMs } = outcome;
      const data = { to, ref, failed_in_row: failedInRow, circuit_open_until_ms: circuitOpenUntilMs };
      return internalBody('push_given_up', data);
    }
  }
}
