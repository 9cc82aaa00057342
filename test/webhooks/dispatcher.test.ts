/** The dispatcher over a model of the engine, with receivers that a test answers by hand. */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { createLogger } from '../../src/log.js';
import { AgentHistory } from '../../src/webhooks/agent-history.js';
import type { DeliveryRules, PostResult } from '../../src/webhooks/delivery-rules.js';
import { WebhookDispatcher } from '../../src/webhooks/dispatcher.js';
import type { Poster } from '../../src/webhooks/https-poster.js';
import type { SignedMessage } from '../../src/webhooks/signed-message.js';
import { WebhookMetrics } from '../../src/webhooks/webhook-metrics.js';
import { seededRandom, seedFor } from '../support/seed.js';
import { waitUntil } from '../support/wait.js';
import { PushEngine } from './push-engine.js';

const OK: PostResult = { kind: 'delivered', status: 200 };
const BAD: PostResult = { kind: 'refused', status: 500 };
const RULES: DeliveryRules = { maxRetries: 3, circuitBreakerThreshold: 5, circuitBreakerDurationMs: 300_000 };

/** Answers as told; without being told it holds the post. */
class HandPoster implements Poster {
  readonly posts: { url: string; content: string; id: string; end(result: PostResult): void }[] = [];
  /** Posts under way, by URL. */
  readonly inHand = new Map<string, number>();
  maxInHand = 0;
  answer: ((url: string, content: string) => PostResult | null) | null = null;
  overlaps = 0;
  private total = 0;

  post(url: string, { headers, body }: SignedMessage): Promise<PostResult> {
    const { content } = JSON.parse(body.toString()) as { content: string };
    this.overlaps += this.inHand.get(url) === 1 ? 1 : 0;
    this.inHand.set(url, 1);
    this.maxInHand = Math.max(this.maxInHand, ++this.total);
    return new Promise((resolve) => {
      let isOpen = true;
      const end = (result: PostResult): void => {
        if (!isOpen) return;
        isOpen = false;
        this.total--;
        this.inHand.delete(url);
        resolve(result);
      };
      this.posts.push({ url, content, id: headers['webhook-id'] ?? '', end });
      const result = this.answer?.(url, content) ?? null;
      if (result !== null) setImmediate(() => end(result));
    });
  }

  async close(): Promise<void> {
    for (const { end } of this.posts) end({ kind: 'abandoned' });
  }

  get contents(): string[] {
    return this.posts.map(({ content }) => content);
  }
}

interface Rig {
  readonly engine: PushEngine;
  readonly poster: HandPoster;
  readonly metrics: WebhookMetrics;
  readonly dispatcher: WebhookDispatcher;
}

function start(
  t: TestContext,
  options: { slots?: number; rules?: Partial<DeliveryRules>; perMin?: number; engine?: PushEngine } = {},
): Rig {
  const { slots = 100, rules = {}, perMin = 10_000, engine = new PushEngine() } = options;
  const poster = new HandPoster();
  const metrics = new WebhookMetrics();
  const dispatcher = new WebhookDispatcher({
    engine,
    poster,
    history: new AgentHistory(perMin, 1_000),
    metrics,
    rules: { ...RULES, ...rules },
    maxConcurrency: slots,
    logger: createLogger('webhooks-test', 'fatal'),
    now: Date.now,
    onFault: (error) => {
      throw error;
    },
  });
  dispatcher.start();
  t.after(() => dispatcher.stop(0));
  return { engine, poster, metrics, dispatcher };
}

const soon = { timeoutMs: 5_000 };

/** Lets everything that needs no timer happen. */
async function turns(count = 20): Promise<void> {
  for (let turn = 0; turn < count; turn++) await new Promise((resolve) => setImmediate(resolve));
}

test('messages of one agent go in order, one at a time; those of others meanwhile', async (t) => {
  const { engine, poster } = start(t);
  engine.add('a', ['a1', 'a2', 'a3']);
  engine.add('b', ['b1', 'b2']);
  await waitUntil(() => poster.posts.length === 2, soon);
  await turns();
  assert.deepEqual(poster.contents, ['a1', 'b1'], 'the second message waits for the first');
  poster.posts[1]?.end(OK);
  await waitUntil(() => poster.posts.length === 3, soon);
  assert.equal(poster.contents[2], 'b2', 'a, which does not answer, holds nobody else up');
  poster.answer = () => OK;
  for (const post of poster.posts) post.end(OK);
  await waitUntil(() => engine.delivered.length === 5, soon);
  assert.deepEqual(
    engine.delivered.filter((content) => content.startsWith('a')),
    ['a1', 'a2', 'a3'],
  );
});

test('no more posts are in flight than may be, and every agent gets its turn', async (t) => {
  const { engine, poster, dispatcher } = start(t, { slots: 8 });
  for (let agent = 0; agent < 50; agent++) engine.add(`agent${agent}`, ['1', '2', '3']);
  await waitUntil(() => poster.posts.length === 6, soon);
  assert.equal(dispatcher.waiting, 44);
  poster.answer = () => OK;
  for (const post of poster.posts) post.end(OK);
  await waitUntil(() => engine.delivered.length === 150, soon);
  assert.ok(poster.maxInHand <= 8 && poster.maxInHand >= 6, `${poster.maxInHand} at once`);
  const firstRound = new Set(poster.posts.slice(0, 115).map(({ url }) => url));
  assert.equal(firstRound.size, 50, 'nobody gets all of its messages out before others had one');
  assert.equal(poster.overlaps, 0);
});

test('those who answered before go on at once, however many others hang for ever', async (t) => {
  const { engine, poster } = start(t, { slots: 20 });
  poster.answer = (url) => (url.includes('good') ? OK : null);
  for (let agent = 0; agent < 30; agent++) engine.add(`good${agent}`, ['first']);
  await waitUntil(() => engine.delivered.length === 30, soon);
  for (let agent = 0; agent < 500; agent++) engine.add(`hanging${agent}`, ['x']);
  await waitUntil(() => poster.inHand.size === 15, soon);
  for (let agent = 0; agent < 30; agent++) engine.add(`good${agent}`, ['second', 'third']);
  await waitUntil(() => engine.delivered.length === 90, soon);
  assert.equal(poster.inHand.size, 15, 'not one of those who hang has ended');
});

test('a failed post is repeated after 1 s, 2 s and 4 s with the same id; the last failure sends it to the pull queue', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout', 'Date'], now: 1_773_812_345_000 });
  const { engine, poster } = start(t);
  poster.answer = (_url, content) => (content === 'bad' ? BAD : OK);
  engine.add('a', ['bad', 'good']);
  await turns();
  for (const [post, backoffMs] of [1_000, 2_000, 4_000].entries()) {
    assert.equal(poster.posts.length, post + 1);
    t.mock.timers.tick(backoffMs - 1);
    await turns();
    assert.equal(poster.posts.length, post + 1, `not before ${backoffMs} ms`);
    t.mock.timers.tick(1);
    await turns();
  }
  assert.deepEqual(poster.contents, ['bad', 'bad', 'bad', 'bad', 'good']);
  assert.deepEqual(new Set(poster.posts.slice(0, 4).map(({ id }) => id)), new Set(['id of bad']));
  assert.deepEqual([engine.undeliverable, engine.delivered], [['bad'], ['good']]);
  assert.equal(engine.stateOf('a')?.failedInRow, 0, 'a delivered message ends the row');
});

test('five failed messages in a row open the circuit for its duration: what waits goes to the pull queue unposted', async (t) => {
  const { engine, poster, metrics, dispatcher } = start(t, { rules: { maxRetries: 0 } });
  poster.answer = () => BAD;
  engine.add('a', ['1', '2', '3', '4', '5', '6', '7']);
  await waitUntil(() => engine.undeliverable.length === 7, soon);
  assert.deepEqual(poster.contents, ['1', '2', '3', '4', '5']);
  const last = engine.outcomes.at(-1);
  assert.ok(last?.kind === 'undeliverable' && last.circuitOpenUntilMs > Date.now() + 299_000);
  assert.equal(await figure(metrics, dispatcher, 'tabulum_webhook_open_circuits'), 1);
  assert.equal(await figure(metrics, dispatcher, 'tabulum_webhook_undeliverable_total'), 5);
  poster.answer = () => OK;
  engine.add('a', ['later']);
  await waitUntil(() => engine.delivered.length === 1, soon);
  assert.equal(await figure(metrics, dispatcher, 'tabulum_webhook_open_circuits'), 0);
});

test('a paced agent waits, fails nothing, and goes on as its bucket refills', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout', 'Date'], now: 1_773_812_345_000 });
  const { engine, poster } = start(t, { perMin: 3 });
  poster.answer = () => OK;
  engine.add('a', ['1', '2', '3', '4', '5']);
  engine.add('b', ['b1']);
  await turns(60);
  assert.deepEqual([...engine.delivered].sort(), ['1', '2', '3', 'b1']);
  t.mock.timers.tick(19_999);
  await turns();
  assert.equal(poster.posts.length, 4);
  t.mock.timers.tick(1);
  await turns();
  assert.equal(poster.contents.at(-1), '4');
  t.mock.timers.tick(20_000);
  await turns();
  assert.equal(poster.contents.at(-1), '5');
  assert.deepEqual(engine.undeliverable, []);
});

test('backoff and failures from before a restart are kept to', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout', 'Date'], now: 1_773_812_345_000 });
  const engine = new PushEngine();
  engine.add('a', ['1'], { attempts: 2, nextAttemptAtMs: Date.now() + 1_500, failedInRow: 4 });
  const { poster } = start(t, { engine });
  poster.answer = () => BAD;
  await turns();
  assert.equal(poster.posts.length, 0);
  t.mock.timers.tick(1_500);
  await turns();
  assert.deepEqual(engine.outcomes.at(-1), { kind: 'retry', attempts: 3, nextAttemptAtMs: Date.now() + 4_000 });
  t.mock.timers.tick(4_000);
  await turns();
  assert.deepEqual(engine.outcomes.at(-1), {
    kind: 'undeliverable',
    failedInRow: 5,
    circuitOpenUntilMs: Date.now() + 300_000,
  });
});

test('while the engine is away nothing is posted; what was posted is settled when it is back, once', async (t) => {
  const { engine, poster } = start(t);
  engine.add('a', ['1', '2']);
  await waitUntil(() => poster.posts.length === 1, soon);
  engine.away = true;
  poster.posts[0]?.end(OK);
  await turns();
  assert.deepEqual(engine.delivered, []);
  poster.answer = () => OK;
  engine.restart(); // and hands the agent out once more
  await waitUntil(() => engine.delivered.length === 2, soon);
  assert.deepEqual(poster.contents, ['1', '2'], 'nothing was posted twice');
});

test('a settlement whose answer got lost is found out, and the next message goes', async (t) => {
  const { engine, poster } = start(t);
  poster.answer = () => OK;
  engine.lostAnswers = 1;
  engine.add('a', ['1', '2', '3']);
  await waitUntil(() => engine.delivered.length === 3, soon);
  assert.deepEqual(poster.contents, ['1', '2', '3']);
});

test('a message that is gone when its turn comes is passed over', async (t) => {
  const { engine, poster } = start(t, { slots: 1 });
  engine.add('a', ['a1']);
  engine.add('b', ['b1']);
  await waitUntil(() => poster.posts.length === 1, soon);
  engine.drop('b');
  poster.posts[0]?.end(OK);
  await waitUntil(() => engine.delivered.length === 1, soon);
  await turns();
  assert.deepEqual(poster.contents, ['a1']);
  poster.answer = () => OK;
  engine.add('b', ['b2']);
  await waitUntil(() => engine.delivered.length === 2, soon);
  assert.deepEqual(poster.contents, ['a1', 'b2']);
});

test('a hand-out that overtakes the answer that nothing is left is not forgotten', async (t) => {
  const engine = new PushEngine();
  const settlePush = engine.settlePush.bind(engine);
  engine.settlePush = async (agent, messageId, outcome) => {
    const reply = await settlePush(agent, messageId, outcome);
    if (messageId === 'id of 1') {
      engine.add('a', ['2']); // handed out at once...
      await turns(); // ...and told of before this answer comes through
    }
    return reply;
  };
  const { poster } = start(t, { engine });
  poster.answer = () => OK;
  engine.add('a', ['1']);
  await waitUntil(() => engine.delivered.length === 2, soon);
  assert.deepEqual(poster.contents, ['1', '2']);
});

test('a stop lets posts in hand finish and settles them', async (t) => {
  const { engine, poster, dispatcher } = start(t);
  engine.add('a', ['1', '2']);
  engine.add('b', ['3'], { nextAttemptAtMs: Date.now() + 3_600_000 });
  await waitUntil(() => poster.posts.length === 1, soon);
  const stopped = dispatcher.stop(60_000);
  poster.posts[0]?.end(OK);
  await stopped;
  assert.deepEqual([engine.delivered, poster.contents], [['1'], ['1']]);
});

test('posts that outlast the stop are cut off, and nothing is held against the receiver', async (t) => {
  const { engine, poster, dispatcher } = start(t);
  engine.add('a', ['1']);
  await waitUntil(() => poster.posts.length === 1, soon);
  await dispatcher.stop(10);
  assert.deepEqual(engine.outcomes, []);
  assert.equal(engine.waitingAt('a'), 1);
});

test('a stop while the engine is away ends too', async (t) => {
  const { engine, poster, dispatcher } = start(t);
  engine.add('a', ['1']);
  await waitUntil(() => poster.posts.length === 1, soon);
  engine.away = true;
  poster.posts[0]?.end(OK);
  await turns();
  await dispatcher.stop(60_000);
  assert.deepEqual(engine.delivered, []);
});

test('whatever fails, restarts and comes between, each message is delivered or undeliverable, in order', async (t) => {
  const random = seededRandom(seedFor(t));
  const { engine, poster } = start(t, { slots: 4, rules: { maxRetries: 0, circuitBreakerThreshold: 1_000 } });
  poster.answer = () => (random(3) === 0 ? BAD : OK);
  const sent = new Map<string, string[]>();
  for (let step = 0; step < 400; step++) {
    const agent = `agent${random(12)}`;
    const content = `${agent} ${step}`;
    sent.set(agent, [...(sent.get(agent) ?? []), content]);
    engine.add(agent, [content]);
    if (random(20) === 0) engine.lostAnswers++;
    if (random(25) === 0) {
      engine.away = true;
      await turns(random(5));
      engine.restart();
    }
    if (random(3) === 0) await turns(random(4));
  }
  await waitUntil(() => engine.delivered.length + engine.undeliverable.length === 400, { timeoutMs: 15_000 });
  assert.equal(poster.overlaps, 0);
  for (const [agent, contents] of sent) {
    const posted = poster.contents.filter((content) => content.startsWith(`${agent} `));
    assert.deepEqual(posted, contents, 'in order, each once');
  }
});

async function figure(metrics: WebhookMetrics, { inFlight, waiting }: WebhookDispatcher, name: string) {
  const read = await metrics.read({ inFlight, waiting }, Date.now());
  return read.find((metric) => metric.name === name)?.values[0]?.value;
}
