/** How fast is a long history indexed, in how much memory, and does a start with it behind take longer? */
import { join } from 'node:path';
import { writeLogFixture } from '../../test/observe/log-fixture.js';
import type { LoadResult } from '../load/load.js';
import { compare, measureOnce, type Side } from '../measure.js';
import { ObservedLog } from '../observed-log.js';
import { anonymousBytes } from '../process-memory.js';
import { type BenchContext, check, type Scenario } from '../scenario.js';

const AGENTS = 1_000;
const SHARDS = 2;
const MAX_MEMORY_BYTES = 256 * 2 ** 20;

export const observeIndex: Scenario = { name: 'observe-index', run };

async function run(context: BenchContext) {
  const events = context.smoke ? 20_000 : 1_000_000;
  const dataDir = join(context.workDir, 'data');
  context.note(`writing a log of ${events} events`);
  writeLogFixture(dataDir, { seed: 1, shards: SHARDS, agents: AGENTS, events: events - AGENTS }, false);
  const empty = join(context.workDir, 'empty');
  writeLogFixture(empty, { seed: 1, shards: SHARDS, agents: 1, events: 0 }, false);

  const building = await ObservedLog.start(context, dataDir);
  const indexed: Side = { name: `${events} events indexed`, pid: building.pid, run: () => timed(events, building) };
  const measurement = await measureOnce(indexed);
  const memoryBytes = anonymousBytes(building.pid);
  await building.stop();

  const starts: LoadResult[] = [];
  const bareStarts: LoadResult[] = [];
  for (let round = 0; round < context.rounds; round++) {
    bareStarts.push(await oneStart(context, empty));
    starts.push(await oneStart(context, dataDir));
  }
  const withoutCpu = (results: LoadResult[]) =>
    results.map((result) => ({ ...result, cpuMicrosPerOperation: Number.NaN }));
  return {
    dataset: `${events} events of ${AGENTS} agents in ${SHARDS} shards`,
    rows: [
      compare('indexing a history', 'rate', indexed, null, { ours: [measurement], reference: [] }, null),
      compare(
        'start with an index behind it',
        'longest wait',
        { ...indexed, name: `observe, ${events} events` },
        { ...indexed, name: 'observe, nothing to show' },
        { ours: withoutCpu(starts), reference: withoutCpu(bareStarts) },
        null,
      ),
    ],
    checks: [
      check(
        'anonymous memory stays bounded',
        memoryBytes < MAX_MEMORY_BYTES,
        `${Math.round(memoryBytes / 2 ** 20)} MiB`,
      ),
    ],
  };
}

async function timed(events: number, observer: ObservedLog): Promise<LoadResult> {
  const startedMs = performance.now();
  await observer.untilIndexed(events);
  const tookMs = performance.now() - startedMs + observer.readyMs;
  return {
    completed: events,
    failed: 0,
    ratePerSecond: (events * 1000) / tookMs,
    p50Ms: tookMs,
    p99Ms: tookMs,
    maxMs: tookMs,
  };
}

async function oneStart(context: BenchContext, dataDir: string): Promise<LoadResult> {
  const observer = await ObservedLog.start(context, dataDir);
  const { readyMs } = observer;
  await observer.stop();
  return { completed: 1, failed: 0, ratePerSecond: 1000 / readyMs, p50Ms: readyMs, p99Ms: readyMs, maxMs: readyMs };
}
