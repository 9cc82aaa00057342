/** Do good agents notice a flood of tokens that nobody was given, and does it cost a bcrypt? */
import { randomBytes } from 'node:crypto';
import { TOKEN_LENGTH, tokenLookup } from '../../src/contract/tokens.js';
import { AGENTS, keyPath, VALUE } from '../dataset.js';
import { LoadProcess } from '../load/load-process.js';
import { loadAtPace } from '../load/paced.js';
import type { FloodCount } from '../load/token-flood.js';
import { compare, countedRow, type Measurement, measureInTurn, type Row, type Side } from '../measure.js';
import { type BenchContext, type Check, check, noFailures, type Scenario, warmUp } from '../scenario.js';
import { Subject } from '../subject.js';

const FLOOD_CONNECTIONS = 32;
const FLOOD_PER_SECOND = 2_000;
const PAUSE_MS = 20;

export const badTokens: Scenario = { name: 'bad-tokens', run };

async function run(context: BenchContext) {
  const agents = context.smoke ? 2 : AGENTS;
  const seconds = context.smoke ? 0.3 : context.seconds;
  const subject = await Subject.start(context, { name: 'kernel', agents, registrars: agents });
  const { token } = subject.agent(0);
  await subject.ask({ method: 'PUT', path: keyPath(0), token, body: JSON.stringify({ value: VALUE }) });
  const wrongTokens = subject.agents.map(({ token }) => withWrongRest(token));
  const rows: Row[] = [];
  const checks: Check[] = [];
  for (const [kind, tokens] of [
    ['random tokens', []],
    ['known prefixes, wrong rest', wrongTokens],
  ] as const) {
    const flood = new Flood(subject.url, tokens);
    context.onEnd(() => flood.end());
    const load = () =>
      loadAtPace({
        url: subject.url,
        clients: agents,
        pauseMs: PAUSE_MS,
        seconds,
        requestOf: (client) => ({ method: 'GET', path: keyPath(0), token: subject.agent(client).token }),
      });
    const calm: Side = { name: 'good agents, no flood', pid: subject.pid, prepare: () => flood.end(), run: load };
    const flooded: Side = {
      name: `good agents, flood of ${kind}`,
      pid: subject.pid,
      prepare: () => flood.begin(),
      run: load,
    };
    const bcryptsBefore = await subject.metric('tabulum_bcrypts_total');
    await warmUp(context, calm, flooded);
    const rounds = await measureInTurn(flooded, calm, context.rounds);
    await flood.end();
    const { refused, other } = flood.count;
    const bcrypts = (await subject.metric('tabulum_bcrypts_total')) - bcryptsBefore;
    // One for each wrong token, whatever gateways it comes to.
    const allowed = tokens.length;
    const isRandom = tokens.length === 0;
    rows.push(compare(`good agents, ${kind}`, 'p99', flooded, calm, rounds, { floor: 2, aim: 1.3 }));
    rows.push(
      countedRow(`bcrypts for ${kind}`, 'count', `flood of ${kind}`, [measurementOf(flood.count, bcrypts)], {
        floor: allowed,
        aim: allowed,
      }),
    );
    checks.push(
      noFailures(flooded, rounds.ours),
      noFailures(calm, rounds.reference),
      check(`${kind}: every one is refused with 401`, other === 0 && refused > 0, `${refused} of ${refused + other}`),
      check(
        isRandom ? `${kind}: no bcrypt is run` : `${kind}: no more than ${allowed} bcrypts, and not none`,
        bcrypts <= allowed && (isRandom || bcrypts >= tokens.length),
        `${bcrypts} for ${refused} requests`,
      ),
    );
  }
  return {
    dataset: `${agents} good agents that read a key every ${PAUSE_MS} ms; up to ${FLOOD_PER_SECOND} bad requests a second on ${FLOOD_CONNECTIONS} connections, from a process of low priority, as they would come from other machines; the known prefixes are those of the good agents, one wrong token each`,
    rows,
    checks,
  };
}

/** As well-formed as the token, found by the same lookup, and not it. */
function withWrongRest(token: string): string {
  const lookup = tokenLookup(token);
  return lookup + randomBytes((TOKEN_LENGTH - lookup.length) / 2).toString('hex');
}

function measurementOf({ refused, other, seconds }: FloodCount, bcrypts: number): Measurement {
  const nothing = Number.NaN;
  return {
    completed: refused,
    failed: other,
    ratePerSecond: refused / seconds,
    p50Ms: nothing,
    p99Ms: nothing,
    maxMs: nothing,
    cpuMicrosPerOperation: nothing,
    counted: bcrypts,
  };
}

/** The process that floods, begun and ended again and again. */
class Flood {
  private readonly url: string;
  private readonly tokens: readonly string[];
  private process: LoadProcess | null = null;
  /** Over all its times. */
  count: FloodCount = { refused: 0, other: 0, seconds: 0 };

  /** @param tokens sent in turn; random ones when there are none. */
  constructor(url: string, tokens: readonly string[]) {
    this.url = url;
    this.tokens = tokens;
  }

  async begin(): Promise<void> {
    const args = [this.url, String(FLOOD_CONNECTIONS), String(FLOOD_PER_SECOND), ...this.tokens];
    this.process ??= await LoadProcess.start('./token-flood.js', args);
  }

  async end(): Promise<void> {
    const { process } = this;
    if (process === null) return;
    this.process = null;
    const one = (await process.end()) as FloodCount;
    this.count = {
      refused: this.count.refused + one.refused,
      other: this.count.other + one.other,
      seconds: this.count.seconds + one.seconds,
    };
  }
}
