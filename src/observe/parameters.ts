/** Query parameters of the observation API: checked, or refused with the field and the rule. Pure. */
import { ApiError } from '../contract/errors.js';
import { isAgentAddress } from '../contract/tokens.js';
import type { EventFilter } from './event-index.js';
import { EVENT_TYPE_IDS, EVENT_TYPES, isEventType } from './event-types.js';

export type Parameters = ReadonlyMap<string, string>;

/** `name` as a `seq`, `fallback` when it is absent or empty. @throws ApiError `bad_request` */
export function seqParameter<Fallback>(parameters: Parameters, name: string, fallback: Fallback): number | Fallback {
  const text = parameters.get(name);
  if (text === undefined || text === '') return fallback;
  const seq = /^[0-9]{1,16}$/.test(text) ? Number(text) : Number.NaN;
  if (Number.isSafeInteger(seq)) return seq;
  throw new ApiError('bad_request', `${name}: must be the seq of an event, a whole number from 0.`);
}

/** `type` (names with commas between them) and `agent`. @throws ApiError `bad_request` */
export function filterParameters(parameters: Parameters): EventFilter {
  return { typeIds: typeIds(parameters.get('type')), agent: agentParameter(parameters.get('agent')) };
}

/** A whole number from 1 to `max`; `fallback` when it is anything else. */
export function countParameter(parameters: Parameters, name: string, fallback: number, max: number): number {
  const text = parameters.get(name);
  if (text === undefined || !/^[0-9]{1,9}$/.test(text)) return fallback;
  const count = Number(text);
  return count >= 1 && count <= max ? count : fallback;
}

/** A time as epoch milliseconds; null when absent or empty. @throws ApiError `bad_request` */
export function timeParameter(parameters: Parameters, name: string): number | null {
  const text = parameters.get(name);
  if (text === undefined || text === '') return null;
  const atMs = RFC_3339.test(text) ? Date.parse(text) : Number.NaN;
  if (atMs >= 0) return atMs;
  throw new ApiError('bad_request', `${name}: must be a time from 1970 on, such as 2026-03-18T05:30:00.123Z.`);
}

const RFC_3339 = /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(?:\.\d{1,9})?(?:Z|[+-]\d{2}:\d{2})$/i;

function typeIds(text: string | undefined): number[] | null {
  if (text === undefined || text === '') return null;
  const ids = new Set<number>();
  for (const name of text.split(',')) {
    if (!isEventType(name)) {
      throw new ApiError(
        'bad_request',
        `type: must be event types with commas between them: ${EVENT_TYPES.join(', ')}.`,
      );
    }
    ids.add(EVENT_TYPE_IDS[name]);
  }
  return ids.size === EVENT_TYPES.length ? null : [...ids];
}

function agentParameter(text: string | undefined): string | null {
  if (text === undefined || text === '') return null;
  if (isAgentAddress(text)) return text;
  throw new ApiError('bad_request', 'agent: must be an agent address, tab_ and 20 of a-z and 0-9.');
}
