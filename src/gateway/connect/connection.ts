/**
 * One WebSocket of one agent: JSON-RPC calls in, answers and pushed messages out.
 * Owns:      the calls in hand, the subscription, the answers of this loop turn (sent together).
 * Never:     does a call's work before limits allow it, or takes further calls from a client that does not read.
 *
 * State: serving -> stopping  the server stops: calls in hand are answered, then 1001
 *                -> closed    whoever closed it: waits end, leases go back
 */
import type { Engine } from '../../contract/engine.js';
import { ApiError } from '../../contract/errors.js';
import type { Logger } from '../../log.js';
import { LIMIT_CATEGORY, type LimitCategoryName, type SharedLimiter } from '../limits/shared-limiter.js';
import type { RunningWait, Waits } from '../waits.js';
import { type WebSocketConnection, type WebSocketSession, WS_CLOSE } from '../web-socket.js';
import { type Parsed, parseFrame, type RpcCall, rpcRefusal, rpcResult, rpcUnknownMethod } from './json-rpc.js';
import type { Caller, Method } from './methods.js';
import { Subscription, type SubscriptionTerms } from './subscription.js';

/** What all connections of a gateway share. */
export interface ConnectionDeps {
  readonly engine: Engine;
  readonly limiter: SharedLimiter;
  readonly waits: Waits;
  readonly methods: ReadonlyMap<string, Method>;
  readonly logger: Logger;
  readonly maxInFlight: number;
  readonly onClosed: (connection: AgentConnection) => void;
}

/** A limiter entry is held this long at a time. */
const SLOT_LEASE_MS = 60_000;
/** Bytes the client has not taken yet above which its further calls are refused. */
const HIGH_WATER_BYTES = 1024 * 1024;

const BUSY = new ApiError('unavailable', 'This connection has as many unanswered calls as it may. Wait for answers.');
const SLOW = new ApiError('unavailable', 'Too many answers wait to be read on this connection. Read them first.');
const STOPPING = new ApiError('unavailable', 'The server is stopping. Connect again in a moment.');

export class AgentConnection implements WebSocketSession, Caller {
  /** When the credential was last seen to be good, epoch ms. */
  checkedAtMs = Date.now();
  private inFlight = 0;
  private isStopping = false;
  private subscription: Subscription | null = null;
  private readonly ownWaits = new Set<RunningWait>();
  private outbox: string[] = [];
  private limiterSlot = -1;
  private slotUntilMs = 0;

  constructor(
    private readonly socket: WebSocketConnection,
    private readonly deps: ConnectionDeps,
    readonly agent: string,
    /** The public part of its token. */
    readonly lookup: string,
  ) {}

  get isOpen(): boolean {
    return this.socket.isOpen;
  }

  get callsInHand(): number {
    return this.inFlight;
  }

  get isSubscribed(): boolean {
    return this.subscription !== null;
  }

  get unacked(): number {
    return this.subscription?.unackedCount ?? 0;
  }

  onMessage(message: Buffer, isBinary: boolean): void {
    if (isBinary) {
      this.socket.close(WS_CLOSE.unsupportedData, 'send text messages');
      return;
    }
    const parsed = parseFrame(message);
    if (!isBatch(parsed)) {
      this.handle(parsed).then(
        (answer) => this.post(answer),
        (error: unknown) => this.fail(error),
      );
      return;
    }
    Promise.all(parsed.map((call) => this.handle(call))).then(
      (answers) => {
        const wanted = answers.filter((answer) => answer !== '');
        this.post(wanted.length === 0 ? '' : `[${wanted.join(',')}]`);
      },
      (error: unknown) => this.fail(error),
    );
  }

  onWritable(): void {
    this.subscription?.resume();
  }

  onStop(): void {
    this.isStopping = true;
    this.closeIfIdle();
  }

  onClose(): void {
    try {
      for (const wait of this.ownWaits) wait.abort();
      this.subscription?.end();
    } finally {
      this.deps.onClosed(this);
    }
  }

  /** The token is good no more. */
  revoke(): void {
    this.socket.close(WS_CLOSE.unauthorized, 'the token was revoked');
  }

  spend(category: LimitCategoryName): void {
    const { limiter } = this.deps;
    const nowMs = Date.now();
    if (this.limiterSlot === -1 || nowMs >= this.slotUntilMs) {
      this.slotUntilMs = nowMs + SLOT_LEASE_MS;
      this.limiterSlot = limiter.acquire(this.agent, this.slotUntilMs, nowMs);
    }
    if (this.limiterSlot === -1) throw new ApiError('unavailable');
    const { allowed, retryAfterSeconds } = limiter.check(this.limiterSlot, LIMIT_CATEGORY[category], nowMs);
    if (!allowed) throw new ApiError('rate_limited', undefined, { retryAfterSeconds });
  }

  beginWait(waitMs: number): RunningWait | null {
    const wait = this.deps.waits.begin(waitMs);
    if (wait !== null) this.ownWaits.add(wait);
    return wait;
  }

  endWait(wait: RunningWait): void {
    this.ownWaits.delete(wait);
    wait.end();
  }

  subscribe(terms: SubscriptionTerms): void {
    if (this.subscription !== null) throw new ApiError('bad_request', 'This connection has a subscription already.');
    const { agent, socket } = this;
    const { engine, waits } = this.deps;
    const onFailure = (error: unknown): void => this.fail(error);
    const subscription = new Subscription({ agent, engine, waits, socket, onFailure }, terms);
    this.subscription = subscription;
    // After this turn's answers, so that the client hears of its subscription before the first message.
    setImmediate(() => {
      if (this.isOpen && !this.isStopping) subscription.resume();
    });
  }

  areDelivered(leaseIds: readonly string[]): boolean {
    const { subscription } = this;
    return subscription !== null && leaseIds.every((leaseId) => subscription.isUnacked(leaseId));
  }

  acked(leaseIds: readonly string[]): void {
    this.subscription?.acked(leaseIds);
  }

  /** The answer's text; empty when none is due. */
  private async handle(parsed: Parsed): Promise<string> {
    if ('answer' in parsed) return parsed.answer;
    const answer = await this.execute(parsed);
    return parsed.id === undefined ? '' : answer;
  }

  private async execute({ id = null, method: name, params }: RpcCall): Promise<string> {
    const method = this.deps.methods.get(name);
    if (method === undefined) return rpcUnknownMethod(id, name);
    const refusal = this.refusal();
    if (refusal !== null) return rpcRefusal(id, refusal);
    this.inFlight++;
    try {
      if (method.limit !== null) this.spend(method.limit);
      return rpcResult(id, await method.invoke(this, params));
    } catch (error) {
      if (error instanceof ApiError) return rpcRefusal(id, error);
      this.deps.logger.error({ err: error, method: name }, 'a call failed by a mistake of the server: answered 500');
      return rpcRefusal(id, new ApiError('internal_error'));
    } finally {
      this.inFlight--;
      this.closeIfIdle();
    }
  }

  private refusal(): ApiError | null {
    if (this.isStopping) return STOPPING;
    if (this.inFlight >= this.deps.maxInFlight) return BUSY;
    return this.socket.bufferedBytes > HIGH_WATER_BYTES ? SLOW : null;
  }

  /** Answers that come in one loop turn leave together: one system call instead of one each. */
  private post(answer: string): void {
    if (answer === '') return;
    this.outbox.push(answer);
    if (this.outbox.length === 1) process.nextTick(() => this.flush());
  }

  private flush(): void {
    const { outbox } = this;
    if (outbox.length === 0) return;
    this.outbox = [];
    const [only] = outbox;
    if (outbox.length === 1 && only !== undefined) this.socket.send(only);
    else this.socket.sendAll(outbox);
  }

  private closeIfIdle(): void {
    if (!this.isStopping || this.inFlight > 0) return;
    // The last answer is on its way to the outbox.
    setImmediate(() => {
      if (this.inFlight > 0) return;
      this.flush();
      this.socket.close(WS_CLOSE.goingAway, 'the server is stopping');
    });
  }

  private fail(error: unknown): void {
    this.deps.logger.error({ err: error }, 'a connection failed by a mistake of the server: socket closed');
    this.socket.close(WS_CLOSE.internalError);
  }
}

function isBatch(parsed: Parsed | readonly Parsed[]): parsed is readonly Parsed[] {
  return Array.isArray(parsed);
}
