/**
 * The methods of `/v1/connect`: the operations of the HTTP API, by the same rules and with the same answers.
 * Owns:      the table of methods: limit, parameters, what is asked of the engine.
 * Never:     touches a socket; counting and sending are the connection's.
 */
import { Buffer } from 'node:buffer';
import type { Static, TSchema } from '@sinclair/typebox';
import * as contract from '../../contract/connect.js';
import { ApiError } from '../../contract/errors.js';
import { CAPACITY_KEY, KEYS_PAGE, MESSAGES_PAGE, REGISTRY_PAGE, UNACKED } from '../../contract/limits.js';
import { compileBody } from '../../contract/validate.js';
import { type RefusalMessages, unwrap } from '../call.js';
import type { HandlerContext } from '../context.js';
import type { LimitCategoryName } from '../limits/shared-limiter.js';
import {
  checkIdempotencyKey,
  checkNewMessage,
  isWholeWithin,
  receiveTerms,
  renderBatch,
  renderLeasedBatch,
  renderReceipt,
  SEND_REFUSALS,
  visibilityMs,
} from '../message-terms.js';
import { renderAck } from '../messages.js';
import { namedCursor, namedLimit, UNUSABLE_CURSOR } from '../query.js';
import { renderAgent, renderPage } from '../registry.js';
import {
  checkKey,
  checkValue,
  checkWritable,
  NO_KEYS,
  NO_SUCH_KEY,
  renderCapacity,
  renderDeleted,
  renderEntry,
  renderKeys,
  renderWritten,
  STORE_FULL,
} from '../state.js';
import type { RunningWait } from '../waits.js';
import type { SubscriptionTerms } from './subscription.js';

/** The connection, as far as methods need it. */
export interface Caller {
  readonly agent: string;
  readonly isOpen: boolean;
  /** Counts one request. @throws ApiError `rate_limited`, or `unavailable`. */
  spend(category: LimitCategoryName): void;
  /** Ends with the connection. null: answer at once, the server stops. */
  beginWait(waitMs: number): RunningWait | null;
  endWait(wait: RunningWait): void;
  /** @throws ApiError `bad_request` when there is a subscription already. It starts once the answer is sent. */
  subscribe(terms: SubscriptionTerms): void;
  /** True when every one was delivered by this connection's subscription and is not acknowledged yet. */
  areDelivered(leaseIds: readonly string[]): boolean;
  acked(leaseIds: readonly string[]): void;
}

export interface Method {
  /** Counted before anything else; null: the method counts by itself. */
  readonly limit: LimitCategoryName | null;
  /** @returns the result as JSON text. @throws ApiError */
  invoke(caller: Caller, params: unknown): Promise<string>;
}

const BAD_CURSOR: RefusalMessages = { bad_request: UNUSABLE_CURSOR };

export function connectMethods(context: HandlerContext): ReadonlyMap<string, Method> {
  return new Map([...agentMethods(context), ...messageMethods(context), ...stateMethods(context)]);
}

/** Checks parameters by name before `invoke` sees them. */
function method<Schema extends TSchema>(
  name: string,
  limit: LimitCategoryName | null,
  schema: Schema,
  invoke: (caller: Caller, params: Static<Schema>) => Promise<string>,
): [string, Method] {
  const validate = compileBody(schema);
  return [
    name,
    {
      limit,
      invoke: async (caller, params) => {
        if (Array.isArray(params)) throw new ApiError('bad_request', 'params: must be an object of named values.');
        return invoke(caller, validate(params));
      },
    },
  ];
}

function agentMethods({ engine }: HandlerContext): [string, Method][] {
  return [
    method('agent.me', 'registry_read', contract.NoParams, async ({ agent }) =>
      renderAgent(unwrap(await engine.findAgent(agent))),
    ),
    method('registry.list', 'registry_read', contract.PageParams, async ({ agent }, { cursor, limit }) => {
      const page = { cursor: namedCursor(cursor), limit: namedLimit(limit, REGISTRY_PAGE) };
      return renderPage(unwrap(await engine.listAgents(agent, page), BAD_CURSOR));
    }),
  ];
}

function messageMethods({ config, engine }: HandlerContext): [string, Method][] {
  const { maxContentBytes } = config.messaging;

  const receive = async (caller: Caller, params: contract.ReceiveParams): Promise<string> => {
    const limit = namedLimit(params.limit, MESSAGES_PAGE);
    const terms = receiveTerms(numberOf(params.wait), params.ack, numberOf(params.visibility));
    const wait = terms.waitMs === 0 ? null : caller.beginWait(terms.waitMs);
    try {
      if (terms.visibilityMs === null) {
        return renderBatch(unwrap(await engine.receiveMessages(caller.agent, limit, wait)));
      }
      const lease = { visibilityMs: terms.visibilityMs, holder: 'agent' } as const;
      const batch = unwrap(await engine.leaseMessages(caller.agent, limit, lease, wait));
      if (!caller.isOpen && batch.messages.length > 0) {
        const leaseIds = batch.messages.map(({ leaseId }) => leaseId);
        unwrap(await engine.returnLeases(caller.agent, leaseIds));
      }
      return renderLeasedBatch(batch);
    } finally {
      if (wait !== null) caller.endWait(wait);
    }
  };

  return [
    method('messages.send', 'message_send', contract.SendParams, async ({ agent }, params) => {
      const { to, content, idempotency_key: key } = params;
      checkNewMessage(to, content, maxContentBytes);
      if (key !== undefined) checkIdempotencyKey(key, 'idempotency_key');
      const message = { from: agent, to, content };
      const sent = key === undefined ? engine.sendMessage(message) : engine.sendMessageOnce(message, key);
      return renderReceipt(message, unwrap(await sent, SEND_REFUSALS));
    }),
    method('messages.receive', 'message_read', contract.ReceiveParams, receive),
    method('messages.ack', null, contract.AckParams, async (caller, { lease_ids: leaseIds }) => {
      // Senders' limits bound what a subscription delivers, so its acknowledgements need no limit of their own.
      if (!caller.areDelivered(leaseIds)) caller.spend('message_read');
      const receipt = unwrap(await engine.ackMessages(caller.agent, leaseIds));
      caller.acked(leaseIds);
      return renderAck(receipt);
    }),
    method('messages.subscribe', 'message_read', contract.SubscribeParams, async (caller, params) => {
      const terms = {
        visibilityMs: visibilityMs(numberOf(params.visibility)),
        maxUnacked: maxUnackedOf(numberOf(params.max_unacked)),
      };
      caller.subscribe(terms);
      return `{"visibility":${terms.visibilityMs / 1000},"max_unacked":${terms.maxUnacked}}`;
    }),
  ];
}

function stateMethods({ config, engine }: HandlerContext): [string, Method][] {
  const { maxKeyBytes, maxValueBytes } = config.state;

  const capacity = async (): Promise<string> => renderCapacity(unwrap(await engine.capacity()));

  return [
    method('state.get', 'state_read', contract.KeyParams, async ({ agent }, { key }) => {
      checkKey(key, maxKeyBytes);
      if (key === CAPACITY_KEY) return capacity();
      return renderEntry(unwrap(await engine.readState(agent, key), NO_SUCH_KEY));
    }),
    method('state.put', 'state_write', contract.PutParams, async ({ agent }, { key, value }) => {
      checkKey(key, maxKeyBytes);
      checkWritable(key);
      checkValue(value, maxValueBytes);
      const { writtenAtMs } = unwrap(await engine.writeState(agent, key, value), STORE_FULL);
      return renderWritten(key, agent, writtenAtMs);
    }),
    method('state.delete', 'state_write', contract.KeyParams, async ({ agent }, { key }) => {
      checkKey(key, maxKeyBytes);
      checkWritable(key);
      const { deletedAtMs } = unwrap(await engine.deleteState(agent, key), NO_SUCH_KEY);
      return renderDeleted(key, agent, deletedAtMs);
    }),
    method('state.list', 'state_read', contract.KeysParams, async (_caller, { prefix = '', cursor, limit }) => {
      const page = { cursor: namedCursor(cursor), limit: namedLimit(limit, KEYS_PAGE) };
      if (Buffer.byteLength(prefix) > maxKeyBytes) return NO_KEYS;
      return renderKeys(unwrap(await engine.listKeys(prefix, page), BAD_CURSOR));
    }),
    method('state.capacity', 'state_read', contract.NoParams, capacity),
  ];
}

/** NaN: given, but no number. */
function numberOf(value: unknown): number | undefined {
  if (value === undefined) return undefined;
  return typeof value === 'number' ? value : Number.NaN;
}

/** @throws ApiError `bad_request` */
function maxUnackedOf(value: number | undefined): number {
  if (value === undefined) return UNACKED.fallback;
  if (isWholeWithin(value, UNACKED.min, UNACKED.max)) return value;
  throw new ApiError('bad_request', `max_unacked: must be a whole number from ${UNACKED.min} to ${UNACKED.max}.`);
}
