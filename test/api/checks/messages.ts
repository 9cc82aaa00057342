/** Sending and fetching messages: form, order, limits of size, and what a refusal leaves behind. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ApiAgent } from '../../support/http.js';
import { assertError, assertFields, assertRecent, inParallel, type Rig, UUID } from '../rig.js';
import { AWKWARD_TEXTS, LONE_SURROGATE_ESCAPES, MALFORMED_UTF8, NOT_OBJECTS } from './texts.js';

const MAX_CONTENT_BYTES = 65_536;

async function assertNothingQueued(agent: ApiAgent): Promise<void> {
  assert.deepEqual(await agent.receive(), { messages: [], remaining: 0 });
}

export function messageChecks(rig: () => Rig): void {
  test('a message is answered with 202 and comes back once, with all its fields, to its recipient alone', async () => {
    const [sender, recipient] = [await rig().agent(), await rig().agent()];
    const answer = await sender.message(recipient.address, 'hello');
    const receipt = assertFields(answer, 202, ['message_id', 'from', 'to', 'timestamp']);
    assert.match(String(receipt.message_id), UUID);
    assert.deepEqual([receipt.from, receipt.to], [sender.address, recipient.address]);
    assertRecent(receipt.timestamp);
    await assertNothingQueued(sender);
    const fetched = await recipient.get('/v1/messages');
    const { messages, remaining } = assertFields(fetched, 200, ['messages', 'remaining']);
    assert.deepEqual(messages, [{ ...receipt, content: 'hello' }]);
    assert.equal(remaining, 0);
    await assertNothingQueued(recipient);
  });

  test('an agent may write to itself', async () => {
    const agent = await rig().agent();
    assert.equal((await agent.message(agent.address, 'note')).status, 202);
    assert.equal((await agent.receive()).messages[0]?.content, 'note');
  });

  test('messages come first in, first out, and remaining counts what stays', async () => {
    const [first, second, recipient] = [await rig().agent(), await rig().agent(), await rig().agent()];
    const sent: string[] = [];
    for (let index = 0; index < 25; index++) {
      sent.push(`message ${index}`);
      assert.equal((await (index % 3 ? first : second).message(recipient.address, `message ${index}`)).status, 202);
    }
    const received: string[] = [];
    for (const [limit, remaining] of [
      [1, 24],
      [10, 14],
      [14, 0],
    ] as const) {
      const batch = await recipient.receive(limit);
      assert.equal(batch.remaining, remaining);
      received.push(...batch.messages.map(({ content }) => content));
    }
    assert.deepEqual(received, sent);
  });

  test('limit takes 1 to 100; anything else falls back to 50', async () => {
    const [sender, recipient] = [await rig().agent(), await rig().agent()];
    for (const [limit, expected] of [
      ['100', 100],
      ['1', 1],
      ['101', 50],
      ['0', 50],
      ['-1', 50],
      ['many', 50],
      ['', 50],
      ['99999999999999999999', 50],
      [undefined, 50],
    ] as const) {
      await recipient.receive(100);
      await inParallel(101, 16, () => sender.message(recipient.address, 'x'));
      const path = limit === undefined ? '/v1/messages' : `/v1/messages?limit=${limit}`;
      const { messages, remaining } = (await recipient.get(path)).json<{ messages: unknown[]; remaining: number }>();
      assert.deepEqual([messages.length, remaining], [expected, 101 - expected], `limit=${limit}`);
      await recipient.receive(100);
    }
  });

  test('a query with malformed percent-encoding is 400 and fetches nothing', async () => {
    const agent = await rig().agent();
    await agent.message(agent.address, 'stays');
    for (const query of ['limit=%', 'limit=%4', 'limit=%GG', 'limit=%FF', 'limit=%C0%80', 'other=%ED%A0%80']) {
      assertError(await agent.get(`/v1/messages?${query}`), 'bad_request', query);
    }
    assert.equal((await agent.receive()).messages[0]?.content, 'stays');
  });

  test('content is 1 to 65,536 bytes, counted in UTF-8', async () => {
    const [sender, recipient] = [await rig().agent(), await rig().agent()];
    for (const content of [
      'x',
      ' ',
      '\0',
      'x'.repeat(MAX_CONTENT_BYTES),
      'é'.repeat(MAX_CONTENT_BYTES / 2),
      '😀'.repeat(MAX_CONTENT_BYTES / 4),
      '"'.repeat(MAX_CONTENT_BYTES),
      '\u0001'.repeat(MAX_CONTENT_BYTES),
    ]) {
      assert.equal((await sender.message(recipient.address, content)).status, 202);
      assert.equal((await recipient.receive()).messages[0]?.content, content);
    }
    const tooLong = [
      'x'.repeat(MAX_CONTENT_BYTES + 1),
      `${'é'.repeat(MAX_CONTENT_BYTES / 2)}x`,
      `${'😀'.repeat(MAX_CONTENT_BYTES / 4)}x`,
      '€'.repeat(MAX_CONTENT_BYTES / 3 + 1),
    ];
    for (const content of ['', ...tooLong]) {
      assertError(await sender.message(recipient.address, content), 'bad_request', `${content.length} characters`);
    }
    await assertNothingQueued(recipient);
  });

  test('contents come back with every character that JSON can carry', async () => {
    const [sender, recipient] = [await rig().agent(), await rig().agent()];
    for (const content of AWKWARD_TEXTS) assert.equal((await sender.message(recipient.address, content)).status, 202);
    const { messages } = await recipient.receive(100);
    assert.deepEqual(
      messages.map(({ content }) => content),
      AWKWARD_TEXTS,
    );
  });

  test('an unknown or malformed recipient is 404', async () => {
    const sender = await rig().agent();
    const upper = sender.address.toUpperCase();
    for (const to of [
      `tab_${'0'.repeat(20)}`,
      'tab_short',
      '',
      'nobody',
      upper,
      `${sender.address} `,
      `${sender.address}0`,
    ]) {
      assertError(await sender.message(to, 'hello'), 'not_found', to);
    }
    await assertNothingQueued(sender);
  });

  test('missing fields and wrong types are 400, whoever the recipient is, and queue nothing', async () => {
    const agent = await rig().agent();
    const to = agent.address;
    for (const text of NOT_OBJECTS) assertError(await agent.post('/v1/messages', text), 'bad_request', text);
    for (const body of [
      { to },
      { content: 'x' },
      { to, content: null },
      { to, content: 1 },
      { to, content: true },
      { to, content: ['x'] },
      { to, content: {} },
      { to: null, content: 'x' },
      { to: 1, content: 'x' },
      { to: [to], content: 'x' },
      { to: 'nobody' },
    ]) {
      assertError(await agent.post('/v1/messages', body), 'bad_request', JSON.stringify(body));
    }
    for (const lone of LONE_SURROGATE_ESCAPES) {
      assertError(await agent.post('/v1/messages', `{"to":"${to}","content":"${lone}"}`), 'bad_request', lone);
      assertError(await agent.post('/v1/messages', `{"to":"${lone}","content":"x"}`), 'bad_request', lone);
    }
    for (const bytes of MALFORMED_UTF8) {
      const body = Buffer.concat([Buffer.from(`{"to":"${to}","content":"`), bytes, Buffer.from('"}')]);
      assertError(await agent.post('/v1/messages', body), 'bad_request', bytes.toString('hex'));
    }
    await assertNothingQueued(agent);
  });

  test('identity fields and unknown fields in a message are ignored: the kernel stamps them', async () => {
    const [sender, other] = [await rig().agent(), await rig().agent()];
    const claimed = {
      from: other.address,
      message_id: '00000000-0000-0000-0000-000000000000',
      timestamp: '1999-01-01T00:00:00.000Z',
      nonsense: { deep: [null] },
    };
    const receipt = (await sender.post('/v1/messages', { ...claimed, to: other.address, content: 'x' })).json();
    assert.equal(receipt.from, sender.address);
    assert.notEqual(receipt.message_id, claimed.message_id);
    assertRecent(receipt.timestamp);
    assert.deepEqual((await other.receive()).messages, [{ ...receipt, content: 'x' }]);
  });

  test('concurrent fetches of one queue share its messages: each comes once', async () => {
    const [sender, recipient] = [await rig().agent(), await rig().agent()];
    const count = 200;
    await inParallel(count, 16, (index) => sender.message(recipient.address, String(index)));
    const batches = await inParallel(40, 8, () => recipient.receive(7));
    const contents = batches.flatMap(({ messages }) => messages.map(({ content }) => Number(content)));
    assert.deepEqual(
      contents.sort((a, b) => a - b),
      Array.from({ length: count }, (_, index) => index),
    );
  });
}
