/**
 * The benchmark: each scenario asks one question of a server in a process of its own, beside a reference measured in
 * the same run. See `--help`. Exit codes: 0, 1 when a result is wrong (never for a time), 2 for bad options.
 */
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { isInstalled, readConditions } from './conditions.js';
import { loadWithAutocannon } from './load/autocannon.js';
import { loadWithConnections } from './load/connections.js';
import type { LoadGenerator, LoadGeneratorName } from './load/load.js';
import { loadWithWrk } from './load/wrk.js';
import { describeConditions, describeResult, describeTable, type NamedResult, writeReport } from './report.js';
import type { BenchSettings, Scenario } from './scenario.js';
import { badTokens } from './scenarios/bad-tokens.js';
import { coldSessionStorm } from './scenarios/cold-session-storm.js';
import { deliveryWays, fanIn } from './scenarios/delivery-ways.js';
import { getMessages } from './scenarios/get-messages.js';
import { getState } from './scenarios/get-state.js';
import { keyListing } from './scenarios/key-listing.js';
import { largeWorld } from './scenarios/large-world.js';
import { observeIndex } from './scenarios/observe-index.js';
import { observePage } from './scenarios/observe-page.js';
import { observers } from './scenarios/observers.js';
import { postMessage } from './scenarios/post-message.js';
import { pushLatency } from './scenarios/push-latency.js';
import { putState } from './scenarios/put-state.js';
import { queuedMemory } from './scenarios/queued-memory.js';
import { registryPage } from './scenarios/registry-page.js';
import { sessionCache } from './scenarios/session-cache.js';
import { singleConnectionPut } from './scenarios/single-connection-put.js';
import { startAfterKill } from './scenarios/start-after-kill.js';
import { webhookThroughput } from './scenarios/webhook-throughput.js';

const SCENARIOS: readonly Scenario[] = [
  getState,
  putState,
  postMessage,
  singleConnectionPut,
  coldSessionStorm,
  sessionCache,
  badTokens,
  registryPage,
  keyListing,
  largeWorld,
  getMessages,
  startAfterKill,
  webhookThroughput,
  pushLatency,
  deliveryWays,
  fanIn,
  queuedMemory,
  observers,
  observeIndex,
  observePage,
];
const LOAD_GENERATORS: Readonly<Record<LoadGeneratorName, LoadGenerator>> = {
  wrk: loadWithWrk,
  autocannon: loadWithAutocannon,
};
/** From build/bench/ to bench/results/. */
const RESULTS_DIR = fileURLToPath(new URL('../../bench/results/', import.meta.url));

const USAGE = `npm run bench -- [options]
  --scenario NAMES     comma-separated, of: ${SCENARIOS.map(({ name }) => name).join(', ')}
  --seconds N          length of one measurement (5)
  --rounds N           rounds of reference and ours in turn; medians are shown (3)
  --connections N      in the loaded scenarios (256)
  --agents N           in the large registry, and in the large world (100000)
  --keys N             in the large world (1000000)
  --messages N         of 10 KB, queued (1000000: needs 11 GB of disk)
  --load wrk|autocannon  (wrk where it is installed)
  --dir DIR            where data goes: put it on the file system in question (the system's temporary directory)
  --events N           of history, in start-after-kill (1000000)
  --smoke              quick: results are checked, times mean nothing`;

interface Options extends BenchSettings {
  readonly scenarios: readonly Scenario[];
  readonly loadName: LoadGeneratorName;
  readonly dir: string;
}

async function main(): Promise<void> {
  const options = readOptions();
  const workDir = mkdtempSync(join(options.dir, 'tabulum-bench-'));
  const { seconds, rounds, connections, agents, keys, messages, events, smoke } = options;
  const header = {
    conditions: readConditions(workDir, options.loadName),
    settings: { seconds, rounds, connections, agents, keys, messages, events, smoke },
  };
  console.log(`${describeConditions(header)}\n`);
  const interrupted = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => interrupted.abort());
  const results: NamedResult[] = [];
  try {
    for (const scenario of options.scenarios) {
      const result = await runScenario(scenario, options, workDir, interrupted.signal);
      results.push(result);
      console.log(`${describeResult(result)}\n`);
    }
  } finally {
    rmSync(workDir, { recursive: true, force: true });
  }
  console.log(describeTable(results));
  if (!smoke) console.log(`\nwritten to ${writeReport(RESULTS_DIR, { ...header, results })}`);
  const wrong = results.flatMap((result) => result.checks).filter((one) => !one.holds);
  if (wrong.length > 0) {
    console.error(`\n${wrong.length} results are wrong`);
    process.exitCode = 1;
  }
}

async function runScenario(
  scenario: Scenario,
  options: Options,
  parentDir: string,
  interrupted: AbortSignal,
): Promise<NamedResult> {
  const workDir = join(parentDir, scenario.name);
  mkdirSync(workDir);
  const cleanups: (() => Promise<unknown>)[] = [];
  let ended = false;
  const context = {
    ...options,
    workDir,
    load: LOAD_GENERATORS[options.loadName],
    timedLoad: options.loadName === 'wrk' ? loadWithWrk : loadWithConnections,
    onEnd: (cleanup: () => Promise<unknown>) => {
      // An interrupted scenario may still be starting something.
      if (ended) void cleanup();
      else cleanups.push(cleanup);
    },
    note: (line: string) => console.log(`${scenario.name}: ${line}`),
  };
  try {
    interrupted.throwIfAborted();
    const result = await Promise.race([scenario.run(context), rejectOn(interrupted)]);
    return { scenario: scenario.name, ...result };
  } finally {
    ended = true;
    for (const cleanup of cleanups.reverse()) await cleanup();
    rmSync(workDir, { recursive: true, force: true });
  }
}

function rejectOn(signal: AbortSignal): Promise<never> {
  return new Promise((_resolve, reject) => {
    signal.addEventListener('abort', () => reject(new Error('interrupted')), { once: true });
  });
}

function readOptions(): Options {
  try {
    const { values } = parseArgs({
      options: {
        scenario: { type: 'string' },
        seconds: { type: 'string' },
        rounds: { type: 'string' },
        connections: { type: 'string' },
        agents: { type: 'string' },
        keys: { type: 'string' },
        messages: { type: 'string' },
        events: { type: 'string' },
        load: { type: 'string', default: isInstalled('wrk') ? 'wrk' : 'autocannon' },
        dir: { type: 'string', default: tmpdir() },
        smoke: { type: 'boolean', default: false },
        help: { type: 'boolean', default: false },
      },
    });
    if (values.help) {
      console.log(USAGE);
      process.exit(0);
    }
    const { smoke } = values;
    return {
      scenarios: chosenScenarios(values.scenario),
      loadName: loadGeneratorName(values.load),
      dir: values.dir,
      smoke,
      seconds: wholeNumber('--seconds', values.seconds, smoke ? 1 : 5, 1, 300),
      rounds: wholeNumber('--rounds', values.rounds, smoke ? 1 : 3, 1, 50),
      connections: wholeNumber('--connections', values.connections, smoke ? 32 : 256, 1, 10_000),
      agents: wholeNumber('--agents', values.agents, smoke ? 1_000 : 100_000, 100, 1_000_000),
      keys: wholeNumber('--keys', values.keys, smoke ? 2_500 : 1_000_000, 2_500, 10_000_000),
      events: wholeNumber('--events', values.events, smoke ? 2_000 : 1_000_000, 100, 100_000_000),
      messages: wholeNumber('--messages', values.messages, smoke ? 2_000 : 1_000_000, 100, 10_000_000),
      redisInstalled: isInstalled('redis-server') && isInstalled('redis-benchmark'),
    };
  } catch (error) {
    console.error(`bench: ${error instanceof Error ? error.message : String(error)}`);
    process.exit(2);
  }
}

function chosenScenarios(names: string | undefined): Scenario[] {
  if (names === undefined) return [...SCENARIOS];
  return names.split(',').map((name) => {
    const scenario = SCENARIOS.find((one) => one.name === name);
    if (scenario === undefined) throw new Error(`there is no scenario "${name}"\n${USAGE}`);
    return scenario;
  });
}

function loadGeneratorName(text: string): LoadGeneratorName {
  if (text === 'wrk' || text === 'autocannon') return text;
  throw new Error(`--load is "${text}"; expected wrk or autocannon`);
}

function wholeNumber(name: string, text: string | undefined, fallback: number, min: number, max: number): number {
  const value = text === undefined ? fallback : Number(text);
  if (Number.isInteger(value) && value >= min && value <= max) return value;
  throw new Error(`${name} is "${text}"; expected a whole number from ${min} to ${max}`);
}

try {
  await main();
} catch (error) {
  console.error(error instanceof Error ? `bench: ${error.stack}` : error);
  process.exitCode = 1;
}
