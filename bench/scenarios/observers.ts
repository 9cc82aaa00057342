/** Do agents notice that a hundred people watch everything they do? */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { constants, setPriority } from 'node:os';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { AGENTS, keyPath } from '../dataset.js';
import { fillState } from '../fill.js';
import { expectSuccess, onConnections } from '../load/http-connection.js';
import type { LoadRequest, LoadResult } from '../load/load.js';
import { compare, measureInTurn, type Side } from '../measure.js';
import { type BenchContext, check, noFailures, type Scenario, warmUp } from '../scenario.js';
import { percentiles } from '../statistics.js';
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
    const load = (): Promise<LoadResult> => paced(subject, method, context.seconds);
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

async function paced(subject: Subject, method: 'GET' | 'PUT', seconds: number): Promise<LoadResult> {
  const latenciesMs: number[] = [];
  const startedMs = performance.now();
  const endMs = startedMs + seconds * 1000;
  await onConnections(subject.url, ACTIVE_AGENTS, async (connection, index) => {
    const { token } = subject.agent(index);
    await sleep((index * PAUSE_MS) / ACTIVE_AGENTS);
    for (let n = 0; performance.now() < endMs; n++) {
      const path = keyPath(index * 100 + (n % 100));
      const request: LoadRequest =
        method === 'GET' ? { method, path, token } : { method, path, token, body: `{"value":"${'v'.repeat(200)}"}` };
      const sentMs = performance.now();
      expectSuccess(request, await connection.send(request));
      latenciesMs.push(performance.now() - sentMs);
      await sleep(PAUSE_MS);
    }
  });
  const completed = latenciesMs.length;
  const ratePerSecond = (completed * 1000) / (performance.now() - startedMs);
  return { completed, failed: 0, ratePerSecond, ...percentiles(latenciesMs) };
}

/** The watchers' process. */
class Crowd {
  private child: ChildProcess | null = null;
  private lines: string[] = [];
  private lastReceived: number[] = [];

  constructor(
    private readonly port: number,
    readonly size: number,
  ) {}

  async gather(): Promise<void> {
    if (this.child !== null) return;
    const entry = fileURLToPath(new URL('../reference/stream-watchers.js', import.meta.url));
    const child = spawn(process.execPath, [entry, String(this.port), String(this.size)], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    this.child = child;
    this.lines = [];
    if (child.pid === undefined || child.stdout === null) throw new Error('the watchers did not start');
    setPriority(child.pid, constants.priority.PRIORITY_BELOW_NORMAL);
    const output = createInterface({ input: child.stdout });
    output.on('line', (line) => this.lines.push(line));
    await Promise.race([
      once(output, 'line'),
      once(child, 'exit').then(() => Promise.reject(new Error('the watchers were refused'))),
    ]);
  }

  async leave(): Promise<void> {
    const { child } = this;
    if (child === null) return;
    this.child = null;
    const closed = once(child, 'close');
    child.stdin?.end();
    await closed;
    const last = this.lines.at(-1);
    if (last !== undefined && last !== 'ready') this.lastReceived = JSON.parse(last) as number[];
  }

  /** Bytes that the watchers of the last time got. */
  received(): { readonly least: number; readonly most: number } {
    return { least: Math.min(...this.lastReceived), most: Math.max(...this.lastReceived) };
  }
}
