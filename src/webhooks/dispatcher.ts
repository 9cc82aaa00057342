/**
 * The webhook dispatcher: takes agents that have messages to push from the engine, and posts for each the first of them,
 * one at a time.
 *
 *   waiting   until `nextAttemptAtMs` (backoff), until its pace allows a post, or until the engine answers again
 *   ready     in its lane for one of `maxConcurrency` slots
 *   posting   holds a slot: the message is read from the engine, signed and posted
 *   settling  the outcome is being made durable; then forgotten, or waiting or ready with what comes next
 *
 * Owns:      the agents handed out to it, their timers, and the slots.
 * Never:     decides anything that must outlive it: attempts, backoff, circuit and the message itself are in the engine. If
 *            it ends at any moment, the engine hands everything out again, and at worst a post is repeated with the same
 *            `webhook-id`.
 * Bound:     100,000 agents held; beyond them the engine is not asked for more. An agent costs some 500 bytes, a message is
 *            in memory only while it is posted.
 */
import assert from 'node:assert/strict';
import { setMaxListeners } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Engine, PushAgent, PushOutcome } from '../contract/engine.js';
import type { Logger } from '../log.js';
import type { AgentHistory } from './agent-history.js';
import { type CountedResult, type DeliveryRules, outcomeOf } from './delivery-rules.js';
import { FairSlots, type Lane } from './fair-slots.js';
import type { Poster } from './https-poster.js';
import { signMessage } from './signed-message.js';
import type { WebhookMetrics } from './webhook-metrics.js';

export interface DispatcherParts {
  readonly engine: Pick<Engine, 'awaitPushAgents' | 'peekPush' | 'settlePush'>;
  readonly poster: Poster;
  readonly history: AgentHistory;
  readonly metrics: WebhookMetrics;
  readonly rules: DeliveryRules;
  /** Posts in flight. */
  readonly maxConcurrency: number;
  readonly logger: Logger;
  readonly now: () => number;
  /** Told when the dispatcher can't go on: its thread must end. */
  onFault(error: unknown): void;
}

type DeliveryState = 'waiting' | 'ready' | 'posting' | 'settling';

/** One agent's turn, from hand-out until nothing is left to push. */
interface Delivery {
  agent: PushAgent;
  state: DeliveryState;
  timer: NodeJS.Timeout | null;
  /** Handed out once more while it was posted to or settled: not forgotten before the engine was asked again. */
  handedOutAgain: PushAgent | null;
}

const MAX_HELD_AGENTS = 100_000;
/** An engine that is away (a shard restarts, the disk is full) is asked again after this time. */
const ENGINE_RETRY_MS = 200;
/** The longest that setTimeout takes; whoever has to wait longer looks again then. */
const MAX_TIMER_MS = 2 ** 31 - 1;

export class WebhookDispatcher {
  private readonly held = new Map<string, Delivery>();
  private readonly slots: FairSlots<Delivery>;
  private readonly stopSignal = new AbortController();
  /** Posts and settlements under way. */
  private readonly underWay = new Set<Promise<void>>();
  private gathering: Promise<void> = Promise.resolve();
  private roomIsFree: () => void = () => {};

  constructor(private readonly parts: DispatcherParts) {
    this.slots = new FairSlots(parts.maxConcurrency);
    setMaxListeners(0, this.stopSignal.signal); // every agent may be in a pause at once
  }

  start(): void {
    this.gathering = this.gather();
    this.gathering.catch(this.parts.onFault);
  }

  /**
   * Starts no more posts. Those in hand may finish within `limitMs`; then they are cut off, and their messages stay where
   * they are. Resolves when nothing is under way any more.
   */
  async stop(limitMs: number): Promise<void> {
    this.stopSignal.abort();
    this.roomIsFree();
    this.slots.clear();
    for (const delivery of this.held.values()) if (delivery.timer !== null) clearTimeout(delivery.timer);
    const finished = Promise.all([this.gathering, ...this.underWay]);
    const limit = new AbortController();
    await Promise.race([finished, sleep(limitMs, undefined, { signal: limit.signal }).catch(() => {})]);
    limit.abort();
    await this.parts.poster.close(); // what is still in hand resolves as abandoned
    await finished;
  }

  get inFlight(): number {
    return this.slots.inFlight;
  }

  /** Agents that have something to push and are not being posted to. */
  get waiting(): number {
    return this.held.size - this.slots.inFlight;
  }

  private get isStopping(): boolean {
    return this.stopSignal.signal.aborted;
  }

  private async gather(): Promise<void> {
    const { engine } = this.parts;
    while (!this.isStopping) {
      if (this.held.size >= MAX_HELD_AGENTS) {
        await new Promise<void>((resolve) => {
          this.roomIsFree = resolve;
        });
        continue;
      }
      const reply = await engine.awaitPushAgents(this.stopSignal.signal);
      if (reply.ok && reply.value.length > 0) for (const agent of reply.value) this.takeOver(agent);
      else await this.pause(ENGINE_RETRY_MS);
    }
  }

  /**
   * An agent from the engine. One that is here already comes again when its shard has restarted and forgot that it was
   * handed out; or when the answer that nothing is left, and this hand-out right behind it, arrive together.
   */
  private takeOver(agent: PushAgent): void {
    const known = this.held.get(agent.address);
    if (known === undefined) {
      const delivery: Delivery = { agent, state: 'settling', timer: null, handedOutAgain: null };
      this.held.set(agent.address, delivery);
      this.schedule(delivery, agent);
    } else if (known.state === 'waiting') {
      if (known.timer !== null) clearTimeout(known.timer);
      this.schedule(known, agent);
    } else if (known.state === 'ready') {
      known.agent = agent;
    } else {
      known.handedOutAgain = agent;
    }
  }

  /** When its time has come the agent is ready; until then it waits. */
  private schedule(delivery: Delivery, agent: PushAgent, notBeforeMs = 0): void {
    const { history, now } = this.parts;
    delivery.agent = agent;
    delivery.timer = null;
    delivery.handedOutAgain = null;
    if (this.isStopping) return;
    const nowMs = now();
    const dueMs = Math.max(agent.nextAttemptAtMs, notBeforeMs, history.mayPostAtMs(agent.address, nowMs));
    if (dueMs > nowMs) {
      delivery.state = 'waiting';
      const waitMs = Math.min(dueMs - nowMs, MAX_TIMER_MS);
      delivery.timer = setTimeout(() => this.schedule(delivery, delivery.agent, notBeforeMs), waitMs);
      return;
    }
    delivery.state = 'ready';
    this.slots.enqueue(delivery, history.laneOf(agent));
    this.fillSlots();
  }

  private fillSlots(): void {
    while (!this.isStopping) {
      const grant = this.slots.take();
      if (grant === null) return;
      assert.equal(grant.item.state, 'ready');
      const turn = this.takeTurn(grant.item, grant.lane);
      this.underWay.add(turn);
      turn.catch(this.parts.onFault).finally(() => this.underWay.delete(turn));
    }
  }

  private async takeTurn(delivery: Delivery, lane: Lane): Promise<void> {
    delivery.state = 'posting';
    const posted = await this.postFirst(delivery).finally(() => {
      this.slots.release(lane);
    });
    this.fillSlots();
    if (posted === null) return;
    const { agent } = delivery;
    const outcome = outcomeOf(agent, posted.result, this.parts.rules, this.parts.now());
    delivery.state = 'settling';
    const next = await this.settle(agent, posted.messageId, outcome);
    if (next === undefined) return; // the server stops
    this.note(agent, posted.result, outcome);
    if (next === null) this.forget(delivery);
    else this.schedule(delivery, next);
  }

  /** null when nothing was posted, or when nothing is known of how it ended; the delivery is seen to then. */
  private async postFirst(delivery: Delivery): Promise<{ messageId: string; result: CountedResult } | null> {
    const { engine, poster, history, metrics, now } = this.parts;
    const { address, url, secret } = delivery.agent;
    const first = await engine.peekPush(address);
    if (!first.ok) {
      // `not_found`: dropped, removed by law, or the agent was revoked since.
      if (first.code === 'not_found') this.forget(delivery);
      else this.schedule(delivery, delivery.agent, now() + ENGINE_RETRY_MS);
      return null;
    }
    if (this.isStopping) return null;
    const startedMs = now();
    history.countPost(address, startedMs);
    const result = await poster.post(url, signMessage(first.value, secret, startedMs));
    if (result.kind === 'abandoned') return null; // only when the server stops
    const tookMs = now() - startedMs;
    history.noteSlotTime(address, tookMs);
    metrics.countPost(result, tookMs);
    return { messageId: first.value.messageId, result };
  }

  /** Goes on until the engine has it: what was posted must not be forgotten as long as anybody is here to remember it.
   *  @returns what to push next, null for nothing, undefined when the server stops first */
  private async settle(
    agent: PushAgent,
    messageId: string,
    outcome: PushOutcome,
  ): Promise<PushAgent | null | undefined> {
    for (;;) {
      const reply = await this.parts.engine.settlePush(agent.address, messageId, outcome);
      if (reply.ok) return reply.value;
      // It is settled already (the answer was lost with its shard), or the message is gone: look what is first now.
      if (reply.code === 'not_found') return afterUnknownSettlement(agent, outcome);
      if (this.isStopping) return undefined;
      await this.pause(ENGINE_RETRY_MS);
    }
  }

  private note(agent: PushAgent, result: CountedResult, outcome: PushOutcome): void {
    const { logger, metrics, now } = this.parts;
    const { address } = agent;
    if (outcome.kind === 'delivered') {
      metrics.noteCircuit(address, 0, now());
      return;
    }
    logger.debug({ agent: address, ...result, outcome: outcome.kind }, 'a webhook did not take a message');
    if (outcome.kind !== 'undeliverable') return;
    metrics.countUndeliverable();
    metrics.noteCircuit(address, outcome.circuitOpenUntilMs, now());
    if (outcome.circuitOpenUntilMs === 0) return;
    const { failedInRow } = outcome;
    const openUntil = new Date(outcome.circuitOpenUntilMs).toISOString();
    logger.warn(
      { agent: address, failedInRow, lastResult: result, openUntil },
      'webhook circuit opened: messages go to the pull queue',
    );
  }

  /** Nothing is left to push, as far as the engine said. */
  private forget(delivery: Delivery): void {
    if (delivery.handedOutAgain !== null) {
      this.schedule(delivery, delivery.handedOutAgain);
      return;
    }
    this.held.delete(delivery.agent.address);
    this.roomIsFree();
  }

  /** Ends early when the server stops. */
  private async pause(ms: number): Promise<void> {
    if (this.isStopping) return;
    await sleep(ms, undefined, { signal: this.stopSignal.signal }).catch(() => {});
  }
}

/** What to look for next when the engine does not know the message any more; the first peek tells whether it is there. */
function afterUnknownSettlement(agent: PushAgent, outcome: PushOutcome): PushAgent {
  const failedInRow = outcome.kind === 'undeliverable' ? outcome.failedInRow : 0;
  return { ...agent, attempts: 0, nextAttemptAtMs: 0, failedInRow };
}
