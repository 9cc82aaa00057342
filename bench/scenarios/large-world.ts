/** Does every operation cost the same in a world of 1,000,000 keys and 100,000 agents? Two servers, measured in turn. */
import { setTimeout as sleep } from 'node:timers/promises';
import { spreadPlace, VALUE, VALUE_BYTES } from '../dataset.js';
import { sendEach } from '../fill.js';
import { loadWithConnections } from '../load/connections.js';
import { expectSuccess, onConnections } from '../load/http-connection.js';
import type { LoadRequest, LoadResult } from '../load/load.js';
import { compare, measureInTurn, type Row, type Side } from '../measure.js';
import { type BenchContext, type Check, check, noFailures, type Scenario, warmUp } from '../scenario.js';
import { percentiles } from '../statistics.js';
import { Subject } from '../subject.js';

const CONNECTIONS = 8;
const REGISTRARS = 128;
/** In turn, all over the keys and agents: some of each hundred, of a small world all. Hot keys, too, are spread. */
const REQUESTS = 20_000;
const PAGE = 100;
/** Keys that are written, and then read once each: what a gateway had read before is no longer current. */
const CHANGED_KEYS = 1_000;
/** The rows written leave memory for the store within a second. */
const AFTER_CHANGES_MS = 1_500;
const TARGET = { floor: 1.2, aim: 1.05 };

export const largeWorld: Scenario = { name: 'large-world', run };

interface World {
  readonly subject: Subject;
  readonly keys: number;
  /** Requests for pages, all over the registry. */
  readonly registryPages: readonly LoadRequest[];
}

/** How one operation is measured, in either world. */
interface Operation {
  readonly what: string;
  sideOf(world: World, name: string): Side;
}

async function run(context: BenchContext) {
  const { smoke } = context;
  const smallSize = smoke ? 200 : 1_000;
  const [small, large] = await Promise.all([
    startWorld(context, 'small', smallSize, smallSize),
    startWorld(context, 'large', context.agents, context.keys),
  ]);
  const messages = new MessageCount();
  const rows: Row[] = [];
  const checks: Check[] = [];
  for (const { what, sideOf } of operations(context, messages)) {
    context.note(what);
    const reference = sideOf(small, `${what}, small world`);
    const ours = sideOf(large, `${what}, large world`);
    await warmUp(context, reference, ours);
    const rounds = await measureInTurn(ours, reference, context.rounds);
    rows.push(compare(`large world: ${what}`, 'p50', ours, reference, rounds, TARGET));
    checks.push(noFailures(ours, rounds.ours), noFailures(reference, rounds.reference));
  }
  checks.push(check('every message left is received, alone and once', messages.areRight(), messages.found()));
  for (const world of [small, large]) checks.push(...(await worldChecks(world)));
  return {
    dataset: `${large.keys} keys and ${large.subject.agents.length} agents, and ${small.keys} and ${small.subject.agents.length}; values of ${VALUE_BYTES} bytes, ${CONNECTIONS} connections, auth.scheme hmac, warm sessions; ${requestsOf(context)} requests in turn spread over all keys and agents, so a hot key is one in the gateway's read cache, in both worlds; a changed key's first read is from the store, in both`,
    rows,
    checks,
  };
}

async function startWorld(context: BenchContext, name: string, agents: number, keys: number): Promise<World> {
  context.note(`${name} world: registering ${agents} agents, writing ${keys} keys`);
  const subject = await Subject.start(context, {
    name,
    agents,
    authScheme: 'hmac',
    registrars: Math.min(REGISTRARS, agents),
    sessionTtl: '1h', // warm for as long as this takes; renewals are another scenario's question
  });
  await sendEach(subject, keys, (number) => putRequest(subject, spreadPlace(number, keys), number));
  const pages = await registryPages(subject);
  if (!context.smoke) await subject.settled(context);
  return { subject, keys, registryPages: pages };
}

function operations(context: BenchContext, messages: MessageCount): Operation[] {
  const listed = (what: string, requestOf: (world: World, turn: number) => LoadRequest): Operation => ({
    what,
    sideOf: (world, name) => {
      const requests = Array.from({ length: requestsOf(context) }, (_, turn) => requestOf(world, turn));
      const plan = { url: world.subject.url, connections: CONNECTIONS, requests };
      const load = (): Promise<LoadResult> =>
        context.smoke
          ? loadWithConnections({ ...plan, seconds: 0.05 })
          : context.timedLoad({ ...plan, seconds: context.seconds }, context.workDir);
      return { name, pid: world.subject.pid, run: load };
    },
  });
  return [
    listed('GET agents/me', ({ subject }, turn) => ({
      method: 'GET',
      path: '/v1/agents/me',
      token: agentAt(subject, turn).token,
    })),
    listed('GET registry page', ({ subject, registryPages }, turn) => ({
      method: 'GET',
      path: registryPages[turn % registryPages.length]?.path ?? '',
      token: agentAt(subject, turn).token,
    })),
    listed('GET state, hot keys', ({ subject, keys }, turn) => getRequest(subject, spreadPlace(turn, keys), turn)),
    {
      what: 'GET state, changed keys',
      sideOf: (world, name) => changedKeysSide(context, world, name),
    },
    listed('PUT state', ({ subject, keys }, turn) => putRequest(subject, spreadPlace(turn, keys), turn)),
    {
      what: 'GET messages, one each',
      sideOf: (world, name) => receivingSide(context, world, name, messages),
    },
    listed('POST message', ({ subject }, turn) => postRequest(subject, turn)),
  ];
}

function requestsOf({ smoke }: BenchContext): number {
  return smoke ? 200 : REQUESTS;
}

function agentAt(subject: Subject, turn: number) {
  return subject.agent(spreadPlace(turn, subject.agents.length));
}

function keyPathAt(place: number): string {
  return `/v1/state/world/key-${String(place).padStart(8, '0')}`;
}

function getRequest(subject: Subject, place: number, turn: number): LoadRequest {
  return { method: 'GET', path: keyPathAt(place), token: agentAt(subject, turn).token };
}

const PUT_BODY = JSON.stringify({ value: VALUE });

function putRequest(subject: Subject, place: number, turn: number): LoadRequest {
  return { method: 'PUT', path: keyPathAt(place), token: agentAt(subject, turn).token, body: PUT_BODY };
}

/** To the agent at the same turn. */
function postRequest(subject: Subject, turn: number): LoadRequest {
  const body = JSON.stringify({ to: agentAt(subject, turn).address, content: VALUE });
  return { method: 'POST', path: '/v1/messages', token: agentAt(subject, turn + 1).token, body };
}

/** Changes keys, lets the store have them, reads each once; over and over. Only the reads count. */
function changedKeysSide(context: BenchContext, { subject, keys }: World, name: string): Side {
  let turn = 0;
  return {
    name,
    pid: null, // the CPU time would be mostly that of the writes
    run: async () => {
      const latenciesMs: number[] = [];
      let readingMs = 0;
      const endMs = performance.now() + context.seconds * 1000;
      do {
        const first = turn;
        const count = Math.min(CHANGED_KEYS, keys);
        turn += count;
        const placeOf = (number: number): number => spreadPlace(first + number, keys);
        await sendEach(subject, count, (number) => putRequest(subject, placeOf(number), number));
        if (!context.smoke) await sleep(AFTER_CHANGES_MS);
        const startedMs = performance.now();
        latenciesMs.push(
          ...(await timeEach(
            subject,
            count,
            (number) => getRequest(subject, placeOf(number), number),
            () => {},
          )),
        );
        readingMs += performance.now() - startedMs;
      } while (performance.now() < endMs && !context.smoke);
      return resultOf(latenciesMs, readingMs);
    },
  };
}

/** Takes one message with each request, from a queue that holds few. */
function receivingSide(context: BenchContext, { subject }: World, name: string, messages: MessageCount): Side {
  const count = context.smoke ? 200 : 8_000;
  return {
    name,
    pid: subject.pid,
    prepare: () => sendEach(subject, count, (number) => postRequest(subject, number)),
    run: async () => {
      messages.sent += count;
      const requestOf = (number: number): LoadRequest => ({
        method: 'GET',
        path: '/v1/messages?limit=1',
        token: agentAt(subject, number).token,
      });
      const startedMs = performance.now();
      const latenciesMs = await timeEach(subject, count, requestOf, (body) => messages.take(body));
      return resultOf(latenciesMs, performance.now() - startedMs);
    },
  };
}

/** What came out of the queues, over all rounds. */
class MessageCount {
  sent = 0;
  private pages = 0;
  private notAlone = 0;
  private readonly ids = new Set<string>();

  take(body: string): void {
    const { messages } = JSON.parse(body) as { messages: { message_id: string }[] };
    this.pages++;
    if (messages.length !== 1) this.notAlone++;
    for (const { message_id } of messages) this.ids.add(message_id);
  }

  areRight(): boolean {
    return this.notAlone === 0 && this.pages === this.sent && this.ids.size === this.sent;
  }

  found(): string {
    return `${this.ids.size} of ${this.sent}`;
  }
}

/** Sends each request once; the times of the answers. @throws Error unless all are 2xx. */
async function timeEach(
  subject: Subject,
  count: number,
  requestOf: (number: number) => LoadRequest,
  onAnswer: (body: string) => void,
): Promise<number[]> {
  const latenciesMs: number[] = [];
  let next = 0;
  await onConnections(subject.url, CONNECTIONS, async (connection) => {
    while (next < count) {
      const request = requestOf(next++);
      const sentMs = performance.now();
      const { body } = expectSuccess(request, await connection.send(request));
      latenciesMs.push(performance.now() - sentMs);
      onAnswer(body);
    }
  });
  return latenciesMs;
}

function resultOf(latenciesMs: number[], elapsedMs: number): LoadResult {
  const completed = latenciesMs.length;
  return { completed, failed: 0, ratePerSecond: (completed * 1000) / elapsedMs, ...percentiles(latenciesMs) };
}

/** Full pages that begin at places spread evenly over the registry. */
async function registryPages(subject: Subject): Promise<LoadRequest[]> {
  const step = Math.min(1_000, subject.agents.length >> 1); // a page to begin at, not one to read
  const requests: LoadRequest[] = [];
  let cursor = '';
  for (let place = 0; place + PAGE <= subject.agents.length; place += step) {
    const path = (limit: number): string => `/v1/registry?limit=${limit}${cursor}`;
    const { token } = subject.agent(place);
    requests.push({ method: 'GET', path: path(PAGE), token });
    const page = (await subject.ask({ method: 'GET', path: path(step), token })) as { next_cursor: string | null };
    if (page.next_cursor === null) break;
    cursor = `&cursor=${encodeURIComponent(page.next_cursor)}`;
  }
  return requests;
}

async function worldChecks({ subject, keys }: World): Promise<Check[]> {
  const agents = subject.agents.length;
  const { token } = subject.agent(0);
  const capacity = (await subject.ask({ method: 'GET', path: '/v1/state/_capacity', token })) as {
    key_count: number;
    used_bytes: number;
  };
  const registry = (await subject.ask({ method: 'GET', path: '/v1/registry?limit=1', token })) as { total: number };
  const last = (await subject.ask(getRequest(subject, keys - 1, 0))) as { value: string };
  const keyBytes = Buffer.byteLength('world/key-00000000');
  const isRight =
    capacity.key_count === keys &&
    capacity.used_bytes === keys * (keyBytes + VALUE_BYTES) &&
    registry.total === agents &&
    last.value === VALUE;
  const what = `the world of ${keys} keys and ${agents} agents has all of them, and no other`;
  return [check(what, isRight, `${capacity.key_count} keys, ${registry.total} agents`)];
}
