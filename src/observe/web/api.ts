/**
 * The observation API as the page uses it: shapes of answers, and the one place that fetches.
 * Owns:  how refusals are told (`ApiFailure`), how a 429 is waited for.
 * Never: sends a token, asks another origin, or changes anything on the server.
 */
import { signal } from '@preact/signals';

export const EVENT_TYPES = [
  'message_sent',
  'message_delivered',
  'message_dropped',
  'state_written',
  'state_deleted',
  'state_read',
  'registry_read',
  'agent_registered',
  'operator_created',
] as const;
export type EventType = (typeof EVENT_TYPES)[number];

/** One event. `data` is as the server has it; a type unknown to this page is shown all the same. */
export interface ObservedEvent {
  readonly seq: number;
  readonly ts: string;
  readonly type: string;
  readonly agent?: string;
  readonly data: Readonly<Record<string, unknown>>;
  readonly redacted?: boolean;
  readonly redacted_reason?: string;
}

export interface EventPage {
  readonly events: readonly ObservedEvent[];
  readonly next_cursor: number;
  readonly has_more: boolean;
}

export interface EventFilter {
  readonly types: readonly string[];
  readonly agent: string;
}
export const NO_FILTER: EventFilter = { types: [], agent: '' };

export interface AgentFigures {
  readonly address: string;
  readonly registered_at: string;
  readonly messages_sent: number;
  readonly messages_received: number;
  readonly state_writes: number;
  readonly last_active: string | null;
}

export interface KeyRow {
  readonly key: string;
  readonly last_modified_by: string;
  readonly last_modified_at: string;
  readonly value_length: number;
}

export interface StateEntry {
  readonly key: string;
  readonly value: string;
  readonly last_modified_by?: string;
  readonly last_modified_at?: string;
  readonly redacted?: boolean;
  /** null for a moment: the value is gone already, its entry in the transparency log is being written. */
  readonly reason?: string | null;
}

export interface NetworkNode {
  readonly address: string;
  readonly messages_sent: number;
  readonly messages_received: number;
}
export interface NetworkEdge {
  readonly from: string;
  readonly to: string;
  readonly count: number;
}
export interface Network {
  readonly nodes: readonly NetworkNode[];
  /** The strongest, if there are very many. */
  readonly edges: readonly NetworkEdge[];
  readonly total_nodes: number;
  readonly total_edges: number;
}

export interface Removal {
  readonly ts: string;
  readonly action: string;
  readonly key?: string;
  readonly message_id?: string;
  readonly reason: string;
  readonly performed_by: string;
  readonly content_hash: string;
}

/** Figures of the whole server, one request. */
export interface Overview {
  /** `seq` of the newest event; 0 when there is none. */
  readonly last_seq: number;
  readonly events: number;
  readonly agents: number;
  readonly messages_sent: number;
  readonly messages_delivered: number;
  readonly state: { readonly used_bytes: number; readonly total_bytes: number; readonly key_count: number };
  readonly removals: number;
  /** Events in each of the last seconds, oldest first. */
  readonly events_per_second: readonly number[];
  /** Time of the first event; null when there is none. */
  readonly first_event_at: string | null;
  readonly last_event_at: string | null;
  /** Open streams, this page's among them. */
  readonly watchers: number;
  /** How far the figures are behind the log, in sequence numbers. */
  readonly indexing: { readonly current: boolean; readonly behind: number };
}

/** Writes and deletions of one key, newest first. */
export interface StateHistory {
  readonly key: string;
  readonly versions: readonly ObservedEvent[];
  readonly next_cursor: string | null;
}

/** Events of one agent in equal slices of time, oldest first. */
export interface AgentActivity {
  readonly from: string;
  readonly bucket_ms: number;
  readonly counts: readonly number[];
}

/** The server refused, or could not be reached (`status` 0). */
export class ApiFailure extends Error {
  constructor(
    readonly status: number,
    message: string,
  ) {
    super(message);
    this.name = 'ApiFailure';
  }
}

/** Epoch milliseconds until which the server asked this page to wait; 0 when it did not. */
export const throttledUntilMs = signal(0);

const MAX_TRIES = 3;

/**
 * GETs `/observe/...` and returns its JSON. A 429 is waited for as long as the server says, twice; `signal` ends a wait.
 * @throws ApiFailure when refused or unreachable; AbortError when aborted
 */
export async function fetchJson<T>(path: string, abort?: AbortSignal): Promise<T> {
  for (let tries = 1; ; tries++) {
    let response: Response;
    try {
      response = await fetch(path, { credentials: 'omit', cache: 'no-store', ...(abort && { signal: abort }) });
    } catch (error) {
      if (abort?.aborted) throw error;
      throw new ApiFailure(0, 'The server cannot be reached.');
    }
    if (response.ok) return await jsonOf<T>(response, abort);
    if (response.status === 429 && tries < MAX_TRIES) {
      const waitMs = 1000 * Math.max(1, Number(response.headers.get('Retry-After')) || 1);
      throttledUntilMs.value = Date.now() + waitMs;
      await delay(waitMs, abort);
      continue;
    }
    throw new ApiFailure(response.status, await refusalText(response));
  }
}

async function jsonOf<T>(response: Response, abort?: AbortSignal): Promise<T> {
  try {
    return (await response.json()) as T;
  } catch (error) {
    if (abort?.aborted) throw error;
    throw new ApiFailure(0, 'The answer of the server broke off.');
  }
}

async function refusalText(response: Response): Promise<string> {
  try {
    const body = (await response.json()) as { message?: unknown };
    if (typeof body.message === 'string') return body.message;
  } catch {
    // Not JSON: a proxy's page, say. The status alone tells what there is to tell.
  }
  return `The server answered ${response.status}.`;
}

function delay(waitMs: number, abort?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, waitMs);
    abort?.addEventListener('abort', () => {
      clearTimeout(timer);
      reject(new DOMException('aborted', 'AbortError'));
    });
  });
}

function query(parameters: Readonly<Record<string, string | number | null | undefined>>): string {
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) {
    if (value !== null && value !== undefined && value !== '') search.set(name, String(value));
  }
  const text = search.toString();
  return text === '' ? '' : `?${text}`;
}

export function filterParameters(filter: EventFilter): Record<string, string> {
  return { type: filter.types.join(','), agent: filter.agent };
}

export const api = {
  overview: (abort?: AbortSignal) => fetchJson<Overview>('/observe/overview', abort),
  events: (since: number, limit: number, filter: EventFilter, abort?: AbortSignal) =>
    fetchJson<EventPage>(`/observe/events${query({ since, limit, ...filterParameters(filter) })}`, abort),
  keys: (prefix: string, cursor: string | null, limit: number, abort?: AbortSignal) =>
    fetchJson<{ keys: KeyRow[]; next_cursor: string | null; total: number }>(
      `/observe/state${query({ prefix, cursor, limit })}`,
      abort,
    ),
  entry: (key: string, abort?: AbortSignal) =>
    fetchJson<StateEntry>(`/observe/state/${encodeURIComponent(key)}`, abort),
  history: (key: string, cursor: string | null, limit: number, abort?: AbortSignal) =>
    fetchJson<StateHistory>(`/observe/state-history${query({ key, cursor, limit })}`, abort),
  agents: (cursor: string | null, limit: number, abort?: AbortSignal) =>
    fetchJson<{ agents: AgentFigures[]; next_cursor?: string | null; total: number }>(
      `/observe/agents${query({ cursor, limit })}`,
      abort,
    ),
  agent: (address: string, abort?: AbortSignal) =>
    fetchJson<AgentFigures>(`/observe/agents/${encodeURIComponent(address)}`, abort),
  /** Of everybody, over all of history. */
  allActivity: (buckets: number, abort?: AbortSignal) =>
    fetchJson<AgentActivity>(`/observe/activity${query({ buckets })}`, abort),
  activity: (address: string, abort?: AbortSignal) =>
    fetchJson<AgentActivity>(`/observe/agents/${encodeURIComponent(address)}/activity`, abort),
  network: (abort?: AbortSignal) => fetchJson<Network>('/observe/network', abort),
  removals: (abort?: AbortSignal) => fetchJson<{ removals: Removal[]; total: number }>('/observe/transparency', abort),
  /** `seq` of the last event at or before a time. */
  seqAt: (at: string, abort?: AbortSignal) => fetchJson<{ seq: number }>(`/observe/seq${query({ at })}`, abort),
};
