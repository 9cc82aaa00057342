/** How long is a server away that was killed under load, when it has a long history? */
import { setTimeout as sleep } from 'node:timers/promises';
import { AGENTS, KEYS, postRequests, putRequests } from '../dataset.js';
import { compare, measureInTurn, type Side } from '../measure.js';
import { type BenchContext, check, type Scenario } from '../scenario.js';
import { percentiles } from '../statistics.js';
import { Subject } from '../subject.js';

export const startAfterKill: Scenario = { name: 'start-after-kill', run };

/** Long enough that the last checkpoint is a second old, as in life. */
const LOAD_BEFORE_KILL_MS = 1_500;

async function run(context: BenchContext) {
  const subject = await Subject.start(context, { name: 'kernel', agents: AGENTS });
  const requests = [...putRequests(subject), ...postRequests(subject)];
  const load = (seconds: number) =>
    context.load({ url: subject.url, connections: context.connections, seconds, requests }, context.workDir);
  let events = 0;
  while (events < context.events) {
    events += (await load(context.seconds)).completed;
    context.note(`${events} of ${context.events} events`);
  }

  const fresh = await Subject.start(context, { name: 'fresh', agents: AGENTS });
  const killedSide = (name: string, of: Subject, loading: (() => Promise<unknown>) | null): Side => ({
    name,
    pid: null,
    run: async () => {
      const load = loading?.().catch(() => null); // it loses its server
      await sleep(LOAD_BEFORE_KILL_MS);
      const startMs = await of.killAndRestart();
      await load;
      return startOf(startMs);
    },
  });
  const loadSeconds = Math.ceil(LOAD_BEFORE_KILL_MS / 1_000) + 1;
  const ours = killedSide(`start after kill -9 under load, ${events} events`, subject, () => load(loadSeconds));
  const idle = killedSide('start after kill -9, no history', fresh, null);
  const rounds = await measureInTurn(ours, idle, context.rounds);
  // So that one ratio is in seconds, which is what the target is in.
  const oneSecond: Side = { name: 'one second', pid: null, run: async () => startOf(1_000) };
  const seconds = { ours: rounds.ours, reference: rounds.ours.map((one) => ({ ...one, ...startOf(1_000) })) };
  const agent = subject.agent(0);
  const capacity = (await subject.ask({ method: 'GET', path: '/v1/state/_capacity', token: agent.token })) as {
    key_count: number;
  };
  return {
    dataset: `${events} events of history, killed under ${context.connections} connections`,
    rows: [
      compare('start after kill -9, in seconds', 'longest wait', ours, oneSecond, seconds, { floor: 3, aim: 0.5 }),
      compare('start with history ÷ without', 'longest wait', ours, idle, rounds, null),
    ],
    checks: [check('every key is there', capacity.key_count === KEYS, capacity.key_count)],
  };
}

function startOf(startMs: number) {
  return { completed: 1, failed: 0, ratePerSecond: 1_000 / startMs, ...percentiles([startMs]) };
}
