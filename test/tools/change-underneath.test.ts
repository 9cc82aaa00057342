/** Segments that change in place while a tool reads them, as a removal by law changes them. */
import assert from 'node:assert/strict';
import { closeSync, existsSync, openSync, readdirSync, readFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { DeathWatch } from '../../src/death-watch.js';
import { realDisk } from '../../src/shards/disk.js';
import { openSegment } from '../../src/shards/segment-reader.js';
import { openShardedEngine } from '../../src/shards/sharded-engine.js';
import { archiveDirectory } from '../../src/shards/tools/archive.js';
import { backupDirectory } from '../../src/shards/tools/backup.js';
import type { Progress } from '../../src/shards/tools/progress.js';
import { recordingLogger, SETTINGS } from '../shards/shard-rig.js';
import { type Cleanup, tempDir } from '../support/temp-dir.js';

const LOG = join('shard-00', 'log');
const SECRET = 'S3CRET';
const REDACTED = '******';

/** A stopped server's directory of one shard with some sealed segments; the first has the secret, at `secretAt`. */
async function stoppedDirectory(t: Cleanup): Promise<{ dataDir: string; first: string; secretAt: number }> {
  const dataDir = await tempDir(t);
  const { logger } = recordingLogger();
  const onFatal = (error: Error): never => assert.fail(error);
  const settings = { ...SETTINGS, maxSegmentBytes: 4_096 };
  const deaths = new DeathWatch(logger, onFatal);
  const opened = await openShardedEngine({ dataDir, shards: 1, settings, logger, deaths, onFatal });
  const engine = await opened.connect();
  for (let n = 0; n < 20; n++) {
    const value = n === 0 ? SECRET : 'x'.repeat(1_000);
    await engine.writeState(`tab_${'a'.repeat(20)}`, `k${n}`, value);
  }
  await opened.close();
  const first = join(dataDir, LOG, '00000001.ndjson');
  const secretAt = readFileSync(first).indexOf(SECRET);
  assert.ok(secretAt > 0);
  return { dataDir, first, secretAt };
}

function overwrite(path: string, positionBytes: number): void {
  const fd = openSync(path, 'r+');
  writeSync(fd, REDACTED, positionBytes);
  closeSync(fd);
}

/** Does it once, at the first progress for which it is time. */
function onceWhen(isTime: () => boolean, work: () => void): Progress & { isDone: boolean } {
  return {
    isDone: false,
    stage() {},
    advance() {
      if (this.isDone || !isTime()) return;
      this.isDone = true;
      work();
    },
  };
}

test('an archive is of the segment as it is when the segment goes, not as it was read', async (t) => {
  const { dataDir, first, secretAt } = await stoppedDirectory(t);
  const progress = onceWhen(
    () => true,
    () => overwrite(first, secretAt),
  );
  const { archived } = await archiveDirectory(dataDir, progress);
  assert.ok(progress.isDone && archived.some(({ segment }) => segment === 1));
  const archive = await openSegment(realDisk, join(dataDir, LOG), 1);
  t.after(() => archive.close());
  assert.ok(archive.isArchived);
  assert.equal((await archive.read(secretAt, SECRET.length)).toString(), REDACTED);
});

test('a backup is of the segments as they are when it ends, also of those copied before', async (t) => {
  const { dataDir, first, secretAt } = await stoppedDirectory(t);
  const backupDir = await tempDir(t);
  const last = readdirSync(join(dataDir, LOG)).sort().at(-1) ?? '';
  // All of the log is copied by then, and each segment was looked at a second time.
  const isLogCopied = (): boolean =>
    readdirSync(backupDir).some((made) => existsSync(join(backupDir, made, LOG, last)));
  const progress = onceWhen(isLogCopied, () => overwrite(first, secretAt));
  const { generation } = await backupDirectory({ dataDir, backupDir, keep: 1, progress });
  assert.ok(progress.isDone);
  const copy = readFileSync(join(generation, LOG, '00000001.ndjson'));
  assert.equal(copy.toString('latin1', secretAt, secretAt + SECRET.length), REDACTED);
});
