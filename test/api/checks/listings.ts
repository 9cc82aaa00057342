/** Pages of keys and agents: order, cursors, totals, and the fallback of limits. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type ApiAgent, statePath } from '../../support/http.js';
import { ADDRESS, assertError, assertFields, assertRecent, inParallel, type Rig } from '../rig.js';

interface KeyPage {
  readonly keys: string[];
  readonly next_cursor: string | null;
  readonly total: number;
}
interface AgentPage {
  readonly agents: { readonly address: string; readonly registered_at: string }[];
  readonly next_cursor: string | null;
  readonly total: number;
}

const LIMIT_FALLBACKS = ['0', '-1', '1001', 'many', '', '99999999999999999999', 'NaN', '0x10'];

function byBytes(a: string, b: string): number {
  return Buffer.compare(Buffer.from(a), Buffer.from(b));
}

async function pageOf(agent: ApiAgent, path: string, parameters: Record<string, string | number>): Promise<KeyPage> {
  const pairs = Object.entries(parameters).map(([name, value]) => `${name}=${encodeURIComponent(value)}`);
  const answer = await agent.get(`${path}?${pairs.join('&')}`);
  assertFields(answer, 200, ['keys', 'next_cursor', 'total']);
  return answer.json<KeyPage>();
}

async function walkKeys(agent: ApiAgent, prefix: string, limit: number): Promise<string[]> {
  const keys: string[] = [];
  for (let cursor = ''; ; ) {
    const page = await pageOf(agent, '/v1/state', { prefix, limit, cursor });
    assert.ok(page.keys.length <= limit);
    keys.push(...page.keys);
    if (page.next_cursor === null) return keys;
    assert.ok(page.keys.length > 0, 'an empty page that leads on');
    cursor = page.next_cursor;
  }
}

async function walkAgents(reader: ApiAgent, limit: number, between: () => Promise<void>): Promise<AgentPage['agents']> {
  const agents: AgentPage['agents'] = [];
  for (let cursor = ''; ; ) {
    const answer = await reader.get(`/v1/registry?limit=${limit}&cursor=${encodeURIComponent(cursor)}`);
    assertFields(answer, 200, ['agents', 'next_cursor', 'total']);
    const page = answer.json<AgentPage>();
    assert.ok(page.agents.length <= limit);
    agents.push(...page.agents);
    if (page.next_cursor === null) return agents;
    cursor = page.next_cursor;
    await between();
  }
}

export function listingChecks(rig: () => Rig): void {
  test('keys are listed in byte order over all shards, page by page, with a total that counts the prefix', async () => {
    const agent = await rig().agent();
    const tails = [
      '',
      '\0',
      '\u0001',
      ' ',
      '%',
      '/',
      '0',
      'A',
      'a',
      'a\0',
      'aa',
      'ab',
      'é',
      '\u2028',
      '\uFFFD',
      '😀',
      '\u{10FFFF}',
    ];
    const prefix = 'order/é/';
    const keys = tails.map((tail) => prefix + tail);
    for (const key of [...keys].reverse()) assert.equal((await agent.write(key, 'v')).status, 200);
    await agent.write('order/è', 'outside');
    await agent.write('order/é0', 'outside');
    const sorted = [...keys].sort(byBytes);
    for (const path of ['/v1/state', '/v1/state/']) {
      const page = await pageOf(agent, path, { prefix });
      assert.deepEqual(page, { keys: sorted, next_cursor: null, total: keys.length });
    }
    for (const limit of [1, 3, 16, 17, 18])
      assert.deepEqual(await walkKeys(agent, prefix, limit), sorted, `limit ${limit}`);
    const first = await pageOf(agent, '/v1/state', { prefix, limit: 5 });
    assert.equal(first.total, keys.length);
    assert.notEqual(first.next_cursor, null);
    assert.deepEqual(await pageOf(agent, '/v1/state', { prefix: 'order/none' }), {
      keys: [],
      next_cursor: null,
      total: 0,
    });
    await agent.remove(sorted[3] ?? '');
    assert.equal((await pageOf(agent, '/v1/state', { prefix })).total, keys.length - 1);
    assert.deepEqual(await walkKeys(agent, prefix, 4), sorted.toSpliced(3, 1));
  });

  test('without a prefix every key is listed, and total is the key count', async () => {
    const agent = await rig().agent();
    await inParallel(20, 8, (index) => agent.write(`all/${index}`, 'v'));
    const keys = await walkKeys(agent, '', 1000);
    assert.deepEqual(keys, [...keys].sort(byBytes));
    assert.equal(new Set(keys).size, keys.length);
    const { key_count: count } = (await agent.get('/v1/state/_capacity')).json();
    const { total } = await pageOf(agent, '/v1/state', { limit: 1 });
    assert.deepEqual([keys.length, total], [count, count]);
  });

  test('a walk over keys sees each key that stays once, whatever is written and deleted meanwhile', async () => {
    const agent = await rig().agent();
    const key = (index: number): string => `walk/${String(index).padStart(3, '0')}`;
    await inParallel(60, 8, (index) => agent.write(key(index * 2), 'v'));
    const seen: string[] = [];
    for (let cursor = '', round = 0; ; round++) {
      const page = await pageOf(agent, '/v1/state', { prefix: 'walk/', limit: 7, cursor });
      seen.push(...page.keys);
      if (page.next_cursor === null) break;
      cursor = page.next_cursor;
      await agent.write(key(round * 14 + 1), 'new');
      const last = page.keys.at(-1);
      if (last !== undefined && round % 3 === 0) await agent.remove(last); // the cursor's own key may go
    }
    const stayed = Array.from({ length: 60 }, (_, index) => key(index * 2));
    assert.deepEqual(
      seen.filter((name) => stayed.includes(name)),
      stayed,
    );
    assert.deepEqual(seen, [...new Set(seen)].sort(byBytes));
  });

  test('the limit of a key listing is 1 to 1,000; anything else falls back to 100', async () => {
    const agent = await rig().agent();
    await inParallel(1001, 32, (index) => agent.put(statePath(`many/${index}`), { value: '' }));
    const count = async (limit: string) =>
      (await agent.get(`/v1/state?prefix=many/&limit=${limit}`)).json<KeyPage>().keys.length;
    for (const [limit, expected] of [
      ['1', 1],
      ['101', 101],
      ['1000', 1000],
    ] as const) {
      assert.equal(await count(limit), expected, `limit=${limit}`);
    }
    for (const limit of LIMIT_FALLBACKS) assert.equal(await count(limit), 100, `limit=${limit}`);
    assert.equal((await agent.get('/v1/state?prefix=many/')).json<KeyPage>().keys.length, 100);
    assert.equal((await agent.get('/v1/state?prefix=many/')).json<KeyPage>().total, 1001);
  });

  test('the registry lists all agents once, oldest first, in one order over all shards', async () => {
    const reader = await rig().agent();
    const inTurn: string[] = [];
    for (let index = 0; index < 12; index++) inTurn.push((await rig().agent()).address);
    await inParallel(101, 8, () => rig().agent());
    const answer = await reader.get('/v1/registry?limit=1000');
    const { agents, next_cursor: next, total } = answer.json<AgentPage>();
    assertFields(answer, 200, ['agents', 'next_cursor', 'total']);
    assert.equal(next, null);
    assert.equal(total, agents.length);
    for (const agent of agents) {
      assert.deepEqual(Object.keys(agent).sort(), ['address', 'registered_at']);
      assert.match(agent.address, ADDRESS);
      assertRecent(agent.registered_at);
    }
    const times = agents.map(({ registered_at }) => registered_at);
    assert.deepEqual(times, [...times].sort());
    const addresses = agents.map(({ address }) => address);
    assert.equal(new Set(addresses).size, addresses.length);
    assert.deepEqual(
      addresses.filter((address) => inTurn.includes(address)),
      inTurn,
    );
    assert.deepEqual(
      addresses.filter((address) => address === reader.address),
      [reader.address],
    );
    for (const limit of [1, 7, 100]) assert.deepEqual(await walkAgents(reader, limit, async () => {}), agents);
    for (const limit of LIMIT_FALLBACKS) {
      const page = (await reader.get(`/v1/registry?limit=${limit}`)).json<AgentPage>();
      assert.deepEqual([page.agents.length, page.total], [100, agents.length], `limit=${limit}`);
    }
    assert.equal((await reader.get('/v1/registry')).json<AgentPage>().agents.length, 100);
  });

  test('a registry cursor survives new registrations: nobody is missed or listed twice', async () => {
    const reader = await rig().agent();
    const before = await walkAgents(reader, 1000, async () => {});
    let joined = 0;
    const during = await walkAgents(reader, 25, async () => {
      if (joined++ < 4) await rig().agent();
    });
    assert.deepEqual(during.slice(0, before.length), before);
    assert.equal(during.length, before.length + Math.min(joined, 4));
    assert.equal(new Set(during.map(({ address }) => address)).size, during.length);
  });

  test('an unusable cursor is 400, and so is malformed encoding in a query', async () => {
    const agent = await rig().agent();
    for (const index of [1, 2]) await agent.write(`cursor/${index}`, 'v');
    const keyCursor = (await pageOf(agent, '/v1/state', { prefix: 'cursor/', limit: 1 })).next_cursor;
    const agentCursor = (await agent.get('/v1/registry?limit=1')).json<AgentPage>().next_cursor;
    assert.ok(keyCursor !== null && agentCursor !== null);
    const tampered = (cursor: string): string[] => [
      cursor.slice(0, -1),
      cursor.slice(1),
      `${cursor}A`,
      `${cursor.startsWith('A') ? 'B' : 'A'}${cursor.slice(1)}`,
    ];
    const nonsense = ['nonsense', '0', '-1', agent.address, '%00', '%F0%9F%98%80', 'A'.repeat(10_000), '%5B%5D'];
    for (const cursor of [...nonsense, ...tampered(agentCursor), keyCursor]) {
      assertError(await agent.get(`/v1/registry?cursor=${cursor}`), 'bad_request', `registry ${cursor.slice(0, 40)}`);
    }
    for (const cursor of [...nonsense, ...tampered(keyCursor)]) {
      assertError(await agent.get(`/v1/state?cursor=${cursor}`), 'bad_request', `state ${cursor.slice(0, 40)}`);
    }
    for (const query of [
      'cursor=%',
      'cursor=%FF',
      'prefix=%',
      'prefix=%4',
      'prefix=%FF',
      'prefix=%ED%A0%80',
      'limit=%zz',
      '%=1',
    ]) {
      assertError(await agent.get(`/v1/state?${query}`), 'bad_request', query);
      assertError(await agent.get(`/v1/registry?${query}`), 'bad_request', query);
    }
  });
}
