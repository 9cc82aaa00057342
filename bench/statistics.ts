/** Medians and percentiles. Pure. */

/** The middle value; the mean of the middle two of an even number. NaN for none. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const upper = sorted[middle] ?? Number.NaN;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? Number.NaN) + upper) / 2;
}

export interface Percentiles {
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly maxMs: number;
}

/** Nearest-rank percentiles. Sorts `latenciesMs` in place. NaN for none. */
export function percentiles(latenciesMs: number[]): Percentiles {
  latenciesMs.sort((a, b) => a - b);
  const at = (share: number): number => latenciesMs[Math.ceil(share * latenciesMs.length) - 1] ?? Number.NaN;
  return { p50Ms: at(0.5), p99Ms: at(0.99), maxMs: at(1) };
}
