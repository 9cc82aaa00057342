/** Does a page of keys cost the same among a hundred times as many? Two servers, measured in turn. */
import { AGENTS, spreadPlace, VALUE } from '../dataset.js';
import { sendEach } from '../fill.js';
import { loadWithConnections } from '../load/connections.js';
import { expectSuccess, onConnections } from '../load/http-connection.js';
import type { LoadRequest } from '../load/load.js';
import { compare, measureInTurn, type Row, type Side } from '../measure.js';
import { type BenchContext, type Check, check, noFailures, type Scenario, warmUp } from '../scenario.js';
import { Subject } from '../subject.js';

const PAGE = 100;
const CONNECTIONS = 8;
const SMALL_KEYS = 10_000;
const HALLS = 10;
const KEYS_PER_ROOM = 250;
const KEYS_PER_ROUND_OF_ROOMS = HALLS * KEYS_PER_ROOM;
/** Rooms whose every page is read and compared, spread over the world; their full pages are then asked for in turn. */
const ROOMS_READ = 40;
/** Halls read the same way. */
const HALLS_READ = 2;
const HALL_PAGES_ASKED = 80;
/** Names begin with these: their order in bytes is neither that of JavaScript's strings nor that of any language. */
const MARKS = ['', 'Z', 'a', 'é', '\ufb01', '\u{1f600}'];

export const keyListing: Scenario = { name: 'key-listing', run };

/** `hall-H/room-RRRRR/NAME`: rooms hold the same number of keys in every world, halls a tenth of them all. */
interface World {
  readonly subject: Subject;
  readonly roomsPerHall: number;
  readonly keyCount: number;
}

/** What reading all pages of some prefixes found. */
interface Walk {
  readonly fullPages: readonly LoadRequest[];
  readonly keysListed: number;
  readonly wrongPages: number;
}

async function run(context: BenchContext) {
  const [small, large] = await Promise.all([
    startWorld(context, 'small', context.smoke ? KEYS_PER_ROUND_OF_ROOMS : SMALL_KEYS),
    startWorld(context, 'large', context.keys),
  ]);
  const rows: Row[] = [];
  const checks: Check[] = [];
  const kinds = [
    ['of a room', roomPrefixes, Number.POSITIVE_INFINITY],
    ['of a hall', hallPrefixes, HALL_PAGES_ASKED],
  ] as const;
  for (const [kind, prefixesOf, pagesAsked] of kinds) {
    const sideOf = async (world: World): Promise<Side> => {
      const walk = await walkPrefixes(world, prefixesOf(world));
      const name = `GET /v1/state?prefix= ${kind}, ${world.keyCount} keys`;
      const what = `${name}: pages hold the right keys, in byte order, with the right total`;
      checks.push(check(what, walk.wrongPages === 0 && walk.keysListed > 0, `${walk.keysListed} keys listed`));
      return listingSide(context, name, world.subject, spread(walk.fullPages, pagesAsked));
    };
    const reference = await sideOf(small);
    const ours = await sideOf(large);
    await warmUp(context, reference, ours);
    const rounds = await measureInTurn(ours, reference, context.rounds);
    rows.push(compare(`key page of ${PAGE}, ${kind}`, 'p50', ours, reference, rounds, { floor: 1.3, aim: 1.1 }));
    checks.push(noFailures(ours, rounds.ours), noFailures(reference, rounds.reference));
  }
  return {
    dataset: `${small.keyCount} and ${large.keyCount} keys in ${HALLS} halls and in rooms of ${KEYS_PER_ROOM}; full pages at the start of a prefix and deep in it, all over the world; ${CONNECTIONS} connections`,
    rows,
    checks,
  };
}

async function startWorld(context: BenchContext, name: string, keys: number): Promise<World> {
  const roomsPerHall = Math.max(1, Math.floor(keys / KEYS_PER_ROUND_OF_ROOMS));
  const keyCount = roomsPerHall * KEYS_PER_ROUND_OF_ROOMS;
  context.note(`writing ${keyCount} keys`);
  // The pages cost the same with bcrypt, but the start does not.
  const subject = await Subject.start(context, { name, agents: context.smoke ? 2 : AGENTS, authScheme: 'hmac' });
  const world = { subject, roomsPerHall, keyCount };
  const body = JSON.stringify({ value: VALUE });
  await sendEach(subject, keyCount, (number) => {
    const place = spreadPlace(number, keyCount);
    const key = keyAt(world, place);
    return { method: 'PUT', path: `/v1/state/${encodeURIComponent(key)}`, token: subject.agent(number).token, body };
  });
  if (!context.smoke) await subject.settled(context);
  return world;
}

function keyAt(world: World, place: number): string {
  const room = Math.floor(place / KEYS_PER_ROOM);
  const item = place % KEYS_PER_ROOM;
  return `${roomPrefix(world, room)}${MARKS[item % MARKS.length]}${item}`;
}

/** @param room counted over all halls. */
function roomPrefix({ roomsPerHall }: World, room: number): string {
  return `hall-${Math.floor(room / roomsPerHall)}/room-${String(room % roomsPerHall).padStart(5, '0')}/`;
}

function keysOfRoom(world: World, room: number): string[] {
  return Array.from({ length: KEYS_PER_ROOM }, (_, item) => keyAt(world, room * KEYS_PER_ROOM + item));
}

/** Each prefix and the keys under it, in no order. */
type Prefixes = readonly { readonly prefix: string; readonly keys: readonly string[] }[];

function roomPrefixes(world: World): Prefixes {
  const rooms = world.roomsPerHall * HALLS;
  const count = Math.min(ROOMS_READ, rooms);
  return Array.from({ length: count }, (_, n) => {
    const room = Math.floor((n * rooms) / count);
    return { prefix: roomPrefix(world, room), keys: keysOfRoom(world, room) };
  });
}

function hallPrefixes(world: World): Prefixes {
  return Array.from({ length: HALLS_READ }, (_, n) => {
    const hall = Math.floor((n * HALLS) / HALLS_READ);
    const firstRoom = hall * world.roomsPerHall;
    const keys = Array.from({ length: world.roomsPerHall }, (_, room) => keysOfRoom(world, firstRoom + room));
    return { prefix: `hall-${hall}/`, keys: keys.flat() };
  });
}

/** Reads every page of each prefix by its cursors, and compares it with what was written. */
async function walkPrefixes(world: World, prefixes: Prefixes): Promise<Walk> {
  const fullPages: LoadRequest[] = [];
  let keysListed = 0;
  let wrongPages = 0;
  await onConnections(world.subject.url, 1, async (connection) => {
    for (const { prefix, keys } of prefixes) {
      const expected = [...keys].sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
      let listed = 0;
      let cursor: string | null = '';
      while (cursor !== null) {
        const query = `prefix=${encodeURIComponent(prefix)}&limit=${PAGE}`;
        const path = `/v1/state?${query}${cursor === '' ? '' : `&cursor=${encodeURIComponent(cursor)}`}`;
        const { token } = world.subject.agent(fullPages.length);
        const request: LoadRequest = { method: 'GET', path, token };
        const page = JSON.parse(expectSuccess(request, await connection.send(request)).body) as KeyPage;
        const due = expected.slice(listed, listed + PAGE);
        listed += page.keys.length;
        const isLast = listed >= expected.length;
        const isRight =
          page.keys.length === due.length &&
          page.keys.every((key, n) => key === due[n]) &&
          page.total === expected.length &&
          (page.next_cursor === null) === isLast;
        if (!isRight) wrongPages++;
        if (page.keys.length === PAGE) fullPages.push(request);
        cursor = isLast ? null : page.next_cursor;
      }
      keysListed += listed;
    }
  });
  return { fullPages, keysListed, wrongPages };
}

interface KeyPage {
  readonly keys: readonly string[];
  readonly next_cursor: string | null;
  readonly total: number;
}

/** That many of them at most, from all over the list. */
function spread(requests: readonly LoadRequest[], count: number): LoadRequest[] {
  const step = Math.max(1, requests.length / count);
  return Array.from({ length: Math.floor(requests.length / step) }, (_, n) => requests[Math.floor(n * step)]).filter(
    (request) => request !== undefined,
  );
}

function listingSide(context: BenchContext, name: string, subject: Subject, requests: readonly LoadRequest[]): Side {
  const plan = { url: subject.url, connections: CONNECTIONS, requests };
  return {
    name,
    pid: subject.pid,
    run: () =>
      context.smoke
        ? loadWithConnections({ ...plan, seconds: 0.1 })
        : context.timedLoad({ ...plan, seconds: context.seconds }, context.workDir),
  };
}
