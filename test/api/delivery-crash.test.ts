/** Delivery across kill -9: subscriptions, leases, idempotency keys. */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import type { ApiAgent, HttpAnswer } from '../support/http.js';
import { RpcClient } from '../support/rpc-client.js';
import { seededRandom, seedFor } from '../support/seed.js';
import { waitUntil } from '../support/wait.js';
import { inParallel, Rig } from './rig.js';
import { FAST, THREE_SHARDS, topologySettings } from './topologies.js';

const CONFIG = { ...FAST, ...topologySettings(THREE_SHARDS) };
const RECIPIENTS = 6;

interface Leased {
  readonly content: string;
  readonly lease_id: string;
  readonly delivery_count: number;
}

/** What one recipient is owed and has had. */
interface Account {
  readonly agent: ApiAgent;
  /** Contents whose send was answered, in order. */
  readonly sent: string[];
  /** Contents whose acknowledgement was answered. */
  readonly acked: Set<string>;
  /** Contents whose acknowledgement was sent without an answer: done or not. */
  readonly inDoubt: Set<string>;
}

/** Takes what comes, and acknowledges it most of the time. Ends when the socket breaks. */
async function listen(t: TestContext, rig: Rig, account: Account, random: (below: number) => number): Promise<void> {
  const client = await RpcClient.connect(t, rig.server.kernelPort, account.agent.token);
  await client.call('messages.subscribe', { max_unacked: 1 + random(50), visibility: 600 });
  for (let index = 0; ; index++) {
    try {
      await client.until(() => client.deliveries.length > index, 'a delivery');
      const { content = '', lease_id: leaseId } = client.deliveries[index] ?? {};
      if (random(5) === 0) continue;
      account.inDoubt.add(content);
      const { acked } = await client.call('messages.ack', { lease_ids: [leaseId] });
      assert.equal(acked, 1);
      account.inDoubt.delete(content);
      account.acked.add(content);
    } catch (error) {
      if (client.closeCode !== null) return;
      throw error;
    }
  }
}

test('kill -9 amid subscriptions: nothing acknowledged comes back, nothing else is lost, order is kept', async (t) => {
  const seed = seedFor(t);
  const random = seededRandom(seed);
  const rig = await Rig.start(t, { config: CONFIG });
  const sender = await rig.agent();
  const accounts = await inParallel(RECIPIENTS, 4, async (): Promise<Account> => {
    return { agent: await rig.agent(), sent: [], acked: new Set(), inDoubt: new Set() };
  });
  const listening = accounts.map((account) => listen(t, rig, account, random).catch((error: unknown) => error));
  let stopped = false;
  const sending = accounts.map(async ({ agent, sent }) => {
    for (let number = 0; !stopped; number++) {
      const content = `${number} ${'x'.repeat(random(2000))}`;
      const answer = await sender.message(agent.address, content).catch(() => null);
      if (answer?.status === 202) sent.push(content);
    }
  });
  const ackedCount = (): number => accounts.reduce((sum, { acked }) => sum + acked.size, 0);
  await waitUntil(() => ackedCount() >= 300, { timeoutMs: 60_000, what: 'some hundred acknowledgements' });
  await rig.server.kill9();
  stopped = true;
  for (const outcome of await Promise.all(listening)) assert.equal(outcome, undefined, String(outcome));
  await Promise.all(sending);
  await rig.server.start();

  for (const { agent, sent, acked, inDoubt } of accounts) {
    const owed = sent.filter((content) => !acked.has(content) && !inDoubt.has(content));
    const client = await RpcClient.connect(t, rig.server.kernelPort, agent.token);
    await client.call('messages.subscribe', { max_unacked: 1000 });
    const last = owed.at(-1);
    await client.until(
      () => last === undefined || client.deliveries.some(({ content }) => content === last),
      'the last message owed',
    );
    const seen = client.deliveries.map(({ content }) => content);
    const back = seen.filter((content) => acked.has(content));
    assert.deepEqual(back, [], `acknowledged messages came back, SEED=${seed}`);
    assert.deepEqual(
      seen.filter((content) => owed.includes(content)),
      owed,
      `lost or out of order, SEED=${seed}`,
    );
    const numbers = seen.map((content) => Number.parseInt(content, 10));
    assert.deepEqual(
      numbers,
      [...numbers].sort((a, b) => a - b),
      `order, SEED=${seed}`,
    );
    assert.equal(new Set(seen).size, seen.length, `twice, SEED=${seed}`);
  }
});

test('leases of agents outlive kill -9: still hidden, still acknowledgeable, and back when their time is over', async (t) => {
  const rig = await Rig.start(t, { config: CONFIG });
  const agent = await rig.agent();
  for (const content of ['long', 'acked', 'short', 'free']) await agent.message(agent.address, content);
  const take = async (query: string): Promise<Leased[]> => {
    const answer = await agent.get(`/v1/messages?ack=manual&${query}`);
    assert.equal(answer.status, 200, answer.text);
    return answer.json<{ messages: Leased[] }>().messages;
  };
  const [long, acked] = await take('limit=2&visibility=600');
  const [short] = await take('limit=1&visibility=2');
  assert.ok(long !== undefined && acked !== undefined && short !== undefined);
  assert.equal((await agent.post('/v1/messages/ack', { lease_ids: [acked.lease_id] })).status, 200);
  await rig.server.kill9();
  await rig.server.start();

  const { messages } = await agent.receive();
  assert.deepEqual(
    messages.map(({ content }) => content).filter((content) => content !== 'short'),
    ['free'],
  );
  const back = messages.some(({ content }) => content === 'short') ? [] : await take('wait=20&visibility=600');
  for (const message of back) assert.deepEqual([message.content, message.delivery_count], ['short', 2]);
  const answer = await agent.post('/v1/messages/ack', { lease_ids: [acked.lease_id, long.lease_id] });
  assert.deepEqual(answer.json(), { acked: 1, unknown: [acked.lease_id] });
  assert.deepEqual(await take('wait=0'), []);
});

test('an idempotency key holds across kill -9, also one whose answer was never seen', async (t) => {
  const seed = seedFor(t);
  const rig = await Rig.start(t, { config: CONFIG });
  const [sender, recipient] = [await rig.agent(), await rig.agent()];
  const send = (key: number): Promise<HttpAnswer> =>
    sender.client.send('POST', '/v1/messages', {
      token: sender.token,
      body: { to: recipient.address, content: `message ${key}` },
      headers: { 'Idempotency-Key': `${seed}-${key}` },
    });
  const answers = new Map<number, string>();
  let next = 0;
  const lanes = Array.from({ length: 8 }, async () => {
    for (;;) {
      const key = next++;
      const answer = await send(key).catch(() => null);
      if (answer === null) return key;
      assert.equal(answer.status, 202, answer.text);
      answers.set(key, answer.text);
    }
  });
  await waitUntil(() => answers.size >= 200, { timeoutMs: 60_000, what: 'two hundred sends' });
  await rig.server.kill9();
  const unanswered = await Promise.all(lanes);
  await rig.server.start();

  for (const key of unanswered) answers.set(key, (await send(key)).text);
  for (const [key, text] of answers) {
    const again = await send(key);
    assert.deepEqual([again.status, again.text], [202, text], `key ${key}, SEED=${seed}`);
  }
  const contents: string[] = [];
  for (;;) {
    const { messages } = await recipient.receive(100);
    if (messages.length === 0) break;
    contents.push(...messages.map(({ content }) => content));
  }
  assert.equal(contents.length, answers.size, `SEED=${seed}`);
  assert.equal(new Set(contents).size, answers.size, `SEED=${seed}`);
});

test('a stop ends subscriptions with 1001 and loses nothing of what they held', async (t) => {
  const rig = await Rig.start(t, { config: CONFIG });
  const agent = await rig.agent();
  const client = await RpcClient.connect(t, rig.server.kernelPort, agent.token);
  await client.call('messages.subscribe', { visibility: 43_200 });
  for (const content of ['a', 'b', 'c']) await agent.message(agent.address, content);
  await client.until(() => client.deliveries.length === 3, 'the deliveries');
  const waiting = agent.get('/v1/messages?wait=30');
  const second = client.deliveries[1]?.lease_id;
  await client.call('messages.ack', { lease_ids: [second] });
  const stopping = rig.server.stop();
  assert.equal(await client.closed(), 1001);
  const answer = await waiting;
  assert.equal(answer.status, 200);
  await stopping;
  await rig.server.start();
  const held = answer.json<{ messages: { content: string }[] }>().messages.map(({ content }) => content);
  const { messages } = await agent.receive();
  assert.deepEqual([...held, ...messages.map(({ content }) => content)], ['a', 'c']);
});
