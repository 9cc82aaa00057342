import type { Credential, NewAgent, NewCredential, NewOperator } from '../contract/engine.js';
import type { ApiErrorCode } from '../contract/errors.js';
import type { GroupCommit } from './group-commit.js';
import { type EventBody, eventBody } from './log-line.js';
import type { Operation } from './operations.js';
import type { PendingRegistration } from './row-codecs.js';
import type { View } from './view.js';
import type { ReplyTo } from './wire.js';

/**
 * Registrations: operators and agents on their way in.
 * Owns:      the lookups that are being registered, the pending halves that a checkpoint has made superfluous.
 * Never:     lets a credential near the log.
 * Invariant: the credential is flushed in LMDB before the event is logged, so a logged registration is complete;
 *            a credential without its event was never answered, and recovery removes it.
 */
export class Registrations {
  private readonly view: View;
  private readonly commit: GroupCommit;
  private readonly lookups = new Set<string>();
  /** Registered, but not yet part of a checkpoint. */
  private completed: string[] = [];

  constructor(view: View, commit: GroupCommit) {
    this.view = view;
    this.commit = commit;
  }

  /** Answers `bad_request` when the lookup is taken. Rejects when LMDB fails, which ends the shard. */
  async operator(operatorId: string, operator: NewOperator, reply: ReplyTo): Promise<void> {
    const credential: Credential = { ...operator.credential, kind: 'operator', subject: operatorId };
    const body = eventBody('operator_created', null, {
      operator_id: operatorId,
      contact_hash: operator.contactHash,
    });
    await this.register({ credential, webhook: null }, body, reply, (_seq, atMs) =>
      this.view.addOperator(operatorId, atMs),
    );
  }

  async agent(address: string, agent: NewAgent, reply: ReplyTo): Promise<void> {
    const credential: Credential = { ...agent.credential, kind: 'agent', subject: address };
    const body = eventBody('agent_registered', address, {
      address,
      operator_id: agent.operatorId,
      has_webhook: agent.webhook !== null,
    });
    await this.register({ credential, webhook: agent.webhook }, body, reply, (seq, atMs) =>
      this.view.addAgent(address, agent.operatorId, atMs, seq),
    );
  }

  /** Call as a checkpoint begins; run the returned clean-up once it is committed. */
  checkpointed(): () => Promise<void> {
    const completed = this.completed;
    this.completed = [];
    return async () => {
      await Promise.all(completed.map((subject) => this.view.store.removePending(subject)));
    };
  }

  private async register(
    pending: PendingRegistration,
    body: EventBody,
    reply: ReplyTo,
    add: (seq: number, atMs: number) => void,
  ): Promise<void> {
    const { lookup, subject } = pending.credential;
    if (this.isTaken(pending.credential)) {
      reply.refuse('bad_request');
      return;
    }
    this.lookups.add(lookup);
    await this.view.store.putPending(subject, pending);
    this.commit.stage(
      new RegistrationOperation(body, reply, {
        applied: (seq, atMs) => {
          add(seq, atMs);
          this.lookups.delete(lookup);
          this.completed.push(subject);
        },
        // The credential without its event stays until the next start removes it; nobody was told the token.
        failed: () => this.lookups.delete(lookup),
      }),
    );
    this.commit.kick();
  }

  private isTaken(credential: NewCredential): boolean {
    return this.lookups.has(credential.lookup) || this.view.store.credentials.has(credential.lookup);
  }
}

class RegistrationOperation implements Operation {
  readonly bodies: readonly EventBody[];
  private seq = 0;

  constructor(
    body: EventBody,
    readonly reply: ReplyTo,
    readonly outcome: { applied(seq: number, atMs: number): void; failed(): void },
  ) {
    this.bodies = [body];
  }

  logged(seq: number): void {
    this.seq = seq;
  }

  apply(atMs: number): void {
    this.outcome.applied(this.seq, atMs);
  }

  answer(atMs: number): void {
    this.reply.ok(atMs, null, null);
  }

  fail(code: ApiErrorCode): void {
    this.outcome.failed();
    this.reply.refuse(code);
  }
}
