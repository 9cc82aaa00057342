/** Long polling, leases and idempotency keys over HTTP. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ApiAgent, HttpAnswer } from '../../support/http.js';
import { waitUntil } from '../../support/wait.js';
import { assertError, assertFields, inParallel, limitFigures, type Rig } from '../rig.js';

interface Leased {
  readonly message_id: string;
  readonly content: string;
  readonly lease_id: string;
  readonly delivery_count: number;
}

async function lease(agent: ApiAgent, query = ''): Promise<{ messages: Leased[]; remaining: number }> {
  const answer = await agent.get(`/v1/messages?ack=manual${query}`);
  assert.equal(answer.status, 200, answer.text);
  return answer.json();
}

async function ack(agent: ApiAgent, leaseIds: readonly string[]): Promise<{ acked: number; unknown: string[] }> {
  const answer = await agent.post('/v1/messages/ack', { lease_ids: leaseIds });
  return assertFields(answer, 200, ['acked', 'unknown']) as { acked: number; unknown: string[] };
}

function sendWithKey(agent: ApiAgent, to: string, content: string, key: string | string[]): Promise<HttpAnswer> {
  return agent.client.send('POST', '/v1/messages', {
    token: agent.token,
    body: { to, content },
    headers: { 'Idempotency-Key': key },
  });
}

const contentsOf = (messages: readonly { content: string }[]): string[] => messages.map(({ content }) => content);

/** Milliseconds by which a timer may be early or rounding may shift. */
const SLACK_MS = 20;

export function deliveryChecks(rig: () => Rig): void {
  describeLongPolling(rig);
  describeLeases(rig);
  describeIdempotency(rig);
}

function describeLongPolling(rig: () => Rig): void {
  test('a request that waits is answered as soon as a message comes, with that message', async () => {
    const [sender, recipient] = [await rig().agent(), await rig().agent()];
    const startedMs = performance.now();
    const waiting = recipient.get('/v1/messages?wait=25');
    // On another connection, answered while the first waits: the wait holds nobody up.
    assert.equal((await recipient.get('/v1/agents/me')).status, 200);
    assert.equal((await sender.message(recipient.address, 'now')).status, 202);
    const answer = await waiting;
    const { messages } = answer.json<{ messages: { content: string }[] }>();
    assert.deepEqual(contentsOf(messages), ['now']);
    assert.ok(performance.now() - startedMs < 20_000, 'it did not wait for the time-out');
    limitFigures(answer);
    assert.deepEqual(await recipient.receive(), { messages: [], remaining: 0 });
  });

  test('a request that waits in vain is answered with an empty list, when its time is over and not before', async () => {
    const recipient = await rig().agent();
    const startedMs = performance.now();
    const answer = await recipient.get('/v1/messages?wait=1');
    const tookMs = performance.now() - startedMs;
    assert.deepEqual(answer.json(), { messages: [], remaining: 0 });
    assert.ok(tookMs >= 1000 - SLACK_MS && tookMs < 10_000, `${tookMs} ms`);
  });

  test('with messages in the queue nobody waits, and wait=0 is as without', async () => {
    const agent = await rig().agent();
    await agent.message(agent.address, 'there');
    const startedMs = performance.now();
    assert.equal((await agent.get('/v1/messages?wait=30&limit=1')).json<{ messages: unknown[] }>().messages.length, 1);
    assert.deepEqual((await agent.get('/v1/messages?wait=0')).json(), { messages: [], remaining: 0 });
    assert.ok(performance.now() - startedMs < 10_000);
  });

  test('wait is a whole number from 0 to 30; anything else is 400, names it, and takes nothing', async () => {
    const agent = await rig().agent();
    await agent.message(agent.address, 'stays');
    for (const value of ['31', '-1', '1.5', 'x', '', '1e1', '0x1', '99999999999', '%201']) {
      const answer = await agent.get(`/v1/messages?wait=${value}`);
      assertError(answer, 'bad_request', `wait=${value}`);
      assert.match(answer.text, /"message":"wait: .*0 to 30/);
    }
    assert.deepEqual(contentsOf((await agent.receive()).messages), ['stays']);
  });

  test('of many requests that wait, each message reaches exactly one', async () => {
    const [sender, recipient] = [await rig().agent(), await rig().agent()];
    const waiting = Array.from({ length: 5 }, () => recipient.get('/v1/messages?wait=20&limit=1'));
    const sent: string[] = [];
    for (let index = 0; index < 5; index++) {
      sent.push(`message ${index}`);
      assert.equal((await sender.message(recipient.address, `message ${index}`)).status, 202);
    }
    const answers = await Promise.all(waiting);
    const received = answers.flatMap((answer) =>
      contentsOf(answer.json<{ messages: { content: string }[] }>().messages),
    );
    assert.deepEqual(received.sort(), sent);
    assert.deepEqual(await recipient.receive(), { messages: [], remaining: 0 });
  });

  test('no message slips through between two requests, however they meet', async () => {
    const [sender, recipient] = [await rig().agent(), await rig().agent()];
    const count = 200;
    const sending = inParallel(count, 4, (index) => sender.message(recipient.address, String(index)));
    const received: string[] = [];
    while (received.length < count) {
      const answer = await recipient.get('/v1/messages?wait=5&limit=7');
      assert.equal(answer.status, 200, answer.text);
      const { messages } = answer.json<{ messages: { content: string }[] }>();
      assert.ok(messages.length > 0, `nothing came for 5 s after ${received.length} messages`);
      received.push(...contentsOf(messages));
    }
    for (const answer of await sending) assert.equal(answer.status, 202);
    assert.equal(new Set(received).size, count);
  });

  test('two hundred agents wait at once, and each hears its own message', async () => {
    const sender = await rig().agent();
    const agents = await inParallel(200, 8, () => rig().agent());
    const waiting = agents.map((agent) => agent.get('/v1/messages?wait=25'));
    await inParallel(agents.length, 8, async (index) => {
      const address = agents[index]?.address ?? '';
      assert.equal((await sender.message(address, address)).status, 202);
    });
    const answers = await Promise.all(waiting);
    answers.forEach((answer, index) => {
      const { messages } = answer.json<{ messages: { content: string }[] }>();
      assert.deepEqual(contentsOf(messages), [agents[index]?.address]);
    });
  });
}

function describeLeases(rig: () => Rig): void {
  test('a leased message is hidden, acknowledged once, and then gone for good', async () => {
    const [sender, recipient] = [await rig().agent(), await rig().agent()];
    const { message_id: messageId } = (await sender.message(recipient.address, 'work')).json();
    const { messages, remaining } = await lease(recipient);
    assert.equal(remaining, 0);
    const [message] = messages;
    assert.ok(message !== undefined);
    const fields = ['message_id', 'from', 'to', 'content', 'timestamp', 'lease_id', 'delivery_count'];
    assert.deepEqual(Object.keys(message), fields);
    assert.deepEqual([message.message_id, message.content, message.delivery_count], [messageId, 'work', 1]);
    assert.deepEqual(await recipient.receive(), { messages: [], remaining: 0 });
    assert.deepEqual(await ack(recipient, [message.lease_id]), { acked: 1, unknown: [] });
    assert.deepEqual(await ack(recipient, [message.lease_id]), { acked: 0, unknown: [message.lease_id] });
    const delivered = (await rig().server.events()).filter(
      ({ type, data }) => type === 'message_delivered' && data.message_id === messageId,
    );
    assert.deepEqual(
      delivered.map(({ data }) => data.delivery_method),
      ['pull'],
    );
  });

  test('a lease that runs out puts its message back, counts it, and is unknown afterwards', async () => {
    const [sender, recipient] = [await rig().agent(), await rig().agent()];
    for (const content of ['a', 'b']) await sender.message(recipient.address, content);
    const [a, b] = (await lease(recipient, '&visibility=1')).messages;
    assert.ok(a !== undefined && b !== undefined);
    assert.deepEqual([a.content, b.content], ['a', 'b']);
    await ack(recipient, [b.lease_id]);
    const [again, ...others] = (await lease(recipient, '&visibility=600&wait=20')).messages;
    assert.deepEqual([again?.content, again?.delivery_count, others], ['a', 2, []]);
    assert.notEqual(again?.lease_id, a.lease_id);
    assert.deepEqual(await ack(recipient, [a.lease_id]), { acked: 0, unknown: [a.lease_id] });
    assert.deepEqual(await ack(recipient, [again?.lease_id ?? '']), { acked: 1, unknown: [] });
  });

  test('messages come back to their old places, before what was sent meanwhile', async () => {
    const [sender, recipient] = [await rig().agent(), await rig().agent()];
    const sent = ['1', '2', '3', '4', '5'];
    for (const content of sent) await sender.message(recipient.address, content);
    assert.deepEqual(contentsOf((await lease(recipient, '&visibility=1')).messages), sent);
    await sender.message(recipient.address, '6');
    sent.push('6');
    // Each look takes all there is, for a second: some time after it they are all back, and the next look sees them together.
    let seen: string[] = [];
    let nextLookMs = 0;
    await waitUntil(
      async () => {
        if (performance.now() < nextLookMs) return false;
        seen = contentsOf((await lease(recipient, '&visibility=1')).messages);
        assert.deepEqual(seen, [...seen].sort(), 'never out of order');
        nextLookMs = performance.now() + 1_500;
        return seen.length === sent.length;
      },
      { timeoutMs: 25_000, what: 'all six to be there at once' },
    );
    assert.deepEqual(seen, sent);
  });

  test('a lease that runs out wakes those who wait', async () => {
    const agent = await rig().agent();
    await agent.message(agent.address, 'again');
    await lease(agent, '&visibility=1');
    const { messages } = (await agent.get('/v1/messages?wait=20')).json<{ messages: { content: string }[] }>();
    assert.deepEqual(contentsOf(messages), ['again']);
  });

  test('only the agent itself can acknowledge, and ids that never were are unknown, in the order asked', async () => {
    const [agent, stranger] = [await rig().agent(), await rig().agent()];
    await agent.message(agent.address, 'mine');
    const [message] = (await lease(agent)).messages;
    assert.ok(message !== undefined);
    assert.deepEqual(await ack(stranger, [message.lease_id]), { acked: 0, unknown: [message.lease_id] });
    assert.deepEqual(await ack(agent, ['zzz', message.lease_id, 'aaa', '🌍']), {
      acked: 1,
      unknown: ['zzz', 'aaa', '🌍'],
    });
  });

  test('ack, visibility and their bounds: what is wrong is 400, names it, and leases nothing', async () => {
    const agent = await rig().agent();
    await agent.message(agent.address, 'stays');
    for (const [query, parameter] of [
      ['ack=yes', 'ack'],
      ['ack=', 'ack'],
      ['ack=MANUAL', 'ack'],
      ['visibility=60', 'visibility'],
      ['ack=auto&visibility=60', 'visibility'],
      ['ack=manual&visibility=0', 'visibility'],
      ['ack=manual&visibility=43201', 'visibility'],
      ['ack=manual&visibility=1.5', 'visibility'],
      ['ack=manual&visibility=', 'visibility'],
      ['ack=manual&wait=31', 'wait'],
    ] as const) {
      const answer = await agent.get(`/v1/messages?${query}`);
      assertError(answer, 'bad_request', query);
      assert.ok(answer.json<{ message: string }>().message.startsWith(`${parameter}: `), answer.text);
    }
    const { messages } = await lease(agent, '&visibility=43200');
    assert.deepEqual(
      messages.map(({ content, delivery_count }) => [content, delivery_count]),
      [['stays', 1]],
    );
  });

  test('the list to acknowledge holds 1 to 1,000 ids of 1 to 128 bytes', async () => {
    const agent = await rig().agent();
    for (const body of [
      '{}',
      '{"lease_ids":null}',
      '{"lease_ids":"x"}',
      '{"lease_ids":[]}',
      '{"lease_ids":[""]}',
      '{"lease_ids":[1]}',
      '{"lease_ids":[null]}',
      '{"lease_ids":["\\ud800"]}',
      JSON.stringify({ lease_ids: ['x'.repeat(129)] }),
      JSON.stringify({ lease_ids: Array(1001).fill('x') }),
      '[]',
      'x',
    ]) {
      assertError(await agent.post('/v1/messages/ack', body), 'bad_request', body.slice(0, 50));
    }
    const many = Array.from({ length: 1000 }, (_, index) => String(index).padStart(128, 'x'));
    assert.deepEqual(await ack(agent, many), { acked: 0, unknown: many });
    assertError(await agent.get('/v1/messages/ack'), 'method_not_allowed');
  });
}

function describeIdempotency(rig: () => Rig): void {
  test('a repeat with the same key gets the first answer and sends nothing', async () => {
    const [sender, recipient] = [await rig().agent(), await rig().agent()];
    const first = await sendWithKey(sender, recipient.address, 'once', 'key-1');
    assertFields(first, 202, ['message_id', 'from', 'to', 'timestamp']);
    for (let repeat = 0; repeat < 3; repeat++) {
      const again = await sendWithKey(sender, recipient.address, 'once', 'key-1');
      assert.deepEqual([again.status, again.text], [202, first.text]);
    }
    assert.deepEqual(contentsOf((await recipient.receive()).messages), ['once']);
    assert.equal((await sendWithKey(sender, recipient.address, 'once', 'key-1')).text, first.text);
    assert.deepEqual(await recipient.receive(), { messages: [], remaining: 0 });
    assert.equal((await sendWithKey(sender, recipient.address, 'once', 'key-2')).status, 202);
    assert.equal((await recipient.receive()).messages.length, 1, 'another key is another message');
  });

  test('many repeats at the same time are one message with one answer', async () => {
    const [sender, recipient] = [await rig().agent(), await rig().agent()];
    const answers = await inParallel(32, 16, () => sendWithKey(sender, recipient.address, 'once', 'at-once'));
    assert.deepEqual([...new Set(answers.map(({ status }) => status))], [202]);
    assert.equal(new Set(answers.map(({ text }) => text)).size, 1);
    assert.equal((await recipient.receive()).messages.length, 1);
  });

  test('the same key for another content or recipient is 409 and sends nothing', async () => {
    const [sender, recipient] = [await rig().agent(), await rig().agent()];
    assert.equal((await sendWithKey(sender, recipient.address, 'one', 'k')).status, 202);
    assertError(await sendWithKey(sender, recipient.address, 'two', 'k'), 'idempotency_conflict');
    assertError(await sendWithKey(sender, sender.address, 'one', 'k'), 'idempotency_conflict');
    assert.deepEqual(contentsOf((await recipient.receive()).messages), ['one']);
    assert.deepEqual(await sender.receive(), { messages: [], remaining: 0 });
  });

  test('keys are each sender its own', async () => {
    const [one, other, recipient] = [await rig().agent(), await rig().agent(), await rig().agent()];
    await sendWithKey(one, recipient.address, 'from one', 'shared');
    assert.equal((await sendWithKey(other, recipient.address, 'from the other', 'shared')).status, 202);
    assert.equal((await recipient.receive()).messages.length, 2);
  });

  test('a refused send does not use its key up', async () => {
    const [sender, recipient] = [await rig().agent(), await rig().agent()];
    const nobody = `tab_${'0'.repeat(20)}`;
    assertError(await sendWithKey(sender, nobody, 'x', 'again'), 'not_found');
    assertError(await sendWithKey(sender, recipient.address, '', 'again'), 'bad_request');
    assert.equal((await sendWithKey(sender, recipient.address, 'y', 'again')).status, 202);
  });

  test('a key is 1 to 128 visible ASCII characters, given once', async () => {
    const [sender, recipient] = [await rig().agent(), await rig().agent()];
    for (const key of ['x'.repeat(129), 'a b', 'a\tb', 'schlüssel', '']) {
      assertError(await sendWithKey(sender, recipient.address, 'x', key), 'bad_request', key);
    }
    assertError(await sendWithKey(sender, recipient.address, 'x', ['one', 'two']), 'bad_request', 'twice');
    assert.equal((await sendWithKey(sender, recipient.address, 'x', `!${'~'.repeat(127)}`)).status, 202);
    assert.equal((await recipient.receive()).messages.length, 1);
  });
}
