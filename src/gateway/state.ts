/** The shared key-value store over HTTP: the hottest routes, so answers are put together by hand. */
import { Buffer } from 'node:buffer';
import type { Capacity, KeyPage, StateEntry } from '../contract/engine.js';
import { ApiError } from '../contract/errors.js';
import { CAPACITY_KEY, KEYS_PAGE } from '../contract/limits.js';
import { StateValueBody } from '../contract/schemas.js';
import { compileBody } from '../contract/validate.js';
import type { Call, RefusalMessages } from './call.js';
import type { HandlerContext } from './context.js';
import { isoTime } from './iso-time.js';
import { jsonString } from './json-string.js';
import { percentDecode } from './percent-decode.js';
import { pageCursor, pageLimit, parseQuery, UNUSABLE_CURSOR } from './query.js';
import { type Route, STATE_PREFIX } from './routes.js';

export const NO_SUCH_KEY: RefusalMessages = { not_found: 'key: has no value. Check its spelling, or write it first.' };
export const STORE_FULL: RefusalMessages = {
  store_full:
    "The state store or the server's disk is full. Delete keys, or ask the operator of the server for more room.",
};
export const NO_KEYS = '{"keys":[],"next_cursor":null,"total":0}';
const BAD_CURSOR: RefusalMessages = { bad_request: UNUSABLE_CURSOR };

export function stateRoutes({ config, engine }: HandlerContext): Route[] {
  const { maxKeyBytes, maxValueBytes } = config.state;
  const validate = compileBody(StateValueBody);

  const keyOf = (call: Call): string => {
    const key = percentDecode(call.path.slice(STATE_PREFIX.length));
    checkKey(key, maxKeyBytes);
    return key;
  };
  const writableKeyOf = (call: Call): string => {
    const key = keyOf(call);
    checkWritable(key);
    return key;
  };

  const list = (call: Call): void => {
    const parameters = parseQuery(call.query);
    const page = { cursor: pageCursor(parameters), limit: pageLimit(parameters, KEYS_PAGE) };
    const prefix = parameters.get('prefix') ?? '';
    // No key begins with more than a key may hold, and engines need not be ready for it.
    if (Buffer.byteLength(prefix) > maxKeyBytes) call.reply.sendJson(200, NO_KEYS);
    else call.answer(engine.listKeys(prefix, page), 200, renderKeys, BAD_CURSOR);
  };
  const read = (call: Call): void => {
    const key = keyOf(call);
    if (key === CAPACITY_KEY) call.answer(engine.capacity(), 200, renderCapacity);
    else call.answer(engine.readState(call.subject, key), 200, renderEntry, NO_SUCH_KEY);
  };
  const write = (call: Call): void => {
    const key = writableKeyOf(call);
    const { value } = validate(call.body);
    checkValue(value, maxValueBytes);
    call.answer(
      engine.writeState(call.subject, key, value),
      200,
      ({ writtenAtMs }) => renderWritten(key, call.subject, writtenAtMs),
      STORE_FULL,
    );
  };
  const remove = (call: Call): void => {
    const key = writableKeyOf(call);
    call.answer(
      engine.deleteState(call.subject, key),
      200,
      ({ deletedAtMs }) => renderDeleted(key, call.subject, deletedAtMs),
      NO_SUCH_KEY,
    );
  };

  const agent = { principal: 'agent', takesBody: false, takesQuery: false } as const;
  const listing = { ...agent, method: 'get', limit: 'state_read', takesQuery: true, handle: list } as const;
  const writing = { ...agent, method: 'put', limit: 'state_write', takesBody: true, handle: write } as const;
  const removing = { ...agent, method: 'delete', limit: 'state_write', handle: remove } as const;
  return [
    { ...listing, path: '/v1/state' },
    { ...listing, path: STATE_PREFIX },
    // The empty key: refused by its handler, as any key of a wrong length is.
    { ...writing, path: STATE_PREFIX },
    { ...removing, path: STATE_PREFIX },
    { ...agent, method: 'get', path: `${STATE_PREFIX}*`, limit: 'state_read', handle: read },
    { ...writing, path: `${STATE_PREFIX}*` },
    { ...removing, path: `${STATE_PREFIX}*` },
  ];
}

/** @throws ApiError `bad_request` unless it is 1 to `maxKeyBytes` bytes. @param key well-formed */
export function checkKey(key: string, maxKeyBytes: number): void {
  // A UTF-16 unit is at most 3 bytes of UTF-8.
  if (key.length === 0 || (key.length * 3 > maxKeyBytes && Buffer.byteLength(key) > maxKeyBytes)) {
    throw new ApiError('bad_request', `key: must be 1 to ${maxKeyBytes} bytes.`);
  }
}

/** @throws ApiError `bad_request` for the reserved key. */
export function checkWritable(key: string): void {
  if (key === CAPACITY_KEY) throw new ApiError('bad_request', `key: "${CAPACITY_KEY}" is reserved; choose another.`);
}

/** @throws ApiError `value_too_large`. */
export function checkValue(value: string, maxValueBytes: number): void {
  if (value.length * 3 > maxValueBytes && Buffer.byteLength(value) > maxValueBytes) {
    throw new ApiError('value_too_large', `value: is over ${maxValueBytes} bytes. Send a smaller one.`);
  }
}

export function renderWritten(key: string, writer: string, writtenAtMs: number): string {
  return `{"key":${jsonString(key)},"written_by":"${writer}","written_at":"${isoTime(writtenAtMs)}"}`;
}

export function renderDeleted(key: string, deleter: string, deletedAtMs: number): string {
  return `{"key":${jsonString(key)},"deleted_by":"${deleter}","deleted_at":"${isoTime(deletedAtMs)}"}`;
}

export function renderEntry(entry: StateEntry): string {
  return `{"key":${jsonString(entry.key)},"value":${JSON.stringify(entry.value)},"last_modified_by":"${entry.lastModifiedBy}","last_modified_at":"${isoTime(entry.lastModifiedAtMs)}"}`;
}

export function renderKeys(page: KeyPage): string {
  return JSON.stringify({ keys: page.keys, next_cursor: page.nextCursor, total: page.total });
}

export function renderCapacity(capacity: Capacity): string {
  return `{"used_bytes":${capacity.usedBytes},"total_bytes":${capacity.totalBytes},"key_count":${capacity.keyCount}}`;
}
