/** The observation API against what lies in the logs of three shards, computed by brute force. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { assertError } from '../api/rig.js';
import { statePath } from '../support/http.js';
import { seedFor } from '../support/seed.js';
import type { Cleanup } from '../support/temp-dir.js';
import { assertRefusesParameter, ObservedWorld, PUBLIC_TYPES, type ShownEvent, worldConfig } from './observed-world.js';

const OPERATIONS = 600;
let world: ObservedWorld;
let logged: ShownEvent[];
const cleanups: (() => Promise<void>)[] = [];
const suite: Cleanup = { after: (callback) => void cleanups.push(callback) };

before(async () => {
  world = await ObservedWorld.start(suite, worldConfig(3), 5);
});
after(async () => {
  for (const cleanup of cleanups.reverse()) await cleanup();
});

test('every event of every shard is shown, once and in seq order, with the public fields only', async (t) => {
  await world.traffic(seedFor(t), OPERATIONS);
  // Read events reach the log up to 50 ms after the read; a write behind them shows that they have.
  await Promise.all(Array.from({ length: 30 }, (_, n) => world.agent(n).write(`flush/${n}`, '')));
  await world.observer.get('/observe/health');
  let shown = await world.pages('limit=1000');
  do {
    logged = await world.logged();
    shown = await world.pages('limit=1000');
  } while (logged.length !== (await world.logged()).length);
  assert.ok(logged.length > OPERATIONS);
  assert.deepEqual(shown, logged);
});

test('paging from every position with every small limit gives the rest of the log', async () => {
  const sequence = logged.map(({ seq }) => seq);
  for (let since = 0; since <= (sequence.at(-1) ?? 0) + 1; since += 1) {
    const limit = 1 + (since % 7);
    const page = await world.page(`since=${since}&limit=${limit}`);
    const rest = sequence.filter((seq) => seq > since);
    assert.deepEqual(
      page.events.map(({ seq }) => seq),
      rest.slice(0, limit),
      `since=${since}`,
    );
    assert.equal(page.has_more, rest.length > limit);
    assert.equal(page.next_cursor, rest.slice(0, limit).at(-1) ?? since);
  }
  assert.deepEqual(await world.pages('limit=7'), logged);
});

test('filters by types and agent give what a search of the whole log gives', async () => {
  const typeLists = [...PUBLIC_TYPES.map((type) => [type]), ['message_sent', 'state_written'], PUBLIC_TYPES, []];
  const agents = [...world.agents.map(({ address }) => address), 'tab_00000000000000000000', ''];
  for (const types of typeLists) {
    for (const agent of agents) {
      const wanted = logged.filter(
        (event) => (types.length === 0 || types.includes(event.type)) && (agent === '' || event.agent === agent),
      );
      const query = `type=${types.join(',')}&agent=${agent}`;
      assert.deepEqual(await world.pages(`${query}&limit=37`), wanted, query);
    }
  }
});

test('state is shown as the kernel has it: keys, totals of prefixes, values, history', async () => {
  const reader = world.agent(0);
  for (const prefix of ['', 'a', 'a/', 'a/1', 'b/', 'zzz', '\u00ff']) {
    const encoded = encodeURIComponent(prefix);
    const kernel = (await reader.get(`/v1/state?limit=1000&prefix=${encoded}`)).json<{
      keys: string[];
      total: number;
    }>();
    const listed: { key: string; value_length: number; last_modified_by: string; last_modified_at: string }[] = [];
    for (let cursor = ''; ; ) {
      const page = await world.ask<{ keys: typeof listed; next_cursor: string | null; total: number }>(
        `/observe/state?limit=7&prefix=${encoded}&cursor=${encodeURIComponent(cursor)}`,
      );
      assert.equal(page.total, kernel.total);
      listed.push(...page.keys);
      if (page.next_cursor === null) break;
      cursor = page.next_cursor;
    }
    assert.deepEqual(
      listed.map(({ key }) => key),
      kernel.keys,
    );
    for (const row of listed.slice(0, 5)) {
      const entry = (await reader.read(row.key)).json<{ value: string }>();
      const { key, last_modified_by, last_modified_at, value_length } = row;
      assert.equal(value_length, Buffer.byteLength(entry.value));
      assert.deepEqual(entry, { key, value: entry.value, last_modified_by, last_modified_at });
      assert.deepEqual(await world.ask(`/observe/state/${encodeURIComponent(key)}`), entry);
      const versions = logged.filter(({ type, data }) => type.match(/^state_(written|deleted)$/) && data.key === key);
      const history = await world.ask<{ versions: ShownEvent[] }>(
        `/observe/state-history?limit=200&key=${encodeURIComponent(key)}`,
      );
      assert.deepEqual(history.versions, versions.reverse());
    }
  }
  const { used_bytes, total_bytes, key_count } = (await reader.read('_capacity')).json();
  const { state } = await world.ask<{ state: object }>('/observe/overview');
  assert.deepEqual(state, { used_bytes, total_bytes, key_count });
  assertError(await world.observer.get('/observe/state/never%2Fwritten'), 'not_found');
});

test('the history of a key is read page by page, newest first', async () => {
  const key = 'history/ü "paged"';
  for (let n = 0; n < 9; n++) await world.agent(n).write(key, `value ${n}`);
  await world.agent(0).remove(key);
  await world.agent(0).write(key, 'again');
  const values: unknown[] = [];
  for (let cursor = ''; ; ) {
    const page = await world.ask<{ versions: ShownEvent[]; next_cursor: string | null }>(
      `/observe/state-history?limit=4&cursor=${cursor}&key=${encodeURIComponent(key)}`,
    );
    values.push(...page.versions.map(({ data }) => data.value));
    if (page.next_cursor === null) break;
    cursor = page.next_cursor;
  }
  const written = Array.from({ length: 9 }, (_, n) => `value ${8 - n}`);
  assert.deepEqual(values, ['again', undefined, ...written]);
});

test('figures of agents, the network and activity add up to what is in the log', async () => {
  const events = await world.pages('limit=1000');
  const { agents, total } = await world.ask<{ agents: Record<string, unknown>[]; total: number }>('/observe/agents');
  assert.equal(total, world.agents.length);
  const expected = world.agents.map(({ address }) => {
    const acts = events.filter(({ agent }) => agent === address);
    return {
      address,
      registered_at: acts.find(({ type }) => type === 'agent_registered')?.ts,
      messages_sent: acts.filter(({ type }) => type === 'message_sent').length,
      messages_received: events.filter(({ type, data }) => type === 'message_sent' && data.to === address).length,
      state_writes: acts.filter(({ type }) => type === 'state_written').length,
      last_active: acts
        .map(({ ts }) => ts)
        .sort()
        .at(-1),
    };
  });
  assert.deepEqual(agents, expected);
  for (const figures of expected) assert.deepEqual(await world.ask(`/observe/agents/${figures.address}`), figures);

  const paged: unknown[] = [];
  for (let cursor = ''; ; ) {
    const page = await world.ask<{ agents: unknown[]; next_cursor: string | null }>(
      `/observe/agents?limit=2&cursor=${cursor}`,
    );
    paged.push(...page.agents);
    if (page.next_cursor === null) break;
    cursor = page.next_cursor;
  }
  assert.deepEqual(paged, expected);

  const network = await world.ask<{ nodes: unknown[]; edges: { from: string; to: string; count: number }[] }>(
    '/observe/network',
  );
  assert.deepEqual(
    network.nodes,
    expected.map(({ address, messages_sent, messages_received }) => ({ address, messages_sent, messages_received })),
  );
  const counts = new Map<string, number>();
  for (const { type, data } of events) {
    if (type !== 'message_sent') continue;
    const edge = `${data.from} ${data.to}`;
    counts.set(edge, (counts.get(edge) ?? 0) + 1);
  }
  assert.deepEqual(new Map(network.edges.map(({ from, to, count }) => [`${from} ${to}`, count])), counts);

  const sum = (numbers: number[]): number => numbers.reduce((a, b) => a + b, 0);
  for (const { address, messages_sent, messages_received, state_writes } of expected) {
    const activity = await world.ask<Record<string, number[]>>(`/observe/agents/${address}/activity?buckets=7`);
    assert.ok((activity.counts?.length ?? 0) <= 7);
    assert.equal(sum(activity.counts ?? []), events.filter(({ agent }) => agent === address).length);
    assert.equal(sum(activity.messages_sent ?? []), messages_sent);
    assert.equal(sum(activity.messages_received ?? []), messages_received);
    assert.equal(sum(activity.state_writes ?? []), state_writes);
  }
  const everybody = await world.ask<Record<string, number[]>>('/observe/activity');
  assert.equal(sum(everybody.counts ?? []), events.length);
  const sent = events.filter(({ type }) => type === 'message_sent').length;
  assert.deepEqual([sum(everybody.messages_sent ?? []), sum(everybody.messages_received ?? [])], [sent, sent]);
});

test('the seq at a time is that of the last event up to it', async () => {
  const events = await world.pages('limit=1000');
  for (const { ts } of events.filter((_, n) => n % 50 === 0)) {
    const { seq } = await world.ask<{ seq: number }>(`/observe/seq?at=${ts}`);
    const shown = events.find((event) => event.seq === seq);
    assert.equal(shown?.ts, ts, 'an event of that very time');
  }
  assert.deepEqual(await world.ask('/observe/seq?at=2001-01-01T00:00:00Z'), { seq: 0 });
  assert.deepEqual(await world.ask('/observe/seq?at=2999-01-01T00:00:00%2B01:00'), { seq: events.at(-1)?.seq });
});

test('an answered write is there for whoever asks the observer next', async () => {
  for (let n = 0; n < 30; n++) {
    const answer = await world.agent(n).write(`fresh/${n}`, `v${n}`);
    assert.equal(answer.status, 200);
    assert.equal((await world.ask<{ value: string }>(`/observe/state/fresh%2F${n}`)).value, `v${n}`);
  }
});

test('hostile parameters are refused by name, or fall back, and none is answered with 500', async () => {
  const refused: [path: string, name: string][] = [
    ['/observe/events?since=-1', 'since'],
    ['/observe/events?since=1.5', 'since'],
    ['/observe/events?since=9999999999999999', 'since'],
    ['/observe/events?since=NaN', 'since'],
    ['/observe/events?type=state_written,nonsense', 'type'],
    ['/observe/events?type=STATE_WRITTEN', 'type'],
    ['/observe/events?type=messages_leased', 'type'],
    ['/observe/events?type=__proto__', 'type'],
    ['/observe/events?agent=tab_x', 'agent'],
    ['/observe/events?agent=%00', 'agent'],
    ['/observe/state?cursor=nonsense', 'cursor'],
    [`/observe/state?cursor=${'x'.repeat(9_000)}`, 'cursor'],
    ['/observe/agents?cursor=1', 'cursor'],
    ['/observe/seq', 'at'],
    ['/observe/seq?at=yesterday', 'at'],
    ['/observe/seq?at=2026-13-45T99:00:00Z', 'at'],
    ['/observe/activity?from=0001-01-01T00:00:00Z', 'from'],
    ['/observe/state-history', 'key'],
    ['/observe/state-history?key=a&before=x', 'before'],
    ['/observe/events/stream?since=x', 'since'],
    ['/observe/events/stream?notices=yes', 'notices'],
  ];
  for (const [path, name] of refused) assertRefusesParameter(await world.observer.get(path), name);
  const malformed = [
    '/observe/events?agent=%',
    '/observe/events?type=%ff',
    '/observe/state/%e2%82',
    '/observe/state/%2',
  ];
  for (const path of malformed) assertError(await world.observer.get(path), 'bad_request', path);
  for (const limit of ['0', '-1', '1001', '1e3', 'x', '', '99999999999999999999']) {
    assert.equal((await world.page(`limit=${limit}`)).events.length, 100, `limit=${limit}`);
  }
  const fallsBack = [
    '/observe/agents?limit=0',
    '/observe/activity?buckets=1000000&from=1970-01-01T00:00:00Z&to=9999-12-31T23:59:59Z',
    '/observe/activity?from=2999-01-01T00:00:00Z&to=2026-01-01T00:00:00Z',
    `/observe/state?prefix=${'%f0%9f%98%80'.repeat(400)}`,
    '/observe/events?since=9007199254740991',
    '/observe/events?since=9007199254740990&type=state_written',
    '/observe/state-history?key=a&before=0',
  ];
  for (const path of fallsBack) {
    const answer = await world.observer.get(path);
    assert.equal(answer.status, 200, `${path}: ${answer.text}`);
  }
  for (const path of [
    '/observe',
    '/observe/',
    '/observe/agents/',
    '/observe/agents/x/y',
    '/../../etc/passwd',
    '/assets/',
  ]) {
    assertError(await world.observer.get(path), 'not_found', path);
  }
  assertError(await world.observer.get('/observe/agents/tab_00000000000000000000/activity'), 'not_found');
});

test('only GET and OPTIONS are taken, from any origin, on every path', async () => {
  const paths = ['/observe/events', '/observe/state', '/observe/state/a', '/observe/agents', '/observe/events/stream'];
  for (const path of paths) {
    for (const method of ['POST', 'PUT', 'DELETE', 'PATCH', 'HEAD'] as const) {
      const answer = await world.observer.send(method, path, { body: method === 'HEAD' ? undefined : '{}' } as object);
      assert.equal(answer.status, 405, `${method} ${path}`);
      assert.equal(answer.headers.allow, 'GET, OPTIONS');
    }
    const preflight = await world.observer.send('OPTIONS', path);
    assert.equal(preflight.status, 204);
    assert.equal(preflight.headers['access-control-allow-origin'], '*');
    assert.equal(preflight.headers['access-control-allow-methods'], 'GET, OPTIONS');
  }
});

test('values of every form come through unchanged, also one of a mebibyte', async () => {
  const agent = world.agent(0);
  const values = [
    '',
    '\u0000\u0001\u001f'.repeat(1_000),
    '<script>',
    '\u2028\u2029',
    '😀'.repeat(100),
    'x'.repeat(2 ** 20),
  ];
  for (const [n, value] of values.entries()) {
    const key = `forms/${n}/%2f?&#`;
    assert.equal((await agent.write(key, value)).status, 200);
    const entry = await world.ask<{ key: string; value: string }>(statePath(key).replace('/v1', '/observe'));
    assert.equal(entry.value, value);
    assert.equal(entry.key, key);
  }
  const { last_seq: lastSeq } = await world.ask<{ last_seq: number }>('/observe/overview');
  const shown = await world.pages('type=state_written&limit=1000', lastSeq - values.length);
  assert.deepEqual(
    shown.map(({ data }) => data.value),
    values,
  );
});
