/**
 * JSON-RPC 2.0 on the wire (jsonrpc.org/specification): frames into calls, outcomes into text. Pure.
 * Stricter in one thing: a number as `id` must be one that comes back exactly as it was (finite, at most 2^53 - 1 if whole).
 */
import { isAscii } from 'node:buffer';
import { RPC_ERROR_CODES, RPC_INVALID_REQUEST, RPC_METHOD_NOT_FOUND, RPC_PARSE_ERROR } from '../../contract/connect.js';
import { API_ERRORS, type ApiError, type ApiErrorCode } from '../../contract/errors.js';
import { MAX_BATCH_CALLS } from '../../contract/limits.js';

export type RpcId = string | number | null;

export interface RpcCall {
  /** undefined: a notification, which gets no answer. */
  readonly id: RpcId | undefined;
  readonly method: string;
  /** Named values; an empty object when there were none. */
  readonly params: unknown;
}

/** What is no call, and the answer to it. */
export interface NotACall {
  readonly answer: string;
}

export type Parsed = RpcCall | NotACall;

/** @returns a list for a batch, in its order. */
export function parseFrame(frame: Buffer): Parsed | readonly Parsed[] {
  let value: unknown;
  try {
    value = JSON.parse(isAscii(frame) ? frame.toString('latin1') : frame.toString('utf8'));
  } catch {
    return { answer: rpcError(null, RPC_PARSE_ERROR, 'bad_request', 'The message is not JSON.') };
  }
  if (!Array.isArray(value)) return parseCall(value);
  if (value.length === 0) return invalid(null, 'A batch must hold at least one call.');
  if (value.length > MAX_BATCH_CALLS) return invalid(null, `A batch may hold ${MAX_BATCH_CALLS} calls at most.`);
  return value.map(parseCall);
}

function parseCall(value: unknown): Parsed {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    return invalid(null, 'A call is an object with jsonrpc, method, and mostly params and id.');
  }
  const { jsonrpc, method, params, id } = value as Record<string, unknown>;
  const hasId = Object.hasOwn(value, 'id');
  if (hasId && !isRpcId(id)) {
    return invalid(null, 'id: must be a string, null, or a number that is kept exactly (whole ones up to 2^53 - 1).');
  }
  const usableId = hasId ? (id as RpcId) : null;
  if (jsonrpc !== '2.0') return invalid(usableId, 'jsonrpc: must be "2.0".');
  if (typeof method !== 'string') return invalid(usableId, 'method: must be a string.');
  if (params !== undefined && (typeof params !== 'object' || params === null)) {
    return invalid(usableId, 'params: must be an object.');
  }
  return { id: hasId ? (id as RpcId) : undefined, method, params: params ?? {} };
}

function isRpcId(id: unknown): id is RpcId {
  if (typeof id === 'number') return Number.isFinite(id) && (!Number.isInteger(id) || Number.isSafeInteger(id));
  return typeof id === 'string' || id === null;
}

function invalid(id: RpcId, message: string): NotACall {
  return { answer: rpcError(id, RPC_INVALID_REQUEST, 'bad_request', message) };
}

/** @param resultJson JSON text. */
export function rpcResult(id: RpcId, resultJson: string): string {
  return `{"jsonrpc":"2.0","id":${JSON.stringify(id)},"result":${resultJson}}`;
}

export function rpcUnknownMethod(id: RpcId, method: string): string {
  return rpcError(id, RPC_METHOD_NOT_FOUND, 'not_found', `There is no method ${JSON.stringify(method.slice(0, 100))}.`);
}

/** The answer an `ApiError` is over HTTP, as `data` of a JSON-RPC error. */
export function rpcRefusal(id: RpcId, error: ApiError): string {
  return rpcError(id, RPC_ERROR_CODES[error.code], error.code, error.message, error.retryAfterSeconds);
}

/** @param paramsJson JSON text. */
export function rpcNotification(method: string, paramsJson: string): string {
  return `{"jsonrpc":"2.0","method":"${method}","params":${paramsJson}}`;
}

function rpcError(id: RpcId, code: number, apiCode: ApiErrorCode, message: string, retryAfterSeconds?: number): string {
  const { status } = API_ERRORS[apiCode];
  const text = JSON.stringify(message);
  const retry = status === 429 || status === 503 ? `,"retry_after":${retryAfterSeconds ?? 1}` : '';
  return `{"jsonrpc":"2.0","id":${JSON.stringify(id)},"error":{"code":${code},"message":${text},"data":{"error":"${apiCode}","message":${text},"status":${status}${retry}}}}`;
}
