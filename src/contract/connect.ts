/**
 * The agents' WebSocket, `GET /v1/connect`: JSON-RPC 2.0 (jsonrpc.org/specification) with named parameters.
 * Owns:  the parameters of every method, and the one table of error codes.
 * Never: knows a configurable limit, or does I/O. Results are those of the HTTP answers.
 */
import { type Static, Type } from '@sinclair/typebox';
import type { ApiErrorCode } from './errors.js';
import { AckBody, NewMessageBody, Utf8String } from './schemas.js';

/** Codes of JSON-RPC itself, section 5.1. */
export const RPC_PARSE_ERROR = -32700;
export const RPC_INVALID_REQUEST = -32600;
export const RPC_METHOD_NOT_FOUND = -32601;

/** What an error of the API is in JSON-RPC. Those of its own range are -32000 - (status mod 100), 5xx 50 further down. */
export const RPC_ERROR_CODES: Readonly<Record<ApiErrorCode, number>> = {
  bad_request: -32602,
  unauthorized: -32001,
  verification_failed: -32003,
  not_found: -32004,
  method_not_allowed: -32005,
  idempotency_conflict: -32009,
  value_too_large: -32013,
  unsupported_media_type: -32015,
  rate_limited: -32029,
  internal_error: -32603,
  unavailable: -32053,
  too_many_connections: -32054,
  store_full: -32057,
};

/** A value the method judges itself, to say what is wrong with it or to fall back. */
const Judged = Type.Optional(Type.Unknown());

export const NoParams = Type.Object({});
export const PageParams = Type.Object({ cursor: Judged, limit: Judged });
export const SendParams = Type.Composite([
  NewMessageBody,
  Type.Object({ idempotency_key: Type.Optional(Utf8String({ minBytes: 1 })) }),
]);
export const ReceiveParams = Type.Object({ limit: Judged, wait: Judged, ack: Judged, visibility: Judged });
export type ReceiveParams = Static<typeof ReceiveParams>;
export const AckParams = AckBody;
export const SubscribeParams = Type.Object({ visibility: Judged, max_unacked: Judged });
export type SubscribeParams = Static<typeof SubscribeParams>;
export const KeyParams = Type.Object({ key: Utf8String({}) });
export const PutParams = Type.Object({ key: Utf8String({}), value: Utf8String({}) });
export const KeysParams = Type.Object({ prefix: Type.Optional(Utf8String({})), cursor: Judged, limit: Judged });
