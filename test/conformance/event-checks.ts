/** Rules of events, for engines whose events can be read: one per mutation, with exactly the published fields. */
import assert from 'node:assert/strict';
import type { KernelEvent } from '../../src/contract/events.js';
import { waitUntil } from '../support/wait.js';
import { assertIsNow, atOnce, type EngineCheck, newCredential, nth, ok, range, refused, type World } from './check.js';

const RFC_3339_UTC = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3,}Z$/;

/** What identifies an event besides its number and time. */
type Fact = readonly [type: string, data: object];

const factOf = ({ type, data }: KernelEvent): Fact => [type, data];

/** Asserts that what happened since `from` events is exactly `expected`; waits for reads, whose events may come late. */
async function assertHappened(world: World, from: number, expected: readonly Fact[]): Promise<KernelEvent[]> {
  await waitUntil(async () => (await world.events()).length >= from + expected.length, {
    timeoutMs: 5_000,
    what: `${expected.length} more events after ${from}`,
  });
  const happened = (await world.events()).slice(from);
  assert.deepEqual(happened.map(factOf), expected);
  return happened;
}

export const EVENT_CHECKS: readonly EngineCheck[] = [
  {
    name: 'each mutation is one event with exactly the published data, in the order things happened',
    needs: 'events',
    async run(world) {
      const operatorCredential = newCredential('operator');
      const operator = { contactHash: 'contact ☎', credential: operatorCredential };
      const { operatorId } = ok(await world.engine.createOperator(operator));
      const { address: a } = await world.register(operatorId);
      const webhook = { url: 'https://example.org/hook?secret-path', secret: 'whsec_secret' };
      const hooked = { operatorId, credential: newCredential('agent', 'hmac'), webhook };
      const { address: b } = ok(await world.engine.registerAgent(hooked));
      const first = await world.send(b, a, 'é😀');
      const second = await world.send(a, a, 'x');
      ok(await world.engine.receiveMessages(a, 10, null));
      await world.write(a, 'ключ', '\u0000"\u2028');
      await world.write(b, 'ключ', '');
      ok(await world.engine.deleteState(a, 'ключ'));
      const events = await assertHappened(world, 0, [
        ['operator_created', { operator_id: operatorId, contact_hash: 'contact ☎' }],
        ['agent_registered', { address: a, operator_id: operatorId, has_webhook: false }],
        ['agent_registered', { address: b, operator_id: operatorId, has_webhook: true }],
        ['message_sent', { message_id: first, from: b, to: a, content: 'é😀', content_length: 6 }],
        ['message_sent', { message_id: second, from: a, to: a, content: 'x', content_length: 1 }],
        ['message_delivered', { message_id: first, to: a, delivery_method: 'pull' }],
        ['message_delivered', { message_id: second, to: a, delivery_method: 'pull' }],
        ['state_written', { key: 'ключ', value: '\u0000"\u2028', value_length: 5, written_by: a }],
        ['state_written', { key: 'ключ', value: '', value_length: 0, written_by: b }],
        ['state_deleted', { key: 'ключ', deleted_by: a }],
      ]);
      assert.equal(nth(events, 0).agent, undefined, 'operator events name no agent');
      assert.deepEqual(
        events.slice(3).map(({ agent }) => agent),
        [b, a, a, a, a, b, a],
      );
      const text = JSON.stringify(events);
      const secrets = [
        operatorCredential.lookup,
        operatorCredential.hash,
        hooked.credential.lookup,
        hooked.credential.hash,
      ];
      for (const secret of [...secrets, webhook.url, webhook.secret]) assert.ok(!text.includes(secret), 'no secrets');
    },
  },
  {
    name: 'each read is one event, whether it found something or not',
    needs: 'events',
    async run(world) {
      const agent = await world.agent();
      await world.write(agent, 'there', 'v');
      const before = (await world.events()).length;
      ok(await world.engine.readState(agent, 'there'));
      await assertHappened(world, before, [['state_read', { key: 'there', read_by: agent, found: true }]]);
      refused(await world.engine.readState(agent, 'not there'), 'not_found');
      ok(await world.engine.listAgents(agent, { cursor: null, limit: 1 }));
      await waitUntil(async () => (await world.events()).length >= before + 3, { timeoutMs: 5_000 });
      const facts = (await world.events()).slice(before + 1);
      const byType = facts.toSorted((x, y) => (x.type < y.type ? -1 : 1));
      assert.deepEqual(byType.map(factOf), [
        ['registry_read', { read_by: agent }],
        ['state_read', { key: 'not there', read_by: agent, found: false }],
      ]);
      assert.deepEqual(
        byType.map((event) => event.agent),
        [agent, agent],
      );
    },
  },
  {
    name: 'what is refused, and what finds nothing to do, is no event',
    needs: 'events',
    limits: { maxCapacityBytes: 30, maxQueuePerAgent: 1, overflow: 'reject' },
    async run(world) {
      const operatorId = await world.operator();
      const credential = newCredential('agent');
      const { address } = await world.register(operatorId, credential);
      await world.send(address, address, 'fills the queue');
      const before = (await world.events()).length;
      refused(await world.engine.registerAgent({ operatorId, credential, webhook: null }), 'bad_request');
      refused(await world.engine.sendMessage({ from: address, to: 'nobody', content: 'x' }), 'not_found');
      refused(await world.engine.sendMessage({ from: address, to: address, content: 'x' }), 'store_full');
      refused(await world.engine.writeState(address, 'key', 'x'.repeat(28)), 'store_full');
      refused(await world.engine.deleteState(address, 'key'), 'not_found');
      refused(await world.engine.findAgent('nobody'), 'not_found');
      ok(await world.engine.listKeys('', { cursor: null, limit: 10 }));
      ok(await world.engine.capacity());
      await world.write(address, 'last', 'v');
      const data = { key: 'last', value: 'v', value_length: 1, written_by: address };
      await assertHappened(world, before, [['state_written', data]]);
    },
  },
  {
    name: 'a dropped message is an event before the message that pushed it out is delivered',
    needs: 'events',
    limits: { maxQueuePerAgent: 2, overflow: 'drop_oldest' },
    async run(world) {
      const agent = await world.agent();
      const ids: string[] = [];
      for (const i of range(4)) ids.push(await world.send(agent, agent, String(i)));
      await world.drain(agent);
      const events = await world.events();
      const dropped = events.filter(({ type }) => type === 'message_dropped');
      const dropOf = (message_id: string): Fact => ['message_dropped', { message_id, to: agent, reason: 'queue_full' }];
      assert.deepEqual(dropped.map(factOf), ids.slice(0, 2).map(dropOf));
      const delivered = events.filter(({ type }) => type === 'message_delivered');
      const deliveryOf = (message_id: string): Fact => [
        'message_delivered',
        { message_id, to: agent, delivery_method: 'pull' },
      ];
      assert.deepEqual(delivered.map(factOf), ids.slice(2).map(deliveryOf));
      assert.ok(nth(dropped, -1).seq < nth(delivered, 0).seq);
    },
  },
  {
    name: 'seq rises strictly and times are RFC 3339, under any concurrency',
    needs: 'events',
    async run(world) {
      const agents = await world.agents(5);
      await atOnce(range(300), async (i) => {
        if (i % 3 === 0) await world.write(nth(agents, i % 5), `key ${i}`, '');
        else await world.send(nth(agents, i % 5), nth(agents, (i * 7) % 5), String(i));
      });
      const events = await world.events();
      assert.equal(events.length, 1 + 5 + 300);
      for (const [i, { seq, ts }] of events.entries()) {
        assert.ok(Number.isSafeInteger(seq) && seq > (events[i - 1]?.seq ?? 0), `seq ${seq} at ${i}`);
        assert.match(ts, RFC_3339_UTC);
        assertIsNow(Date.parse(ts), 'ts');
      }
    },
  },
  {
    name: 'events, applied in seq order, give exactly the state, the queues and the registry',
    needs: 'events',
    limits: { maxQueuePerAgent: 4, overflow: 'drop_oldest' },
    async run(world) {
      const agents = await world.agents(3);
      const pick = () => nth(agents, world.random(3));
      await atOnce(range(250), async (i) => {
        const kind = world.random(5);
        if (kind < 2) ok(await world.engine.writeState(pick(), `key ${world.random(6)}`, String(i)));
        else if (kind === 2) await world.engine.deleteState(pick(), `key ${world.random(6)}`);
        else if (kind === 3) await world.send(pick(), pick(), String(i));
        else ok(await world.engine.receiveMessages(pick(), 1 + world.random(2), null));
      });
      const state = new Map<string, string>();
      const queues = new Map<string, string[]>();
      for (const { type, data } of await world.events()) {
        if (type === 'agent_registered') queues.set(data.address, []);
        if (type === 'message_sent') queues.get(data.to)?.push(data.message_id);
        if (type === 'state_written') state.set(data.key, data.value);
        if (type === 'state_deleted') assert.ok(state.delete(data.key), 'only a key that is there is deleted');
        if (type === 'message_delivered' || type === 'message_dropped') {
          assert.equal(queues.get(data.to)?.shift(), data.message_id, `${type} takes the first of the queue`);
        }
      }
      assert.deepEqual([...queues.keys()], agents);
      assert.deepEqual(await world.allKeys(), [...state.keys()].toSorted());
      for (const [key, value] of state) assert.equal(await world.read(nth(agents, 0), key), value);
      for (const agent of agents) {
        const left = (await world.drain(agent)).map(({ messageId }) => messageId);
        assert.deepEqual(left, queues.get(agent));
      }
    },
  },
];
