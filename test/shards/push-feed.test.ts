import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { EngineReply, PushAgent } from '../../src/contract/engine.js';
import { PushFeed } from '../../src/shards/push-feed.js';
import type { ShardClient } from '../../src/shards/shard-client.js';

const agent = (address: string): PushAgent => ({
  address,
  url: 'https://example.org',
  secret: 'whsec_x',
  attempts: 0,
  nextAttemptAtMs: 0,
  failedInRow: 0,
});

/** A shard that answers when the test says so. */
class FakeShard {
  isConnected = true;
  readonly questions: ((reply: EngineReply<readonly PushAgent[]>) => void)[] = [];

  callAndWait(): Promise<EngineReply<readonly PushAgent[]>> {
    return new Promise((resolve) => this.questions.push(resolve));
  }

  answer(...addresses: string[]): void {
    this.questions.shift()?.({ ok: true, value: addresses.map(agent) });
  }
}

function feedOf(...shards: readonly FakeShard[]): PushFeed {
  return new PushFeed(shards as unknown as readonly ShardClient[]);
}

async function next(feed: PushFeed, signal = new AbortController().signal): Promise<string[]> {
  const reply = await feed.next(signal);
  assert.ok(reply.ok);
  return reply.value.map(({ address }) => address);
}

const turns = async (): Promise<void> => {
  for (let i = 0; i < 3; i++) await new Promise((resolve) => setImmediate(resolve));
};

test('agents of all shards come as soon as there are any, and each shard is asked again at once, never twice', async () => {
  const shards = [new FakeShard(), new FakeShard()] as const;
  const feed = feedOf(...shards);
  const first = next(feed);
  shards[1].answer('b');
  assert.deepEqual(await first, ['b']);
  await turns();
  assert.deepEqual([shards[0].questions.length, shards[1].questions.length], [1, 1]);
  shards[0].answer('a1', 'a2');
  shards[1].answer('b2');
  await turns();
  assert.deepEqual(await next(feed), ['a1', 'a2', 'b2'], 'kept until somebody asks');
});

test('a wait that is ended gets nothing, and what comes then is for the next', async () => {
  const shard = new FakeShard();
  const feed = feedOf(shard);
  const leaving = new AbortController();
  const ended = next(feed, leaving.signal);
  leaving.abort();
  assert.deepEqual(await ended, []);
  shard.answer('a');
  await turns();
  assert.deepEqual(await next(feed, AbortSignal.abort()), ['a']);
});

test('a shard that went away is asked again when it is back', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const shard = new FakeShard();
  const feed = feedOf(shard);
  shard.isConnected = false;
  shard.questions.shift()?.({ ok: false, code: 'unavailable' });
  await turns();
  t.mock.timers.tick(60_000);
  assert.equal(shard.questions.length, 0, 'not while it is away');
  shard.isConnected = true;
  feed.connected(shard as unknown as ShardClient);
  assert.equal(shard.questions.length, 1);
  shard.questions.shift()?.({ ok: false, code: 'unavailable' });
  await turns();
  assert.equal(shard.questions.length, 0, 'a refusal is not answered with another question at once');
  t.mock.timers.tick(60_000);
  assert.equal(shard.questions.length, 1, 'but a little later');
});
