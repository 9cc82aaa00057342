/** Load by autocannon, where wrk is not installed. Latencies come in whole milliseconds. */
import autocannon from 'autocannon';
import { headersOf, type LoadPlan, type LoadResult } from './load.js';

/** Each connection sends its own part of the list in turn: from one start, all would hit the same key at once. */
const REQUESTS_PER_CONNECTION = 64;

export async function loadWithAutocannon(plan: LoadPlan): Promise<LoadResult> {
  const requests = plan.requests.map((request) => ({
    method: request.method,
    path: request.path,
    headers: headersOf(request),
    ...(request.body === undefined ? {} : { body: request.body }),
  }));
  let clients = 0;
  const result = await autocannon({
    url: plan.url,
    connections: plan.connections,
    duration: plan.seconds,
    pipelining: 1, // the server does not serve pipelined requests
    setupClient: (client) => {
      const first = Math.floor((clients++ * requests.length) / plan.connections) % requests.length;
      client.setRequests([...requests.slice(first), ...requests.slice(0, first)].slice(0, REQUESTS_PER_CONNECTION));
    },
  });
  return {
    completed: result['2xx'],
    failed: result.non2xx + result.errors,
    ratePerSecond: result['2xx'] / result.duration,
    p50Ms: result.latency.p50,
    p99Ms: result.latency.p99,
    maxMs: result.latency.max,
  };
}
