/** Sending and receiving messages over HTTP: hot, so answers are put together by hand. */
import type { AckReceipt, EngineReply, LeasedBatch } from '../contract/engine.js';
import { MESSAGES_PAGE } from '../contract/limits.js';
import { AckBody, NewMessageBody } from '../contract/schemas.js';
import { compileBody } from '../contract/validate.js';
import type { Call } from './call.js';
import type { HandlerContext } from './context.js';
import {
  checkIdempotencyKey,
  checkNewMessage,
  type ReceiveTerms,
  receiveTerms,
  renderBatch,
  renderLeasedBatch,
  renderReceipt,
  SEND_REFUSALS,
  TAKE_AT_ONCE,
} from './message-terms.js';
import { pageLimit, parseQuery } from './query.js';
import type { Route } from './routes.js';
import type { RunningWait } from './waits.js';

export function messageRoutes({ config, engine, waits }: HandlerContext): Route[] {
  const { maxContentBytes } = config.messaging;
  const validate = compileBody(NewMessageBody);
  const validateAck = compileBody(AckBody);

  const send = (call: Call): void => {
    const { to, content } = validate(call.body);
    checkNewMessage(to, content, maxContentBytes);
    const message = { from: call.subject, to, content };
    const { idempotencyKey } = call;
    if (idempotencyKey !== undefined) checkIdempotencyKey(idempotencyKey, 'Idempotency-Key');
    call.answer(
      idempotencyKey === undefined ? engine.sendMessage(message) : engine.sendMessageOnce(message, idempotencyKey),
      202,
      (receipt) => renderReceipt(message, receipt),
      SEND_REFUSALS,
    );
  };

  const receive = (call: Call): void => {
    const parameters = parseQuery(call.query);
    const limit = pageLimit(parameters, MESSAGES_PAGE);
    const { waitMs, visibilityMs } = parameters.size === 0 ? TAKE_AT_ONCE : termsOf(parameters);
    const wait = waitMs === 0 ? null : waits.begin(waitMs);
    if (wait !== null) call.reply.waitFor(wait);
    if (visibilityMs === null) {
      call.answer(ended(engine.receiveMessages(call.subject, limit, wait), wait), 200, renderBatch);
    } else {
      const leased = engine.leaseMessages(call.subject, limit, { visibilityMs, holder: 'agent' }, wait);
      call.answer(returnedUnless(call, ended(leased, wait)), 200, renderLeasedBatch);
    }
  };

  /** What was leased for a client that has left goes back at once, not when its time is over. */
  const returnedUnless = async (
    call: Call,
    pending: Promise<EngineReply<LeasedBatch>>,
  ): Promise<EngineReply<LeasedBatch>> => {
    const reply = await pending;
    if (reply.ok && reply.value.messages.length > 0 && !call.reply.isOpen) {
      const leaseIds = reply.value.messages.map(({ leaseId }) => leaseId);
      await engine.returnLeases(call.subject, leaseIds);
    }
    return reply;
  };

  const acknowledge = (call: Call): void => {
    const { lease_ids: leaseIds } = validateAck(call.body);
    call.answer(engine.ackMessages(call.subject, leaseIds), 200, renderAck);
  };

  const path = '/v1/messages';
  const agent = { path, principal: 'agent' } as const;
  const writing = { ...agent, method: 'post', takesBody: true, takesQuery: false } as const;
  return [
    { ...writing, limit: 'message_send', handle: send },
    { ...writing, path: `${path}/ack`, limit: 'message_read', handle: acknowledge },
    { ...agent, method: 'get', limit: 'message_read', takesBody: false, takesQuery: true, handle: receive },
  ];
}

/** @throws ApiError `bad_request` with the parameter that breaks its rule. */
function termsOf(parameters: ReadonlyMap<string, string>): ReceiveTerms {
  return receiveTerms(
    secondsOf(parameters.get('wait')),
    parameters.get('ack'),
    secondsOf(parameters.get('visibility')),
  );
}

/** NaN: given, but not in decimal digits. */
function secondsOf(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  return /^[0-9]{1,9}$/.test(text) ? Number(text) : Number.NaN;
}

/** `pending`, with the wait off the books once it is there. */
function ended<T>(pending: Promise<T>, wait: RunningWait | null): Promise<T> {
  return wait === null ? pending : pending.finally(() => wait.end());
}

export function renderAck(receipt: AckReceipt): string {
  return `{"acked":${receipt.acked},"unknown":${JSON.stringify(receipt.unknown)}}`;
}
