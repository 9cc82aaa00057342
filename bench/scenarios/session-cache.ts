/** How many bcrypts does an active agent cost, whose session expires again and again? */
import { AGENTS, keyPath, VALUE } from '../dataset.js';
import type { LoadRequest } from '../load/load.js';
import { loadAtPace } from '../load/paced.js';
import { countedRow, type Measurement, measureOnce, type Side } from '../measure.js';
import { type BenchContext, check, noFailures, type Scenario } from '../scenario.js';
import { Subject } from '../subject.js';

const PAUSE_MS = 10;

export const sessionCache: Scenario = { name: 'session-cache', run };

/** As the server counts. */
interface Counts {
  /** Requests with a well-formed token. */
  readonly authenticated: number;
  /** Of them, those whose session was not in the cache, or no longer. */
  readonly looked: number;
  readonly bcrypts: number;
}

async function run(context: BenchContext) {
  const { smoke, rounds } = context;
  const agents = smoke ? 2 : AGENTS;
  const ttlMs = smoke ? 150 : 2_000;
  /** How often each session expires while it is in use. */
  const expiries = smoke ? 4 : 10;
  const seconds = ((expiries + 0.5) * ttlMs) / 1000;
  const subject = await Subject.start(context, {
    name: 'kernel',
    agents: agents + 1, // one more, who writes the key
    registrars: agents,
    sessionTtl: `${ttlMs}ms`,
    coldSessions: true,
  });
  const { token } = subject.agent(agents);
  await subject.ask({ method: 'PUT', path: keyPath(0), token, body: JSON.stringify({ value: VALUE }) });

  const arriving: Measurement[] = [];
  const staying: Measurement[] = [];
  const renewalsPerAgent: number[] = [];
  let sent = 0;
  let authenticated = 0;
  for (let round = 0; round < rounds; round++) {
    if (round > 0) await subject.restart(); // nobody is known, as after registration
    const start = await countsOf(subject);
    const arrival = await measureOnce(side(subject, 'one request of each, cold', agents, 0));
    const arrived = await countsOf(subject);
    const stay = await measureOnce(side(subject, 'active agents', agents, seconds));
    const end = await countsOf(subject);
    arriving.push({ ...stay, counted: savedShare(start, end) });
    staying.push({ ...stay, counted: savedShare(arrived, end) });
    renewalsPerAgent.push((end.looked - arrived.looked) / agents);
    sent += arrival.completed + stay.completed;
    authenticated += end.authenticated - start.authenticated;
  }
  const target = { floor: 0.99, aim: 0.999 };
  const first = `from their first request, ${seconds} s`;
  return {
    dataset: `${agents} agents that read a key every ${PAUSE_MS} ms; auth.session_ttl ${ttlMs} ms, so that each session expires ${expiries} times while it is in use; bcrypt cost 10, a server that knows nobody each round`,
    rows: [
      countedRow('bcrypts saved, active agents', 'share', 'after their first request', staying, target),
      countedRow('bcrypts saved, first check included', 'share', first, arriving, smoke ? null : target),
    ],
    checks: [
      noFailures(side(subject, 'active agents', agents, seconds), staying),
      check('the server authenticated every request', authenticated === sent, `${authenticated} of ${sent}`),
      // Else nothing would have been asked of the cache. A quarter of them: a machine that stands still sends nothing.
      check(
        'sessions expired meanwhile',
        Math.min(...renewalsPerAgent) >= expiries / 4,
        `${renewalsPerAgent.map((one) => one.toFixed(1)).join(' and ')} times each`,
      ),
    ],
  };
}

async function countsOf(subject: Subject): Promise<Counts> {
  const hits = await subject.metric('tabulum_session_cache_hits_total');
  const looked = await subject.metric('tabulum_session_cache_misses_total');
  return { authenticated: hits + looked, looked, bcrypts: await subject.metric('tabulum_bcrypts_total') };
}

function savedShare(before: Counts, after: Counts): number {
  return 1 - (after.bcrypts - before.bcrypts) / (after.authenticated - before.authenticated);
}

function side(subject: Subject, name: string, agents: number, seconds: number): Side {
  const requestOf = (client: number): LoadRequest => ({
    method: 'GET',
    path: keyPath(0),
    token: subject.agent(client).token,
  });
  return {
    name,
    pid: subject.pid,
    run: () => loadAtPace({ url: subject.url, clients: agents, pauseMs: PAUSE_MS, seconds, requestOf }),
  };
}
