/** The index is a view of the log: it may be lost, left half built, or meet archives and damage, and shows the same. */
import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import { encodeLine, eventBody } from '../../src/shards/log-line.js';
import { seededRandom, seedFor } from '../support/seed.js';
import { runCommand } from '../support/server.js';
import { tempDir } from '../support/temp-dir.js';
import { waitUntil } from '../support/wait.js';
import { writeLogFixture } from './log-fixture.js';
import { ObserveProcess } from './observe-process.js';
import { ObservedWorld, type ShownEvent, worldConfig } from './observed-world.js';

type Ask = (path: string) => Promise<unknown>;

/** All that the API shows of a world at rest. */
async function everything(ask: Ask, addresses: readonly string[], keys: readonly string[]): Promise<unknown[]> {
  const paths = ['/observe/state?limit=1000', '/observe/agents', '/observe/network', '/observe/transparency'];
  for (const address of addresses)
    paths.push(`/observe/agents/${address}`, `/observe/events?limit=1000&agent=${address}`);
  for (const key of keys) {
    paths.push(`/observe/state/${encodeURIComponent(key)}`, `/observe/state-history?key=${encodeURIComponent(key)}`);
  }
  const shown: unknown[] = [];
  for (const path of paths) shown.push(await ask(path));
  const events: ShownEvent[] = [];
  for (let since = 0; ; ) {
    const page = (await ask(`/observe/events?limit=1000&since=${since}`)) as {
      events: ShownEvent[];
      has_more: boolean;
    };
    events.push(...page.events);
    if (!page.has_more) break;
    since = events.at(-1)?.seq ?? 0;
  }
  shown.push(events);
  const {
    events_per_second: _,
    watchers: __,
    indexing: ___,
    ...figures
  } = (await ask('/observe/overview')) as Record<string, unknown>;
  shown.push(figures);
  return shown;
}

async function worldAtRest(world: ObservedWorld): Promise<unknown[]> {
  const logged = await world.logged();
  await waitUntil(
    async () => (await world.ask<{ last_seq: number }>('/observe/overview')).last_seq >= (logged.at(-1)?.seq ?? 0),
    { timeoutMs: 20_000 },
  );
  return everything(
    (path) => world.ask(path),
    world.agents.map(({ address }) => address),
    (await world.ask<{ keys: { key: string }[] }>('/observe/state?limit=20')).keys.map(({ key }) => key),
  );
}

test('an index that was deleted, or is of another format, is built anew and shows the same', async (t) => {
  const world = await ObservedWorld.start(t, worldConfig(2), 4);
  await world.traffic(seedFor(t), 300);
  await world.server.restart(); // its read events are in the log now
  const before = await worldAtRest(world);
  await world.server.stop();
  const indexDir = join(world.server.dataDir, 'observe');
  rmSync(indexDir, { recursive: true });
  await world.server.start();
  assert.deepEqual(await worldAtRest(world), before);
  await world.server.stop();
  const stampPath = join(indexDir, 'index', 'index.json');
  writeFileSync(stampPath, JSON.stringify({ ...JSON.parse(readFileSync(stampPath, 'utf8')), format: 0 }));
  await world.server.start();
  assert.deepEqual(await worldAtRest(world), before);
  assert.ok(world.server.stderr().some((line) => line.includes('it has another format')));
  await world.server.kill9();
  writeFileSync(stampPath, JSON.stringify({ ...JSON.parse(readFileSync(stampPath, 'utf8')), boot: 'another' }));
  await world.server.start();
  assert.deepEqual(await worldAtRest(world), before);
  assert.ok(world.server.stderr().some((line) => line.includes('the machine stopped before it was flushed')));
});

test('an index whose building is killed again and again goes on, and ends complete and counted once', async (t) => {
  const seed = seedFor(t);
  const random = seededRandom(seed);
  const dataDir = join(await tempDir(t), 'data');
  const { agents, events } = writeLogFixture(dataDir, { seed, shards: 3, agents: 50, events: 40_000 });
  let kills = 0;
  let reached = 0;
  for (;;) {
    const observer = await ObserveProcess.start(dataDir);
    await sleep(random(100)); // a moment for the kill to fall into, not a condition
    const count = await observer.eventCount();
    assert.ok(count >= reached, `it fell back from ${reached} to ${count}`);
    reached = count;
    if (count < events.length && kills < 8) {
      kills += 1;
      await observer.signal('SIGKILL');
      continue;
    }
    await observer.untilEvents(events.length);
    t.diagnostic(`killed ${kills} times`);
    const shown: ShownEvent[] = [];
    for (let since = 0; ; ) {
      const page = await observer.ask<{ events: ShownEvent[]; next_cursor: number; has_more: boolean }>(
        `/observe/events?limit=1000&since=${since}`,
      );
      shown.push(...page.events);
      since = page.next_cursor;
      if (!page.has_more) break;
    }
    assert.deepEqual(shown, events);
    const figures = await observer.ask<{ agents: { address: string; messages_sent: number; state_writes: number }[] }>(
      '/observe/agents',
    );
    for (const { address, messages_sent, state_writes } of figures.agents) {
      const acts = events.filter(({ agent }) => agent === address);
      assert.equal(messages_sent, acts.filter(({ type }) => type === 'message_sent').length);
      assert.equal(state_writes, acts.filter(({ type }) => type === 'state_written').length);
    }
    assert.equal(figures.agents.length, agents.length);
    const live = new Map<string, number>();
    for (const { type, data } of events as { type: string; data: { key: string; value_length: number } }[]) {
      if (type === 'state_written') live.set(data.key, data.value_length);
      if (type === 'state_deleted') live.delete(data.key);
    }
    const { state } = await observer.ask<{ state: { used_bytes: number; key_count: number } }>('/observe/overview');
    assert.equal(state.key_count, live.size);
    assert.equal(
      state.used_bytes,
      [...live].reduce((sum, [key, bytes]) => sum + key.length + bytes, 0),
    );
    for (const prefix of ['a/', 'b/1', 'c/19']) {
      const { total } = await observer.ask<{ total: number }>(`/observe/state?prefix=${prefix}`);
      assert.equal(total, [...live.keys()].filter((key) => key.startsWith(prefix)).length);
    }
    assert.equal(await observer.signal('SIGTERM'), 0);
    break;
  }
  assert.ok(kills > 0, 'building was never interrupted: nothing is tested');
});

test('a process of its own follows a running server, outlives it, and shows the rest when it has ended', async (t) => {
  const seed = seedFor(t);
  const world = await ObservedWorld.start(t, worldConfig(2), 3);
  await world.traffic(seed, 100);
  const observer = await ObserveProcess.start(world.server.dataDir);
  t.after(async () => void (await observer.signal('SIGKILL')));
  const shown = async (): Promise<ShownEvent[]> =>
    (await observer.ask<{ events: ShownEvent[] }>('/observe/events?limit=1000')).events;
  // Events of reads reach the log a moment after the read.
  const showsTheLog = async (): Promise<void> => {
    const isSame = async (): Promise<boolean> => isDeepStrictEqual(await world.logged(), await shown());
    await waitUntil(isSame, { timeoutMs: 20_000, what: 'the process shows what is in the log' });
  };
  for (const end of ['stop', 'kill9'] as const) {
    let last = 0;
    const busy = world.traffic(seed + 1, 120);
    let isBusy = true;
    void busy.finally(() => {
      isBusy = false;
    });
    while (isBusy) {
      const page = await observer.ask<{ events: ShownEvent[] }>(`/observe/events?limit=1000&since=${last}`);
      for (const { seq } of page.events) {
        assert.ok(seq > last, `${seq} after ${last}`);
        last = seq;
      }
    }
    await showsTheLog();
    await world.server[end]();
    await showsTheLog();
    await world.server.start();
  }
  await world.traffic(seed + 2, 50);
  await showsTheLog();
  const second = await runCommand(['observe', '--data-dir', world.server.dataDir, '--listen', '127.0.0.1:0']);
  assert.equal(second.code, 1);
  assert.match(second.stderr, /is in use by another observer: name another one with --index-dir/);
});

test('archived segments are read like plain ones, and an index is built from them', async (t) => {
  const world = await ObservedWorld.start(t, worldConfig(2), 3);
  await world.traffic(seedFor(t), 700);
  for (const agent of world.agents) while ((await agent.receive(100)).messages.length > 0);
  await world.server.restart();
  const before = await worldAtRest(world);
  await world.server.stop();
  const archived = await runCommand(['archive', '--data-dir', world.server.dataDir, '--json']);
  assert.equal(archived.code, 0, archived.stderr);
  const names = readdirSync(world.server.dataDir, { recursive: true, encoding: 'utf8' });
  assert.ok(
    names.some((name) => name.endsWith('.ndjson.gz')),
    'nothing was archived: nothing is tested',
  );
  await world.server.start();
  assert.deepEqual(await worldAtRest(world), before);
  await world.server.stop();
  rmSync(join(world.server.dataDir, 'observe'), { recursive: true });
  await world.server.start();
  assert.deepEqual(await worldAtRest(world), before);
});

test('a damaged line is passed over, and so are half an operation and half a line at the end; the rest is shown', async (t) => {
  const seed = seedFor(t);
  const dataDir = join(await tempDir(t), 'data');
  const { events } = writeLogFixture(dataDir, { seed, shards: 2, agents: 5, events: 400 });
  const path = join(dataDir, 'shard-00', 'log', '00000001.ndjson');
  const lines = readFileSync(path, 'utf8').split('\n');
  const damaged = lines[50] ?? '';
  lines[50] = damaged.replace('"ts":"2', '"ts":"3');
  assert.notEqual(lines[50], damaged);
  const lostSeq = (JSON.parse(damaged) as { seq: number }).seq;
  const halfWritten = (lines.at(-2) ?? '').slice(0, 40);
  // The first line of an operation of which the second was never written: a start of the server cuts it off.
  const agent = 'tab_00000000000000000000';
  const halfOperation = encodeLine(
    1_000_000,
    '2026-03-19T00:00:00.000Z',
    eventBody('registry_read', agent, { read_by: agent }),
    true,
  );
  writeFileSync(path, `${lines.join('\n')}${halfOperation}${halfWritten}${'\0'.repeat(5_000)}`);
  const observer = await ObserveProcess.start(dataDir);
  t.after(async () => void (await observer.signal('SIGKILL')));
  await observer.untilEvents(events.length - 1);
  const page = await observer.ask<{ events: ShownEvent[] }>('/observe/events?limit=1000');
  assert.deepEqual(
    page.events,
    events.filter(({ seq }) => seq !== lostSeq),
  );
  assert.ok(observer.stderr.some((line) => line.includes('damaged line')));
});

test('a log that is not the one that was indexed is indexed anew', async (t) => {
  const seed = seedFor(t);
  const dataDir = join(await tempDir(t), 'data');
  const counts = { shards: 2, agents: 5, events: 300 };
  writeLogFixture(dataDir, { seed, ...counts });
  const manifest = readFileSync(join(dataDir, 'manifest.json'), 'utf8');
  const first = await ObserveProcess.start(dataDir);
  await first.untilEvents(305);
  assert.equal(await first.signal('SIGTERM'), 0);
  for (const shard of ['shard-00', 'shard-01']) rmSync(join(dataDir, shard), { recursive: true });
  const { events } = writeLogFixture(dataDir, { seed: seed + 1, ...counts });
  writeFileSync(join(dataDir, 'manifest.json'), manifest); // as after a restore
  const second = await ObserveProcess.start(dataDir);
  t.after(async () => void (await second.signal('SIGKILL')));
  await second.untilEvents(305);
  const page = await second.ask<{ events: ShownEvent[] }>('/observe/events?limit=1000');
  assert.deepEqual(page.events, events);
  assert.ok(existsSync(join(dataDir, 'observe-process', 'index.mdb')));
});

test('observe refuses a directory without data, and unknown options', async (t) => {
  const empty = await tempDir(t);
  const none = await runCommand(['observe', '--data-dir', join(empty, 'none')]);
  assert.equal(none.code, 1);
  assert.match(none.stderr, /^tabulum observe: .* holds no data of a server\n$/);
  assert.equal((await runCommand(['observe', '--data-dir', empty])).code, 1);
  assert.equal((await runCommand(['observe', '--nonsense'])).code, 2);
  assert.equal((await runCommand(['observe', '--listen', 'nowhere'])).code, 2);
});
