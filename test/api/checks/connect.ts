/** `/v1/connect` on a whole server: every method beside its HTTP twin, subscriptions, restarts of connections. */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import type { ApiAgent } from '../../support/http.js';
import { type Delivery, RpcClient } from '../../support/rpc-client.js';
import { inParallel, type Rig } from '../rig.js';

const contentsOf = (messages: readonly { content: string }[]): string[] => messages.map(({ content }) => content);

export function connectChecks(rig: () => Rig): void {
  const connect = (t: TestContext, agent: ApiAgent): Promise<RpcClient> =>
    RpcClient.connect(t, rig().server.kernelPort, agent.token);

  test('every method answers what its HTTP twin does', async (t) => {
    const [agent, other] = [await rig().agent(), await rig().agent()];
    const client = await connect(t, agent);
    assert.deepEqual(await client.call('agent.me'), (await agent.get('/v1/agents/me')).json());
    assert.deepEqual(
      await client.call('registry.list', { limit: 2 }),
      (await agent.get('/v1/registry?limit=2')).json(),
    );
    const { next_cursor: cursor } = await client.call('registry.list', { limit: 1 });
    assert.deepEqual(
      await client.call('registry.list', { cursor, limit: 1 }),
      (await agent.get(`/v1/registry?limit=1&cursor=${encodeURIComponent(String(cursor))}`)).json(),
    );
    const key = `rpc/${agent.address}/é?%41`;
    const written = await client.call('state.put', { key, value: 'v\u0000"' });
    assert.deepEqual(Object.keys(written), ['key', 'written_by', 'written_at']);
    assert.deepEqual([written.key, written.written_by], [key, agent.address]);
    assert.deepEqual(await client.call('state.get', { key }), (await agent.read(key)).json());
    assert.deepEqual(
      await client.call('state.list', { prefix: `rpc/${agent.address}` }),
      (await agent.get(`/v1/state?prefix=rpc/${agent.address}`)).json(),
    );
    assert.deepEqual(await client.call('state.capacity'), (await agent.get('/v1/state/_capacity')).json());
    assert.deepEqual(Object.keys(await client.call('state.delete', { key })), ['key', 'deleted_by', 'deleted_at']);
    assert.equal((await agent.read(key)).status, 404);
    const receipt = await client.call('messages.send', { to: other.address, content: 'hello' });
    assert.deepEqual(Object.keys(receipt), ['message_id', 'from', 'to', 'timestamp']);
    assert.deepEqual((await other.receive()).messages, [{ ...receipt, content: 'hello' }]);
    await other.message(agent.address, 'back');
    const { messages, remaining } = await client.call('messages.receive', { limit: 10 });
    assert.deepEqual(contentsOf(messages as Delivery[]), ['back']);
    assert.equal(remaining, 0);
  });

  test('refusals carry the HTTP error and status', async (t) => {
    const agent = await rig().agent();
    const client = await connect(t, agent);
    for (const [method, params, code, error, status] of [
      ['state.get', { key: 'never written' }, -32004, 'not_found', 404],
      ['state.delete', { key: 'never written' }, -32004, 'not_found', 404],
      ['messages.send', { to: 'nobody', content: 'x' }, -32004, 'not_found', 404],
      ['messages.send', { to: agent.address, content: 'x'.repeat(65_537) }, -32602, 'bad_request', 400],
      ['state.put', { key: 'k', value: 'x'.repeat(1_048_577) }, -32013, 'value_too_large', 413],
      ['registry.list', { cursor: 'no cursor' }, -32602, 'bad_request', 400],
    ] as const) {
      const answer = await client.ask(method, params);
      assert.deepEqual(
        [answer.error?.code, answer.error?.data.error, answer.error?.data.status],
        [code, error, status],
      );
    }
    await client.call('messages.send', { to: agent.address, content: 'one', idempotency_key: 'k' });
    const conflict = await client.ask('messages.send', { to: agent.address, content: 'two', idempotency_key: 'k' });
    assert.deepEqual([conflict.error?.code, conflict.error?.data.status], [-32009, 409]);
    await agent.receive();
  });

  test('calls are logged as their HTTP twins are', async (t) => {
    const agent = await rig().agent();
    const client = await connect(t, agent);
    await client.call('state.put', { key: `logged/${agent.address}`, value: 'x' });
    await client.call('messages.send', { to: agent.address, content: 'logged' });
    await client.call('messages.subscribe');
    await client.until(() => client.deliveries.length === 1, 'the delivery');
    await client.call('messages.ack', { lease_ids: [client.deliveries[0]?.lease_id] });
    const types = (await rig().server.events())
      .filter((event) => event.agent === agent.address || event.data.to === agent.address)
      .map(({ type }) => type);
    for (const type of ['state_written', 'message_sent', 'message_delivered']) {
      assert.equal(types.filter((each) => each === type).length, 1, `${type} in ${types.join()}`);
    }
  });

  test('a subscription delivers what waited and what comes, in order; acknowledged messages are gone', async (t) => {
    const [sender, recipient] = [await rig().agent(), await rig().agent()];
    const sent: string[] = [];
    const send = async (count: number): Promise<void> => {
      for (let index = 0; index < count; index++) {
        sent.push(`message ${sent.length}`);
        assert.equal((await sender.message(recipient.address, `message ${sent.length - 1}`)).status, 202);
      }
    };
    await send(20);
    const client = await connect(t, recipient);
    await client.call('messages.subscribe', { max_unacked: 7 });
    await client.until(() => client.deliveries.length === 7, 'a full window');
    await client.call('agent.me');
    assert.equal(client.deliveries.length, 7, 'no more than the window');
    const acknowledging = (async () => {
      for (let index = 0; index < 50; index++) {
        await client.until(() => client.deliveries.length > index, `delivery ${index}`);
        const leaseId = client.deliveries[index]?.lease_id;
        assert.deepEqual(await client.call('messages.ack', { lease_ids: [leaseId] }), { acked: 1, unknown: [] });
      }
    })();
    await send(30);
    await acknowledging;
    assert.deepEqual(contentsOf(client.deliveries), sent);
    assert.deepEqual(await recipient.receive(), { messages: [], remaining: 0 });
  });

  test('what is not acknowledged when the socket closes is back at its place at once, and counted', async (t) => {
    const [sender, recipient] = [await rig().agent(), await rig().agent()];
    for (const content of ['1', '2', '3', '4']) await sender.message(recipient.address, content);
    const client = await connect(t, recipient);
    await client.call('messages.subscribe', { visibility: 43_200 });
    await client.until(() => client.deliveries.length === 4, 'the deliveries');
    const second = client.deliveries[1]?.lease_id ?? '';
    await client.call('messages.ack', { lease_ids: [second] });
    await sender.message(recipient.address, '5');
    client.socket.terminate();
    const seen: { content: string; delivery_count: number }[] = [];
    while (seen.length < 4) {
      const answer = await recipient.get('/v1/messages?wait=10&ack=manual&visibility=600');
      const { messages } = answer.json<{ messages: typeof seen }>();
      assert.ok(messages.length > 0, 'the leases did not come back');
      seen.push(...messages);
    }
    // The fifth may have been delivered before the end was noticed, or taken before the others were back.
    assert.deepEqual(
      seen.filter(({ content }) => content !== '5').map(({ content, delivery_count }) => [content, delivery_count]),
      [
        ['1', 2],
        ['3', 2],
        ['4', 2],
      ],
    );
  });

  test('two subscribed connections of one agent share its queue: each message reaches one of them', async (t) => {
    const [sender, recipient] = [await rig().agent(), await rig().agent()];
    const clients = [await connect(t, recipient), await connect(t, recipient)];
    for (const client of clients) await client.call('messages.subscribe');
    await inParallel(40, 8, (index) => sender.message(recipient.address, String(index)));
    const delivered = (): Delivery[] => clients.flatMap(({ deliveries }) => deliveries);
    await clients[0]?.until(() => delivered().length >= 40, 'all deliveries');
    assert.equal(new Set(contentsOf(delivered())).size, 40);
    assert.equal(delivered().length, 40);
  });

  test('fifty agents on sockets write to each other, and every message is heard once', async (t) => {
    const agents = await inParallel(50, 8, () => rig().agent());
    const clients = await inParallel(50, 8, async (index) => {
      const agent = agents[index];
      assert.ok(agent !== undefined);
      const client = await connect(t, agent);
      await client.call('messages.subscribe');
      return client;
    });
    await Promise.all(
      clients.map(async (client, index) => {
        for (let offset = 1; offset <= 10; offset++) {
          const to = agents[(index + offset) % agents.length]?.address;
          await client.call('messages.send', { to, content: `${index} to ${to}` });
        }
      }),
    );
    for (const [index, client] of clients.entries()) {
      await client.until(() => client.deliveries.length === 10, `ten deliveries to ${index}`);
      for (const { content, to } of client.deliveries) assert.ok(content.endsWith(`to ${to}`));
      const leaseIds = client.deliveries.map(({ lease_id }) => lease_id);
      assert.deepEqual(await client.call('messages.ack', { lease_ids: leaseIds }), { acked: 10, unknown: [] });
    }
  });
}
