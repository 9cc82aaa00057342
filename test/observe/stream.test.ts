/** The live stream: one order over all shards, nothing missed, repeated or early, whatever happens meanwhile. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { seedFor } from '../support/seed.js';
import { waitUntil } from '../support/wait.js';
import { ObservedWorld, type ShownEvent, type Watcher, worldConfig } from './observed-world.js';

/** Waits until the log has come to rest and the watcher has its last event; returns what it should have. */
async function settled(world: ObservedWorld, watcher: Watcher, since = 0): Promise<ShownEvent[]> {
  let logged: ShownEvent[] = [];
  await waitUntil(
    async () => {
      logged = await world.logged();
      return (logged.at(-1)?.seq ?? 0) <= Math.max(watcher.lastSeq, since);
    },
    { timeoutMs: 20_000, what: 'the watcher has the last event of the log' },
  );
  return logged.filter(({ seq }) => seq > since);
}

test('a watcher gets every event of a busy server live, in order, and so do filters', async (t) => {
  const seed = seedFor(t);
  const world = await ObservedWorld.start(t, worldConfig(3), 4);
  const all = await world.watch().opened();
  const { address } = world.agent(1);
  const some = await world.watch(`type=state_written,message_sent&agent=${address}`).opened();
  const { last_seq: from } = await world.ask<{ last_seq: number }>('/observe/overview');
  await world.traffic(seed, 300);
  const expected = await settled(world, all, from);
  await all.until(() => all.events.length >= expected.length, 'all events');
  assert.deepEqual(all.events, expected);
  const wanted = expected.filter((e) => e.agent === address && /^(state_written|message_sent)$/.test(e.type));
  await some.until(() => some.events.length >= wanted.length, 'all filtered events');
  assert.deepEqual(some.events, wanted);
  await Promise.all([all.close(), some.close()]);
});

test('since goes from history to live without a gap or a repeat, from any place, under load', async (t) => {
  const seed = seedFor(t);
  const world = await ObservedWorld.start(t, worldConfig(3), 4);
  await world.traffic(seed, 200);
  const busy = world.traffic(seed + 1, 400);
  const watchers: { since: number; watcher: Watcher }[] = [];
  for (let since = 0; since < 260; since += 13) {
    watchers.push({ since, watcher: await world.watch(`since=${since}`).opened() });
  }
  const future = await world.watch('since=1000000000').opened();
  await busy;
  const [first] = watchers;
  assert.ok(first !== undefined);
  const expected = await settled(world, first.watcher);
  for (const { since, watcher } of watchers) {
    const rest = expected.filter(({ seq }) => seq > since);
    await watcher.until(() => watcher.events.length >= rest.length, `events after ${since}`);
    assert.deepEqual(watcher.events, rest, `since=${since}`);
  }
  assert.deepEqual(future.events, []);
  await Promise.all([future, ...watchers.map(({ watcher }) => watcher)].map((watcher) => watcher.close()));
});

test('an idle shard holds up nothing: single events of one shard after another come at once', async (t) => {
  const world = await ObservedWorld.start(t, worldConfig(5), 2);
  const watcher = await world.watch('type=state_written').opened();
  for (let n = 0; n < 25; n++) {
    await world.agent(0).write(`idle/${n}`, String(n));
    await watcher.until(() => watcher.events.length === n + 1, `event ${n}`);
    assert.equal(watcher.events[n]?.data.value, String(n));
  }
  await watcher.close();
});

test('a watcher that comes back with its last seq after kill -9 has missed and repeated nothing', async (t) => {
  const seed = seedFor(t);
  const world = await ObservedWorld.start(t, worldConfig(3), 3);
  const seen: ShownEvent[] = [];
  for (let round = 0; round < 4; round++) {
    const watcher = await world.watch(`since=${seen.at(-1)?.seq ?? 0}`).opened();
    const busy = world.traffic(seed + round, 100_000).catch(() => {}); // ends with the server
    await watcher.until(() => watcher.events.length > 60, 'some events of this round');
    if (round % 2 === 0) await world.server.kill9();
    else await world.server.stop();
    await busy;
    await watcher.until(() => watcher.isClosed, 'the end of the connection');
    seen.push(...watcher.events);
    await world.server.start();
  }
  const seenTo = seen.at(-1)?.seq ?? 0;
  const last = await world.watch(`since=${seenTo}`).opened();
  await settled(world, last, seenTo);
  const expected = await world.logged();
  await last.until(() => seen.length + last.events.length >= expected.length, 'the rest');
  seen.push(...last.events);
  assert.deepEqual(seen, expected);
  assert.deepEqual(await world.pages('limit=999'), expected);
  await last.close();
});

test('a watcher that does not read is dropped with a reason, or cut off, and the others miss nothing', async (t) => {
  const seed = seedFor(t);
  const limits = { websocket: { write_timeout: '1s' } };
  const world = await ObservedWorld.start(t, worldConfig(2, limits), 3);
  const slow = await world.watch().opened();
  const good = await world.watch('since=0').opened();
  slow.pause();
  const value = 'x'.repeat(500_000);
  // The system takes some megabytes for a client that does not read; the server must not take many more.
  for (let n = 0; !world.server.stderr().some((line) => /slow watcher|slow consumer/.test(line)); n++) {
    assert.ok(n < 200, 'a watcher that reads nothing is still served after 100 MB');
    assert.equal((await world.agent(n).write(`big/${n % 10}`, value)).status, 200);
  }
  await world.traffic(seed, 50);
  slow.resume();
  await slow.until(() => slow.isClosed, 'the end of the slow watcher');
  if (slow.closeCode !== 1006) {
    assert.equal(slow.closeCode, 1013);
    assert.match(slow.closeReason, /slow consumer/);
    assert.equal(/since=(\d+)/.exec(slow.closeReason)?.[1], String(slow.lastSeq), 'the place to come back to');
  }
  const expected = await settled(world, good);
  await good.until(() => good.events.length >= expected.length, 'all events');
  assert.deepEqual(good.events, expected);
  await good.close();
});

for (const durability of ['interval', 'none']) {
  test(`with durability ${durability} events are shown when they are on the disk, soon after`, async (t) => {
    const config = { ...worldConfig(2), event_log: { durability } };
    const world = await ObservedWorld.start(t, config, 2);
    const watcher = await world.watch('since=0').opened();
    const seed = seedFor(t);
    for (let n = 0; n < 3; n++) {
      await world.traffic(seed + n, 30);
      const expected = await settled(world, watcher);
      assert.deepEqual(watcher.events, expected);
    }
    await watcher.close();
  });
}

test('one connection too many is refused with 503, and its place is free again after a close', async (t) => {
  const world = await ObservedWorld.start(t, worldConfig(1), 1);
  const watchers = await Promise.all(Array.from({ length: 100 }, () => world.watch().opened()));
  const refused = world.watch();
  await refused.until(() => refused.isClosed && refused.refusal !== '', 'the refusal of the 101st');
  assert.equal(refused.refusedWith, 503);
  assert.equal((JSON.parse(refused.refusal) as { error: string }).error, 'too_many_connections');
  await world.agent(0).write('a', '1');
  for (const watcher of watchers) await watcher.until(() => watcher.events.length === 1, 'the event, for all 100');
  await watchers.pop()?.close();
  await waitUntil(
    async () => {
      const { watchers: open } = await world.ask<{ watchers: number }>('/observe/overview');
      return open === 99;
    },
    { timeoutMs: 10_000 },
  );
  await (await world.watch().opened()).close();
  await Promise.all(watchers.map((watcher) => watcher.close()));
});

test('a plain request to the stream is told what it is, and a planned stop says goodbye', async (t) => {
  const world = await ObservedWorld.start(t, worldConfig(1), 1);
  const plain = await world.observer.get('/observe/events/stream');
  assert.equal(plain.status, 400, plain.text);
  const watcher = await world.watch().opened();
  await world.server.stop();
  await watcher.until(() => watcher.isClosed, 'the end');
  assert.equal(watcher.closeCode, 1001);
});
