import assert from 'node:assert/strict';
import { readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { PublishedWatermark } from '../../src/observe/watermark-source.js';
import { shardDirectory } from '../../src/shards/data-directory.js';
import { seedFor } from '../support/seed.js';
import { tempDir } from '../support/temp-dir.js';
import { writeLogFixture } from './log-fixture.js';

test('of a data directory that no server uses, all is durable up to the last event, and no number beyond it', async (t) => {
  const dataDir = join(await tempDir(t), 'data');
  const { events } = writeLogFixture(dataDir, { seed: seedFor(t), shards: 3, agents: 5, events: 300 });
  const lastSeq = events.at(-1)?.seq;
  assert.equal((await new PublishedWatermark(dataDir, 3).read()).watermark, lastSeq);

  // A segment that was begun and has no event yet, in every shard.
  for (let shard = 0; shard < 3; shard++) {
    const logDir = join(shardDirectory(dataDir, shard), 'log');
    const last = Number(readdirSync(logDir).sort().at(-1)?.slice(0, 8));
    writeFileSync(join(logDir, `${String(last + 1).padStart(8, '0')}.ndjson`), '');
  }
  assert.equal((await new PublishedWatermark(dataDir, 3).read()).watermark, lastSeq);
});
