/**
 * What each path of the observation API answers. Reads the index, and from the log only the lines that are shown.
 * Never:     answers with what is not durable, or with a content that was removed.
 */
import { ApiError } from '../contract/errors.js';
import type { EventData } from '../contract/events.js';
import { CAPACITY_KEY } from '../contract/limits.js';
import { REDACTED_TEXT } from '../contract/redaction.js';
import { isAgentAddress } from '../contract/tokens.js';
import { percentDecode } from '../gateway/percent-decode.js';
import { pageCursor, pageLimit, UNUSABLE_CURSOR } from '../gateway/query.js';
import { decodeCursor, encodeCursor } from '../shards/cursors.js';
import { type ActivityDocument, activityOf } from './activity.js';
import type { AgentFigures, EventIndex } from './event-index.js';
import type { EventRate } from './event-rate.js';
import { type EventReader, placesInPage } from './event-reader.js';
import { EVERYBODY } from './index-rows.js';
import type { NetworkDocument } from './network.js';
import { countParameter, filterParameters, type Parameters, seqParameter, timeParameter } from './parameters.js';
import { publicEventJson } from './public-event.js';
import type { TransparencyLog } from './transparency.js';

export interface RouteContext {
  readonly index: EventIndex;
  readonly reader: EventReader;
  readonly transparency: TransparencyLog;
  readonly network: NetworkDocument;
  readonly rate: EventRate;
  readonly totalStateBytes: number;
  /** For the overview. */
  progress(): { readonly watermark: number; readonly isCurrent: boolean; readonly watchers: number };
}

/** Answers with JSON text. @param rest of the path, still encoded; @throws ApiError */
export type ObserveRoute = (parameters: Parameters, rest: string) => string | Promise<string>;

const PAGE = { fallback: 100, max: 1000 };
/** Callers from before there were pages get as many as they can use. */
const AGENTS_PAGE = { fallback: 1000, max: 1000 };
const HISTORY_PAGE = { fallback: 50, max: 200 };
const ACTIVITY_BUCKETS = { fallback: 60, max: 500 };
const ACTIVITY_PATH = '/activity';

/** Routes by exact path, and those that take the rest of a path, by what comes before it. */
export function observeRoutes(context: RouteContext): {
  readonly exact: ReadonlyMap<string, ObserveRoute>;
  readonly prefixed: readonly (readonly [prefix: string, route: ObserveRoute])[];
} {
  const { index, reader, transparency } = context;

  const events: ObserveRoute = async (parameters) => {
    const filter = filterParameters(parameters);
    const since = seqParameter(parameters, 'since', 0);
    const limit = pageLimit(parameters, PAGE);
    const places = index.eventsAfter(filter, since, limit + 1);
    const page = places.slice(0, Math.min(limit, placesInPage(places)));
    const found = await reader.read(page);
    const shown = found.filter((event) => event !== null).map((event) => publicEventJson(event, transparency));
    const nextCursor = page.at(-1)?.seq ?? since;
    const hasMore = places.length > page.length;
    return `{"events":[${shown.join(',')}],"next_cursor":${nextCursor},"has_more":${hasMore}}`;
  };

  const keys: ObserveRoute = (parameters) => {
    const prefix = parameters.get('prefix') ?? '';
    const limit = pageLimit(parameters, PAGE);
    const found = index.keysAfter(prefix, cursorOf(parameters, 'keys'), limit + 1);
    const page = found.slice(0, limit);
    return JSON.stringify({
      keys: page.map((row) => ({
        key: row.key,
        last_modified_by: row.modifiedBy,
        last_modified_at: isoTime(row.modifiedAtMs),
        value_length: row.valueBytes,
      })),
      next_cursor: found.length > limit ? encodeCursor('keys', page.at(-1)?.key ?? '') : null,
      total: index.keyCount(prefix),
    });
  };

  const entry: ObserveRoute = async (parameters, rest) => {
    if (rest === '') return keys(parameters, rest);
    const key = percentDecode(rest);
    if (key === CAPACITY_KEY) return JSON.stringify(capacity());
    const row = index.stateRow(key);
    if (row === undefined) {
      if (index.isRemoved(key)) return redactedEntry(key);
      throw new ApiError('not_found', 'key: has no value.');
    }
    const line = await reader.readOne(row);
    if (line === null) throw new ApiError('not_found', 'key: its value is damaged on the disk.');
    if (line.redacted === true) return redactedEntry(key);
    const { value, written_by } = line.data as EventData['state_written'];
    return JSON.stringify({ key, value, last_modified_by: written_by, last_modified_at: line.ts });
  };

  const redactedEntry = (key: string): string =>
    JSON.stringify({ key, value: REDACTED_TEXT, redacted: true, reason: transparency.ofKey(key)?.reason ?? null });

  const history: ObserveRoute = async (parameters) => {
    const key = parameters.get('key') ?? '';
    if (key === '') throw new ApiError('bad_request', 'key: is required.');
    const before = seqParameter(parameters, parameters.has('before') ? 'before' : 'cursor', Number.MAX_SAFE_INTEGER);
    const limit = pageLimit(parameters, HISTORY_PAGE);
    const places = index.historyBefore(key, before, limit + 1);
    const page = places.slice(0, Math.min(limit, placesInPage(places)));
    const versions: string[] = [];
    for (const event of await reader.read(page)) {
      // Another key may have the same hash.
      if (event === null || (event.data as { key?: unknown }).key !== key) continue;
      versions.push(publicEventJson(event, transparency));
    }
    const nextCursor = places.length > page.length ? `"${page.at(-1)?.seq}"` : 'null';
    return `{"key":${JSON.stringify(key)},"versions":[${versions.join(',')}],"next_cursor":${nextCursor}}`;
  };

  const agents: ObserveRoute = (parameters) => {
    const limit = pageLimit(parameters, AGENTS_PAGE);
    const found = index.agentsAfter(Number(cursorOf(parameters, 'agents') ?? 0), limit + 1);
    const page = found.slice(0, limit);
    return JSON.stringify({
      agents: page.map(agentDocument),
      next_cursor: found.length > limit ? encodeCursor('agents', String(page.at(-1)?.agentId)) : null,
      total: index.figures.agents,
    });
  };

  const agent: ObserveRoute = (parameters, rest) => {
    const wantsActivity = rest.endsWith(ACTIVITY_PATH);
    const address = percentDecode(wantsActivity ? rest.slice(0, -ACTIVITY_PATH.length) : rest);
    const figures = isAgentAddress(address) ? index.agent(address) : undefined;
    if (figures === undefined) throw new ApiError('not_found', 'There is no agent of this address.');
    if (!wantsActivity) return JSON.stringify(agentDocument(figures));
    return JSON.stringify(activity(parameters, figures.agentId, figures.registeredAtMs));
  };

  const activity = (parameters: Parameters, agentId: number, sinceMs: number): ActivityDocument => {
    const fromMs = timeParameter(parameters, 'from') ?? sinceMs;
    const toMs = timeParameter(parameters, 'to') ?? Date.now();
    const buckets = countParameter(parameters, 'buckets', ACTIVITY_BUCKETS.fallback, ACTIVITY_BUCKETS.max);
    return activityOf(index, agentId, { fromMs, toMs: Math.max(fromMs, toMs) }, buckets);
  };

  const capacity = (): object => ({
    used_bytes: index.figures.stateBytes,
    total_bytes: context.totalStateBytes,
    key_count: index.figures.keys,
  });

  const overview: ObserveRoute = () => {
    const { figures } = index;
    const { watermark, isCurrent, watchers } = context.progress();
    return JSON.stringify({
      last_seq: figures.lastSeq,
      events: figures.events,
      agents: figures.agents,
      operators: index.typeCount('operator_created'),
      messages_sent: index.typeCount('message_sent'),
      messages_delivered: index.typeCount('message_delivered'),
      state: capacity(),
      removals: transparency.removals.length,
      events_per_second: context.rate.perSecond(Date.now()),
      first_event_at: figures.events === 0 ? null : isoTime(figures.firstAtMs),
      last_event_at: figures.events === 0 ? null : isoTime(figures.lastAtMs),
      watchers,
      indexing: { current: isCurrent, behind: isCurrent ? 0 : Math.max(0, watermark - figures.lastSeq) },
    });
  };

  const seqAt: ObserveRoute = (parameters) => {
    const atMs = timeParameter(parameters, 'at');
    if (atMs === null) throw new ApiError('bad_request', 'at: is required, a time such as 2026-03-18T05:30:00.123Z.');
    return JSON.stringify({ seq: index.seqAt(atMs) });
  };

  const transparencyLog: ObserveRoute = () =>
    JSON.stringify({ removals: transparency.removals, total: transparency.removals.length });

  return {
    exact: new Map<string, ObserveRoute>([
      ['/observe/events', events],
      ['/observe/state', keys],
      ['/observe/state-history', history],
      ['/observe/agents', agents],
      ['/observe/network', () => context.network.read()],
      ['/observe/transparency', transparencyLog],
      ['/observe/overview', overview],
      ['/observe/seq', seqAt],
      [
        '/observe/activity',
        (parameters) => JSON.stringify(activity(parameters, EVERYBODY, index.figures.firstAtMs || Date.now())),
      ],
    ]),
    prefixed: [
      ['/observe/state/', entry],
      ['/observe/agents/', agent],
    ],
  };
}

function agentDocument(figures: AgentFigures): object {
  return {
    address: figures.address,
    registered_at: isoTime(figures.registeredAtMs),
    messages_sent: figures.messagesSent,
    messages_received: figures.messagesReceived,
    state_writes: figures.stateWrites,
    last_active: isoTime(figures.lastActiveMs),
  };
}

function isoTime(epochMs: number): string {
  return new Date(epochMs).toISOString();
}

function cursorOf(parameters: Parameters, listing: 'agents' | 'keys'): string | null {
  const cursor = pageCursor(parameters);
  if (cursor === null) return null;
  const text = decodeCursor(listing, cursor);
  if (text === undefined || (listing === 'agents' && !/^[0-9]{1,10}$/.test(text))) {
    throw new ApiError('bad_request', UNUSABLE_CURSOR);
  }
  return text;
}
