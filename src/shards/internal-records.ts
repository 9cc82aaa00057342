import type { EventBody } from './log-line.js';

/**
 * Internal records: lines of the event log that are facts of the write-ahead log, but no events of the API. A start
 * replays them; readers and observers skip them, which leaves gaps in the `seq` they see.
 * Never: hold content, tokens, or anything else that is not in the log otherwise.
 *
 * Replay takes them in `seq` order, each once, over rows that may already lack what they speak of (a damaged line): a
 * record about a message that is not there changes nothing.
 */
export interface InternalData {
  /** `refs` are the `seq`s of the message_sent events, `counts` how often each was handed out, this time included. */
  messages_leased: { to: string; lease: string; until_ms: number; refs: readonly number[]; counts: readonly number[] };
  leases_returned: { to: string; refs: readonly number[] };
  /** A post failed; the agent's first message to push is tried again. */
  push_retried: { to: string; attempts: number; next_attempt_at_ms: number };
  /** The message `ref` joins the pull queue; all that wait behind it too while the circuit is open. */
  push_given_up: { to: string; ref: number; failed_in_row: number; circuit_open_until_ms: number };
  /** `key` and `fingerprint` are digests. */
  idempotency_claimed: { from: string; key: string; fingerprint: string; message_id: string };
  idempotency_released: { from: string; key: string };
  /** The key, and every value it has had up to this place of the log, is removed by law. */
  state_removed: { key: string; removal_id: string };
  /** `subject` (an agent or operator) has no credential from here on, and its messages are pushed nowhere. */
  credential_revoked: { subject: string };
}

export type InternalType = keyof InternalData;

export type InternalRecord = {
  [Type in InternalType]: { readonly type: Type; readonly data: InternalData[Type] };
}[InternalType];

/** A record for each type, so that the compiler finds one that is missing. */
const INTERNAL_TYPES: Readonly<Record<InternalType, true>> = {
  messages_leased: true,
  leases_returned: true,
  push_retried: true,
  push_given_up: true,
  idempotency_claimed: true,
  idempotency_released: true,
  state_removed: true,
  credential_revoked: true,
};

/** True for lines that readers of events must skip. */
export function isInternalType(type: string): type is InternalType {
  return Object.hasOwn(INTERNAL_TYPES, type);
}

export function internalBody<Type extends InternalType>(type: Type, data: InternalData[Type]): EventBody {
  return `"type":"${type}","data":${JSON.stringify(data)}`;
}
