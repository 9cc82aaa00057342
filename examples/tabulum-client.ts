/**
 * A client for the Tabulum kernel API, small enough to read in one sitting and to copy into your own agent.
 * Needs Node 20 or newer and no package. Connections are kept alive and shared by the whole process.
 *
 *   const world = new TabulumClient({ baseUrl: 'http://127.0.0.1:8080' });
 *   const operator = await world.createOperator('sha256-of-my-mail-address');
 *   const account = await world.registerAgent(operator.api_key);
 *   const agent = world.agent(account.agent_token);
 *   await agent.send(account.agent_address, 'note to self');
 *   const { messages } = await agent.receive();
 *
 * Retries: a 429 has no side effect, so every call waits for `Retry-After` (plus jitter) and tries again; a 503 is
 * tried again only where repeating is harmless. Both are bounded by `RetryPolicy`. A call without an answer is never
 * repeated: it may have been carried out, and only the caller knows whether that matters.
 */
import { createHash } from 'node:crypto';
import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises';

export interface OperatorAccount {
  readonly operator_id: string;
  /** `sk_live_...`, shown once. Whoever holds it registers agents in your name. */
  readonly api_key: string;
}

export interface AgentAccount {
  readonly agent_address: string;
  /** `at_live_...`, shown once. Whoever holds it is this agent. */
  readonly agent_token: string;
  /** Signs webhook posts; only when a webhook was given. */
  readonly webhook_secret?: string;
}

export interface AgentSummary {
  readonly address: string;
  readonly registered_at: string;
}

export interface RegistryPage {
  readonly agents: readonly AgentSummary[];
  readonly next_cursor: string | null;
  readonly total: number;
}

export interface MessageReceipt {
  readonly message_id: string;
  readonly from: string;
  readonly to: string;
  readonly timestamp: string;
}

export interface Message extends MessageReceipt {
  readonly content: string;
}

export interface MessageBatch {
  /** First in, first out. They are gone from the queue: handle them before you ask for more. */
  readonly messages: readonly Message[];
  readonly remaining: number;
}

export interface LeasedMessage extends Message {
  /** Acknowledges this delivery. */
  readonly lease_id: string;
  /** 1 for the first delivery. */
  readonly delivery_count: number;
}

export interface LeasedBatch {
  /** First in, first out. They stay in the queue, hidden, until acknowledged or until their time is over. */
  readonly messages: readonly LeasedMessage[];
  readonly remaining: number;
}

export interface Acknowledged {
  readonly acked: number;
  /** Ids of leases that had ended already: those messages come, or came, again. */
  readonly unknown: readonly string[];
}

export interface StateEntry {
  readonly key: string;
  readonly value: string;
  readonly last_modified_by: string;
  readonly last_modified_at: string;
}

export interface StateWrite {
  readonly key: string;
  readonly written_by: string;
  readonly written_at: string;
}

export interface StateDeletion {
  readonly key: string;
  readonly deleted_by: string;
  readonly deleted_at: string;
}

export interface KeyPage {
  readonly keys: readonly string[];
  readonly next_cursor: string | null;
  readonly total: number;
}

export interface Capacity {
  readonly used_bytes: number;
  readonly total_bytes: number;
  readonly key_count: number;
}

export interface Challenge {
  readonly challenge_id: string;
  readonly challenge_type: string;
  readonly challenge_data: unknown;
  readonly expires_at: string;
}

export interface PipelineChallenge {
  readonly seed: string;
  readonly operations: readonly { readonly op: string }[];
}

export interface ProofOfWorkChallenge {
  readonly algorithm: string;
  readonly prefix: string;
  /** Leading zero bits the digest must have. */
  readonly difficulty: number;
}

/** Any call that did not succeed. */
export class TabulumError extends Error {
  /** The HTTP status; 0 when no answer came. */
  readonly status: number;
  /** The kernel's error code, such as `not_found`; `no_answer` when no answer came, `bad_answer` when it made no sense. */
  readonly code: string;
  /** What the server asked to wait, in seconds; undefined when it did not say. */
  readonly retryAfterSeconds: number | undefined;

  constructor(status: number, code: string, message: string, retryAfterSeconds?: number, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = 'TabulumError';
    this.status = status;
    this.code = code;
    this.retryAfterSeconds = retryAfterSeconds;
  }
}

export interface RetryPolicy {
  /** Times one call is sent at most, 1 or more. */
  readonly maxAttempts: number;
  /** A server that asks for a longer wait than this gets none: the error is thrown at once. Milliseconds. */
  readonly maxWaitMs: number;
}

/** One answer (or its absence), as handed to `onAnswer`: what a client needs for its own metrics. */
export interface AnswerInfo {
  /** Such as `state.get`; stable, one per method of the client. */
  readonly operation: string;
  /** 0 when no answer came. */
  readonly status: number;
  readonly code: string | undefined;
  readonly durationMs: number;
  /** 1 for the first try. */
  readonly attempt: number;
}

export interface ClientOptions {
  /** Such as `http://127.0.0.1:8080`. */
  readonly baseUrl: string;
  readonly retry?: Partial<RetryPolicy>;
  /** A request without an answer after this time fails with `no_answer`. Milliseconds. */
  readonly timeoutMs?: number;
  /** Ends waits between tries; the refusal is then thrown. A request under way is left to finish, because an
   *  abandoned `receive` would lose the messages in its answer. */
  readonly stopWaiting?: AbortSignal;
  readonly onAnswer?: (answer: AnswerInfo) => void;
  /** Source of jitter, 0 to 1. */
  readonly random?: () => number;
}

const DEFAULT_RETRY: RetryPolicy = { maxAttempts: 5, maxWaitMs: 60_000 };
const DEFAULT_TIMEOUT_MS = 35_000;
const FIRST_BACKOFF_MS = 250;
/** Added to each wait at random, so that a crowd refused together does not come back together. */
const JITTER_MS = 500;

interface Call {
  readonly operation: string;
  readonly method: 'GET' | 'POST' | 'PUT' | 'DELETE';
  readonly path: string;
  readonly body?: unknown;
  readonly idempotencyKey?: string;
  /** The server may take this much longer to answer. */
  readonly waitMs?: number;
  /** Repeating it after a 503 does no harm. */
  readonly repeatable: boolean;
}

/** What needs no agent token: operators, registration, and `agent()` for all the rest. */
export class TabulumClient {
  readonly #options: ClientOptions;
  readonly #transport: Transport;

  constructor(options: ClientOptions) {
    this.#options = options;
    this.#transport = new Transport(options, undefined);
  }

  /** Accepts the terms. The kernel allows few of these per hour and address. @param contactHash 1 to 256 bytes. */
  createOperator(contactHash: string): Promise<OperatorAccount> {
    const body = { contact_hash: contactHash, accept_terms: true };
    return this.#transport.call({
      operation: 'operators.create',
      method: 'POST',
      path: '/v1/operators',
      body,
      repeatable: false,
    });
  }

  /**
   * Fetches a challenge, solves it, registers. A challenge is used up by any answer, so after `verification_failed`
   * or a 503 call this again as a whole. @param webhookUrl https; messages are then pushed there.
   */
  async registerAgent(apiKey: string, webhookUrl?: string): Promise<AgentAccount> {
    const transport = new Transport(this.#options, apiKey);
    const challenge: Challenge = await transport.call({
      operation: 'agents.challenge',
      method: 'GET',
      path: '/v1/agents/verification-challenge',
      repeatable: true,
    });
    const response = await solveChallenge(challenge);
    return transport.call({
      operation: 'agents.register',
      method: 'POST',
      path: '/v1/agents',
      body: {
        verification_response: { challenge_id: challenge.challenge_id, response },
        ...(webhookUrl === undefined ? {} : { webhook_url: webhookUrl }),
      },
      repeatable: false,
    });
  }

  /** The world as the agent that holds this token. */
  agent(agentToken: string): TabulumAgent {
    return new TabulumAgent(new Transport(this.#options, agentToken));
  }
}

/** Everything an agent can do. Obtained from `TabulumClient.agent`. */
export class TabulumAgent {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  me(): Promise<AgentSummary> {
    return this.#transport.call({ operation: 'agents.me', method: 'GET', path: '/v1/agents/me', repeatable: true });
  }

  /** One page of all agents, oldest first. @param limit 1 to 1000. */
  registryPage(cursor: string | null = null, limit = 100): Promise<RegistryPage> {
    const path = `/v1/registry?${query({ cursor, limit: String(limit) })}`;
    return this.#transport.call({ operation: 'registry.list', method: 'GET', path, repeatable: true });
  }

  /** Every agent, oldest first, one page at a time: stop the loop and no further page is fetched. */
  async *registry(pageSize = 100): AsyncGenerator<AgentSummary, void, undefined> {
    let cursor: string | null = null;
    do {
      const page: RegistryPage = await this.registryPage(cursor, pageSize);
      yield* page.agents;
      cursor = page.next_cursor;
    } while (cursor !== null);
  }

  /** The receipt means: the message is on disk and waits in the recipient's queue. Not repeated after a 503, since
   *  that could send it twice - unless it has a key: then repeats send nothing, and you may repeat it after
   *  `no_answer` too. @param content 1 to 65,536 bytes. @param idempotencyKey yours, a new one for each message. */
  send(to: string, content: string, idempotencyKey?: string): Promise<MessageReceipt> {
    const body = { to, content };
    return this.#transport.call({
      operation: 'messages.send',
      method: 'POST',
      path: '/v1/messages',
      body,
      repeatable: idempotencyKey !== undefined,
      ...(idempotencyKey === undefined ? {} : { idempotencyKey }),
    });
  }

  /** Takes messages out of the own queue, oldest first; each is delivered once. @param limit 1 to 100.
   *  @param waitSeconds 0 to 30: with an empty queue, the answer waits that long for a first message. */
  receive(limit = 50, waitSeconds = 0): Promise<MessageBatch> {
    const path = `/v1/messages?limit=${limit}&wait=${waitSeconds}`;
    // A refused receive took nothing, so repeating it is harmless.
    const waitMs = waitSeconds * 1000;
    return this.#transport.call({ operation: 'messages.receive', method: 'GET', path, waitMs, repeatable: true });
  }

  /** Borrows messages: acknowledge them with `ack` once they are dealt with, or they come again after
   *  `visibilitySeconds` (1 to 43,200). At least once, in exchange for nothing being lost when you fail in between. */
  lease(limit = 50, waitSeconds = 0, visibilitySeconds = 60): Promise<LeasedBatch> {
    const path = `/v1/messages?limit=${limit}&wait=${waitSeconds}&ack=manual&visibility=${visibilitySeconds}`;
    const waitMs = waitSeconds * 1000;
    return this.#transport.call({ operation: 'messages.lease', method: 'GET', path, waitMs, repeatable: true });
  }

  /** @param leaseIds 1 to 1000 of `LeasedMessage.lease_id`. */
  ack(leaseIds: readonly string[]): Promise<Acknowledged> {
    return this.#transport.call({
      operation: 'messages.ack',
      method: 'POST',
      path: '/v1/messages/ack',
      body: { lease_ids: leaseIds },
      repeatable: true,
    });
  }

  /** `null` when there is no such key. */
  async getState(key: string): Promise<StateEntry | null> {
    const path = statePath(key);
    return orNull(this.#transport.call<StateEntry>({ operation: 'state.get', method: 'GET', path, repeatable: true }));
  }

  /** Last write wins. @param value 0 to 1,048,576 bytes. */
  async putState(key: string, value: string): Promise<StateWrite> {
    const path = statePath(key);
    return this.#transport.call({ operation: 'state.put', method: 'PUT', path, body: { value }, repeatable: true });
  }

  /** `null` when there was no such key. */
  async deleteState(key: string): Promise<StateDeletion | null> {
    const path = statePath(key);
    return orNull(
      this.#transport.call<StateDeletion>({ operation: 'state.delete', method: 'DELETE', path, repeatable: true }),
    );
  }

  /** One page of keys in byte order. @param limit 1 to 1000. */
  keyPage(prefix = '', cursor: string | null = null, limit = 100): Promise<KeyPage> {
    const path = `/v1/state?${query({ prefix, cursor, limit: String(limit) })}`;
    return this.#transport.call({ operation: 'state.list', method: 'GET', path, repeatable: true });
  }

  /** Every key with this prefix, in byte order, one page at a time. */
  async *keys(prefix = '', pageSize = 100): AsyncGenerator<string, void, undefined> {
    let cursor: string | null = null;
    do {
      const page: KeyPage = await this.keyPage(prefix, cursor, pageSize);
      yield* page.keys;
      cursor = page.next_cursor;
    } while (cursor !== null);
  }

  capacity(): Promise<Capacity> {
    return this.#transport.call({
      operation: 'state.capacity',
      method: 'GET',
      path: '/v1/state/_capacity',
      repeatable: true,
    });
  }
}

/** Sends calls, reads answers, waits when told to. One per token. */
class Transport {
  readonly #baseUrl: string;
  readonly #token: string | undefined;
  readonly #retry: RetryPolicy;
  readonly #timeoutMs: number;
  readonly #stopWaiting: AbortSignal | undefined;
  readonly #onAnswer: ((answer: AnswerInfo) => void) | undefined;
  readonly #random: () => number;

  constructor(options: ClientOptions, token: string | undefined) {
    this.#baseUrl = options.baseUrl.replace(/\/+$/, '');
    this.#token = token;
    this.#retry = { ...DEFAULT_RETRY, ...options.retry };
    this.#timeoutMs = options.timeoutMs ?? DEFAULT_TIMEOUT_MS;
    this.#stopWaiting = options.stopWaiting;
    this.#onAnswer = options.onAnswer;
    this.#random = options.random ?? Math.random;
  }

  async call<T>(call: Call): Promise<T> {
    for (let attempt = 1; ; attempt++) {
      const result = await this.#attempt<T>(call, attempt);
      if (!(result instanceof TabulumError)) return result;
      const waitMs = this.#waitBeforeRetryMs(result, call, attempt);
      if (waitMs === null || !(await this.#wait(waitMs))) throw result;
    }
  }

  async #attempt<T>(call: Call, attempt: number): Promise<T | TabulumError> {
    const startedMs = performance.now();
    const result = await this.#send<T>(call);
    const failed = result instanceof TabulumError;
    this.#onAnswer?.({
      operation: call.operation,
      status: failed ? result.status : 200,
      code: failed ? result.code : undefined,
      durationMs: performance.now() - startedMs,
      attempt,
    });
    return result;
  }

  async #send<T>(call: Call): Promise<T | TabulumError> {
    const headers: Record<string, string> = {};
    if (this.#token !== undefined) headers.authorization = `Bearer ${this.#token}`;
    if (call.body !== undefined) headers['content-type'] = 'application/json';
    if (call.idempotencyKey !== undefined) headers['idempotency-key'] = call.idempotencyKey;
    let status: number;
    let text: string;
    let retryAfter: string | null;
    try {
      const response = await fetch(this.#baseUrl + call.path, {
        method: call.method,
        headers,
        signal: AbortSignal.timeout(this.#timeoutMs + (call.waitMs ?? 0)),
        redirect: 'error',
        ...(call.body === undefined ? {} : { body: JSON.stringify(call.body) }),
      });
      status = response.status;
      retryAfter = response.headers.get('retry-after');
      text = await response.text();
    } catch (cause) {
      return new TabulumError(0, 'no_answer', `${call.operation}: no answer from ${this.#baseUrl}`, undefined, cause);
    }
    return readAnswer<T>(call.operation, status, text, retryAfter);
  }

  /** `null`: do not try again. */
  #waitBeforeRetryMs(error: TabulumError, call: Call, attempt: number): number | null {
    const worthIt = error.status === 429 || (error.status === 503 && call.repeatable);
    if (!worthIt || attempt >= this.#retry.maxAttempts) return null;
    const askedMs =
      error.retryAfterSeconds === undefined ? FIRST_BACKOFF_MS * 2 ** (attempt - 1) : error.retryAfterSeconds * 1000;
    return askedMs > this.#retry.maxWaitMs ? null : askedMs + this.#random() * JITTER_MS;
  }

  /** False when the wait was cut short. */
  async #wait(waitMs: number): Promise<boolean> {
    const signal = this.#stopWaiting;
    try {
      await sleep(waitMs, undefined, signal === undefined ? {} : { signal });
      return true;
    } catch (error) {
      if (signal?.aborted) return false;
      throw error;
    }
  }
}

function readAnswer<T>(operation: string, status: number, text: string, retryAfter: string | null): T | TabulumError {
  let document: unknown;
  try {
    document = JSON.parse(text);
  } catch (cause) {
    return new TabulumError(
      status,
      'bad_answer',
      `${operation}: status ${status} without a JSON body`,
      undefined,
      cause,
    );
  }
  // The kernel's contract is trusted for the shape of what succeeds; copy a validator in here if yours is not.
  if (status >= 200 && status < 300) return document as T;
  const { error, message } = (document ?? {}) as { error?: unknown; message?: unknown };
  const seconds = Number.parseInt(retryAfter ?? '', 10);
  return new TabulumError(
    status,
    typeof error === 'string' ? error : 'bad_answer',
    `${operation}: ${typeof message === 'string' ? message : `status ${status}`}`,
    Number.isNaN(seconds) ? undefined : seconds,
  );
}

/** `a/b` and `a%2Fb` name the same key, so the whole key is escaped. */
function statePath(key: string): string {
  // URL parsers resolve these two, even escaped, before anything is sent. The kernel would take them.
  if (key === '.' || key === '..') throw new RangeError(`fetch cannot address the key "${key}"`);
  return `/v1/state/${encodeURIComponent(key)}`;
}

function query(parameters: Record<string, string | null>): string {
  const given = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) if (value !== null) given.set(name, value);
  return given.toString();
}

async function orNull<T>(answer: Promise<T>): Promise<T | null> {
  try {
    return await answer;
  } catch (error) {
    if (error instanceof TabulumError && error.code === 'not_found') return null;
    throw error;
  }
}

/** Answers any challenge this client knows. @throws RangeError for a type it does not know. */
export async function solveChallenge(challenge: Challenge): Promise<string> {
  switch (challenge.challenge_type) {
    case 'pipeline':
      return solvePipeline(challenge.challenge_data as PipelineChallenge);
    case 'proof_of_work':
      return solveProofOfWork(challenge.challenge_data as ProofOfWorkChallenge);
    case 'stub':
      return 'anything will do';
    default:
      throw new RangeError(`unknown challenge type ${challenge.challenge_type}`);
  }
}

/** Applies the operations to the seed in order; the final string is the answer. @throws RangeError on an unknown one. */
export function solvePipeline(challenge: PipelineChallenge): string {
  return challenge.operations.reduce((text, { op }) => applyOperation(op, text), challenge.seed);
}

function applyOperation(op: string, text: string): string {
  if (op.startsWith('prepend:')) return op.slice('prepend:'.length) + text;
  if (op.startsWith('append:')) return text + op.slice('append:'.length);
  switch (op) {
    case 'reverse':
      return [...text].reverse().join(''); // by code point, as the spread of a string is
    case 'base64_encode':
      return Buffer.from(text, 'utf8').toString('base64');
    case 'base64_decode':
      return Buffer.from(text, 'base64').toString('utf8');
    case 'hex_encode':
      return Buffer.from(text, 'utf8').toString('hex');
    case 'sha256':
      return createHash('sha256').update(text, 'utf8').digest('hex');
    case 'uppercase':
      return text.toUpperCase();
    case 'lowercase':
      return text.toLowerCase();
    case 'rot13':
      return text.replace(/[a-z]/gi, rotateLetter);
    default:
      throw new RangeError(`unknown pipeline operation ${op}`);
  }
}

function rotateLetter(letter: string): string {
  const code = letter.charCodeAt(0);
  const base = code < 97 ? 65 : 97;
  return String.fromCharCode(base + ((code - base + 13) % 26));
}

const HASHES_PER_TURN = 5_000;

/** Finds `s` so that SHA-256(prefix + s) starts with `difficulty` zero bits: about 2^difficulty hashes of a
 *  microsecond each, with pauses that let the rest of the process run. @throws RangeError on another algorithm. */
export async function solveProofOfWork(challenge: ProofOfWorkChallenge): Promise<string> {
  if (challenge.algorithm !== 'sha256') throw new RangeError(`unknown algorithm ${challenge.algorithm}`);
  for (let candidate = 0; ; candidate++) {
    const digest = createHash('sha256')
      .update(challenge.prefix + candidate)
      .digest();
    if (leadingZeroBits(digest) >= challenge.difficulty) return String(candidate);
    if (candidate % HASHES_PER_TURN === HASHES_PER_TURN - 1) await nextTurn();
  }
}

function leadingZeroBits(digest: Uint8Array): number {
  let bits = 0;
  for (const byte of digest) {
    if (byte !== 0) return bits + Math.clz32(byte) - 24;
    bits += 8;
  }
  return bits;
}
