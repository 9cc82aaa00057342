/**
 * Thread of the connection counts' tests: meets the other threads, then takes places for the agents in turn, as a
 * gateway thread does. Mode `fill` keeps what it gets, and answers with how many it got; mode `churn` gives each place
 * back at once, and answers after every thousand rounds until it is terminated.
 */
import { parentPort, workerData } from 'node:worker_threads';
import {
  ConnectionCounts,
  type ConnectionCountsMemory,
  type ConnectionLimits,
} from '../../src/gateway/connect/connection-counts.js';

export interface CountsTask {
  readonly memory: ConnectionCountsMemory;
  readonly gateway: number;
  readonly limits: ConnectionLimits;
  readonly agents: readonly string[];
  readonly mode: 'fill' | 'churn';
  /** Places asked for, in mode `fill`. */
  readonly attempts: number;
  /** One 32-bit word, 0 until all threads may start. */
  readonly start: SharedArrayBuffer;
}

const { agents, attempts, gateway, limits, memory, mode, start } = workerData as CountsTask;
const counts = new ConnectionCounts(memory, gateway, limits);
const agentAt = (round: number): string => agents[round % agents.length] ?? '';

function fill(): number {
  let taken = 0;
  for (let round = 0; round < attempts; round++) if (counts.take(agentAt(round)) === 'taken') taken++;
  return taken;
}

function churn(): void {
  for (let round = 0; ; round++) {
    const agent = agentAt(round);
    if (counts.take(agent) === 'taken') counts.giveBack(agent);
    if (round % 1_000 === 999) parentPort?.postMessage(round + 1);
  }
}

parentPort?.postMessage('ready');
Atomics.wait(new Int32Array(start), 0, 0);
if (mode === 'fill') parentPort?.postMessage(fill());
else churn();
