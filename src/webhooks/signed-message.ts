/**
 * A message as it is posted: body and headers, signed as Standard Webhooks says
 * (https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md).
 * Pure. Never: shows the secret other than by its signature.
 */
import { Buffer } from 'node:buffer';
import { createHmac } from 'node:crypto';
import type { ReceivedMessage } from '../contract/engine.js';
import { VERSION } from '../contract/version.js';
import { isoTime } from '../gateway/iso-time.js';

export interface SignedMessage {
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Buffer;
}

const SECRET_PREFIX = 'whsec_';
const USER_AGENT = `Tabulum/${VERSION}`;

/**
 * @param secret `whsec_` and the key in base64
 * @param nowMs time of this very post: receivers refuse an old one. A repeat keeps its `webhook-id` and gets a new time.
 */
export function signMessage(message: ReceivedMessage, secret: string, nowMs: number): SignedMessage {
  const body = Buffer.from(renderMessage(message));
  const timestamp = String(Math.floor(nowMs / 1000));
  const key = Buffer.from(secret.slice(SECRET_PREFIX.length), 'base64');
  const signature = createHmac('sha256', key)
    .update(`${message.messageId}.${timestamp}.`)
    .update(body)
    .digest('base64');
  return {
    headers: {
      'content-type': 'application/json',
      'user-agent': USER_AGENT,
      'webhook-id': message.messageId,
      'webhook-timestamp': timestamp,
      'webhook-signature': `v1,${signature}`,
    },
    body,
  };
}

/** As `GET /v1/messages` shows one. */
function renderMessage({ messageId, from, to, content, sentAtMs }: ReceivedMessage): string {
  return `{"message_id":"${messageId}","from":"${from}","to":"${to}","content":${JSON.stringify(content)},"timestamp":"${isoTime(sentAtMs)}"}`;
}
