/**
 * Random histories: operations chosen by fast-check from a seed, run on the model and on the engine under test.
 * One after the other, every reply must be the model's; at once, some order of the same operations must explain them.
 */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import type { Engine, EngineReply, LeaseHolder, ReceivedMessage } from '../../src/contract/engine.js';
import {
  DEFAULT_LIMITS,
  type EngineFactory,
  type EngineLimits,
  type EngineRig,
  newCredential,
  nth,
  ok,
  type Reopening,
} from './check.js';
import { memoryRig } from './memory-engine.js';

export interface HistoryOptions {
  readonly seed: number;
  readonly histories: number;
  /** Operations of each sequential history. */
  readonly operations: number;
}

type Operation =
  | { readonly op: 'nothing' }
  | { readonly op: 'write'; readonly agent: number; readonly key: string; readonly value: string }
  | { readonly op: 'delete'; readonly agent: number; readonly key: string }
  | { readonly op: 'read'; readonly agent: number; readonly key: string }
  | { readonly op: 'listKeys'; readonly prefix: string; readonly limit: number; readonly more: boolean }
  | { readonly op: 'capacity' }
  | { readonly op: 'send'; readonly agent: number; readonly to: number; readonly content: string }
  | {
      readonly op: 'sendOnce';
      readonly agent: number;
      readonly to: number;
      readonly content: string;
      readonly key: string;
    }
  | { readonly op: 'receive'; readonly agent: number; readonly limit: number }
  | { readonly op: 'lease'; readonly agent: number; readonly limit: number; readonly holder: LeaseHolder }
  | {
      readonly op: 'ack' | 'giveBack';
      /** Null for whoever holds the first of the leases. */
      readonly agent: number | null;
      readonly leases: readonly number[];
    }
  | { readonly op: 'register' }
  | { readonly op: 'listAgents'; readonly agent: number; readonly limit: number; readonly more: boolean }
  | { readonly op: 'find'; readonly agent: number }
  | { readonly op: Reopening };

const FIRST_AGENTS = 3;
const KEYS = ['a', 'a\u0000', 'a/', 'a/b', 'a/b/c', 'b', '%61', '\uffff', '😀', '😀/x'];
const PREFIXES = ['', 'a', 'a/', 'a/b', '😀', '\uffff', 'zz'];
const VALUES = ['', 'x', 'é', '😀', '"\u2028\u0000', 'y'.repeat(20), 'z'.repeat(40)];

const agent = fc.nat({ max: FIRST_AGENTS + 2 });
const key = fc.constantFrom(...KEYS);
const limit = fc.constantFrom(1, 2, 3, 100);
const write = fc.record({ op: fc.constant('write' as const), agent, key, value: fc.constantFrom(...VALUES) });
const remove = fc.record({ op: fc.constant('delete' as const), agent, key });
const read = fc.record({ op: fc.constant('read' as const), agent, key });
const send = fc.record({
  op: fc.constant('send' as const),
  agent,
  to: agent,
  content: fc.constantFrom('1', '2', 'é', '😀'),
});
const sendOnce = fc.record({
  op: fc.constant('sendOnce' as const),
  agent,
  to: agent,
  content: fc.constantFrom('1', '2'),
  key: fc.constantFrom('k', 'l', '😀'),
});
const receive = fc.record({ op: fc.constant('receive' as const), agent, limit: fc.constantFrom(1, 2, 100) });
const lease = fc.record({
  op: fc.constant('lease' as const),
  agent,
  limit: fc.constantFrom(1, 2, 100),
  holder: fc.constantFrom<LeaseHolder>('agent', 'connection'),
});
/** `leases` count back from the one granted last. */
const endLeases = fc.record({
  op: fc.constantFrom('ack' as const, 'giveBack' as const),
  agent: fc.option(agent, { freq: 5 }),
  leases: fc.array(fc.nat({ max: 8 }), { minLength: 1, maxLength: 4 }),
});
/** Longer than any history takes. */
const VISIBILITY_MS = 3_600_000;

/** A failing history shrinks by turning operations into nothing. */
function operation(reopenings: readonly Reopening[]): fc.Arbitrary<Operation> {
  const prefix = fc.constantFrom(...PREFIXES);
  const more = fc.boolean();
  const choices: fc.WeightedArbitrary<Operation>[] = [
    { weight: 1, arbitrary: fc.constant({ op: 'nothing' }) },
    { weight: 30, arbitrary: write },
    { weight: 12, arbitrary: remove },
    { weight: 12, arbitrary: read },
    { weight: 15, arbitrary: fc.record({ op: fc.constant('listKeys' as const), prefix, limit, more }) },
    { weight: 6, arbitrary: fc.constant({ op: 'capacity' }) },
    { weight: 25, arbitrary: send },
    { weight: 6, arbitrary: sendOnce },
    { weight: 15, arbitrary: receive },
    { weight: 12, arbitrary: lease },
    { weight: 12, arbitrary: endLeases },
    { weight: 5, arbitrary: fc.constant({ op: 'register' }) },
    { weight: 8, arbitrary: fc.record({ op: fc.constant('listAgents' as const), agent, limit, more }) },
    { weight: 4, arbitrary: fc.record({ op: fc.constant('find' as const), agent }) },
    ...reopenings.map((how) => ({ weight: 2, arbitrary: fc.constant({ op: how }) })),
  ];
  return fc.oneof({ withCrossShrink: true }, ...choices);
}

/** Runs operations on one engine and tells replies in words that don't depend on its ids, cursors and clock. */
class Player {
  readonly #rig: EngineRig;
  #engine: Engine;
  #operatorId = '';
  readonly #addresses: string[] = [];
  /** Message ids by order of acceptance. */
  readonly #messageIds: string[] = [];
  /** Lease ids in the order they were granted. */
  readonly #leases: string[] = [];
  readonly #holders = new Map<string, string>();
  /** Messages a connection had on loan; once the engine has stopped it need not know of those deliveries. */
  readonly #onConnections = new Set<string>();
  readonly #uncounted = new Set<string>();
  /** How many of them operations may name: in a race, those from before it, which are the same in any order of it. */
  #namedLeases: number | null = null;
  /** Where the last page of each listing ended. */
  readonly #cursors = new Map<string, string | null>();

  constructor(rig: EngineRig) {
    this.#rig = rig;
    this.#engine = rig.engine;
  }

  async start(): Promise<void> {
    const operator = { contactHash: 'history', credential: newCredential('operator') };
    this.#operatorId = ok(await this.#engine.createOperator(operator)).operatorId;
    for (let i = 0; i < FIRST_AGENTS; i++) await this.apply({ op: 'register' });
  }

  /** Forgets agents and messages so that the next history starts on fresh queues of the same engine. */
  async startAgain(): Promise<void> {
    this.#addresses.length = 0;
    this.#messageIds.length = 0;
    this.#leases.length = 0;
    this.#namedLeases = null;
    await this.start();
  }

  /** From now on operations name only leases that there are now. */
  startRace(): void {
    this.#namedLeases = this.#leases.length;
  }

  close(): Promise<void> {
    return this.#rig.close();
  }

  async apply(operation: Operation): Promise<unknown> {
    const engine = this.#engine;
    switch (operation.op) {
      case 'nothing':
        return null;
      case 'write':
        return told(
          await engine.writeState(this.#actor(operation.agent), operation.key, operation.value),
          () => 'written',
        );
      case 'delete':
        return told(await engine.deleteState(this.#actor(operation.agent), operation.key), () => 'deleted');
      case 'read':
        return told(await engine.readState(this.#actor(operation.agent), operation.key), (entry) => ({
          key: entry.key,
          value: entry.value,
          by: this.#addresses.indexOf(entry.lastModifiedBy),
        }));
      case 'listKeys': {
        const listing = `keys ${operation.prefix}`;
        const cursor = (operation.more && this.#cursors.get(listing)) || null;
        return told(await engine.listKeys(operation.prefix, { cursor, limit: operation.limit }), (page) => {
          this.#cursors.set(listing, page.nextCursor);
          return { keys: page.keys, more: page.nextCursor !== null, total: page.total };
        });
      }
      case 'capacity':
        return told(await engine.capacity(), (capacity) => capacity);
      case 'send': {
        const message = {
          from: this.#actor(operation.agent),
          to: this.#address(operation.to),
          content: operation.content,
        };
        return told(await engine.sendMessage(message), ({ messageId }) => this.#messageIds.push(messageId) && 'sent');
      }
      case 'sendOnce': {
        const { content, key } = operation;
        const message = { from: this.#actor(operation.agent), to: this.#address(operation.to), content };
        return told(await engine.sendMessageOnce(message, key), ({ messageId }) => {
          if (!this.#messageIds.includes(messageId)) this.#messageIds.push(messageId);
          return { message: this.#messageIds.indexOf(messageId) };
        });
      }
      case 'receive':
        return told(await engine.receiveMessages(this.#actor(operation.agent), operation.limit, null), (batch) => ({
          messages: batch.messages.map((message) => this.#told(message)),
          remaining: batch.remaining,
        }));
      case 'lease': {
        const terms = { visibilityMs: VISIBILITY_MS, holder: operation.holder };
        const reply = await engine.leaseMessages(this.#actor(operation.agent), operation.limit, terms, null);
        return told(reply, (batch) => ({
          messages: batch.messages.map((message) => {
            this.#leases.push(message.leaseId);
            this.#holders.set(message.leaseId, message.to);
            if (operation.holder === 'connection') this.#onConnections.add(message.messageId);
            const deliveryCount = this.#uncounted.has(message.messageId) ? 'unknown' : message.deliveryCount;
            return { ...this.#told(message), deliveryCount };
          }),
          remaining: batch.remaining,
        }));
      }
      case 'ack': {
        const ids = operation.leases.map((back) => this.#lease(back));
        return told(await engine.ackMessages(this.#holder(operation.agent, ids), ids), ({ acked, unknown }) => ({
          acked,
          unknown: unknown.map((id) => ids.indexOf(id)),
        }));
      }
      case 'giveBack': {
        const ids = operation.leases.map((back) => this.#lease(back));
        return told(await engine.returnLeases(this.#holder(operation.agent, ids), ids), () => 'given back');
      }
      case 'register': {
        const credential = newCredential('agent');
        const reply = await engine.registerAgent({ operatorId: this.#operatorId, credential, webhook: null });
        return told(reply, ({ address }) => this.#addresses.push(address));
      }
      case 'listAgents': {
        const cursor = (operation.more && this.#cursors.get('agents')) || null;
        const page = { cursor, limit: operation.limit };
        return told(await engine.listAgents(this.#actor(operation.agent), page), ({ agents, nextCursor, total }) => {
          this.#cursors.set('agents', nextCursor);
          return {
            agents: agents.map(({ address }) => this.#addresses.indexOf(address)),
            more: nextCursor !== null,
            total,
          };
        });
      }
      case 'find':
        return told(await engine.findAgent(this.#address(operation.agent)), ({ address }) =>
          this.#addresses.indexOf(address),
        );
      case 'restart':
      case 'crash': {
        const reopen = this.#rig[operation.op];
        assert.ok(reopen);
        this.#engine = await reopen();
        for (const messageId of this.#onConnections) this.#uncounted.add(messageId);
        return null;
      }
    }
  }

  #told({ messageId, from, to, content }: ReceivedMessage): object {
    return {
      message: this.#messageIds.indexOf(messageId),
      from: this.#addresses.indexOf(from),
      to: this.#addresses.indexOf(to),
      content,
    };
  }

  #holder(agent: number | null, leaseIds: readonly string[]): string {
    const holder = agent === null ? this.#holders.get(nth(leaseIds, 0)) : undefined;
    return holder ?? this.#actor(agent ?? 0);
  }

  /** An id granted before; one that never was when there are not so many. */
  #lease(back: number): string {
    return this.#leases[(this.#namedLeases ?? this.#leases.length) - 1 - back] ?? '1-never';
  }

  /** Address of somebody who is registered: only such ones act. */
  #actor(index: number): string {
    return nth(this.#addresses, index % this.#addresses.length);
  }

  /** Address of an agent by order of registration; a well-formed unknown one past the end. */
  #address(index: number): string {
    return this.#addresses[index] ?? `tab_${'0'.repeat(20)}`;
  }
}

function told<T>(reply: EngineReply<T>, tell: (value: T) => unknown): unknown {
  return reply.ok ? tell(reply.value) : { refused: reply.code };
}

/** The limits histories run under: small enough that they are often met. */
function smallLimits(overflow: EngineLimits['overflow']): EngineLimits {
  return { ...DEFAULT_LIMITS, maxCapacityBytes: 90, maxQueuePerAgent: 4, overflow };
}

const OVERFLOWS = ['drop_oldest', 'reject'] as const;

/** Fails unless the engine answers like the model, operation by operation. Each history runs on fresh data. */
export async function checkSequentialHistories(factory: EngineFactory, options: HistoryOptions): Promise<void> {
  const probe = await factory(DEFAULT_LIMITS);
  const reopenings = (['restart', 'crash'] as const).filter((how) => probe[how] !== undefined);
  await probe.close();
  const { operations } = options;
  // Always the full length: shrinking replaces operations by `nothing` instead.
  const history = fc.array(operation(reopenings), { minLength: operations, maxLength: operations });
  await fc.assert(
    fc.asyncProperty(fc.constantFrom(...OVERFLOWS), history, async (overflow, steps) => {
      const limits = smallLimits(overflow);
      const model = new Player(await memoryRig(limits));
      const tested = new Player(await factory(limits));
      try {
        await model.start();
        await tested.start();
        for (const [index, step] of steps.entries()) {
          const expected = await model.apply(step);
          assert.deepEqual(
            await tested.apply(step),
            expected,
            `step ${index}: ${JSON.stringify(step)} (SEED=${options.seed})`,
          );
        }
      } finally {
        await tested.close();
      }
    }),
    { seed: options.seed, numRuns: options.histories },
  );
}

/** What k clients do at once on one key or one queue, and before that one after the other. */
interface Race {
  readonly before: readonly Operation[];
  readonly atOnce: readonly Operation[];
}

const MAX_AT_ONCE = 5;

function race(choices: readonly fc.Arbitrary<Operation>[]): fc.Arbitrary<Race> {
  const operations = fc.oneof(...choices);
  return fc.record({
    before: fc.array(operations, { maxLength: 4 }),
    atOnce: fc.array(operations, { minLength: 2, maxLength: MAX_AT_ONCE }),
  });
}

/** `agent` of a queue's race is always agent 0, the only recipient; values and contents are told apart by number. */
const QUEUE_RACE = race([
  send.map((op) => ({ ...op, to: 0 })),
  receive.map((op) => ({ ...op, agent: 0 })),
  lease.map((op) => ({ ...op, agent: 0 })),
  endLeases.map((op) => ({ ...op, agent: 0 })),
]);
/** Two messages on loan, which everybody is after. */
const LEASE_RACE = race([
  receive.map((op) => ({ ...op, agent: 0 })),
  lease.map((op) => ({ ...op, agent: 0 })),
  endLeases.map((op) => ({ ...op, agent: 0, leases: op.leases.map((back) => back % 2) })),
]).chain(({ atOnce }) =>
  lease.map(({ holder }): Race => {
    const sent = { op: 'send', agent: 1, to: 0, content: '1' } as const;
    return { before: [sent, { ...sent, content: '2' }, { op: 'lease', agent: 0, limit: 2, holder }], atOnce };
  }),
);
/** One sender's key, and two recipients. */
const SEND_RACE = race([sendOnce.map((op) => ({ ...op, agent: 0, to: op.to % 2, key: 'k' }))]);
const knownAgent = fc.nat({ max: FIRST_AGENTS - 1 });
const onKey = { agent: knownAgent, key: fc.constant('raced') };
const KEY_RACE = race([
  fc.record({ op: fc.constant('write' as const), ...onKey, value: fc.constantFrom('1', '2', '3') }),
  fc.record({ op: fc.constant('delete' as const), ...onKey }),
  fc.record({ op: fc.constant('read' as const), ...onKey }),
]);

/** What can be seen when the race is over. */
const AFTER_QUEUE: readonly Operation[] = [{ op: 'receive', agent: 0, limit: 100 }];
const AFTER_SEND: readonly Operation[] = [
  { op: 'receive', agent: 0, limit: 100 },
  { op: 'receive', agent: 1, limit: 100 },
];
const AFTER_KEY: readonly Operation[] = [
  { op: 'read', agent: 0, key: 'raced' },
  { op: 'listKeys', prefix: 'raced', limit: 100, more: false },
  { op: 'capacity' },
];

/** Fails unless for operations fired at once on one key or queue some sequential order explains every reply. */
export async function checkConcurrentHistories(factory: EngineFactory, options: HistoryOptions): Promise<void> {
  for (const overflow of OVERFLOWS) {
    const limits = smallLimits(overflow);
    const player = new Player(await factory(limits));
    try {
      for (const [races, after] of [
        [QUEUE_RACE, AFTER_QUEUE],
        [LEASE_RACE, AFTER_QUEUE],
        [SEND_RACE, AFTER_SEND],
        [KEY_RACE, AFTER_KEY],
      ] as const) {
        const property = fc.asyncProperty(races, async ({ before, atOnce }) => {
          await player.startAgain();
          await player.apply({ op: 'delete', agent: 0, key: 'raced' });
          for (const step of before) await player.apply(step);
          player.startRace();
          const replies = await Promise.all(atOnce.map((step) => player.apply(step)));
          const seenAfter: unknown[] = [];
          for (const step of after) seenAfter.push(await player.apply(step));
          const seen = withoutMessageNumbers([...replies, ...seenAfter]);
          for (const order of permutations(atOnce.length)) {
            if ((await replay(limits, before, atOnce, order, after)) === seen) return;
          }
          assert.fail(`no order of these explains the replies ${seen} (SEED=${options.seed})`);
        });
        await fc.assert(property, { seed: options.seed, numRuns: options.histories });
      }
    } finally {
      await player.close();
    }
  }
}

/** The model's replies, in the order of `atOnce`, when its operations run in the order of `order`. */
async function replay(
  limits: EngineLimits,
  before: readonly Operation[],
  atOnce: readonly Operation[],
  order: readonly number[],
  after: readonly Operation[],
): Promise<string> {
  const model = new Player(await memoryRig(limits));
  await model.start();
  for (const step of before) await model.apply(step);
  model.startRace();
  const replies: unknown[] = [];
  for (const index of order) replies[index] = await model.apply(nth(atOnce, index));
  for (const step of after) replies.push(await model.apply(step));
  return withoutMessageNumbers(replies);
}

/** Messages sent at once are numbered in the order their answers came in, which says nothing about the order of effect. */
function withoutMessageNumbers(replies: readonly unknown[]): string {
  return JSON.stringify(replies, (name, value: unknown) => (name === 'message' ? undefined : value));
}

function* permutations(length: number): Generator<readonly number[]> {
  if (length === 0) {
    yield [];
    return;
  }
  for (const shorter of permutations(length - 1)) {
    for (let at = shorter.length; at >= 0; at--) yield [...shorter.slice(0, at), length - 1, ...shorter.slice(at)];
  }
}
