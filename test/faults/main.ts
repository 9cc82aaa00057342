/**
 * Faults on demand, for as long as you like; see `--help`. Exit codes: 0 when nothing was lost, 1 when something was, 2 for
 * wrong options. What fails names its seed; `--seed` runs it again.
 */
import { randomInt } from 'node:crypto';
import { parseArgs } from 'node:util';
import { ONE_SHARD, THREE_SHARDS, TWO_GATEWAYS } from '../api/topologies.js';
import { fastDir, removeTempDir } from '../support/temp-dir.js';
import { runKillCycles } from './kill-cycles.js';
import { ShardLife } from './shard-life.js';
import { soakStore } from './store-soak.js';

const USAGE = `npm run faults -- [options]
  --cycles N     kill -9 under load, N times on one data directory (200 when nothing else is asked for)
  --lives N      lives of a shard on a simulated disk
  --soak N       seconds of put and delete churn on LMDB
  --shards 1|2|3 for --cycles (2)
  --requests N   of the main load before each kill, at least (300)
  --seed N       of the first life, or of the load (random)`;

const TOPOLOGIES = { 1: ONE_SHARD, 2: TWO_GATEWAYS, 3: THREE_SHARDS } as const;

interface Options {
  readonly cycles: number;
  readonly lives: number;
  readonly soakSeconds: number;
  readonly shards: 1 | 2 | 3;
  readonly requests: number;
  readonly seed: number;
}

function readOptions(): Options {
  try {
    const text = { type: 'string' } as const;
    const { values } = parseArgs({
      options: {
        cycles: text,
        lives: text,
        soak: text,
        shards: text,
        requests: text,
        seed: text,
        help: { type: 'boolean', default: false },
      },
    });
    if (values.help) {
      console.log(USAGE);
      process.exit(0);
    }
    const isPlain = values.cycles === undefined && values.lives === undefined && values.soak === undefined;
    return {
      cycles: wholeNumber('--cycles', values.cycles, isPlain ? 200 : 0),
      lives: wholeNumber('--lives', values.lives, 0),
      soakSeconds: wholeNumber('--soak', values.soak, 0),
      shards: wholeNumber('--shards', values.shards, 2, 1, 3) as 1 | 2 | 3,
      requests: wholeNumber('--requests', values.requests, 300, 1),
      seed: wholeNumber('--seed', values.seed, randomInt(2 ** 30)),
    };
  } catch (error) {
    console.error(`faults: ${error instanceof Error ? error.message : String(error)}`);
    process.exit(2);
  }
}

function wholeNumber(name: string, text: string | undefined, fallback: number, min = 0, max = 2 ** 31): number {
  const value = text === undefined ? fallback : Number(text);
  if (Number.isInteger(value) && value >= min && value <= max) return value;
  throw new Error(`${name} is "${text}"; expected a whole number from ${min} to ${max}`);
}

async function withCleanup(work: (t: { after(callback: () => Promise<void>): void }) => Promise<void>): Promise<void> {
  const cleanups: (() => Promise<void>)[] = [];
  try {
    await work({ after: (callback) => cleanups.push(callback) });
  } finally {
    for (const cleanup of cleanups.reverse()) await cleanup();
  }
}

async function killCycles({ cycles, shards, seed, requests }: Options): Promise<void> {
  await withCleanup(async (t) => {
    const topology = TOPOLOGIES[shards];
    const startedMs = performance.now();
    const progress = (line: string): void => console.log(line);
    const result = await runKillCycles(t, { cycles, topology, seed, requestsPerCycle: requests, progress });
    console.log(JSON.stringify({ ...result, seconds: Math.round((performance.now() - startedMs) / 1_000) }));
    console.log(`${cycles} kill -9 cycles in a row: nothing that was answered is lost`);
  });
}

async function simulatedLives({ lives, seed }: Options): Promise<void> {
  const directory = await fastDir();
  try {
    for (let life = seed; life < seed + lives; life++) {
      try {
        await ShardLife.live(life, directory);
      } catch (error) {
        throw new Error(`--lives 1 --seed ${life}`, { cause: error });
      }
      if ((life - seed + 1) % 1_000 === 0) console.log(`${life - seed + 1} lives`);
    }
  } finally {
    await removeTempDir(directory);
  }
  console.log(`${lives} lives on a simulated disk: nothing that was answered is lost`);
}

const options = readOptions();
console.log(`SEED=${options.seed}`);
try {
  if (options.cycles > 0) await killCycles(options);
  if (options.lives > 0) await simulatedLives(options);
  if (options.soakSeconds > 0) {
    const result = await soakStore({ seconds: options.soakSeconds, seed: options.seed });
    console.log(JSON.stringify(result));
  }
} catch (error) {
  console.error(error);
  process.exitCode = 1;
}
