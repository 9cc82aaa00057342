/** The server ends, politely or not, in the middle of each state of a delivery. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { inParallel } from '../api/rig.js';
import { seededRandom, seedFor } from '../support/seed.js';
import { waitUntil } from '../support/wait.js';
import { WebhookRig } from './webhook-rig.js';

const soon = { timeoutMs: 20_000 };

test('kill -9 during a post: the message is posted again with the same id, and those behind it follow', async (t) => {
  const rig = await WebhookRig.start(t);
  const agent = await rig.agent('/switch/x');
  rig.hooks.switched = 'hang';
  await rig.send(agent, 'first', 'second');
  await waitUntil(() => rig.hooks.held === 1, soon);
  await rig.server.kill9();
  rig.hooks.switched = 'ok';
  await rig.server.restart();
  await waitUntil(async () => (await rig.deliveries(agent)).push.length === 2, soon);
  const posts = rig.verified(agent);
  assert.deepEqual(
    posts.map(({ content }) => content),
    ['first', 'first', 'second'],
  );
  assert.equal(posts[0]?.message_id, posts[1]?.message_id);
  assert.deepEqual(await agent.pull(), []);
});

test('kill -9 while a message waits for its retry: the attempts made before it count', async (t) => {
  const rig = await WebhookRig.start(t, { webhook: { max_retries: 2 } });
  const agent = await rig.agent('/status-500/x');
  await rig.send(agent, 'only');
  for (const posts of [1, 2]) {
    await waitUntil(() => rig.hooks.contentsAt(agent.path).length === posts, soon);
    // The retry is settled when the dispatcher waits with nothing in flight.
    await waitUntil(async () => {
      const retries = (await rig.server.logFiles()).join('').match(/"type":"push_retried"/g) ?? [];
      return retries.length === posts;
    }, soon);
    await rig.server.kill9();
    await rig.server.restart();
  }
  const pulled: string[] = [];
  await waitUntil(async () => {
    pulled.push(...(await agent.pull()));
    return pulled.length > 0;
  }, soon);
  assert.deepEqual(pulled, ['only']);
  assert.equal(rig.hooks.contentsAt(agent.path).length, 3, 'three posts in all, over three lives of the server');
  assert.equal(new Set(rig.hooks.messagesAt(agent.path).map((message) => message.message_id)).size, 1);
});

test('kill -9 while the circuit is open: it stays open', async (t) => {
  const rig = await WebhookRig.start(t, {
    webhook: { circuit_breaker_threshold: 1, circuit_breaker_duration: '1h' },
  });
  const agent = await rig.agent('/switch/x');
  rig.hooks.switched = 'status-500';
  await rig.send(agent, 'first');
  await rig.untilMetric('tabulum_webhook_open_circuits', 1);
  await rig.server.kill9();
  rig.hooks.switched = 'ok';
  await rig.server.restart();
  await rig.send(agent, 'second');
  assert.deepEqual(await agent.pull(), ['first', 'second']);
  assert.deepEqual(rig.hooks.contentsAt(agent.path), ['first']);
});

test('kill -9 again and again under load: every message comes at least once, in order, or is in the pull queue', async (t) => {
  const random = seededRandom(seedFor(t));
  const rig = await WebhookRig.start(t);
  const agents = await inParallel(12, 4, (n) => rig.agent(`/${n % 4 === 3 ? 'status-500' : 'ok'}/${n}`));
  const acknowledged = new Map(agents.map(({ address }) => [address, [] as string[]]));
  let message = 0;
  for (let life = 0; life < 3; life++) {
    const target = rig.hooks.received.length + 40 + random(100);
    let isOver = false;
    const senders = inParallel(agents.length, agents.length, async (n) => {
      const agent = agents[n];
      assert.ok(agent !== undefined);
      while (!isOver) {
        const content = `${message++}`;
        try {
          const answer = await rig.sender.message(agent.address, content);
          if (answer.status === 202) acknowledged.get(agent.address)?.push(content);
        } catch (error) {
          if (!isOver) throw error; // the connection ends with the server
        }
      }
    });
    await waitUntil(() => rig.hooks.received.length >= target, { timeoutMs: 60_000 });
    isOver = true;
    await rig.server.kill9();
    await senders;
    await rig.server.restart();
  }
  const found = new Map(agents.map(({ address }) => [address, [] as string[]]));
  await waitUntil(
    async () => {
      for (const agent of agents) found.get(agent.address)?.push(...(await agent.pull()));
      return agents.every(({ address, path }) => {
        const there = new Set([...rig.hooks.contentsAt(path), ...(found.get(address) ?? [])]);
        return (acknowledged.get(address) ?? []).every((content) => there.has(content));
      });
    },
    { timeoutMs: 60_000, what: 'every acknowledged message is there' },
  );
  for (const agent of agents) {
    const posted = rig.verified(agent).map(({ content }) => Number(content));
    for (const [place, content] of posted.entries()) {
      const before = posted[place - 1] ?? -1;
      assert.ok(content >= before, `${content} after ${before}: a repeat follows its first post at once`);
    }
    const pulled = found.get(agent.address) ?? [];
    assert.equal(new Set(pulled).size, pulled.length, 'pulled twice');
  }
  await rig.server.assertNoSecretLogged();
});

test('a planned stop gives a post time to finish and cuts off one that hangs; neither message is lost', async (t) => {
  const rig = await WebhookRig.start(t);
  const [slow, hanging] = [await rig.agent('/after-600/x'), await rig.agent('/switch/x')];
  rig.hooks.switched = 'hang';
  await rig.send(slow, 'slow');
  await rig.send(hanging, 'hung');
  await waitUntil(() => rig.hooks.held === 2, soon);
  await rig.server.stop();
  assert.equal((await rig.deliveries(slow)).push.length, 1);
  assert.equal((await rig.deliveries(hanging)).push.length, 0);
  rig.hooks.switched = 'ok';
  await rig.server.restart();
  await waitUntil(async () => (await rig.deliveries(hanging)).push.length === 1, soon);
  assert.deepEqual(rig.hooks.contentsAt(slow.path), ['slow']);
  assert.deepEqual(rig.hooks.contentsAt(hanging.path), ['hung', 'hung']);
});
