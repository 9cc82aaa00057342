/** Which backups a removal by law names. */
import assert from 'node:assert/strict';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { backupsHolding, recordBackup } from '../../src/shards/tools/backup-records.js';
import { tempDir } from '../support/temp-dir.js';

test('named are backups that reach the content, also those that were carried off, but no original that is gone', async (t) => {
  const dataDir = await tempDir(t);
  const keptOriginal = join(dataDir, 'shards-before-reshard-1');
  await mkdir(keptOriginal);
  const made: readonly (readonly [path: string, lastSeq: number | null])[] = [
    ['/nowhere/before', 9],
    ['/nowhere/carried-off', 10],
    ['/nowhere/unfinished', null],
    [keptOriginal, 20],
    [join(dataDir, 'shards-before-reshard-2'), 20],
  ];
  for (const [path, lastSeq] of made) {
    await recordBackup(dataDir, { path, createdAt: '2026-03-18T05:30:00.123Z', lastSeq });
  }
  assert.deepEqual(backupsHolding(dataDir, 10), ['/nowhere/carried-off', '/nowhere/unfinished', keptOriginal]);
});
