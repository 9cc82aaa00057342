/**
 * The shape of every request and response body of the kernel API: one source for validation, types and OpenAPI.
 * Owns:  the TypeBox schemas, their static types, and the custom kinds `Utf8String` and `JsonValue`.
 * Never: knows a configurable limit (those are checked in the gateway), or does I/O.
 * Unknown fields are ignored everywhere: no schema sets `additionalProperties: false`.
 */
import { Buffer } from 'node:buffer';
import { FormatRegistry, Kind, type Static, type TObject, type TUnsafe, Type, TypeRegistry } from '@sinclair/typebox';
import { API_ERRORS, type ApiErrorCode } from './errors.js';
import { MAX_CONTACT_HASH_BYTES, MAX_LEASE_ID_BYTES, MAX_LEASE_IDS, MAX_WEBHOOK_URL_BYTES } from './limits.js';

/** Bounds of a `Utf8String`, in UTF-8 bytes; `maxBytes` left out: bounded elsewhere (by a setting, or by the body). */
export interface Utf8StringBounds {
  readonly minBytes?: number;
  readonly maxBytes?: number;
}

/** Kind of strings counted in UTF-8 bytes; lone surrogates are refused, since they have no UTF-8 form. */
export const UTF8_STRING_KIND = 'Utf8String';
/** Kind of any JSON value; a string must be well-formed. */
export const JSON_VALUE_KIND = 'JsonValue';

function isUtf8String(bounds: Utf8StringBounds, value: unknown): boolean {
  if (typeof value !== 'string') return false;
  const minBytes = bounds.minBytes ?? 0;
  const maxBytes = bounds.maxBytes ?? Number.POSITIVE_INFINITY;
  // A UTF-16 unit is 1 to 3 bytes of UTF-8: most strings are judged by length alone, without counting bytes.
  if (value.length > maxBytes || value.length * 3 < minBytes) return false;
  if (!value.isWellFormed()) return false;
  if (value.length >= minBytes && value.length * 3 <= maxBytes) return true;
  if (value.length >= minBytes && maxBytes === Number.POSITIVE_INFINITY) return true;
  const sizeBytes = Buffer.byteLength(value, 'utf8');
  return sizeBytes >= minBytes && sizeBytes <= maxBytes;
}

TypeRegistry.Set<Utf8StringBounds>(UTF8_STRING_KIND, isUtf8String);
// JSON has no undefined: here it means that the field is missing.
TypeRegistry.Set(
  JSON_VALUE_KIND,
  (_schema, value) => value !== undefined && (typeof value !== 'string' || value.isWellFormed()),
);

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;
const RFC_3339_UTC = /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{3,9}Z$/;
FormatRegistry.Set('uuid', (text) => UUID.test(text));
FormatRegistry.Set('date-time', (text) => RFC_3339_UTC.test(text) && !Number.isNaN(Date.parse(text)));

/** A well-formed string of `minBytes` to `maxBytes` UTF-8 bytes. Costs a byte count only near its upper bound. */
export function Utf8String(bounds: Utf8StringBounds, options: { readonly description?: string } = {}): TUnsafe<string> {
  return Type.Unsafe<string>({ ...options, ...bounds, [Kind]: UTF8_STRING_KIND });
}

const Uuid = (description: string) => Type.String({ format: 'uuid', description });
const Timestamp = (description: string) =>
  Type.String({ format: 'date-time', description: `${description} RFC 3339, UTC, with milliseconds or better.` });
const Address = (description: string) => Type.String({ pattern: '^tab_[a-z0-9]{20}$', description });
const Count = (description: string) => Type.Integer({ minimum: 0, description });
const NextCursor = Type.Union([Type.String(), Type.Null()], {
  description: 'Pass it as `cursor` to read on; null on the last page. Opaque.',
});

// --- request bodies ---------------------------------------------------------------------------------------------

/** Body of `POST /v1/operators`. Whether `accept_terms` must be true is a setting, so the gateway judges it. */
export const NewOperatorBody = Type.Object({
  contact_hash: Utf8String(
    { minBytes: 1, maxBytes: MAX_CONTACT_HASH_BYTES },
    { description: 'A hash of how to reach the operator.' },
  ),
  accept_terms: Type.Optional(
    Type.Unknown({ description: 'Must be true, unless the server sets `operators.require_terms: false`.' }),
  ),
});
export type NewOperatorBody = Static<typeof NewOperatorBody>;

/** Body of `POST /v1/agents`. `response` must be there; what it must be is the gate's to say. */
export const NewAgentBody = Type.Object({
  verification_response: Type.Object({
    challenge_id: Utf8String({ minBytes: 1, maxBytes: 256 }, { description: 'From the challenge.' }),
    response: Type.Unsafe<unknown>({
      [Kind]: JSON_VALUE_KIND,
      description: 'The answer: a string for `pipeline` and `proof_of_work`; anything for `stub`.',
    }),
  }),
  webhook_url: Type.Optional(
    Utf8String(
      { minBytes: 1, maxBytes: MAX_WEBHOOK_URL_BYTES },
      { description: 'https only, without credentials, resolving to globally routable unicast addresses only.' },
    ),
  ),
});
export type NewAgentBody = Static<typeof NewAgentBody>;

/** Body of `POST /v1/messages`. The longest `content` is a setting, so the gateway checks it. */
export const NewMessageBody = Type.Object({
  to: Utf8String({}, { description: 'Address of the recipient; an unknown or malformed one is 404.' }),
  content: Utf8String({ minBytes: 1 }, { description: 'At most 65,536 bytes unless configured otherwise.' }),
});
export type NewMessageBody = Static<typeof NewMessageBody>;

/** Body of `POST /v1/messages/ack`. */
export const AckBody = Type.Object({
  lease_ids: Type.Array(
    Utf8String({ minBytes: 1, maxBytes: MAX_LEASE_ID_BYTES }, { description: '`lease_id` of a leased message.' }),
    { minItems: 1, maxItems: MAX_LEASE_IDS, description: 'Messages that need no further delivery.' },
  ),
});
export type AckBody = Static<typeof AckBody>;

/** Body of `PUT /v1/state/{key}`. The longest `value` is a setting, so the gateway checks it. */
export const StateValueBody = Type.Object({
  value: Utf8String({}, { description: 'May be empty; at most 1,048,576 bytes unless configured otherwise.' }),
});
export type StateValueBody = Static<typeof StateValueBody>;

// --- responses --------------------------------------------------------------------------------------------------

export const HealthResponse = Type.Object({ status: Type.Literal('ok'), version: Type.String() });
export type HealthResponse = Static<typeof HealthResponse>;

export const OperatorResponse = Type.Object({
  operator_id: Uuid('Identifies the operator.'),
  api_key: Type.String({ pattern: '^sk_live_[0-9a-f]{64}$', description: 'The operator key. Shown this once only.' }),
});
export type OperatorResponse = Static<typeof OperatorResponse>;

const challengeOf = <GateType extends string, Data extends TObject>(gateType: GateType, data: Data) =>
  Type.Object({
    challenge_id: Uuid('Send it back with the answer; any attempt uses the challenge up.'),
    challenge_type: Type.Literal(gateType),
    challenge_data: data,
    expires_at: Timestamp('From then on the challenge is refused.'),
  });

/** Operations of the pipeline language that stand alone; `prepend:<s>` and `append:<s>` carry their text. */
export const PIPELINE_OPERATION_PATTERN =
  '^(?:reverse|base64_encode|base64_decode|hex_encode|sha256|uppercase|lowercase|rot13|(?:prepend|append):[\\s\\S]*)$';

export const PipelineChallengeResponse = challengeOf(
  'pipeline',
  Type.Object({
    seed: Type.String({ pattern: '^[0-9a-f]{32}$' }),
    operations: Type.Array(Type.Object({ op: Type.String({ pattern: PIPELINE_OPERATION_PATTERN }) }), {
      minItems: 8,
      maxItems: 8,
      description: 'Apply them to the seed in order; the answer is the final string.',
    }),
  }),
);
export const ProofOfWorkChallengeResponse = challengeOf(
  'proof_of_work',
  Type.Object({
    algorithm: Type.Literal('sha256'),
    prefix: Type.String(),
    difficulty: Type.Integer({
      minimum: 1,
      maximum: 32,
      description: 'The answer is a string s such that SHA-256(prefix + s) starts with this many zero bits.',
    }),
  }),
);
export const StubChallengeResponse = challengeOf('stub', Type.Object({}));

export const ChallengeResponse = Type.Union([
  PipelineChallengeResponse,
  ProofOfWorkChallengeResponse,
  StubChallengeResponse,
]);
export type ChallengeResponse = Static<typeof ChallengeResponse>;

export const NewAgentResponse = Type.Object({
  agent_address: Address('The new address of the agent.'),
  agent_token: Type.String({ pattern: '^at_live_[0-9a-f]{64}$', description: 'Shown this once only.' }),
  webhook_secret: Type.Optional(
    Type.String({ pattern: '^whsec_', description: 'Signs webhook deliveries; only when a webhook was given.' }),
  ),
});
export type NewAgentResponse = Static<typeof NewAgentResponse>;

export const AgentResponse = Type.Object({
  address: Address('Address of the agent.'),
  registered_at: Timestamp('When it registered.'),
});
export type AgentResponse = Static<typeof AgentResponse>;

export const RegistryResponse = Type.Object({
  agents: Type.Array(AgentResponse, { description: 'Oldest first.' }),
  next_cursor: NextCursor,
  total: Count('Agents registered on the whole server.'),
});
export type RegistryResponse = Static<typeof RegistryResponse>;

export const MessageReceiptResponse = Type.Object({
  message_id: Uuid('Identifies the message.'),
  from: Address('The sender, stamped by the kernel.'),
  to: Address('The recipient.'),
  timestamp: Timestamp('When the kernel took the message.'),
});
export type MessageReceiptResponse = Static<typeof MessageReceiptResponse>;

export const MessageResponse = Type.Object({
  message_id: Uuid('Identifies the message.'),
  from: Address('The sender, stamped by the kernel.'),
  to: Address('The recipient.'),
  content: Type.String(),
  timestamp: Timestamp('When the kernel took the message.'),
  lease_id: Type.Optional(Type.String({ description: 'Only with `ack=manual`: what acknowledges this delivery.' })),
  delivery_count: Type.Optional(
    Type.Integer({ minimum: 1, description: 'Only with `ack=manual`: 1 for the first delivery, then 2, ...' }),
  ),
});
export type MessageResponse = Static<typeof MessageResponse>;

export const MessagesResponse = Type.Object({
  messages: Type.Array(MessageResponse, {
    description: 'First in, first out. They have left the queue; with `ack=manual` they are leased.',
  }),
  remaining: Count('Messages left in the queue that are not leased.'),
});
export type MessagesResponse = Static<typeof MessagesResponse>;

export const AckResponse = Type.Object({
  acked: Count('Messages that are delivered for good by this request.'),
  unknown: Type.Array(Type.String(), {
    description:
      'Of the ids sent, those that were no running lease of this agent: ended, acknowledged before, or never one.',
  }),
});
export type AckResponse = Static<typeof AckResponse>;

export const StateEntryResponse = Type.Object({
  key: Type.String(),
  value: Type.String(),
  last_modified_by: Address('Who wrote the value.'),
  last_modified_at: Timestamp('When it was written.'),
});
export type StateEntryResponse = Static<typeof StateEntryResponse>;

export const StateWrittenResponse = Type.Object({
  key: Type.String(),
  written_by: Address('The writer.'),
  written_at: Timestamp('When it was written.'),
});
export type StateWrittenResponse = Static<typeof StateWrittenResponse>;

export const StateDeletedResponse = Type.Object({
  key: Type.String(),
  deleted_by: Address('Who deleted it.'),
  deleted_at: Timestamp('When it was deleted.'),
});
export type StateDeletedResponse = Static<typeof StateDeletedResponse>;

export const StateKeysResponse = Type.Object({
  keys: Type.Array(Type.String(), { description: 'In byte order of their UTF-8 form.' }),
  next_cursor: NextCursor,
  total: Count('Keys with that prefix.'),
});
export type StateKeysResponse = Static<typeof StateKeysResponse>;

export const CapacityResponse = Type.Object({
  used_bytes: Count('Key bytes and value bytes of live keys.'),
  total_bytes: Count('What the store may hold.'),
  key_count: Count('Live keys.'),
});
export type CapacityResponse = Static<typeof CapacityResponse>;

const ERROR_CODES = Object.keys(API_ERRORS) as ApiErrorCode[];

export const ErrorResponse = Type.Object({
  error: Type.Unsafe<ApiErrorCode>(
    Type.String({ enum: ERROR_CODES, pattern: `^(?:${ERROR_CODES.join('|')})$`, description: 'Switch on this.' }),
  ),
  message: Type.String({ description: 'What to do about it.' }),
  expected_recovery: Type.Optional(Timestamp('During a planned stop: when service is expected back.')),
});
export type ErrorResponse = Static<typeof ErrorResponse>;
