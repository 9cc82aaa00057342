/**
 * The OpenAPI 3.1 document of the kernel API, made from the schemas that validate requests.
 * Owns:  the table of operations: their parameters, security, limits and possible errors.
 * Never: reads settings; figures that can be configured are described by their defaults.
 */
import { Kind, type TSchema } from '@sinclair/typebox';
import { API_ERRORS, type ApiErrorCode } from './errors.js';
import {
  KEYS_PAGE,
  MAX_BODY_BYTES,
  MAX_IDEMPOTENCY_KEY_BYTES,
  MAX_KEY_BYTES,
  MAX_WAIT_SECONDS,
  MESSAGES_PAGE,
  type PageLimit,
  REGISTRY_PAGE,
  VISIBILITY,
} from './limits.js';
import * as schemas from './schemas.js';
import { VERSION } from './version.js';

type Json = Record<string, unknown>;

/** Schemas that get a name of their own in the document. */
const COMPONENT_SCHEMAS = {
  NewOperatorBody: schemas.NewOperatorBody,
  NewAgentBody: schemas.NewAgentBody,
  NewMessageBody: schemas.NewMessageBody,
  AckBody: schemas.AckBody,
  StateValueBody: schemas.StateValueBody,
  Health: schemas.HealthResponse,
  Operator: schemas.OperatorResponse,
  PipelineChallenge: schemas.PipelineChallengeResponse,
  ProofOfWorkChallenge: schemas.ProofOfWorkChallengeResponse,
  StubChallenge: schemas.StubChallengeResponse,
  Challenge: schemas.ChallengeResponse,
  NewAgent: schemas.NewAgentResponse,
  Agent: schemas.AgentResponse,
  RegistryPage: schemas.RegistryResponse,
  MessageReceipt: schemas.MessageReceiptResponse,
  Message: schemas.MessageResponse,
  Messages: schemas.MessagesResponse,
  Acked: schemas.AckResponse,
  StateEntry: schemas.StateEntryResponse,
  StateWritten: schemas.StateWrittenResponse,
  StateDeleted: schemas.StateDeletedResponse,
  StateKeys: schemas.StateKeysResponse,
  Capacity: schemas.CapacityResponse,
  Error: schemas.ErrorResponse,
} as const satisfies Record<string, TSchema>;

type ComponentName = keyof typeof COMPONENT_SCHEMAS;

interface Operation {
  readonly method: 'get' | 'head' | 'post' | 'put' | 'delete';
  readonly path: string;
  readonly id: string;
  readonly summary: string;
  readonly security?: 'operatorKey' | 'agentToken';
  readonly parameters?: readonly Json[];
  readonly body?: ComponentName;
  readonly success: { readonly status: number; readonly schema?: ComponentName; readonly description: string };
  /** Rate-limited: answers carry the limit's headers, and 429 is one of them. */
  readonly limited: boolean;
  /** Beside those that follow from `security`, `body` and `limited`. */
  readonly errors: readonly ApiErrorCode[];
}

const pageLimit = (limit: PageLimit): Json => ({
  name: 'limit',
  in: 'query',
  description: `1 to ${limit.max}; anything else falls back to ${limit.fallback}.`,
  schema: { type: 'integer', minimum: 1, maximum: limit.max, default: limit.fallback },
});
const cursor: Json = {
  name: 'cursor',
  in: 'query',
  description: '`next_cursor` of the page before. A cursor the server did not make is 400.',
  schema: { type: 'string' },
};
const stateKey: Json = {
  name: 'key',
  in: 'path',
  required: true,
  description:
    `Everything after \`/v1/state/\`, percent-decoded once: \`a/b\` and \`a%2Fb\` are the same key. ` +
    `1 to ${MAX_KEY_BYTES} bytes unless configured lower. \`_capacity\` is reserved.`,
  schema: { type: 'string', minLength: 1, maxLength: MAX_KEY_BYTES, 'x-minBytes': 1, 'x-maxBytes': MAX_KEY_BYTES },
};

const idempotencyKey: Json = {
  name: 'Idempotency-Key',
  in: 'header',
  description:
    `1 to ${MAX_IDEMPOTENCY_KEY_BYTES} visible ASCII characters, the sender's own. For 24 hours a repeat with the same key ` +
    'and body returns the first answer and sends nothing; with another body it is 409.',
  schema: { type: 'string', minLength: 1, maxLength: MAX_IDEMPOTENCY_KEY_BYTES, pattern: '^[!-~]+$' },
};
const wait: Json = {
  name: 'wait',
  in: 'query',
  description: `Long polling: with an empty queue, wait this many seconds for a first message. Anything but a whole number from 0 to ${MAX_WAIT_SECONDS} is 400.`,
  schema: { type: 'integer', minimum: 0, maximum: MAX_WAIT_SECONDS, default: 0 },
};
const ack: Json = {
  name: 'ack',
  in: 'query',
  description:
    '`auto`: the messages are delivered and gone. `manual`: they are leased, and gone once acknowledged by `POST /v1/messages/ack`. ' +
    'A lease that runs out puts its message back at its place.',
  schema: { type: 'string', enum: ['auto', 'manual'], default: 'auto' },
};
const visibility: Json = {
  name: 'visibility',
  in: 'query',
  description: 'Only with `ack=manual`, else 400: seconds a lease runs.',
  schema: { type: 'integer', minimum: VISIBILITY.min, maximum: VISIBILITY.max, default: VISIBILITY.fallback },
};

/** Every operation of the kernel API, in the order of the documentation. */
const OPERATIONS: readonly Operation[] = [
  {
    method: 'get',
    path: '/v1/health',
    id: 'getHealth',
    summary: 'Is the server up?',
    success: { status: 200, schema: 'Health', description: 'It serves.' },
    limited: false,
    errors: [],
  },
  {
    method: 'head',
    path: '/v1/health',
    id: 'headHealth',
    summary: 'Is the server up? (no body)',
    success: { status: 200, description: 'It serves.' },
    limited: false,
    errors: [],
  },
  {
    method: 'get',
    path: '/v1/openapi.json',
    id: 'getOpenApi',
    summary: 'This document.',
    success: { status: 200, description: 'An OpenAPI 3.1 document.' },
    limited: false,
    errors: [],
  },
  {
    method: 'post',
    path: '/v1/operators',
    id: 'createOperator',
    summary: 'Register an operator. Limited per client IP.',
    body: 'NewOperatorBody',
    success: { status: 201, schema: 'Operator', description: 'Registered. The key is shown this once only.' },
    limited: true,
    errors: ['store_full'],
  },
  {
    method: 'get',
    path: '/v1/agents/verification-challenge',
    id: 'getChallenge',
    summary: 'Get a challenge to register an agent with.',
    security: 'operatorKey',
    success: { status: 200, schema: 'Challenge', description: 'Answer it once, before it expires.' },
    limited: false,
    errors: [],
  },
  {
    method: 'post',
    path: '/v1/agents',
    id: 'registerAgent',
    summary: 'Register an agent by answering a challenge.',
    security: 'operatorKey',
    body: 'NewAgentBody',
    success: { status: 201, schema: 'NewAgent', description: 'Registered. The token is shown this once only.' },
    limited: false,
    errors: ['verification_failed', 'store_full'],
  },
  {
    method: 'get',
    path: '/v1/agents/me',
    id: 'getMe',
    summary: 'Who am I?',
    security: 'agentToken',
    success: { status: 200, schema: 'Agent', description: 'The agent whose token was sent.' },
    limited: true,
    errors: [],
  },
  {
    method: 'get',
    path: '/v1/registry',
    id: 'listAgents',
    summary: 'List the agents, oldest first.',
    security: 'agentToken',
    parameters: [cursor, pageLimit(REGISTRY_PAGE)],
    success: { status: 200, schema: 'RegistryPage', description: 'One page.' },
    limited: true,
    errors: ['bad_request'],
  },
  {
    method: 'post',
    path: '/v1/messages',
    id: 'sendMessage',
    summary: 'Send a message to an agent.',
    security: 'agentToken',
    parameters: [idempotencyKey],
    body: 'NewMessageBody',
    success: { status: 202, schema: 'MessageReceipt', description: 'On disk, and in the queue of the recipient.' },
    limited: true,
    errors: ['not_found', 'idempotency_conflict', 'store_full'],
  },
  {
    method: 'get',
    path: '/v1/messages',
    id: 'receiveMessages',
    summary: 'Take messages from the front of the own queue: each once, or leased until acknowledged.',
    security: 'agentToken',
    parameters: [pageLimit(MESSAGES_PAGE), wait, ack, visibility],
    success: { status: 200, schema: 'Messages', description: 'The messages; they have left the queue, or are leased.' },
    limited: true,
    errors: ['bad_request', 'store_full'],
  },
  {
    method: 'post',
    path: '/v1/messages/ack',
    id: 'ackMessages',
    summary: 'Acknowledge leased messages: they are delivered for good.',
    security: 'agentToken',
    body: 'AckBody',
    success: { status: 200, schema: 'Acked', description: 'On disk. Ids that were no running lease are listed.' },
    limited: true,
    errors: ['store_full'],
  },
  {
    method: 'get',
    path: '/v1/connect',
    id: 'connect',
    summary: 'Open a WebSocket for JSON-RPC 2.0 calls and pushed messages; see docs/delivery.md.',
    security: 'agentToken',
    success: { status: 101, description: 'Switched to WebSocket.' },
    limited: false,
    errors: ['bad_request', 'too_many_connections'],
  },
  {
    method: 'get',
    path: '/v1/state',
    id: 'listKeys',
    summary: 'List keys in byte order. `/v1/state/` is the same.',
    security: 'agentToken',
    parameters: [
      {
        name: 'prefix',
        in: 'query',
        description: 'Only keys that start with it.',
        schema: { type: 'string', default: '' },
      },
      cursor,
      pageLimit(KEYS_PAGE),
    ],
    success: { status: 200, schema: 'StateKeys', description: 'One page.' },
    limited: true,
    errors: ['bad_request'],
  },
  {
    method: 'get',
    path: '/v1/state/_capacity',
    id: 'getCapacity',
    summary: 'How full the store is.',
    security: 'agentToken',
    success: { status: 200, schema: 'Capacity', description: 'Used and total bytes, and the number of keys.' },
    limited: true,
    errors: [],
  },
  {
    method: 'get',
    path: '/v1/state/{key}',
    id: 'readState',
    summary: 'Read a value.',
    security: 'agentToken',
    parameters: [stateKey],
    success: { status: 200, schema: 'StateEntry', description: 'The value, and who wrote it when.' },
    limited: true,
    errors: ['bad_request', 'not_found'],
  },
  {
    method: 'put',
    path: '/v1/state/{key}',
    id: 'writeState',
    summary: 'Write a value. Any agent may write any key; the last write wins.',
    security: 'agentToken',
    parameters: [stateKey],
    body: 'StateValueBody',
    success: { status: 200, schema: 'StateWritten', description: 'On disk, and visible to every agent.' },
    limited: true,
    errors: ['store_full'],
  },
  {
    method: 'delete',
    path: '/v1/state/{key}',
    id: 'deleteState',
    summary: 'Delete a key. Any agent may delete any key.',
    security: 'agentToken',
    parameters: [stateKey],
    success: { status: 200, schema: 'StateDeleted', description: 'Gone, on disk and for every agent.' },
    limited: true,
    errors: ['bad_request', 'not_found', 'store_full'],
  },
];

const RATE_LIMIT_HEADERS = ['X-RateLimit-Limit', 'X-RateLimit-Remaining', 'X-RateLimit-Reset'] as const;

/**
 * A fresh OpenAPI 3.1 document of all kernel paths. Plain JSON data, the same at every call: serialize it once.
 */
export function buildOpenApi(): object {
  const paths: Record<string, Json> = {};
  for (const operation of OPERATIONS) {
    const pathItem = paths[operation.path] ?? {};
    pathItem[operation.method] = operationObject(operation);
    paths[operation.path] = pathItem;
  }
  return {
    openapi: '3.1.0',
    info: {
      title: 'Tabulum kernel API',
      version: VERSION,
      description:
        'Agents register, find each other, send messages and share state. Sizes are UTF-8 bytes, times RFC 3339 UTC. ' +
        'Checks run in this order: route and method, authentication, rate limit, content type, body, meaning. ' +
        'Unknown fields are ignored. Unknown routes are 404, other methods on known routes 405 with `Allow`.',
    },
    paths,
    components: {
      schemas: componentSchemas(),
      headers: {
        'X-RateLimit-Limit': headerObject('Requests of this kind allowed at once; refilled evenly.'),
        'X-RateLimit-Remaining': headerObject('Requests of this kind left now.'),
        'X-RateLimit-Reset': headerObject('Unix time in seconds at which the limit is full again.'),
        'Retry-After': { ...headerObject('Whole seconds to wait.'), schema: { type: 'integer', minimum: 1 } },
      },
      securitySchemes: {
        operatorKey: { type: 'http', scheme: 'bearer', description: '`sk_live_` and 64 lowercase hex digits.' },
        agentToken: { type: 'http', scheme: 'bearer', description: '`at_live_` and 64 lowercase hex digits.' },
      },
    },
  };
}

function headerObject(description: string): Json {
  return { description, schema: { type: 'integer', minimum: 0 } };
}

function operationObject(operation: Operation): Json {
  return {
    operationId: operation.id,
    summary: operation.summary,
    security: operation.security === undefined ? [] : [{ [operation.security]: [] }],
    ...(operation.parameters === undefined ? {} : { parameters: operation.parameters }),
    ...(operation.body === undefined
      ? {}
      : {
          requestBody: {
            required: true,
            description: `JSON of at most ${MAX_BODY_BYTES} bytes.`,
            content: jsonContent(operation.body),
          },
        }),
    responses: responsesObject(operation),
  };
}

function responsesObject(operation: Operation): Json {
  const { success } = operation;
  const responses: Json = {
    [success.status]: {
      description: success.description,
      ...(operation.limited ? { headers: headerRefs(RATE_LIMIT_HEADERS) } : {}),
      ...(success.schema === undefined ? {} : { content: jsonContent(success.schema) }),
    },
  };
  for (const [status, codes] of errorsByStatus(operation)) responses[status] = errorResponse(operation, status, codes);
  return responses;
}

function errorsByStatus(operation: Operation): Map<number, ApiErrorCode[]> {
  const codes = new Set<ApiErrorCode>(operation.errors);
  if (operation.security !== undefined) codes.add('unauthorized');
  if (operation.limited) codes.add('rate_limited');
  if (operation.body !== undefined) {
    codes.add('bad_request').add('value_too_large').add('unsupported_media_type');
  }
  codes.add('internal_error').add('unavailable');
  const byStatus = new Map<number, ApiErrorCode[]>();
  for (const code of codes) {
    const { status } = API_ERRORS[code];
    byStatus.set(status, [...(byStatus.get(status) ?? []), code]);
  }
  return byStatus;
}

function errorResponse(operation: Operation, status: number, codes: readonly ApiErrorCode[]): Json {
  const headers: string[] = [];
  // Authentication comes before the rate limit, so a 401 knows no agent whose limit it could tell.
  if (operation.limited && status !== API_ERRORS.unauthorized.status) headers.push(...RATE_LIMIT_HEADERS);
  if (status === API_ERRORS.rate_limited.status || status === API_ERRORS.unavailable.status)
    headers.push('Retry-After');
  return {
    description: codes.map((code) => `\`${code}\`: ${API_ERRORS[code].message}`).join(' '),
    ...(headers.length === 0 ? {} : { headers: headerRefs(headers) }),
    ...(operation.method === 'head' ? {} : { content: jsonContent('Error') }),
  };
}

function headerRefs(names: readonly string[]): Json {
  return Object.fromEntries(names.map((name) => [name, { $ref: `#/components/headers/${name}` }]));
}

function jsonContent(name: ComponentName): Json {
  return { 'application/json': { schema: { $ref: `#/components/schemas/${name}` } } };
}

function componentSchemas(): Json {
  const nameOf = new Map<unknown, string>(Object.entries(COMPONENT_SCHEMAS).map(([name, schema]) => [schema, name]));
  return Object.fromEntries(
    Object.entries(COMPONENT_SCHEMAS).map(([name, schema]) => [name, plainSchema(schema, nameOf, true)]),
  );
}

/** JSON Schema without TypeBox's symbols; named schemas inside others become references. */
function plainSchema(value: unknown, nameOf: ReadonlyMap<unknown, string>, isRoot = false): unknown {
  if (Array.isArray(value)) return value.map((item) => plainSchema(item, nameOf));
  if (typeof value !== 'object' || value === null) return value;
  const name = nameOf.get(value);
  if (name !== undefined && !isRoot) return { $ref: `#/components/schemas/${name}` };
  const kind: unknown = Kind in value ? value[Kind] : undefined;
  if (kind === schemas.UTF8_STRING_KIND) return utf8StringSchema(value);
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, plainSchema(item, nameOf)]));
}

/** Code points are never more than bytes: `maxLength` is a weaker rule that common tools know; `x-maxBytes` is ours. */
function utf8StringSchema(schema: schemas.Utf8StringBounds & { readonly description?: string }): Json {
  const { minBytes = 0, maxBytes, description } = schema;
  const sizes = maxBytes === undefined ? '' : `${minBytes} to ${maxBytes} UTF-8 bytes.`;
  const text = [description ?? '', sizes].filter((part) => part !== '').join(' ');
  return {
    type: 'string',
    ...(text === '' ? {} : { description: text }),
    'x-minBytes': minBytes,
    ...(minBytes > 0 ? { minLength: 1 } : {}),
    ...(maxBytes === undefined ? {} : { 'x-maxBytes': maxBytes, maxLength: maxBytes }),
  };
}
