/**
 * Random histories: operations chosen by fast-check from a seed, run on the model and on the engine under test.
 * One after the other, every reply must be the model's; at once, some order of the same operations must explain them.
 */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import type { Engine, EngineReply } from '../../src/contract/engine.js';
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
  | { readonly op: 'receive'; readonly agent: number; readonly limit: number }
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
const receive = fc.record({ op: fc.constant('receive' as const), agent, limit: fc.constantFrom(1, 2, 100) });

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
    { weight: 15, arbitrary: receive },
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
    await this.start();
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
      case 'receive':
        return told(await engine.receiveMessages(this.#actor(operation.agent), operation.limit), (batch) => ({
          messages: batch.messages.map(({ messageId, from, to, content }) => ({
            message: this.#messageIds.indexOf(messageId),
            from: this.#addresses.indexOf(from),
            to: this.#addresses.indexOf(to),
            content,
          })),
          remaining: batch.remaining,
        }));
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
        return null;
      }
    }
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
const QUEUE_RACE = race([send.map((op) => ({ ...op, to: 0 })), receive.map((op) => ({ ...op, agent: 0 }))]);
const knownAgent = fc.nat({ max: FIRST_AGENTS - 1 });
const onKey = { agent: knownAgent, key: fc.constant('raced') };
const KEY_RACE = race([
  fc.record({ op: fc.constant('write' as const), ...onKey, value: fc.constantFrom('1', '2', '3') }),
  fc.record({ op: fc.constant('delete' as const), ...onKey }),
  fc.record({ op: fc.constant('read' as const), ...onKey }),
]);

/** What can be seen when the race is over. */
const AFTER_QUEUE: readonly Operation[] = [{ op: 'receive', agent: 0, limit: 100 }];
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
        [KEY_RACE, AFTER_KEY],
      ] as const) {
        const property = fc.asyncProperty(races, async ({ before, atOnce }) => {
          await player.startAgain();
          await player.apply({ op: 'delete', agent: 0, key: 'raced' });
          for (const step of before) await player.apply(step);
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
