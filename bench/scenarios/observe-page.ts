/** Does a page of 100 events cost the same, filtered and not, with a hundred times the history? */
import { join } from 'node:path';
import { writeLogFixture } from '../../test/observe/log-fixture.js';
import type { LoadRequest } from '../load/load.js';
import { compare, measureInTurn } from '../measure.js';
import { ObservedLog } from '../observed-log.js';
import { type BenchContext, noFailures, type Scenario, timedSide, warmUp } from '../scenario.js';

const AGENTS = 100;
const SHARDS = 2;
const POSITIONS = 1_000;
const LARGER = 100;

export const observePage: Scenario = { name: 'observe-page', run };

interface World {
  readonly observer: ObservedLog;
  readonly events: number;
  readonly agents: readonly string[];
}

async function run(context: BenchContext) {
  const many = context.smoke ? 20_000 : 1_000_000;
  const large = await world(context, 'large', many);
  const small = await world(context, 'small', many / LARGER);
  const rows = [];
  const checks = [];
  const filters = [
    ['all events', () => ''],
    ['of one type', () => '&type=state_deleted'],
    ['of one agent', (agent: string) => `&agent=${agent}`],
    ['of one agent, two types', (agent: string) => `&agent=${agent}&type=state_written,message_sent`],
  ] as const;
  for (const [name, filter] of filters) {
    const side = ({ observer, events, agents }: World) =>
      timedSide(context, `page ${name}, ${events} events`, observer.pid, {
        url: observer.url,
        connections: 1,
        seconds: context.seconds,
        requests: requests(events, agents, filter),
      });
    const ours = side(large);
    const reference = side(small);
    await warmUp(context, reference, ours);
    const rounds = await measureInTurn(ours, reference, context.rounds);
    rows.push(compare(`observed page, ${name}`, 'p50', ours, reference, rounds, null));
    checks.push(noFailures(ours, rounds.ours), noFailures(reference, rounds.reference));
  }
  return {
    dataset: `pages of 100 at ${POSITIONS} positions, ${AGENTS} agents in ${SHARDS} shards; ${many} events and a hundredth of that`,
    rows,
    checks,
  };
}

async function world(context: BenchContext, name: string, events: number): Promise<World> {
  const dataDir = join(context.workDir, name);
  context.note(`writing and indexing ${events} events`);
  const { agents } = writeLogFixture(
    dataDir,
    { seed: 1, shards: SHARDS, agents: AGENTS, events: events - AGENTS },
    false,
  );
  const observer = await ObservedLog.start(context, dataDir);
  await observer.untilIndexed(events);
  return { observer, events, agents };
}

function requests(events: number, agents: readonly string[], filter: (agent: string) => string): LoadRequest[] {
  return Array.from({ length: POSITIONS }, (_, n) => {
    // In an order that jumps, so that no page is beside the one before.
    const since = Math.floor((((n * 7919) % POSITIONS) * events) / POSITIONS);
    const agent = agents[n % agents.length] ?? '';
    return { method: 'GET', path: `/observe/events?limit=100&since=${since}${filter(agent)}`, token: '' };
  });
}
