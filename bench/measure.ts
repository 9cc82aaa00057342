/**
 * Measures two sides in turn, so that a slow spell of the machine hits both: reference, ours, reference, ours, ...
 * Owns:  the order of the rounds and the arithmetic of the ratios.
 * Never: starts or stops a process.
 */
import type { LoadResult } from './load/load.js';
import { processCpuMicros } from './process-cpu.js';
import { median } from './statistics.js';

/** Something that can be measured again and again. */
export interface Side {
  readonly name: string;
  /** The process that serves; null when there is none to watch. */
  readonly pid: number | null;
  /** Sets up what one run uses up; not part of what is measured. */
  prepare?(): Promise<void>;
  /** One run. */
  run(): Promise<LoadResult>;
}

export interface Measurement extends LoadResult {
  /** User + system time of the serving process per completed operation; NaN without a process. */
  readonly cpuMicrosPerOperation: number;
  /** For rows of a share or a count: what the server counted meanwhile. */
  readonly counted?: number;
}

export interface Rounds {
  readonly ours: readonly Measurement[];
  /** Empty without a reference. */
  readonly reference: readonly Measurement[];
}

export async function measureInTurn(ours: Side, reference: Side | null, rounds: number): Promise<Rounds> {
  const results = { ours: [] as Measurement[], reference: [] as Measurement[] };
  for (let round = 0; round < rounds; round++) {
    if (reference !== null) results.reference.push(await measureOnce(reference));
    results.ours.push(await measureOnce(ours));
  }
  return results;
}

export async function measureOnce(side: Side): Promise<Measurement> {
  await side.prepare?.();
  const cpuBeforeMicros = side.pid === null ? Number.NaN : processCpuMicros(side.pid);
  const result = await side.run();
  const cpuMicros = side.pid === null ? Number.NaN : processCpuMicros(side.pid) - cpuBeforeMicros;
  return { ...result, cpuMicrosPerOperation: cpuMicros / result.completed };
}

/** What is compared, and which way is better. */
export type Metric = 'rate' | 'p50' | 'p99' | 'longest wait' | CountedMetric;

/** Judged by itself, without a reference: a share of all, 0 to 1, is better high; a count is better low. */
export type CountedMetric = 'share' | 'count';

export interface Target {
  readonly floor: number;
  readonly aim: number;
}

/** One line of the table. */
export interface Row {
  readonly question: string;
  readonly metric: Metric;
  readonly oursName: string;
  readonly ours: readonly Measurement[];
  readonly referenceName: string;
  readonly reference: readonly Measurement[];
  /** Ours ÷ reference, one per round; empty without a reference. */
  readonly ratios: readonly number[];
  readonly ratio: number | null;
  /** From DESIGN.md's figures to reach; null when it names none. */
  readonly target: Target | null;
}

const VALUE_OF: Readonly<Record<Metric, (measurement: Measurement) => number>> = {
  rate: (measurement) => measurement.ratePerSecond,
  p50: (measurement) => measurement.p50Ms,
  p99: (measurement) => measurement.p99Ms,
  'longest wait': (measurement) => measurement.maxMs,
  share: countedIn,
  count: countedIn,
};

function countedIn(measurement: Measurement): number {
  return measurement.counted ?? Number.NaN;
}

export function compare(
  question: string,
  metric: Metric,
  ours: Side,
  reference: Side | null,
  rounds: Rounds,
  target: Target | null,
): Row {
  const read = VALUE_OF[metric];
  const ratios = rounds.reference.map((measurement, round) => {
    const mine = rounds.ours[round];
    return mine === undefined ? Number.NaN : read(mine) / read(measurement);
  });
  return {
    question,
    metric,
    oursName: ours.name,
    ours: rounds.ours,
    referenceName: reference?.name ?? 'no reference here',
    reference: rounds.reference,
    ratios,
    ratio: ratios.length === 0 ? null : median(ratios),
    target,
  };
}

export function medianOf(metric: Metric, measurements: readonly Measurement[]): number {
  return median(measurements.map(VALUE_OF[metric]));
}

/** A row of something the server counted. */
export function countedRow(
  question: string,
  metric: CountedMetric,
  name: string,
  measurements: readonly Measurement[],
  target: Target | null,
): Row {
  return {
    question,
    metric,
    oursName: name,
    ours: measurements,
    referenceName: 'judged by itself',
    reference: [],
    ratios: [],
    ratio: null,
    target,
  };
}

/** What is held against the target: the ratio, or what was counted. Null when there is neither. */
export function judgedFigure(row: Row): number | null {
  return row.metric === 'share' || row.metric === 'count' ? medianOf(row.metric, row.ours) : row.ratio;
}

/** Rates and shares should be high, times and counts low. */
export function reaches(row: Row, bound: number): boolean {
  const figure = judgedFigure(row);
  if (figure === null) return false;
  return row.metric === 'rate' || row.metric === 'share' ? figure >= bound : figure <= bound;
}
