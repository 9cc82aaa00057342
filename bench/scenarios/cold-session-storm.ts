/**
 * When a crowd arrives whose sessions nobody knows (after a restart, say), how long does the last one wait, and do
 * those who are already in notice?
 */
import { cpus } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { keyPath } from '../dataset.js';
import { expectSuccess, type HttpConnection, onConnections } from '../load/http-connection.js';
import type { LoadRequest, LoadResult } from '../load/load.js';
import { compare, type Measurement, measureOnce, type Side } from '../measure.js';
import { oneBcryptMs } from '../reference/one-bcrypt.js';
import { type BenchContext, check, noFailures, type Scenario } from '../scenario.js';
import { percentiles } from '../statistics.js';
import { Subject } from '../subject.js';

const WARM_AGENTS = 8;
/** Between two requests of a warm agent: it lives, it does not hammer. */
const WARM_PAUSE_MS = 10;
/** Calm before the storm: both together must fit into the time a session stays warm. */
const MAX_CALM_SECONDS = 4;
const BCRYPT_COST = 10;
/** The default, set here so that the bound is known. */
const POOL_THREADS = Math.max(1, cpus().length >> 1);

export const coldSessionStorm: Scenario = { name: 'cold-session-storm', run };

interface Storm {
  readonly bound: Measurement;
  readonly cold: Measurement;
  readonly warmBefore: Measurement;
  readonly warmDuring: Measurement;
}

async function run(context: BenchContext) {
  const coldAgents = context.smoke ? 12 : 200;
  const subject = await Subject.start(context, {
    name: 'kernel',
    agents: coldAgents + WARM_AGENTS,
    poolThreads: POOL_THREADS,
    registrars: 2 * POOL_THREADS,
    coldSessions: true,
  });
  const put: LoadRequest = { method: 'PUT', path: keyPath(0), token: subject.agent(0).token, body: '{"value":"warm"}' };
  await subject.ask(put);

  const storms: Storm[] = [];
  for (let round = 0; round < context.rounds; round++) {
    context.note(`storm ${round + 1} of ${context.rounds}`);
    await subject.restart();
    storms.push(await oneStorm(context, subject, coldAgents));
  }

  const bound = named(`${coldAgents} agents × one bcrypt ÷ ${POOL_THREADS} threads`);
  const cold = named(`${coldAgents} cold agents at once`);
  const before = named('warm agents before');
  const during = named('warm agents during the storm');
  const of = (side: keyof Storm): Measurement[] => storms.map((storm) => storm[side]);
  return {
    dataset: `${coldAgents} cold and ${WARM_AGENTS} warm agents, bcrypt cost ${BCRYPT_COST}, ${POOL_THREADS} pool threads; warm agents GET a state key every ${WARM_PAUSE_MS} ms`,
    rows: [
      compare(
        'cold sessions',
        'longest wait',
        cold,
        bound,
        { ours: of('cold'), reference: of('bound') },
        { floor: 1.5, aim: 1.2 },
      ),
      compare(
        'warm agents meanwhile',
        'p99',
        during,
        before,
        { ours: of('warmDuring'), reference: of('warmBefore') },
        { floor: 2, aim: 1.3 },
      ),
    ],
    checks: [
      noFailures(cold, of('cold')),
      noFailures(during, of('warmDuring')),
      check(
        'every cold agent is let in',
        of('cold').every((one) => one.completed === coldAgents),
        coldAgents,
      ),
    ],
  };
}

async function oneStorm(context: BenchContext, subject: Subject, coldAgents: number): Promise<Storm> {
  const bcryptMs = await oneBcryptMs(BCRYPT_COST);
  const boundMs = (coldAgents * bcryptMs) / POOL_THREADS;
  const warmTokens = subject.agents.slice(coldAgents).map(({ token }) => token);
  const coldTokens = subject.agents.slice(0, coldAgents).map(({ token }) => token);

  const warmUntil = async (over: () => boolean): Promise<LoadResult> => {
    const latenciesMs: number[] = [];
    const startedMs = performance.now();
    await onConnections(subject.url, warmTokens.length, async (connection, index) => {
      const request: LoadRequest = { method: 'GET', path: keyPath(0), token: warmTokens[index] ?? '' };
      do {
        latenciesMs.push(await timed(connection, request));
        await sleep(WARM_PAUSE_MS);
      } while (!over());
    });
    return resultOf(latenciesMs, performance.now() - startedMs);
  };
  const warmFor = (seconds: number): Promise<LoadResult> => {
    const endMs = performance.now() + seconds * 1000;
    return warmUntil(() => performance.now() > endMs);
  };

  await warmFor(1); // their own sessions are cold too, at first
  const warmBefore = await measureOnce({
    ...named('before'),
    pid: subject.pid,
    run: () => warmFor(Math.min(context.seconds, MAX_CALM_SECONDS)),
  });

  let stormOver = false;
  const warm = warmUntil(() => stormOver);
  const cold = await measureOnce({
    ...named('cold'),
    pid: subject.pid,
    run: async () => {
      const latenciesMs: number[] = [];
      const startedMs = performance.now();
      await onConnections(subject.url, coldTokens.length, async (connection, index) => {
        latenciesMs.push(await timed(connection, { method: 'GET', path: keyPath(0), token: coldTokens[index] ?? '' }));
      });
      return resultOf(latenciesMs, performance.now() - startedMs);
    },
  }).finally(() => {
    stormOver = true;
  });
  const nothing = Number.NaN;
  return {
    bound: {
      completed: coldAgents,
      failed: 0,
      ratePerSecond: nothing,
      p50Ms: nothing,
      p99Ms: nothing,
      maxMs: boundMs,
      cpuMicrosPerOperation: nothing,
    },
    cold,
    warmBefore,
    warmDuring: { ...(await warm), cpuMicrosPerOperation: nothing },
  };
}

async function timed(connection: HttpConnection, request: LoadRequest): Promise<number> {
  const sentMs = performance.now();
  expectSuccess(request, await connection.send(request));
  return performance.now() - sentMs;
}

function resultOf(latenciesMs: number[], elapsedMs: number): LoadResult {
  const completed = latenciesMs.length;
  return { completed, failed: 0, ratePerSecond: (completed * 1000) / elapsedMs, ...percentiles(latenciesMs) };
}

function named(name: string): Side {
  return { name, pid: null, run: () => Promise.reject(new Error(`${name} is not run by itself`)) };
}
