/** What happens when something is full: the store, and queues under both settings. Needs servers with small bounds. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { assertError, inParallel, type Rig } from '../rig.js';

/** Settings of the servers these checks run on. */
export const SMALL_STORE = {
  state: { max_capacity_bytes: 1000, max_key_length: 16, max_value_length: 990 },
  messaging: { max_queue_per_agent: 3, max_content_length: 10, overflow: 'drop_oldest' },
} as const;
export const REJECTING_QUEUES = { messaging: { max_queue_per_agent: 3, overflow: 'reject' } } as const;

export function smallStoreChecks(rig: () => Rig): void {
  const used = async (agent: Awaited<ReturnType<Rig['agent']>>): Promise<Record<string, unknown>> =>
    (await agent.get('/v1/state/_capacity')).json();

  test('the store takes exactly its capacity; a byte more is 507 and changes nothing', async () => {
    const agent = await rig().agent();
    assert.equal((await agent.write('é1', 'x'.repeat(497))).status, 200); // 3 + 497 bytes
    assert.equal((await agent.write('k2', '€'.repeat(166))).status, 200); // 2 + 498 bytes
    assert.deepEqual(await used(agent), { used_bytes: 1000, total_bytes: 1000, key_count: 2 });
    assertError(await agent.write('k', ''), 'store_full', 'one byte of key');
    assertError(await agent.write('k2', 'x'.repeat(499)), 'store_full', 'one byte of value');
    assert.equal((await agent.read('k2')).json().value, '€'.repeat(166));
    assertError(await agent.read('k'), 'not_found');
    assert.equal((await agent.write('k2', 'y'.repeat(498))).status, 200, 'the same size fits again');
    assert.equal((await agent.write('k2', 'y'.repeat(497))).status, 200);
    assert.equal((await agent.write('k', '')).status, 200, 'what an overwrite frees can be used');
    assert.deepEqual(await used(agent), { used_bytes: 1000, total_bytes: 1000, key_count: 3 });
    for (const key of ['k', 'é1', 'k2']) assert.equal((await agent.remove(key)).status, 200);
    assert.deepEqual(await used(agent), { used_bytes: 0, total_bytes: 1000, key_count: 0 });
  });

  test('concurrent writers share the last bytes exactly: nobody gets through beyond them', async () => {
    const agent = await rig().agent();
    for (let round = 0; round < 5; round++) {
      const answers = await inParallel(40, 40, (index) =>
        agent.write(`c${String(index).padStart(2, '0')}`, 'x'.repeat(97)),
      );
      const written = answers.flatMap(({ status }, index) => (status === 200 ? [index] : []));
      assert.equal(written.length, 10, 'of 100 bytes each, ten fit');
      for (const answer of answers) if (answer.status !== 200) assertError(answer, 'store_full');
      assert.deepEqual(await used(agent), { used_bytes: 1000, total_bytes: 1000, key_count: 10 });
      await inParallel(written.length, 10, (index) => agent.remove(`c${String(written[index]).padStart(2, '0')}`));
      assert.equal((await used(agent)).used_bytes, 0);
    }
  });

  test('lower limits of key, value and content are kept as configured', async () => {
    const agent = await rig().agent();
    assert.equal((await agent.write('k'.repeat(16), 'v')).status, 200);
    assertError(await agent.write('k'.repeat(17), 'v'), 'bad_request');
    assertError(await agent.write('k', 'v'.repeat(991)), 'value_too_large');
    assert.equal((await agent.remove('k'.repeat(16))).status, 200);
    assert.equal((await agent.message(agent.address, 'x'.repeat(10))).status, 202);
    assertError(await agent.message(agent.address, 'x'.repeat(11)), 'bad_request');
    assert.equal((await agent.receive()).messages.length, 1);
  });

  test('a full queue drops its oldest message, and says so in the log and the metrics', async () => {
    const [sender, recipient] = [await rig().agent(), await rig().agent()];
    const droppedBefore = await rig().server.metric('tabulum_messages_dropped_total');
    const ids: unknown[] = [];
    for (let index = 0; index < 5; index++) {
      const answer = await sender.message(recipient.address, `m${index}`);
      assert.equal(answer.status, 202);
      ids.push(answer.json().message_id);
    }
    const { messages, remaining } = await recipient.receive();
    assert.deepEqual([messages.map(({ content }) => content), remaining], [['m2', 'm3', 'm4'], 0]);
    const drops = (await rig().server.events()).filter(
      ({ type, data }) => type === 'message_dropped' && data.to === recipient.address,
    );
    assert.deepEqual(
      drops.map(({ data }) => data),
      ids.slice(0, 2).map((message_id) => ({ message_id, to: recipient.address, reason: 'queue_full' })),
    );
    assert.equal(await rig().server.metric('tabulum_messages_dropped_total'), droppedBefore + 2);
  });
}

export function rejectingQueueChecks(rig: () => Rig): void {
  test('a full queue refuses the sender with 507, keeps what it has, and takes again once there is room', async () => {
    const [sender, recipient] = [await rig().agent(), await rig().agent()];
    for (let index = 0; index < 3; index++)
      assert.equal((await sender.message(recipient.address, `m${index}`)).status, 202);
    assertError(await sender.message(recipient.address, 'too many'), 'store_full');
    assert.equal((await sender.message(sender.address, 'elsewhere')).status, 202, 'other queues have room');
    assert.equal((await recipient.receive(1)).messages[0]?.content, 'm0');
    assert.equal((await sender.message(recipient.address, 'm3')).status, 202);
    assertError(await sender.message(recipient.address, 'too many again'), 'store_full');
    const { messages } = await recipient.receive();
    assert.deepEqual(
      messages.map(({ content }) => content),
      ['m1', 'm2', 'm3'],
    );
    assert.equal((await rig().server.events()).filter(({ type }) => type === 'message_dropped').length, 0);
  });
}
