/** Query strings of listings: strict about encoding, lenient about values, as the contract has it. Pure. */
import { ApiError } from '../contract/errors.js';
import type { PageLimit } from '../contract/limits.js';
import { queryDecode } from './percent-decode.js';

const NO_PARAMETERS: ReadonlyMap<string, string> = new Map();

/**
 * Decoded parameters by name; of a repeated one the first counts.
 * @param raw what follows `?`, still encoded; empty when there is none.
 * @throws ApiError `bad_request` for malformed encoding anywhere in it.
 */
export function parseQuery(raw: string): ReadonlyMap<string, string> {
  if (raw === '') return NO_PARAMETERS;
  const parameters = new Map<string, string>();
  for (const pair of raw.split('&')) {
    if (pair === '') continue;
    const equals = pair.indexOf('=');
    const name = queryDecode(equals === -1 ? pair : pair.slice(0, equals));
    const value = equals === -1 ? '' : queryDecode(pair.slice(equals + 1));
    if (!parameters.has(name)) parameters.set(name, value);
  }
  return parameters;
}

/** `limit` of a JSON-RPC call: by the same rule. */
export function namedLimit(value: unknown, bounds: PageLimit): number {
  return typeof value === 'number' && Number.isInteger(value) && value >= 1 && value <= bounds.max
    ? value
    : bounds.fallback;
}

/** `limit`, or its fallback when it is absent, not a whole number, or out of range. */
export function pageLimit(parameters: ReadonlyMap<string, string>, bounds: PageLimit): number {
  const text = parameters.get('limit');
  if (text === undefined || !/^[0-9]{1,9}$/.test(text)) return bounds.fallback;
  const limit = Number(text);
  return limit >= 1 && limit <= bounds.max ? limit : bounds.fallback;
}

/** Longest cursor passed on; those that engines make are far shorter. */
const MAX_CURSOR_LENGTH = 8192;

/**
 * `cursor`; an empty one counts as absent.
 * @throws ApiError `bad_request` when it is longer than any cursor can be.
 */
export function pageCursor(parameters: ReadonlyMap<string, string>): string | null {
  const cursor = parameters.get('cursor');
  if (cursor === undefined || cursor === '') return null;
  if (cursor.length > MAX_CURSOR_LENGTH) throw new ApiError('bad_request', UNUSABLE_CURSOR);
  return cursor;
}

/** `cursor` of a JSON-RPC call: by the same rule; `null` counts as absent. */
export function namedCursor(value: unknown): string | null {
  if (value === undefined || value === null || value === '') return null;
  if (typeof value !== 'string' || value.length > MAX_CURSOR_LENGTH) throw new ApiError('bad_request', UNUSABLE_CURSOR);
  return value;
}

/** What to answer when the engine refuses a cursor. */
export const UNUSABLE_CURSOR = 'cursor: is not one this server gave out; start again without it.';
