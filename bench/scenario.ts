/** What every scenario gets and gives back. One question per file, in `scenarios/`. */
import type { LoadGenerator, LoadPlan, LoadResult } from './load/load.js';
import type { Row, Side } from './measure.js';

export interface BenchSettings {
  readonly seconds: number;
  readonly rounds: number;
  readonly connections: number;
  /** Agents in the large registry. */
  readonly agents: number;
  /** In the large world. */
  readonly keys: number;
  /** Queued in the memory scenario. */
  readonly messages: number;
  /** Of history, before a server is killed and started again. */
  readonly events: number;
  /** Small and quick: results are checked, times mean nothing. */
  readonly smoke: boolean;
  readonly redisInstalled: boolean;
}

export interface BenchContext extends BenchSettings {
  /** A fresh directory, removed afterwards, on the file system under test. */
  readonly workDir: string;
  /** For rates. */
  readonly load: LoadGenerator;
  /** For times: the same where it measures in microseconds, else plain connections. */
  readonly timedLoad: LoadGenerator;
  /** Runs when the scenario is over, however it ends; latest first. */
  onEnd(cleanup: () => Promise<unknown>): void;
  /** One line of progress for whoever watches. */
  note(line: string): void;
}

/** A fact that must hold whatever the speed. */
export interface Check {
  readonly what: string;
  readonly holds: boolean;
  readonly found: string;
}

export interface ScenarioResult {
  readonly dataset: string;
  readonly rows: readonly Row[];
  readonly checks: readonly Check[];
}

export interface Scenario {
  readonly name: string;
  run(context: BenchContext): Promise<ScenarioResult>;
}

/** A side whose rate is measured with the load generator. */
export function loadedSide(context: BenchContext, name: string, pid: number, plan: LoadPlan): Side {
  return { name, pid, run: () => context.load(plan, context.workDir) };
}

/** A side whose times are measured, on few connections. */
export function timedSide(context: BenchContext, name: string, pid: number, plan: LoadPlan): Side {
  return { name, pid, run: () => context.timedLoad(plan, context.workDir) };
}

/** Brings caches, connections and the JIT to where they will be; the result is thrown away. */
export async function warmUp(context: BenchContext, ...sides: readonly (Side | null)[]): Promise<void> {
  if (context.smoke) return;
  for (const side of sides) {
    await side?.prepare?.();
    await side?.run();
  }
}

export function noFailures(side: Side, results: readonly LoadResult[]): Check {
  const failed = results.reduce((sum, one) => sum + one.failed, 0);
  const completed = results.reduce((sum, one) => sum + one.completed, 0);
  return {
    what: `${side.name}: every answer is 2xx`,
    holds: failed === 0 && completed > 0,
    found: `${completed} of ${completed + failed}`,
  };
}

export function check(what: string, holds: boolean, found: unknown): Check {
  return { what, holds, found: String(found) };
}
