/** The read cache between a gateway and a shard: never an old value once a write is answered, on any gateway. */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import type { Engine } from '../../src/contract/engine.js';
import { DeathWatch } from '../../src/death-watch.js';
import { createVersionMemory, KeyVersions } from '../../src/shards/key-versions.js';
import { ReadCache } from '../../src/shards/read-cache.js';
import { openShardedEngine } from '../../src/shards/sharded-engine.js';
import { tempDir } from '../support/temp-dir.js';
import { recordingLogger, SETTINGS } from './shard-rig.js';

const READER = `tab_${'r'.repeat(20)}`;
const WRITER = `tab_${'w'.repeat(20)}`;

async function twoGateways(t: TestContext): Promise<{ first: Engine; second: Engine }> {
  const { logger } = recordingLogger();
  const onFatal = (error: Error): never => assert.fail(error);
  const engine = await openShardedEngine({
    dataDir: await tempDir(t),
    shards: 2,
    settings: SETTINGS,
    logger,
    deaths: new DeathWatch(logger, onFatal),
    onFatal,
  });
  t.after(() => engine.close());
  return { first: await engine.connect(), second: await engine.connect() };
}

async function readValue(engine: Engine, key: string): Promise<string | null> {
  const reply = await engine.readState(READER, key);
  return reply.ok ? reply.value.value : null;
}

test('a value is never read again once a write to its key was answered by another gateway', async (t) => {
  const { first, second } = await twoGateways(t);
  for (let round = 0; round < 300; round++) {
    const key = `k${round % 7}`;
    assert.ok((await first.writeState(WRITER, key, `${round}`)).ok);
    assert.equal(await readValue(second, key), `${round}`);
    assert.equal(await readValue(second, key), `${round}`, 'the second read may come from the cache');
    if (round % 3 === 0) {
      assert.ok((await first.deleteState(WRITER, key)).ok);
      assert.equal(await readValue(second, key), null);
    }
  }
});

test('what one gateway has read another reads at least as new', async (t) => {
  const { first, second } = await twoGateways(t);
  await first.writeState(WRITER, 'k', '0');
  let written = 0;
  const writing = (async () => {
    for (written = 1; written <= 400; written++) await first.writeState(WRITER, 'k', `${written}`);
  })();
  let seen = 0;
  while (written < 400) {
    for (const gateway of [first, second]) {
      const value = Number(await readValue(gateway, 'k'));
      assert.ok(value >= seen, `read ${value} after ${seen}`);
      seen = value;
    }
  }
  await writing;
});

test('an entry is given out only while the version of its counter stands', () => {
  const versions = new KeyVersions(createVersionMemory(2));
  const cache = new ReadCache(versions);
  const entry = { key: 'k', value: 'v', lastModifiedBy: WRITER, lastModifiedAtMs: 1 };
  const counter = versions.counterOf(1, 'k');
  cache.put(entry, counter, versions.version(counter));
  assert.equal(cache.get('k'), entry);
  versions.changed(1, 'k');
  assert.equal(cache.get('k'), undefined);
  cache.put(entry, counter, versions.version(counter));
  versions.allChanged(0);
  assert.equal(cache.get('k'), entry, 'another shard’s recovery changes nothing here');
  versions.allChanged(1);
  assert.equal(cache.get('k'), undefined);
});
