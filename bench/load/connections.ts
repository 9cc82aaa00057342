/**
 * Load from plain connections of this process, timed in microseconds: for scenarios that ask how long one request takes,
 * where wrk is not installed (autocannon rounds to milliseconds). Too heavy a client to ask how many fit in a second.
 */
import { percentiles } from '../statistics.js';
import { onConnections } from './http-connection.js';
import type { LoadPlan, LoadResult } from './load.js';

export async function loadWithConnections(plan: LoadPlan): Promise<LoadResult> {
  const latenciesMs: number[] = [];
  let failed = 0;
  let turn = 0;
  const startedMs = performance.now();
  const endMs = startedMs + plan.seconds * 1000;
  await onConnections(plan.url, plan.connections, async (connection) => {
    for (let nowMs = startedMs; nowMs < endMs; ) {
      const request = plan.requests[turn++ % plan.requests.length];
      if (request === undefined) throw new Error('nothing to send');
      nowMs = performance.now();
      const { status } = await connection.send(request);
      const doneMs = performance.now();
      if (status >= 200 && status < 300) latenciesMs.push(doneMs - nowMs);
      else failed++;
      nowMs = doneMs;
    }
  });
  const completed = latenciesMs.length;
  const ratePerSecond = (completed * 1000) / (performance.now() - startedMs);
  return { completed, failed, ratePerSecond, ...percentiles(latenciesMs) };
}
