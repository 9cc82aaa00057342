/** What a shard and a gateway keep in memory has an end, however much comes. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { StateEntry, StoredChallenge } from '../../src/contract/engine.js';
import { Challenges, MAX_CHALLENGES } from '../../src/shards/challenges.js';
import { createVersionMemory, KeyVersions } from '../../src/shards/key-versions.js';
import { Mailboxes, type MessagingParts } from '../../src/shards/mailboxes.js';
import { ReadCache } from '../../src/shards/read-cache.js';
import { createCounterMemory, SharedCounters } from '../../src/shards/shared-counters.js';
import { OPS } from '../../src/shards/wire.js';
import { waitUntil } from '../support/wait.js';
import { ShardRig } from './shard-rig.js';

function challengeOf(number: number, expiresAtMs: number): StoredChallenge {
  const challenge = { challengeId: `c${number}`, operatorId: `o${number}`, expiresAtMs };
  return challenge as unknown as StoredChallenge;
}

test('past so many challenges a shard takes no more, until some have expired', () => {
  const challenges = new Challenges();
  for (let number = 0; number < MAX_CHALLENGES; number++) {
    assert.ok(challenges.store(challengeOf(number, number === 7 ? 500 : 10_000), 0));
  }
  assert.equal(challenges.store(challengeOf(MAX_CHALLENGES, 10_000), 0), false);
  assert.ok(challenges.store(challengeOf(MAX_CHALLENGES, 10_000), 600), 'one has expired');
  assert.equal(challenges.store(challengeOf(MAX_CHALLENGES + 1, 10_000), 600), false);
  assert.ok(challenges.take('c0', 600) !== undefined, 'those that were taken are kept');
});

test('a gateway keeps no more of the values it has read than it may, and no large one', () => {
  const cache = new ReadCache(new KeyVersions(createVersionMemory(1)));
  const valueUnits = 60_000;
  const entryOf = (key: string, units: number): StateEntry => {
    return { key, value: 'v'.repeat(units), modifiedBy: 'tab_a', modifiedAtMs: 0 } as unknown as StateEntry;
  };
  const count = 700; // 42,000,000 units
  for (let n = 0; n < count; n++) cache.put(entryOf(`k${n}`, valueUnits), 0, 0);
  let kept = 0;
  for (let n = 0; n < count; n++) if (cache.get(`k${n}`) !== undefined) kept += 1;
  assert.ok(kept > 0 && kept * valueUnits <= 32 * 1024 * 1024, `${kept} entries of ${valueUnits} units`);
  assert.ok(cache.get(`k${count - 1}`) !== undefined, 'the last one is there');
  cache.put(entryOf('large', 100_000), 0, 0);
  assert.equal(cache.get('large'), undefined);
});

test('past so many events of reads that wait for the disk reads are unavailable, and come back', async (t) => {
  const rig = await ShardRig.open();
  t.after(() => rig.end());
  await rig.write('k', 'v');
  rig.disk.holdSyncs();
  const write = rig.write('other', 'v');
  await rig.heldSync();
  const atOnce = 4_096;
  let refused = 0;
  for (let rounds = 0; refused === 0 && rounds < 40; rounds++) {
    const reads = Array.from({ length: atOnce }, () => [OPS.readState, 'tab_reader', 'k'] as const);
    for (const { code } of await Promise.all(rig.batch(reads))) if (code === 'unavailable') refused += 1;
  }
  assert.ok(refused > 0, 'a disk that stands still takes the events of any number of reads');
  rig.disk.stopHolding();
  await write;
  await waitUntil(async () => (await rig.code(OPS.readState, 'tab_reader', 'k')) === null, {
    timeoutMs: 10_000,
    what: 'reads to come back',
  });
  assert.equal(await rig.value('k'), 'v');
});

test('queues of agents that nobody uses are forgotten when there are many, and none that holds anything', () => {
  const store = { queues: { keys: () => [], get: () => undefined } };
  const view = { agent: () => ({ webhook: null }), store };
  const mailboxes = new Mailboxes({ view } as unknown as MessagingParts, () => {});
  const busy = mailboxes.queueOf('tab_busy');
  assert.ok(busy !== undefined);
  busy.push({ seq: 1, position: 1, bytes: 1 });
  const idle = mailboxes.queueOf('tab_idle');
  mailboxes.sweep();
  assert.equal(mailboxes.queueOf('tab_idle'), idle, 'a few idle queues may stay');
  for (let n = 0; n < 20_000; n++) mailboxes.queueOf(`tab_${n}`);
  mailboxes.sweep();
  assert.notEqual(mailboxes.queueOf('tab_idle'), idle);
  assert.equal(mailboxes.queueOf('tab_busy'), busy);
});

test('of two shards that look at the same last bytes only one takes them, in whatever order they do', () => {
  const counters = new SharedCounters(createCounterMemory(2));
  assert.ok(counters.reserve(0, 'queuedBytes', 90, 100));
  const { load } = Atomics;
  let other: boolean | null = null;
  /** Right after the first shard has looked, the second one takes what is left. */
  const looked = (...args: Parameters<typeof load>): unknown => {
    const seen: unknown = load(...args);
    Object.assign(Atomics, { load });
    other ??= counters.reserve(1, 'queuedBytes', 10, 100);
    return seen;
  };
  Object.assign(Atomics, { load: looked });
  try {
    assert.equal(counters.reserve(0, 'queuedBytes', 10, 100), false);
  } finally {
    Object.assign(Atomics, { load });
  }
  assert.equal(other, true);
  assert.equal(counters.read(1, 'reservedQueuedBytes'), 10);
});
