/** The default rate limits: figures, headers, bursts, refusals. Needs a server whose limits are the defaults. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ApiAgent, HttpAnswer } from '../../support/http.js';
import { assertError, inParallel, limitFigures, type Rig } from '../rig.js';

const TEXT = { 'Content-Type': 'text/plain' };

interface Category {
  readonly name: string;
  readonly perMinute: number;
  /** Sends one request of the category, a different kind of it by turn. */
  readonly ask: (agent: ApiAgent, turn: number) => Promise<HttpAnswer>;
  /** What the accepted ones may answer. */
  readonly statuses: readonly number[];
}

function pick<T>(choices: readonly T[], turn: number): T {
  const choice = choices[turn % choices.length];
  assert.ok(choice !== undefined);
  return choice;
}

const CATEGORIES: readonly Category[] = [
  {
    name: 'message_send',
    perMinute: 60,
    ask: (agent, turn) => agent.message(pick([agent.address, 'nobody'], turn), `message ${turn}`),
    statuses: [202, 404],
  },
  {
    name: 'message_read',
    perMinute: 60,
    ask: (agent, turn) => agent.get(pick(['/v1/messages', '/v1/messages?limit=1', '/v1/messages?limit=%FF'], turn)),
    statuses: [200, 400],
  },
  {
    name: 'state_read',
    perMinute: 300,
    ask: (agent, turn) =>
      agent.get(pick(['/v1/state/none', '/v1/state', '/v1/state/', '/v1/state/_capacity', '/v1/state/%FF'], turn)),
    statuses: [200, 400, 404],
  },
  {
    name: 'state_write',
    perMinute: 60,
    ask: (agent, turn) =>
      turn % 2 ? agent.remove(`limit/${agent.address}`) : agent.write(`limit/${agent.address}`, `${turn}`),
    statuses: [200],
  },
  {
    name: 'registry_read',
    perMinute: 30,
    ask: (agent, turn) => agent.get(pick(['/v1/agents/me', '/v1/registry', '/v1/registry?cursor=no'], turn)),
    statuses: [200, 400],
  },
];

/** Requests refilled while `work` ran, at most. */
function refilled(perMinute: number, tookMs: number): number {
  return Math.floor((tookMs / 60_000) * perMinute) + 1;
}

/** Sends until the first refusal; checks the headers of every answer on the way. */
async function exhaust(category: Category, agent: ApiAgent): Promise<{ accepted: number; refusal: HttpAnswer }> {
  const { name, perMinute } = category;
  const startMs = performance.now();
  let previous = perMinute;
  for (let turn = 0; ; turn++) {
    const askedSeconds = Date.now() / 1000;
    const answer = await category.ask(agent, turn);
    const { limit, remaining, resetEpochSeconds } = limitFigures(answer);
    assert.equal(limit, perMinute, name);
    // However late the answer is heard.
    const fromThen = resetEpochSeconds - askedSeconds;
    assert.ok(fromThen > -1, `${name}: the reset is ${fromThen} s from when it was asked for`);
    const fromNow = resetEpochSeconds - Date.now() / 1000;
    assert.ok(fromNow <= 62, `${name}: the reset is ${fromNow} s from now`);
    const tookMs = performance.now() - startMs;
    if (answer.status === 429) {
      assert.equal(remaining, 0);
      assert.ok(turn >= perMinute, `${name}: refused after ${turn} requests`);
      assert.ok(turn <= perMinute + refilled(perMinute, tookMs), `${name}: ${turn} requests in ${tookMs} ms`);
      return { accepted: turn, refusal: answer };
    }
    assert.ok(category.statuses.includes(answer.status), `${name}: ${answer.status} ${answer.text}`);
    if (turn === 0) assert.equal(remaining, perMinute - 1, `${name}: a new agent has a full bucket`);
    assert.ok(remaining <= previous + refilled(perMinute, tookMs) && remaining < perMinute);
    previous = remaining;
    assert.ok(turn < 2 * perMinute + 100, `${name}: never refused`);
  }
}

export function limitChecks(rig: () => Rig): void {
  for (const category of CATEGORIES) {
    const { name, perMinute } = category;
    test(`${name}: a burst of ${perMinute} passes, the next is 429, for this agent and this category only`, async () => {
      const [agent, other] = [await rig().agent(), await rig().agent()];
      const { refusal } = await exhaust(category, agent);
      assertError(refusal, 'rate_limited');
      const retryAfterSeconds = Number(refusal.headers['retry-after']);
      assert.ok(retryAfterSeconds >= 1 && retryAfterSeconds <= Math.ceil(60 / perMinute), String(retryAfterSeconds));
      const fresh = await category.ask(other, 0);
      assert.ok(category.statuses.includes(fresh.status));
      assert.equal(limitFigures(fresh).remaining, perMinute - 1, 'another agent has a bucket of its own');
      for (const unrelated of CATEGORIES.filter((one) => one !== category)) {
        const answer = await unrelated.ask(agent, 0);
        assert.ok(unrelated.statuses.includes(answer.status), `${unrelated.name} after ${name}: ${answer.status}`);
        assert.equal(limitFigures(answer).remaining, unrelated.perMinute - 1);
      }
    });
  }

  test('refused writes, deletes, sends and fetches change nothing', async () => {
    const [agent, witness] = [await rig().agent(), await rig().agent()];
    await witness.write('refused', 'old');
    await witness.message(agent.address, 'still here');
    const [send, receive, , write] = CATEGORIES;
    assert.ok(send !== undefined && receive !== undefined && write !== undefined);
    await exhaust(write, agent);
    assertError(await agent.write('refused', 'new'), 'rate_limited');
    assertError(await agent.remove('refused'), 'rate_limited');
    assert.equal((await witness.read('refused')).json().value, 'old');
    await exhaust(send, agent);
    assertError(await agent.message(witness.address, 'unwanted'), 'rate_limited');
    assert.equal((await witness.receive()).messages.length, 0);
    const reader = await rig().agent();
    await exhaust(receive, reader);
    await witness.message(reader.address, 'kept');
    const refused = await reader.get('/v1/messages');
    assertError(refused, 'rate_limited');
    await sleep(Number(refused.headers['retry-after']) * 1000); // the contract's own wait
    assert.equal((await reader.receive()).messages[0]?.content, 'kept', 'Retry-After keeps its word');
  });

  test('the limit is asked after the token and before content type, body and meaning', async () => {
    const agent = await rig().agent();
    const [send, , , write] = CATEGORIES;
    assert.ok(send !== undefined && write !== undefined);
    await exhaust(write, agent);
    const { client } = rig();
    const { token } = agent;
    const put = (path: string, body: string | Buffer, headers = {}) =>
      client.send('PUT', path, { token, body, headers });
    assertError(await put('/v1/state/k', '{"value":"v"}', TEXT), 'rate_limited', 'content type');
    assertError(await put('/v1/state/k', 'no json'), 'rate_limited', 'body');
    assertError(await put('/v1/state/%FF', '{"value":"v"}'), 'rate_limited', 'meaning');
    const forged = await client.send('PUT', '/v1/state/k', { token: `${token}0`, body: '{}', headers: TEXT });
    assertError(forged, 'unauthorized');
    assert.equal(forged.headers['x-ratelimit-limit'], undefined);
    await exhaust(send, agent);
    assertError(await client.send('POST', '/v1/messages', { token, body: 'x', headers: TEXT }), 'rate_limited');
    assertError(await client.send('PATCH', '/v1/messages', { token }), 'method_not_allowed');
  });

  test('a burst over many connections at once passes exactly as often as one over one', async () => {
    const agent = await rig().agent();
    await agent.get('/v1/messages'); // a warm session: the burst itself is what is measured
    const startMs = performance.now();
    const answers = await inParallel(150, 16, (index) => agent.message(agent.address, String(index)));
    const accepted = answers.filter(({ status }) => status === 202).length;
    const atMost = 60 + refilled(60, performance.now() - startMs);
    assert.ok(accepted >= 60 && accepted <= atMost, `${accepted} accepted, 60 to ${atMost} expected`);
    for (const answer of answers) if (answer.status !== 202) assertError(answer, 'rate_limited');
  });

  test('operators: 5 an hour and IP, counted before the body is looked at, however X-Forwarded-For is forged', async () => {
    const { client, server } = rig();
    const register = (body: string, forwarded: string, type = 'application/json') =>
      client.send('POST', '/v1/operators', { body, headers: { 'Content-Type': type, 'X-Forwarded-For': forwarded } });
    const good = '{"contact_hash":"limited","accept_terms":true}';
    // The rig's own operator was the first of five.
    const answers = [
      await register(good, '1.1.1.1'),
      await register('no json', '2.2.2.2'),
      await register(good, '3.3.3.3', 'text/plain'),
      await register(good, '4.4.4.4, 5.5.5.5'),
    ];
    assert.deepEqual(
      answers.map(({ status }) => status),
      [201, 400, 415, 201],
    );
    assert.deepEqual(
      answers.map((answer) => limitFigures(answer).remaining),
      [3, 2, 1, 0],
    );
    for (const answer of answers) {
      if (answer.status === 201) server.handedOut.add(answer.json<{ api_key: string }>().api_key);
    }
    const created = async () => (await server.events()).filter(({ type }) => type === 'operator_created').length;
    const before = await created();
    for (const refused of [
      await register(good, '6.6.6.6'),
      await register('no json', '127.0.0.1'),
      await register(good, '::1', 'text/plain'),
    ]) {
      assertError(refused, 'rate_limited');
      const { limit, remaining, resetEpochSeconds } = limitFigures(refused);
      assert.deepEqual([limit, remaining], [5, 0]);
      const fromNow = resetEpochSeconds - Date.now() / 1000;
      assert.ok(fromNow > 3_400 && fromNow <= 3_602, `the reset is ${fromNow} s from now`);
      const retryAfterSeconds = Number(refused.headers['retry-after']);
      assert.ok(retryAfterSeconds > 600 && retryAfterSeconds <= 720, `${retryAfterSeconds} s`);
    }
    assert.equal(await created(), before);
    const other = await client.send('PUT', '/v1/operators', { body: good });
    assertError(other, 'method_not_allowed', 'route and method come before the limit');
  });
}
