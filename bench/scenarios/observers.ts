/** Do agents notice that a hundred people watch everything they do? */
import { AGENTS, keyPath, VALUE } from '../dataset.js';
import { fillState } from '../fill.js';
import type { LoadResult } from '../load/load.js';
import { LoadProcess } from '../load/load-process.js';
import { loadAtPace } from '../load/paced.js';
import { compare, measureInTurn, type Side } from '../measure.js';
import { type BenchContext, check, noFailures, type Scenario, warmUp } from '../scenario.js';
import { Subject } from '../subject.js';

const WATCHERS = 100;
/** Agents that live, they don't hammer: a machine that is full shows only that it is full. */
const ACTIVE_AGENTS = 16;
const PAUSE_MS = 20;

export const observers: Scenario = { name: 'observers', run };

async function run(context: BenchContext) {
  const subject = await Subject.start(context, { name: 'kernel', agents: AGENTS });
  await fillState(subject);
  const port = Number(/:(\d+)$/.exec(subject.banner.find((line) => line.includes('observation')) ?? '')?.[1]);
  const crowd = new Crowd(port, context.smoke ? 5 : WATCHERS);
  context.onEnd(() => crowd.leave());
  const rows = [];
  const checks = [];
  for (const [kind, method] of [
    ['reads', 'GET'],
    ['durable writes', 'PUT'],
  ] as const) {
    const body = method === 'PUT' ? { body: JSON.stringify({ value: VALUE }) } : {};
    const load = (): Promise<LoadResult> =>
      loadAtPace({
        url: subject.url,
        clients: ACTIVE_AGENTS,
        pauseMs: PAUSE_MS,
        seconds: context.seconds,
        requestOf: (client, turn) => {
          return { method, path: keyPath(client * 100 + (turn % 100)), token: subject.agent(client).token, ...body };
        },
      });
    const alone: Side = { name: `${kind}, nobody watches`, pid: subject.pid, prepare: () => crowd.leave(), run: load };
    const watched: Side = {
      name: `${kind}, ${crowd.size} watch`,
      pid: subject.pid,
      prepare: () => crowd.gather(),
      run: load,
    };
    await warmUp(context, alone, watched);
    const rounds = await measureInTurn(watched, alone, context.rounds);
    rows.push(compare(`agents under observation: ${kind}`, 'p99', watched, alone, rounds, { floor: 1.1, aim: 1 }));
    checks.push(noFailures(watched, rounds.ours), noFailures(alone, rounds.reference));
  }
  await crowd.leave();
  const { least, most } = crowd.received();
  checks.push(
    check('every watcher got the same stream', least > 0 && most - least <= most / 100, `${least}-${most} B`),
  );
  return {
    dataset: `${ACTIVE_AGENTS} agents, a request every ${PAUSE_MS} ms each; ${crowd.size} watchers of all events, in a process of low priority, as they would be on other machines`,
    rows,
    checks,
  };
}

/** The watchers' process. */
class Crowd {
  private process: LoadProcess | null = null;
  private lastReceived: number[] = [];

  constructor(
    private readonly port: number,
    readonly size: number,
  ) {}

  async gather(): Promise<void> {
    this.process ??= await LoadProcess.start('../reference/stream-watchers.js', [String(this.port), String(this.size)]);
  }

  async leave(): Promise<void> {
    const { process } = this;
    if (process === null) return;
    this.process = null;
    this.lastReceived = (await process.end()) as number[];
  }

  /** Bytes that the watchers of the last time got. */
  received(): { readonly least: number; readonly most: number } {
    return { least: Math.min(...this.lastReceived), most: Math.max(...this.lastReceived) };
  }
}
