/** Threads die: a shard's, while it writes; the observer's own. Nothing is missed, repeated, or out of order. */
import assert from 'node:assert/strict';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire, syncBuiltinESMExports } from 'node:module';
import { join } from 'node:path';
import { test } from 'node:test';
import type WorkerThreads from 'node:worker_threads';
import { loadConfig } from '../../src/config/load.js';
import { createLogger } from '../../src/log.js';
import { startObserver } from '../../src/observe/observer.js';
import { startServer } from '../../src/server.js';
import { encodeLine, eventBody } from '../../src/shards/log-line.js';
import { logPosition } from '../../src/shards/segments.js';
import { createCounterMemory, NOTHING_PENDING, SharedCounters } from '../../src/shards/shared-counters.js';
import { freePort } from '../page/free-port.js';
import { HttpClient } from '../support/http.js';
import { type Cleanup, makeTempDir, removeTempDir } from '../support/temp-dir.js';
import { waitUntil } from '../support/wait.js';
import { type EventPage, Watcher, worldConfig } from './observed-world.js';

const soon = { timeoutMs: 20_000 };

/** Collects threads of one name as they are started. */
function threadsNamed(t: Cleanup, prefix: string): WorkerThreads.Worker[] {
  const found: WorkerThreads.Worker[] = [];
  const threads = createRequire(import.meta.url)('node:worker_threads') as { Worker: typeof WorkerThreads.Worker };
  const { Worker } = threads;
  threads.Worker = class extends Worker {
    constructor(file: string | URL, options?: WorkerThreads.WorkerOptions) {
      super(file, options);
      if (options?.name?.startsWith(prefix)) found.push(this);
    }
  };
  syncBuiltinESMExports();
  t.after(async () => {
    threads.Worker = Worker;
    syncBuiltinESMExports();
  });
  return found;
}

test('a shard thread that dies while it writes holds the order up, and breaks nothing', async (t) => {
  const shardThreads = threadsNamed(t, 'shard-');
  const directory = await makeTempDir();
  const configFile = join(directory, 'tabulum.yaml');
  writeFileSync(configFile, JSON.stringify({ ...worldConfig(3), log: { level: 'fatal' } }));
  const anywhere = '127.0.0.1:0';
  const loaded = loadConfig({
    file: configFile,
    env: {},
    flags: {
      data_dir: join(directory, 'data'),
      'server.listen_addr': anywhere,
      'observe.listen_addr': anywhere,
      'admin.listen_addr': anywhere,
    },
  });
  assert.ok(loaded.ok);
  const fatal: Error[] = [];
  const server = await startServer(loaded.config, createLogger('test', 'fatal'), (error) => void fatal.push(error));
  t.after(async () => {
    await server.stop();
    await removeTempDir(directory);
  });
  const kernel = new HttpClient(() => server.addresses.kernel.port);
  const observer = new HttpClient(() => server.addresses.observe.port);
  t.after(async () => {
    kernel.close();
    observer.close();
  });
  const operator = await kernel.post('/v1/operators', { contact_hash: 'x', accept_terms: true });
  const { api_key: key } = operator.json<{ api_key: string }>();
  const challenge = await kernel.get('/v1/agents/verification-challenge', key);
  const { challenge_id } = challenge.json<{ challenge_id: string }>();
  const registered = await kernel.post('/v1/agents', { verification_response: { challenge_id, response: '' } }, key);
  const { agent_token: token } = registered.json<{ agent_token: string }>();

  const url = `ws://127.0.0.1:${server.addresses.observe.port}/observe/events/stream?since=0`;
  const watcher = await new Watcher(url).opened();
  t.after(() => watcher.close());
  const acknowledged = new Set<string>();
  let isBusy = true;
  let next = 0;
  const lane = async (): Promise<void> => {
    while (isBusy) {
      const name = `k/${next++}`;
      const answer = await kernel.put(`/v1/state/${encodeURIComponent(name)}`, { value: name }, token);
      if (answer.status === 200) acknowledged.add(name);
    }
  };
  const lanes = Array.from({ length: 8 }, lane);
  for (let deaths = 0; deaths < 2; deaths++) {
    const enough = watcher.events.length + 100;
    await watcher.until(() => watcher.events.length > enough, 'events before the death');
    await shardThreads[deaths]?.terminate();
    await waitUntil(() => shardThreads.length === 4 + deaths, soon);
    const after = acknowledged.size + 100;
    await waitUntil(() => acknowledged.size > after, soon);
  }
  isBusy = false;
  await Promise.all(lanes);

  const shown = async (): Promise<EventPage['events']> => {
    const events: EventPage['events'] = [];
    for (;;) {
      const answer = await observer.get(`/observe/events?limit=1000&since=${events.at(-1)?.seq ?? 0}`);
      const page = answer.json<EventPage>();
      events.push(...page.events);
      if (!page.has_more) return events;
    }
  };
  // Until the shard that died last is recovered, the watermark stands.
  let all = await shown();
  const lacks = (name: string): boolean => !all.some(({ data }) => data.key === name);
  await waitUntil(async () => {
    all = await shown();
    return ![...acknowledged].some(lacks);
  }, soon);
  await watcher.until(() => watcher.lastSeq >= (all.at(-1)?.seq ?? 0), 'the last event');
  assert.deepEqual(watcher.events.slice(0, all.length), all);
  for (const [n, { seq }] of all.entries()) assert.ok(n === 0 || seq > (all[n - 1]?.seq ?? 0), 'in order');
  const written = all.filter(({ type }) => type === 'state_written').map(({ data }) => String(data.key));
  assert.equal(new Set(written).size, written.length, 'no write twice');
  assert.deepEqual(fatal, []);
});

test('an observer thread that dies is started again where it listened, and goes on with its index', async (t) => {
  const directory = await makeTempDir();
  const dataDir = join(directory, 'data');
  const logDir = join(dataDir, 'shard-00', 'log');
  mkdirSync(logDir, { recursive: true });
  const manifest = { format: 1, id: 'test', shards: 1, created_at: '2026-03-18T05:30:00.123Z' };
  writeFileSync(join(dataDir, 'manifest.json'), JSON.stringify(manifest));
  const line = (seq: number): string => {
    const body = eventBody('registry_read', 'tab_00000000000000000000', { read_by: 'tab_00000000000000000000' });
    return encodeLine(seq, '2026-03-18T05:30:00.123Z', body, false);
  };
  const first = line(1);
  writeFileSync(join(logDir, '00000001.ndjson'), first);
  const counters = new SharedCounters(createCounterMemory(1));
  counters.raiseSeq(1);
  counters.publishDurable(0, logPosition(1, first.length), NOTHING_PENDING);
  const loaded = loadConfig({
    file: undefined,
    env: {},
    // A port that is named: one that the system chose can't be taken again while its old connections linger.
    flags: { data_dir: dataDir, 'observe.listen_addr': `127.0.0.1:${await freePort()}`, 'log.level': 'fatal' },
  });
  assert.ok(loaded.ok);
  const threads = threadsNamed(t, 'observer');
  const observer = await startObserver(loaded.config, counters.memory, createLogger('test', 'fatal'));
  t.after(async () => {
    await observer.close();
    await removeTempDir(directory);
  });
  const client = new HttpClient(() => observer.port);
  const { port } = observer;
  const seqs = async (): Promise<number[] | null> => {
    const answer = await client.get('/observe/events').catch(() => null);
    return answer?.status === 200 ? answer.json<EventPage>().events.map(({ seq }) => seq) : null;
  };
  await waitUntil(async () => (await seqs())?.length === 1, soon);

  // What can't be read ends the thread: a directory where the next segment should be.
  const second = line(2);
  const secondPath = join(logDir, '00000002.ndjson');
  mkdirSync(secondPath);
  counters.raiseSeq(2);
  counters.publishDurable(0, logPosition(2, second.length), NOTHING_PENDING);
  await waitUntil(() => threads.length === 2, soon);
  rmSync(secondPath, { recursive: true });
  writeFileSync(secondPath, second);
  await waitUntil(async () => (await seqs())?.length === 2, soon);
  assert.deepEqual(await seqs(), [1, 2]);
  assert.equal(observer.port, port);
  client.close();
});
