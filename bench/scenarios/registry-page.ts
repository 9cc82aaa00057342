/** Does a page of the registry cost the same in a world a hundred times as large? Two servers, measured in turn. */
import type { LoadRequest } from '../load/load.js';
import { compare, measureInTurn } from '../measure.js';
import { type BenchContext, check, noFailures, type Scenario, timedSide, warmUp } from '../scenario.js';
import { Subject } from '../subject.js';

const PAGE = 100;
const CONNECTIONS = 8;
const REGISTRARS = 128;
/** Pages asked for in turn, spread evenly over the registry. */
const PAGES_ASKED = 50;

export const registryPage: Scenario = { name: 'registry-page', run };

async function run(context: BenchContext) {
  const smallCount = context.smoke ? 300 : 1_000;
  context.note(`registering ${smallCount} and ${context.agents} agents`);
  const options = { authScheme: 'hmac', registrars: REGISTRARS, coldSessions: true } as const;
  const small = await Subject.start(context, { name: 'small', agents: smallCount, ...options });
  const large = await Subject.start(context, { name: 'large', agents: context.agents, ...options });
  const smallPages = await walkRegistry(small);
  const largePages = await walkRegistry(large);

  const plan = { connections: CONNECTIONS, seconds: context.seconds };
  const sideOf = (subject: Subject, requests: readonly LoadRequest[]) =>
    timedSide(context, `GET /v1/registry at ${subject.agents.length} agents`, subject.pid, {
      ...plan,
      url: subject.url,
      requests: spread(requests),
    });
  const reference = sideOf(small, smallPages.requests);
  const ours = sideOf(large, largePages.requests);
  await warmUp(context, reference, ours);
  const rounds = await measureInTurn(ours, reference, context.rounds);
  return {
    dataset: `pages of ${PAGE} all over the registry, ${smallCount} and ${context.agents} agents, ${CONNECTIONS} connections, auth.scheme hmac`,
    rows: [compare(`registry page of ${PAGE}`, 'p50', ours, reference, rounds, { floor: 1.3, aim: 1.1 })],
    checks: [
      noFailures(ours, rounds.ours),
      noFailures(reference, rounds.reference),
      check('the small registry lists every agent once, oldest first', smallPages.complete, smallPages.listed),
      check('the large registry lists every agent once, oldest first', largePages.complete, largePages.listed),
    ],
  };
}

/** Reads the whole registry, page by page. */
async function walkRegistry(subject: Subject) {
  const requests: LoadRequest[] = [];
  const seen = new Set<string>();
  let latest = '';
  let ordered = true;
  let listed = 0;
  let path = `/v1/registry?limit=${PAGE}`;
  for (;;) {
    const request: LoadRequest = { method: 'GET', path, token: subject.agent(requests.length).token };
    requests.push(request);
    const page = (await subject.ask(request)) as {
      agents: { address: string; registered_at: string }[];
      next_cursor: string | null;
      total: number;
    };
    for (const { address, registered_at } of page.agents) {
      seen.add(address);
      listed++;
      ordered &&= registered_at >= latest;
      latest = registered_at;
    }
    if (page.next_cursor === null) {
      const all = subject.agents.length;
      return { requests, listed, complete: ordered && listed === all && seen.size === all && page.total === all };
    }
    path = `/v1/registry?limit=${PAGE}&cursor=${encodeURIComponent(page.next_cursor)}`;
  }
}

function spread(requests: readonly LoadRequest[]): LoadRequest[] {
  const full = requests.length > 1 ? requests.slice(0, -1) : requests; // the last page may be short
  const step = Math.max(1, Math.floor(full.length / PAGES_ASKED));
  return full.filter((_, index) => index % step === 0);
}
