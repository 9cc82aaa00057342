/** Sending and receiving messages over HTTP: hot, so answers are put together by hand. */
import { Buffer } from 'node:buffer';
import type { ReceivedBatch } from '../contract/engine.js';
import { ApiError } from '../contract/errors.js';
import { MESSAGES_PAGE } from '../contract/limits.js';
import { NewMessageBody } from '../contract/schemas.js';
import { isAgentAddress } from '../contract/tokens.js';
import { compileBody } from '../contract/validate.js';
import type { Call, RefusalMessages } from './call.js';
import type { HandlerContext } from './context.js';
import { isoTime } from './iso-time.js';
import { pageLimit, parseQuery } from './query.js';
import type { Route } from './routes.js';

const NO_RECIPIENT = 'to: no agent has this address. GET /v1/registry lists those there are.';
const SEND_REFUSALS: RefusalMessages = {
  not_found: NO_RECIPIENT,
  store_full: "to: the recipient's queue is full. Try again when it has fetched some of its messages.",
};

export function messageRoutes({ config, engine }: HandlerContext): Route[] {
  const { maxContentBytes } = config.messaging;
  const validate = compileBody(NewMessageBody);

  const send = (call: Call): void => {
    const { to, content } = validate(call.body);
    if (content.length * 3 > maxContentBytes && Buffer.byteLength(content) > maxContentBytes) {
      throw new ApiError('bad_request', `content: must be 1 to ${maxContentBytes} bytes.`);
    }
    if (!isAgentAddress(to)) throw new ApiError('not_found', NO_RECIPIENT);
    const from = call.subject;
    call.answer(
      engine.sendMessage({ from, to, content }),
      202,
      ({ messageId, sentAtMs }) =>
        `{"message_id":"${messageId}","from":"${from}","to":"${to}","timestamp":"${isoTime(sentAtMs)}"}`,
      SEND_REFUSALS,
    );
  };
  const receive = (call: Call): void => {
    const limit = pageLimit(parseQuery(call.query), MESSAGES_PAGE);
    call.answer(engine.receiveMessages(call.subject, limit), 200, renderBatch);
  };

  const path = '/v1/messages';
  return [
    {
      method: 'post',
      path,
      principal: 'agent',
      limit: 'message_send',
      takesBody: true,
      takesQuery: false,
      handle: send,
    },
    {
      method: 'get',
      path,
      principal: 'agent',
      limit: 'message_read',
      takesBody: false,
      takesQuery: true,
      handle: receive,
    },
  ];
}

function renderBatch(batch: ReceivedBatch): string {
  let json = '{"messages":[';
  let separator = '';
  for (const message of batch.messages) {
    json += `${separator}{"message_id":"${message.messageId}","from":"${message.from}","to":"${message.to}","content":${JSON.stringify(message.content)},"timestamp":"${isoTime(message.sentAtMs)}"}`;
    separator = ',';
  }
  return `${json}],"remaining":${batch.remaining}}`;
}
