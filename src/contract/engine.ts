import type { ApiErrorCode } from './errors.js';
import type { PrincipalKind } from './tokens.js';

/**
 * The only way from the gateway to storage. Small and typed; says nothing of threads, files or databases, so that
 * another engine (over PostgreSQL and NATS, say) can stand behind the same gateway and pass the same conformance suite.
 *
 * Every mutation resolves after it is durable and visible to every reader; per key and per queue operations are
 * linearizable. A reply of `ok: false` changed nothing. Any call may answer:
 *   `unavailable`     a bound is reached, a shard restarts, or the disk failed: retrying later helps
 *   `internal_error`  our own mistake: retrying does not help
 * Calls never reject because of the world; a rejected promise is a bug.
 * Times are epoch milliseconds, sizes UTF-8 bytes. Callers pass well-formed strings within the configured limits.
 */
export type EngineReply<T> = { readonly ok: true; readonly value: T } | EngineRefusal;

/** Plain data, so that it crosses threads unharmed. */
export interface EngineRefusal {
  readonly ok: false;
  readonly code: ApiErrorCode;
}

/** What proves a token: its public `lookup`, and a hash that only the right token matches. */
export interface NewCredential {
  /** `tokenLookup(token)`; unique. */
  readonly lookup: string;
  readonly scheme: 'bcrypt' | 'hmac';
  readonly hash: string;
}

export interface Credential extends NewCredential {
  readonly kind: PrincipalKind;
  /** The operator id or agent address it stands for. */
  readonly subject: string;
}

export interface NewOperator {
  readonly contactHash: string;
  readonly credential: NewCredential;
}

export interface NewAgent {
  readonly operatorId: string;
  readonly credential: NewCredential;
  /** Kept beside the agent, never in the event log. */
  readonly webhook: { readonly url: string; readonly secret: string } | null;
}

export interface AgentSummary {
  readonly address: string;
  readonly registeredAtMs: number;
}

export interface AgentPage {
  /** Oldest first: one order over the whole server. */
  readonly agents: readonly AgentSummary[];
  /** Opaque; stays valid whatever registers meanwhile. `null` on the last page. */
  readonly nextCursor: string | null;
  readonly total: number;
}

export interface PageRequest {
  readonly cursor: string | null;
  readonly limit: number;
}

/** A challenge waits for one answer. Held in memory only: it ends with its expiry, its use, or a restart. */
export interface StoredChallenge {
  readonly challengeId: string;
  readonly operatorId: string;
  /** What the gate needs to judge the answer; meaningless to the engine. */
  readonly expectation: string;
  readonly expiresAtMs: number;
}

export interface NewMessage {
  readonly from: string;
  readonly to: string;
  readonly content: string;
}

export interface MessageReceipt {
  readonly messageId: string;
  readonly sentAtMs: number;
}

export interface ReceivedMessage extends NewMessage {
  readonly messageId: string;
  readonly sentAtMs: number;
}

export interface ReceivedBatch {
  /** First in, first out. */
  readonly messages: readonly ReceivedMessage[];
  /** Messages left in the queue after these, but for those on loan or waiting to be pushed. */
  readonly remaining: number;
}

/** How long to wait for a first message when there is none. */
export interface Wait {
  /** 1 to 30,000. */
  readonly waitMs: number;
  /**
   * Ends the wait at once with an empty answer: the client has left, or the server stops. Messages that were taken before
   * the abort came are in the answer all the same; leased ones should be returned then.
   */
  readonly signal: AbortSignal;
}

/**
 * Who holds a lease.
 *   `agent`       it is durable, and ends when it is acknowledged, returned, or its time is over
 *   `connection`  as long as this engine client lives, at the longest its time; costs no flush, a restart returns it
 */
export type LeaseHolder = 'agent' | 'connection';

export interface LeaseTerms {
  /** 1,000 to 43,200,000. */
  readonly visibilityMs: number;
  readonly holder: LeaseHolder;
}

export interface LeasedMessage extends ReceivedMessage {
  /** Opaque; good for this delivery of this message to this agent. */
  readonly leaseId: string;
  /** 1 for the first delivery. */
  readonly deliveryCount: number;
}

export interface LeasedBatch {
  readonly messages: readonly LeasedMessage[];
  /** As in `ReceivedBatch`. */
  readonly remaining: number;
}

export interface AckReceipt {
  readonly acked: number;
  /** Of those asked for, in the order asked: ids that are not this agent's, ended, or never were. */
  readonly unknown: readonly string[];
}

/** An agent that has messages to be pushed to its webhook. */
export interface PushAgent {
  readonly address: string;
  readonly url: string;
  /** `whsec_...` */
  readonly secret: string;
  /** Posts of the first waiting message that failed so far. */
  readonly attempts: number;
  /** Not before this time; 0 for at once. */
  readonly nextAttemptAtMs: number;
  /** Messages in a row that could not be pushed; 0 after one that could. */
  readonly failedInRow: number;
}

/** How one post, or the last of several, ended. */
export type PushOutcome =
  /** Final: logged as delivered by `push`, and gone. */
  | { readonly kind: 'delivered' }
  /** It stays the agent's first message to push. */
  | { readonly kind: 'retry'; readonly attempts: number; readonly nextAttemptAtMs: number }
  /**
   * It joins the pull queue at its place. With `circuitOpenUntilMs` in the future so do all that wait behind it and all
   * that are sent until then.
   */
  | { readonly kind: 'undeliverable'; readonly failedInRow: number; readonly circuitOpenUntilMs: number };

export interface StateEntry {
  readonly key: string;
  readonly value: string;
  readonly lastModifiedBy: string;
  readonly lastModifiedAtMs: number;
}

export interface KeyPage {
  /** In byte order of their UTF-8 form. */
  readonly keys: readonly string[];
  readonly nextCursor: string | null;
  /** Keys with that prefix on the whole server. */
  readonly total: number;
}

export interface Capacity {
  /** Key bytes + value bytes of live keys. */
  readonly usedBytes: number;
  readonly totalBytes: number;
  readonly keyCount: number;
}

export interface Engine {
  /** Chooses the operator's id. `bad_request` when the credential's lookup is taken (try another token). */
  createOperator(operator: NewOperator): Promise<EngineReply<{ readonly operatorId: string }>>;
  /** Chooses the address. `bad_request` when the credential's lookup is taken (try another token). */
  registerAgent(agent: NewAgent): Promise<EngineReply<AgentSummary>>;
  /** `not_found` when no credential has this lookup. Costs no hash. */
  findCredential(lookup: string): Promise<EngineReply<Credential>>;

  /** `unavailable` when the engine holds as many challenges as it may; an operator's own oldest make room first. */
  storeChallenge(challenge: StoredChallenge): Promise<EngineReply<null>>;
  /** Hands a challenge out once: `not_found` ever after, and when it never was or has expired. */
  takeChallenge(challengeId: string): Promise<EngineReply<StoredChallenge>>;

  /** `not_found` for an address never given out. */
  findAgent(address: string): Promise<EngineReply<AgentSummary>>;
  /** Logs `registry_read`. `bad_request` for a cursor this engine did not make. */
  listAgents(reader: string, page: PageRequest): Promise<EngineReply<AgentPage>>;

  /**
   * `not_found`: no such recipient. `store_full`: the queue is full and `messaging.overflow` is `reject`, or everything
   * in it is on loan or being pushed, which is never dropped; or all queues together hold `messaging.max_queued_bytes`.
   */
  sendMessage(message: NewMessage): Promise<EngineReply<MessageReceipt>>;
  /**
   * As `sendMessage`, at most once for each sender and `idempotencyKey` (1 to 128 bytes) in 24 hours: a repeat returns
   * the first receipt and sends nothing, also across restarts and among concurrent repeats. `idempotency_conflict`: the
   * key was used for another recipient or content. A send that was refused does not use the key up.
   */
  sendMessageOnce(message: NewMessage, idempotencyKey: string): Promise<EngineReply<MessageReceipt>>;
  /** At most once: what it returns is gone from the queue, and logged as delivered. */
  receiveMessages(agent: string, limit: number, wait: Wait | null): Promise<EngineReply<ReceivedBatch>>;
  /** At least once: what it returns stays in the queue, hidden, until it is acknowledged or comes back to its place. */
  leaseMessages(agent: string, limit: number, terms: LeaseTerms, wait: Wait | null): Promise<EngineReply<LeasedBatch>>;
  /** Final for those it counts: logged as delivered, and gone. */
  ackMessages(agent: string, leaseIds: readonly string[]): Promise<EngineReply<AckReceipt>>;
  /** Ends leases early: their messages are back at their places. Unknown ids are ignored. */
  returnLeases(agent: string, leaseIds: readonly string[]): Promise<EngineReply<null>>;

  /**
   * Agents with messages to push that this call's predecessors have not handed out, as soon as there are any; an empty
   * list when `signal` ends the wait. An agent is handed out once, and again only after `settlePush` found more to push
   * for it (then by the return value there) or after it had nothing to push for a while. After a failure of a part of
   * the engine it may be handed out although it is in hand. One caller at a time in all; another one gets all anew.
   */
  awaitPushAgents(signal: AbortSignal): Promise<EngineReply<readonly PushAgent[]>>;
  /** The first message to push; `not_found` when there is none any more. Changes nothing. */
  peekPush(agent: string): Promise<EngineReply<ReceivedMessage>>;
  /** Durable when it resolves. `value` is what to push next for this agent, null when there is nothing. */
  settlePush(agent: string, messageId: string, outcome: PushOutcome): Promise<EngineReply<PushAgent | null>>;

  /** Logs `state_read`, found or not; may answer before that is durable. */
  readState(reader: string, key: string): Promise<EngineReply<StateEntry>>;
  /** Last write wins. `store_full` past `state.max_capacity_bytes`, exact over all shards. */
  writeState(writer: string, key: string, value: string): Promise<EngineReply<{ readonly writtenAtMs: number }>>;
  deleteState(deleter: string, key: string): Promise<EngineReply<{ readonly deletedAtMs: number }>>;
  /** `bad_request` for a cursor this engine did not make. */
  listKeys(prefix: string, page: PageRequest): Promise<EngineReply<KeyPage>>;
  capacity(): Promise<EngineReply<Capacity>>;
}
