import { randomUUID } from 'node:crypto';
import type { ApiErrorCode } from '../contract/errors.js';
import { internalBody } from './internal-records.js';
import type { EventBody } from './log-line.js';
import type { Mailboxes } from './mailboxes.js';
import type { Operation } from './operations.js';
import { sendClaimName } from './store-keys.js';
import type { Outbox, ReplyTo } from './wire.js';

/**
 * Send claims: which message each idempotency key stands for, on the shard of the sender. A send with a key is three
 * steps of the gateway:
 *   claim    (here) the key is durably bound to a digest of the message and to the message's id, chosen now
 *   send     (the recipient's shard) with that id, once: a repeat finds the id and gets the first receipt
 *   finish   (here) lets the next repeat go on; if the send was refused, durably frees the key again
 * Owns:      the attempts under way: one at a time for each key, the others wait.
 * Never:     sees the message's content or the key itself, only digests of them.
 *
 * A gateway that dies between the steps leaves a claim: the same message may be sent again with it, another may not.
 */
interface Attempt {
  /** Names this attempt when it is finished. */
  readonly id: string;
  readonly owner: Outbox;
  /** False while the log decides about the claim. */
  isSettled: boolean;
  readonly waiting: WaitingClaim[];
}

interface WaitingClaim {
  readonly fingerprint: string;
  readonly reply: ReplyTo;
}

export class SendClaims {
  private readonly mailboxes: Mailboxes;
  private readonly attempts = new Map<string, Attempt>();
  private readonly gone = new WeakSet<Outbox>();

  constructor(mailboxes: Mailboxes) {
    this.mailboxes = mailboxes;
  }

  /** Answers with the message's id and the attempt's, when this attempt's turn has come. `idempotency_conflict`. */
  claim(from: string, key: string, fingerprint: string, reply: ReplyTo): void {
    const attempt = this.attempts.get(sendClaimName(from, key));
    if (attempt === undefined) this.begin(from, key, fingerprint, reply, []);
    else attempt.waiting.push({ fingerprint, reply });
  }

  /** The attempt has ended, and the key stays in use. Nothing happens when it ended before. */
  finish(from: string, key: string, attemptId: string, reply: ReplyTo): void {
    if (this.attempts.get(sendClaimName(from, key))?.id === attemptId) this.end(from, key);
    reply.ok(null, null, null);
  }

  /** The send was refused: the key is free again when this is answered. */
  release(from: string, key: string, attemptId: string, reply: ReplyTo): void {
    const attempt = this.attempts.get(sendClaimName(from, key));
    if (attempt?.id !== attemptId) return reply.ok(null, null, null);
    attempt.isSettled = false;
    this.mailboxes.parts.commit.stage(new ReleaseOperation(this, this.mailboxes, from, key, attempt, reply));
  }

  /** The log has decided. An attempt whose gateway is gone ends here. */
  settled(from: string, key: string, attempt: Attempt, isOver: boolean): void {
    attempt.isSettled = true;
    if (isOver || this.gone.has(attempt.owner)) this.end(from, key);
  }

  /** A gateway is gone: others need not wait for its attempts. */
  detach(owner: Outbox): void {
    this.gone.add(owner);
    for (const [name, attempt] of [...this.attempts]) {
      if (attempt.owner !== owner || !attempt.isSettled) continue;
      const separator = name.indexOf(':');
      this.end(name.slice(0, separator), name.slice(separator + 1));
    }
  }

  private begin(from: string, key: string, fingerprint: string, reply: ReplyTo, waiting: WaitingClaim[]): void {
    const { view, commit } = this.mailboxes.parts;
    const name = sendClaimName(from, key);
    const claimed = view.delivery.sendClaim(name, Date.now());
    if (claimed !== undefined && claimed.fingerprint !== fingerprint) return reply.refuse('idempotency_conflict');
    const attempt = { id: randomUUID(), owner: reply.outbox, isSettled: claimed !== undefined, waiting };
    this.attempts.set(name, attempt);
    if (claimed !== undefined) return reply.ok(claimed.messageId, attempt.id, null);
    commit.stage(new ClaimOperation(this, this.mailboxes, from, key, fingerprint, randomUUID(), attempt, reply));
  }

  /** Lets those go on who wait, up to the first that takes the key. */
  private end(from: string, key: string): void {
    const name = sendClaimName(from, key);
    const waiting = this.attempts.get(name)?.waiting ?? [];
    this.attempts.delete(name);
    while (!this.attempts.has(name)) {
      const next = waiting.shift();
      if (next === undefined) break;
      if (this.gone.has(next.reply.outbox)) continue;
      this.begin(from, key, next.fingerprint, next.reply, waiting);
      next.reply.outbox.flush();
    }
    this.mailboxes.parts.commit.kick();
  }
}

class ClaimOperation implements Operation {
  readonly bodies: readonly EventBody[];

  constructor(
    readonly claims: SendClaims,
    readonly mailboxes: Mailboxes,
    readonly from: string,
    readonly key: string,
    readonly fingerprint: string,
    readonly messageId: string,
    readonly attempt: Attempt,
    readonly reply: ReplyTo,
  ) {
    this.bodies = [internalBody('idempotency_claimed', { from, key, fingerprint, message_id: messageId })];
  }

  logged(): void {}

  apply(atMs: number): void {
    const { fingerprint, messageId } = this;
    this.mailboxes.parts.view.delivery.claimSend(sendClaimName(this.from, this.key), fingerprint, messageId, atMs);
  }

  answer(): void {
    this.reply.ok(this.messageId, this.attempt.id, null);
    this.claims.settled(this.from, this.key, this.attempt, false);
  }

  fail(code: ApiErrorCode): void {
    this.reply.refuse(code);
    this.claims.settled(this.from, this.key, this.attempt, true);
  }
}

class ReleaseOperation implements Operation {
  readonly bodies: readonly EventBody[];

  constructor(
    readonly claims: SendClaims,
    readonly mailboxes: Mailboxes,
    readonly from: string,
    readonly key: string,
    readonly attempt: Attempt,
    readonly reply: ReplyTo,
  ) {
    this.bodies = [internalBody('idempotency_released', { from, key })];
  }

  logged(): void {}

  apply(): void {
    this.mailboxes.parts.view.delivery.releaseSend(sendClaimName(this.from, this.key));
  }

  answer(): void {
    this.reply.ok(null, null, null);
    this.claims.settled(this.from, this.key, this.attempt, true);
  }

  fail(code: ApiErrorCode): void {
    this.reply.refuse(code);
    this.claims.settled(this.from, this.key, this.attempt, true);
  }
}
