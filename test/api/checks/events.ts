/** What the event log on disk says, at the moment an answer comes. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { waitUntil } from '../../support/wait.js';
import { assertError, type Rig, TIMESTAMP } from '../rig.js';

export function eventChecks(rig: () => Rig): void {
  const eventsOf = async (address: string) => (await rig().server.events()).filter(({ agent }) => agent === address);

  test('every mutation is in the event log on disk when it is answered, with exactly the data of its type', async () => {
    const [agent, other] = [await rig().agent(), await rig().agent()];
    const last = async () => {
      const event = (await eventsOf(agent.address)).at(-1);
      assert.ok(event !== undefined);
      assert.match(event.ts, TIMESTAMP);
      return { type: event.type, data: event.data };
    };
    assert.equal((await last()).type, 'agent_registered');
    await agent.write('événement', '😀');
    const written = { key: 'événement', value: '😀', value_length: 4, written_by: agent.address };
    assert.deepEqual(await last(), { type: 'state_written', data: written });
    await agent.remove('événement');
    const deleted = { key: 'événement', deleted_by: agent.address };
    assert.deepEqual(await last(), { type: 'state_deleted', data: deleted });
    const { message_id } = (await agent.message(other.address, 'é')).json();
    const sent = { message_id, from: agent.address, to: other.address, content: 'é', content_length: 2 };
    assert.deepEqual(await last(), { type: 'message_sent', data: sent });
    await other.receive();
    const delivered = (await eventsOf(other.address)).at(-1);
    assert.equal(delivered?.type, 'message_delivered');
    assert.deepEqual(delivered.data, { message_id, to: other.address, delivery_method: 'pull' });
  });

  test('registrations are logged without any credential', async () => {
    const contact = 'contact of a logged operator';
    const answer = await rig().client.post('/v1/operators', { contact_hash: contact, accept_terms: true });
    const { operator_id, api_key } = answer.json<{ operator_id: string; api_key: string }>();
    rig().server.handedOut.add(api_key);
    const created = (await rig().server.events()).find(({ data }) => data.contact_hash === contact);
    assert.equal(created?.type, 'operator_created');
    assert.deepEqual([created.agent, created.data], [undefined, { operator_id, contact_hash: contact }]);
    const { address } = await rig().agent(api_key);
    const [registered] = await eventsOf(address);
    assert.equal(registered?.type, 'agent_registered');
    assert.deepEqual(registered.data, { address, operator_id, has_webhook: false });
  });

  test('reads are logged, found or not; refused requests leave no event', async () => {
    const agent = await rig().agent();
    await agent.write('seen', 'v');
    await agent.read('seen');
    await agent.read('unseen');
    await agent.get('/v1/registry?limit=1');
    assertError(await agent.read('x'.repeat(1025)), 'bad_request');
    assertError(await agent.remove('unseen'), 'not_found');
    assertError(await agent.message(`tab_${'0'.repeat(20)}`, 'x'), 'not_found');
    const read_by = agent.address;
    const expected = [
      ['state_read', { key: 'seen', read_by, found: true }],
      ['state_read', { key: 'unseen', read_by, found: false }],
      ['registry_read', { read_by }],
    ] as const;
    const logged = async () => (await eventsOf(agent.address)).filter(({ type }) => type.endsWith('_read'));
    await waitUntil(async () => (await logged()).length >= expected.length, { timeoutMs: 5_000 });
    const reads = (await logged()).map(({ type, data }) => [type, data] as const);
    assert.deepEqual(reads.toSorted(bySeqOfExpected), expected);
    const others = (await eventsOf(agent.address))
      .filter(({ type }) => !type.endsWith('_read'))
      .map(({ type }) => type);
    assert.deepEqual(others, ['agent_registered', 'state_written']);

    function bySeqOfExpected(a: readonly [string, object], b: readonly [string, object]): number {
      const place = (event: readonly [string, object]): number =>
        expected.findIndex(([type, data]) => type === event[0] && JSON.stringify(data) === JSON.stringify(event[1]));
      return place(a) - place(b);
    }
  });

  test('seq rises strictly within each shard and is given once over all of them', async () => {
    const seqs: number[] = [];
    for (const file of await rig().server.logFiles()) {
      let previous = 0;
      for (const line of file.split('\n').slice(0, -1)) {
        const { seq } = JSON.parse(line) as { seq: number };
        assert.ok(Number.isSafeInteger(seq) && seq > previous, `${seq} after ${previous}`);
        previous = seq;
        seqs.push(seq);
      }
    }
    assert.ok(seqs.length > 0);
    assert.equal(new Set(seqs).size, seqs.length);
  });
}
