/** The comparison that a reshard makes before it switches: it finds whatever the new shards have wrong. */
import assert from 'node:assert/strict';
import { cp } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { DeathWatch } from '../../src/death-watch.js';
import { shardDirectory } from '../../src/shards/data-directory.js';
import { openShardedEngine } from '../../src/shards/sharded-engine.js';
import { NO_PROGRESS } from '../../src/shards/tools/progress.js';
import { compareShards } from '../../src/shards/tools/reshard-compare.js';
import { type StoredRow, StoredRows } from '../../src/shards/tools/stored-rows.js';
import { TableWriter } from '../../src/shards/tools/table-writer.js';
import { credentialFor, recordingLogger, SETTINGS } from '../shards/shard-rig.js';
import { type Cleanup, tempDir } from '../support/temp-dir.js';

const AGENT = `tab_${'a'.repeat(20)}`;

async function stoppedDirectory(t: Cleanup): Promise<string> {
  const dataDir = await tempDir(t);
  const { logger } = recordingLogger();
  const onFatal = (error: Error): never => assert.fail(error);
  const deaths = new DeathWatch(logger, onFatal);
  const opened = await openShardedEngine({ dataDir, shards: 1, settings: SETTINGS, logger, deaths, onFatal });
  const engine = await opened.connect();
  const registered = await engine.registerAgent({
    operatorId: 'operator-1',
    credential: credentialFor(AGENT),
    webhook: null,
  });
  const address = registered.ok ? registered.value.address : '';
  for (const key of ['a', 'b', 'c']) await engine.writeState(address, key, `value of ${key}`);
  await engine.sendMessage({ from: address, to: address, content: 'queued' });
  await opened.close();
  return dataDir;
}

/** A copy of the directory, as a new shard that was built of it. */
async function copyOf(t: Cleanup, dataDir: string): Promise<{ workDir: string; store: string }> {
  const workDir = join(await tempDir(t), 'work');
  await cp(dataDir, workDir, { recursive: true });
  return { workDir, store: join(shardDirectory(workDir, 0), 'store.mdb') };
}

async function firstRow(store: string, table: string): Promise<StoredRow> {
  const rows = StoredRows.open(store);
  try {
    for (const row of rows.rows(table)) return { key: Buffer.from(row.key), value: Buffer.from(row.value) };
  } finally {
    await rows.close();
  }
  return assert.fail(`${table} is empty`);
}

async function change(store: string, table: string, key: Buffer, value: Buffer | null): Promise<void> {
  const writer = new TableWriter(store);
  await writer.put(table, key, value);
  await writer.close();
}

test('a row that is not as it was, is missing, or was not there, stops the reshard', async (t) => {
  const dataDir = await stoppedDirectory(t);
  const { workDir } = await copyOf(t, dataDir);
  const compared = await compareShards(dataDir, 1, workDir, 1, NO_PROGRESS);
  assert.equal(compared, 7, 'the copy itself is all right');
  for (const table of ['state', 'agents', 'credentials', 'queues']) {
    const changed = await copyOf(t, dataDir);
    const { key, value } = await firstRow(changed.store, table);
    value[value.length - 1] = (value[value.length - 1] as number) ^ 1;
    await change(changed.store, table, key, value);
    const untouched = { name: 'DataDirectoryError', message: /the original is untouched/ };
    await assert.rejects(compareShards(dataDir, 1, changed.workDir, 1, NO_PROGRESS), untouched, `${table}, changed`);
    await change(changed.store, table, key, null);
    await assert.rejects(compareShards(dataDir, 1, changed.workDir, 1, NO_PROGRESS), untouched, `${table}, missing`);
  }
  const more = await copyOf(t, dataDir);
  const { value } = await firstRow(more.store, 'state');
  await change(more.store, 'state', Buffer.from('z'), value);
  await assert.rejects(compareShards(dataDir, 1, more.workDir, 1, NO_PROGRESS), /state has 4 rows instead of 3/);
});
