/** The observer thread on an empty data directory, without shards: for tests of its listener. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Config } from '../../src/config/config.js';
import type { Logger } from '../../src/log.js';
import { type Observer, startObserver } from '../../src/observe/observer.js';
import { createCounterMemory } from '../../src/shards/shared-counters.js';
import { type Cleanup, makeTempDir, removeTempDir } from '../support/temp-dir.js';

/** Closed after the test, unless it was before. */
export async function startBareObserver(t: Cleanup, config: Config, logger: Logger): Promise<Observer> {
  const directory = await makeTempDir();
  let observer: Observer | null = null;
  t.after(async () => {
    await observer?.close();
    await removeTempDir(directory);
  });
  const dataDir = join(directory, 'data');
  mkdirSync(dataDir);
  const manifest = { format: 1, id: 'test', shards: 1, created_at: '2026-03-18T05:30:00.123Z' };
  writeFileSync(join(dataDir, 'manifest.json'), JSON.stringify(manifest));
  observer = await startObserver({ ...config, dataDir }, createCounterMemory(1), logger);
  return observer;
}
