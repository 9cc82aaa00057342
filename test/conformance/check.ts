/**
 * What a conformance check is, and the small world it runs in. Checks are plain named functions that throw when a rule
 * is broken, so that the suite can run them under node:test and the mutants can run them without it.
 */
import assert from 'node:assert/strict';
import { randomBytes, randomUUID } from 'node:crypto';
import type {
  AgentPage,
  AgentSummary,
  Engine,
  EngineReply,
  KeyPage,
  LeasedMessage,
  LeaseHolder,
  NewCredential,
  PushAgent,
  ReceivedMessage,
  StoredChallenge,
} from '../../src/contract/engine.js';
import type { ApiErrorCode } from '../../src/contract/errors.js';
import type { KernelEvent } from '../../src/contract/events.js';
import { type PrincipalKind, TOKEN_LOOKUP_LENGTH, TOKEN_PREFIX } from '../../src/contract/tokens.js';
import { seededRandom } from '../support/seed.js';

/** What an engine under test is told to enforce. */
export interface EngineLimits {
  readonly maxCapacityBytes: number;
  readonly maxQueuePerAgent: number;
  /** Bodies of all queued messages together. */
  readonly maxQueuedBytes: number;
  readonly overflow: 'drop_oldest' | 'reject';
}

export const DEFAULT_LIMITS: EngineLimits = {
  maxCapacityBytes: 1024 ** 3,
  maxQueuePerAgent: 10_000,
  maxQueuedBytes: 1024 ** 3,
  overflow: 'drop_oldest',
};

/** An engine on fresh, empty data, with what can be done to it. Checks that need more than is offered are skipped. */
export interface EngineRig {
  readonly engine: Engine;
  /** Graceful stop and start on the same data. */
  readonly restart?: () => Promise<Engine>;
  /** Kill, then recovery on the same data. May be called with operations in flight. */
  readonly crash?: () => Promise<Engine>;
  /** All events so far, in `seq` order; may lag behind for reads, never for mutations that were answered. */
  readonly events?: () => Promise<KernelEvent[]>;
  /** Stops the engine and removes its data. */
  close(): Promise<void>;
}

export type EngineFactory = (limits: EngineLimits) => Promise<EngineRig>;

export type Reopening = 'restart' | 'crash';

export interface EngineCheck {
  /** A sentence that states the rule. */
  readonly name: string;
  readonly limits?: Partial<EngineLimits>;
  readonly needs?: Reopening | 'events';
  run(world: World): Promise<void>;
}

/** Engines bound the requests in flight; checks stay below that. */
const MAX_IN_FLIGHT = 200;
/** How far an engine's clock may be from ours. */
const CLOCK_TOLERANCE_MS = 5_000;
export const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

/** One engine under test and the short-hands that checks are written in. */
export class World {
  engine: Engine;
  readonly rig: EngineRig;
  /** Uniform in 0..below-1, from the printed seed. */
  readonly random: (below: number) => number;

  constructor(rig: EngineRig, seed: number) {
    this.rig = rig;
    this.engine = rig.engine;
    this.random = seededRandom(seed);
  }

  async operator(): Promise<string> {
    const operator = { contactHash: 'contact', credential: newCredential('operator') };
    return ok(await this.engine.createOperator(operator)).operatorId;
  }

  async register(operatorId: string, credential = newCredential('agent')): Promise<AgentSummary> {
    return ok(await this.engine.registerAgent({ operatorId, credential, webhook: null }));
  }

  /** Addresses of `count` new agents, registered one after the other. */
  async agents(count: number): Promise<string[]> {
    const operatorId = await this.operator();
    const addresses: string[] = [];
    for (let i = 0; i < count; i++) addresses.push((await this.register(operatorId)).address);
    return addresses;
  }

  async agent(): Promise<string> {
    return nth(await this.agents(1), 0);
  }

  async write(writer: string, key: string, value: string): Promise<number> {
    return ok(await this.engine.writeState(writer, key, value)).writtenAtMs;
  }

  /** The value of a key, null when there is none. */
  async read(reader: string, key: string): Promise<string | null> {
    const reply = await this.engine.readState(reader, key);
    if (!reply.ok) {
      refused(reply, 'not_found');
      return null;
    }
    assert.equal(reply.value.key, key);
    return reply.value.value;
  }

  async send(from: string, to: string, content: string): Promise<string> {
    return ok(await this.engine.sendMessage({ from, to, content })).messageId;
  }

  /** Two agents, to send from one to the other. */
  async twoAgents(): Promise<[string, string]> {
    const agents = await this.agents(2);
    return [nth(agents, 0), nth(agents, 1)];
  }

  /** Sends `count` messages named 0..count-1, one after the other; their names. */
  async sendNumbered(from: string, to: string, count: number): Promise<string[]> {
    const contents = range(count).map(String);
    for (const content of contents) await this.send(from, to, content);
    return contents;
  }

  /** An agent with a webhook. */
  async hooked(): Promise<string> {
    const webhook = { url: 'https://example.org/hook', secret: 'whsec_c2VjcmV0' };
    const credential = newCredential('agent');
    return ok(await this.engine.registerAgent({ operatorId: await this.operator(), credential, webhook })).address;
  }

  async receive(agent: string, limit: number): Promise<ReceivedMessage[]> {
    return [...ok(await this.engine.receiveMessages(agent, limit, null)).messages];
  }

  async lease(
    agent: string,
    limit: number,
    visibilityMs = 600_000,
    holder: LeaseHolder = 'agent',
  ): Promise<LeasedMessage[]> {
    return [...ok(await this.engine.leaseMessages(agent, limit, { visibilityMs, holder }, null)).messages];
  }

  /** Asks for agents to push to, until `timeoutMs` is over. */
  async pushAgents(timeoutMs: number): Promise<PushAgent[]> {
    const controller = new AbortController();
    const timer = setTimeout(() => controller.abort(), timeoutMs);
    const agents = ok(await this.engine.awaitPushAgents(controller.signal));
    clearTimeout(timer);
    return [...agents];
  }

  /** Takes all messages of a queue, `limit` at a time; checks `remaining` on the way (nobody else may receive). */
  async drain(agent: string, limit = 100): Promise<ReceivedMessage[]> {
    const all: ReceivedMessage[] = [];
    for (let expected: number | null = null; ; ) {
      const { messages, remaining } = ok(await this.engine.receiveMessages(agent, limit, null));
      assert.ok(messages.length <= limit, `${messages.length} messages for limit ${limit}`);
      if (expected !== null) assert.equal(messages.length + remaining, expected, 'remaining');
      if (messages.length < limit) assert.equal(remaining, 0, 'a short batch leaves nothing');
      all.push(...messages);
      if (remaining === 0) return all;
      expected = remaining;
    }
  }

  async drainContents(agent: string): Promise<string[]> {
    return (await this.drain(agent)).map(({ content }) => content);
  }

  /** All agents, by pages; checks totals (nobody may register meanwhile). */
  async allAgents(reader: string, limit = 1000): Promise<AgentSummary[]> {
    const all: AgentSummary[] = [];
    const totals = new Set<number>();
    for (let cursor: string | null = null; ; ) {
      const page: AgentPage = ok(await this.engine.listAgents(reader, { cursor, limit }));
      assertPage(page.agents.length, limit, cursor, page.nextCursor);
      totals.add(page.total);
      all.push(...page.agents);
      cursor = page.nextCursor;
      if (cursor === null) break;
    }
    assert.deepEqual([...totals], [all.length], 'total');
    return all;
  }

  /** All keys with a prefix, by pages; checks totals (nobody may write meanwhile). */
  async allKeys(prefix = '', limit = 1000): Promise<string[]> {
    const all: string[] = [];
    const totals = new Set<number>();
    for (let cursor: string | null = null; ; ) {
      const page: KeyPage = ok(await this.engine.listKeys(prefix, { cursor, limit }));
      assertPage(page.keys.length, limit, cursor, page.nextCursor);
      totals.add(page.total);
      all.push(...page.keys);
      cursor = page.nextCursor;
      if (cursor === null) break;
    }
    assert.deepEqual([...totals], [all.length], `total of prefix ${JSON.stringify(prefix)}`);
    return all;
  }

  /** Asserts that the capacity counters equal what the keys and values add up to; returns the bytes used. */
  async assertCapacityIsExact(reader: string): Promise<number> {
    const keys = await this.allKeys();
    let usedBytes = 0;
    for (const key of keys) {
      const { value } = ok(await this.engine.readState(reader, key));
      usedBytes += Buffer.byteLength(key) + Buffer.byteLength(value);
    }
    const capacity = ok(await this.engine.capacity());
    assert.equal(capacity.usedBytes, usedBytes, 'used_bytes equals the sum over all keys');
    assert.equal(capacity.keyCount, keys.length, 'key_count equals the number of keys');
    return usedBytes;
  }

  async reopen(how: Reopening): Promise<void> {
    const reopen = this.rig[how];
    assert.ok(reopen, `the engine offers no ${how}`);
    this.engine = await reopen();
  }

  async events(): Promise<KernelEvent[]> {
    assert.ok(this.rig.events, 'the engine offers no events');
    return this.rig.events();
  }
}

function assertPage(length: number, limit: number, cursor: string | null, nextCursor: string | null): void {
  assert.ok(length > 0 || cursor === null, 'the page before an empty one was the last: it has no cursor');
  assert.ok(length <= limit, `a page of ${length} for limit ${limit}`);
  if (nextCursor !== null) assert.equal(length, limit, 'only the last page may be short');
}

/** The value of a good reply; throws with the code of a refusal. */
export function ok<T>(reply: EngineReply<T>): T {
  if (!reply.ok) assert.fail(`refused with ${reply.code}`);
  return reply.value;
}

/** Asserts that a reply is the refusal `code`. */
export function refused<T>(reply: EngineReply<T>, code: ApiErrorCode, what = 'reply'): void {
  if (reply.ok) assert.fail(`${what}: accepted where ${code} is due`);
  assert.equal(reply.code, code, what);
}

/** `items[index]`, which must be there. */
export function nth<T>(items: readonly T[], index: number): T {
  const item = items.at(index);
  assert.ok(item !== undefined, `no item ${index} among ${items.length}`);
  return item;
}

/** Runs `work` over all items, a bounded number at once; results in order of the items. */
export async function atOnce<Item, Result>(
  items: readonly Item[],
  work: (item: Item, index: number) => Promise<Result>,
): Promise<Result[]> {
  const results: Result[] = [];
  for (let first = 0; first < items.length; first += MAX_IN_FLIGHT) {
    const chunk = items.slice(first, first + MAX_IN_FLIGHT);
    results.push(...(await Promise.all(chunk.map((item, index) => work(item, first + index)))));
  }
  return results;
}

/** 0, 1, ... count - 1. */
export function range(count: number): number[] {
  return Array.from({ length: count }, (_, index) => index);
}

export function newCredential(kind: PrincipalKind, scheme: NewCredential['scheme'] = 'bcrypt'): NewCredential {
  const digits = TOKEN_LOOKUP_LENGTH - TOKEN_PREFIX[kind].length;
  const lookup = TOKEN_PREFIX[kind] + randomBytes(digits / 2).toString('hex');
  const hash = scheme === 'bcrypt' ? `$2b$10$${randomBytes(26).toString('hex')}x` : randomBytes(32).toString('hex');
  return { lookup, scheme, hash };
}

export function newChallenge(operatorId: string, expiresAtMs = Date.now() + 60_000): StoredChallenge {
  return { challengeId: randomUUID(), operatorId, expectation: randomBytes(8).toString('hex'), expiresAtMs };
}

export const contentsOf = (messages: readonly { readonly content: string }[]): string[] =>
  messages.map(({ content }) => content);

/** Asserts that a time is whole milliseconds and about now. */
export function assertIsNow(timeMs: number, what: string): void {
  assert.ok(Number.isSafeInteger(timeMs), `${what} is ${timeMs}, not whole milliseconds`);
  assert.ok(Math.abs(timeMs - Date.now()) <= CLOCK_TOLERANCE_MS, `${what} is ${timeMs}, now is ${Date.now()}`);
}

/** Order of keys: by the bytes of their UTF-8 form. JavaScript's own order differs where surrogate pairs meet U+E000..U+FFFF. */
export function byteOrder(a: string, b: string): number {
  return Buffer.compare(Buffer.from(a), Buffer.from(b));
}

/** Names nobody has, of the kind that storage may choke on: empty, too long for an index, with a terminator. */
export const ODD_NAMES: readonly string[] = ['', '\u0000', 'tab_\u0000', 'x'.repeat(2_000), '😀'.repeat(20_000)];

/** Strings of every kind of character that JSON can carry. */
export const EVERY_KIND_OF_TEXT: readonly string[] = [
  ' ',
  '  leading and trailing  ',
  '\u0000',
  'a\u0000',
  'a\u0000b',
  '\u0001\u001f\u007f\u0080\u009f',
  '\b\f\n\r\t',
  '"quotes" and \'others\'',
  '\\back\\slash\\',
  '\\u0041 is not A',
  'a\u2028b\u2029c',
  '\ufeff byte order mark',
  'é',
  'e\u0301',
  'ß ſ İ ı',
  '漢字',
  '\ud7ff\ue000\ufffd\ufffe\uffff',
  '😀',
  '👩‍👩‍👧‍👦🏳️‍🌈',
  '\u{10000}\u{10ffff}',
  '/',
  '//',
  '/a',
  'a/',
  'a//b',
  '../..',
  '.',
  'a/b',
  'a%2Fb',
  '%',
  '%00',
  '%2541',
  '100%_*?[a]',
  '<script>&amp;</script>',
  '{"json": [1, 2]}',
  'null',
  'true',
  '0',
  '-0',
  '1e5',
  '__proto__',
  'constructor',
  'hasOwnProperty',
  'A',
  'a',
];
