/** Two thousand subscribed sockets on one server: all served, half of them cut at once, and a stop in time. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { RpcClient } from '../support/rpc-client.js';
import { inParallel, Rig } from './rig.js';
import { FAST, TWO_GATEWAYS, topologySettings } from './topologies.js';

const AGENTS = 40;
const SOCKETS_PER_AGENT = 50;
const MESSAGES_PER_AGENT = 50;

test('two thousand sockets: each message reaches one, those of cut sockets come again, and the server stops in time', async (t) => {
  const rig = await Rig.start(t, {
    config: { ...FAST, ...topologySettings(TWO_GATEWAYS), connect: { max_connections_per_agent: SOCKETS_PER_AGENT } },
  });
  const agents = await inParallel(AGENTS, 8, () => rig.agent());
  const clients = await inParallel(AGENTS * SOCKETS_PER_AGENT, 32, async (index) => {
    const client = await RpcClient.connect(t, rig.server.kernelPort, agents[index % AGENTS]?.token ?? '');
    await client.call('messages.subscribe', { visibility: 43_200, max_unacked: 10 });
    return client;
  });
  const byAgent = agents.map((_, index) => clients.filter((_client, number) => number % AGENTS === index));
  const ofAgent = (index: number): RpcClient[] => byAgent[index] ?? [];
  const [sender] = agents;
  assert.ok(sender !== undefined);
  await inParallel(AGENTS * MESSAGES_PER_AGENT, 32, async (number) => {
    const to = agents[number % AGENTS]?.address ?? '';
    assert.equal((await sender.message(to, String(number))).status, 202);
  });
  const delivered = (some: readonly RpcClient[]): string[] =>
    some.flatMap(({ deliveries }) => deliveries.map(({ message_id }) => message_id));
  const anyClient = clients[0];
  assert.ok(anyClient !== undefined);
  for (let index = 0; index < AGENTS; index++) {
    await anyClient.until(
      () => delivered(ofAgent(index)).length === MESSAGES_PER_AGENT,
      `all messages to agent ${index}`,
    );
    assert.equal(new Set(delivered(ofAgent(index))).size, MESSAGES_PER_AGENT, 'each to one socket only');
  }

  for (let index = 0; index < AGENTS; index++) {
    for (const client of ofAgent(index).slice(SOCKETS_PER_AGENT / 2)) client.socket.terminate();
  }
  for (let index = 0; index < AGENTS; index++) {
    const kept = ofAgent(index).slice(0, SOCKETS_PER_AGENT / 2);
    const [observer] = kept;
    await observer?.until(
      () => new Set(delivered(kept)).size === MESSAGES_PER_AGENT,
      `what the cut sockets of ${index} held`,
    );
    assert.equal(delivered(kept).length, MESSAGES_PER_AGENT, 'none of them twice on the sockets that stayed');
  }
  await rig.server.stop();
  for (let index = 0; index < AGENTS; index++) {
    for (const client of ofAgent(index).slice(0, SOCKETS_PER_AGENT / 2)) assert.equal(await client.closed(), 1001);
  }
});
