/** Clients that live, they don't hammer: a machine that is full shows only that it is full. */
import { setTimeout as sleep } from 'node:timers/promises';
import { percentiles } from '../statistics.js';
import { expectSuccess, onConnections } from './http-connection.js';
import type { LoadRequest, LoadResult } from './load.js';

export interface PacedPlan {
  readonly url: string;
  /** Each on a connection of its own. */
  readonly clients: number;
  /** Of each client, after every answer. */
  readonly pauseMs: number;
  readonly seconds: number;
  /** The client's `turn`th request. */
  requestOf(client: number, turn: number): LoadRequest;
}

/** Each client sends at least one request. @throws Error for an answer that is not 2xx. */
export async function loadAtPace(plan: PacedPlan): Promise<LoadResult> {
  const latenciesMs: number[] = [];
  const startedMs = performance.now();
  const endMs = startedMs + plan.seconds * 1000;
  await onConnections(plan.url, plan.clients, async (connection, client) => {
    await sleep((client * plan.pauseMs) / plan.clients); // not all in the same moment
    for (let turn = 0; turn === 0 || performance.now() < endMs; turn++) {
      const request = plan.requestOf(client, turn);
      const sentMs = performance.now();
      expectSuccess(request, await connection.send(request));
      latenciesMs.push(performance.now() - sentMs);
      await sleep(plan.pauseMs);
    }
  });
  const completed = latenciesMs.length;
  const ratePerSecond = (completed * 1000) / (performance.now() - startedMs);
  return { completed, failed: 0, ratePerSecond, ...percentiles(latenciesMs) };
}
