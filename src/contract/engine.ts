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
  /** Messages left in the queue after these. */
  readonly remaining: number;
}

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
   * `not_found`: no such recipient. `store_full`: the queue is full and `messaging.overflow` is `reject`, or all queues
   * together hold `messaging.max_queued_bytes`.
   */
  sendMessage(message: NewMessage): Promise<EngineReply<MessageReceipt>>;
  /** At most once: what it returns is gone from the queue, and logged as delivered. */
  receiveMessages(agent: string, limit: number): Promise<EngineReply<ReceivedBatch>>;

  /** Logs `state_read`, found or not; may answer before that is durable. */
  readState(reader: string, key: string): Promise<EngineReply<StateEntry>>;
  /** Last write wins. `store_full` past `state.max_capacity_bytes`, exact over all shards. */
  writeState(writer: string, key: string, value: string): Promise<EngineReply<{ readonly writtenAtMs: number }>>;
  deleteState(deleter: string, key: string): Promise<EngineReply<{ readonly deletedAtMs: number }>>;
  /** `bad_request` for a cursor this engine did not make. */
  listKeys(prefix: string, page: PageRequest): Promise<EngineReply<KeyPage>>;
  capacity(): Promise<EngineReply<Capacity>>;
}
