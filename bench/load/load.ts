/** What a load generator is asked and what it answers. Two exist: wrk, and autocannon where wrk is not installed. */
import type { Percentiles } from '../statistics.js';

export interface LoadRequest {
  readonly method: 'GET' | 'POST' | 'PUT';
  /** Percent-encoded. ASCII. */
  readonly path: string;
  readonly token: string;
  /** JSON, ASCII. */
  readonly body?: string;
}

export interface LoadPlan {
  readonly url: string;
  /** Each with one request in flight at a time. */
  readonly connections: number;
  readonly seconds: number;
  /** Sent in turn, over and over. Not empty. */
  readonly requests: readonly LoadRequest[];
}

export interface LoadResult extends Percentiles {
  /** Answered with 2xx. */
  readonly completed: number;
  /** Answered otherwise, or not at all. */
  readonly failed: number;
  readonly ratePerSecond: number;
}

export type LoadGeneratorName = 'wrk' | 'autocannon';
/** @param workDir for scripts; must exist. */
export type LoadGenerator = (plan: LoadPlan, workDir: string) => Promise<LoadResult>;

export function headersOf(request: LoadRequest): Record<string, string> {
  const headers: Record<string, string> = { Authorization: `Bearer ${request.token}` };
  if (request.body !== undefined) headers['Content-Type'] = 'application/json';
  return headers;
}
