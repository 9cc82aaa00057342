/** What a request for messages may ask for, and what a message looks like in answers: the same over HTTP and WebSocket. */
import { Buffer } from 'node:buffer';
import type {
  LeasedBatch,
  LeasedMessage,
  MessageReceipt,
  NewMessage,
  ReceivedBatch,
  ReceivedMessage,
} from '../contract/engine.js';
import { ApiError } from '../contract/errors.js';
import { MAX_IDEMPOTENCY_KEY_BYTES, MAX_WAIT_SECONDS, VISIBILITY } from '../contract/limits.js';
import { isAgentAddress } from '../contract/tokens.js';
import type { RefusalMessages } from './call.js';
import { isoTime } from './iso-time.js';

const NO_RECIPIENT = 'to: no agent has this address. GET /v1/registry lists those there are.';
export const SEND_REFUSALS: RefusalMessages = {
  not_found: NO_RECIPIENT,
  store_full:
    "to: there is no room for the message: the recipient's queue, all queues together, or the server's disk is full. " +
    'Try again when messages have been fetched.',
};

export interface ReceiveTerms {
  /** 0: answer at once. */
  readonly waitMs: number;
  /** null: `ack=auto`. */
  readonly visibilityMs: number | null;
}

export const TAKE_AT_ONCE: ReceiveTerms = { waitMs: 0, visibilityMs: null };

/**
 * @param wait seconds, NaN when it was no number; `visibility` likewise.
 * @throws ApiError `bad_request` with the broken rule.
 */
export function receiveTerms(wait: number | undefined, ack: unknown, visibility: number | undefined): ReceiveTerms {
  if (wait !== undefined && !isWholeWithin(wait, 0, MAX_WAIT_SECONDS)) {
    throw new ApiError('bad_request', `wait: must be a whole number of seconds from 0 to ${MAX_WAIT_SECONDS}.`);
  }
  if (ack !== undefined && ack !== 'auto' && ack !== 'manual') {
    throw new ApiError('bad_request', 'ack: must be "auto" or "manual".');
  }
  if (visibility !== undefined && ack !== 'manual') {
    // Whoever names a time expects unacknowledged messages to come back: taking them for good would lose them.
    throw new ApiError('bad_request', 'visibility: is for leased messages only; send ack=manual with it.');
  }
  return {
    waitMs: (wait ?? 0) * 1000,
    visibilityMs: ack === 'manual' ? visibilityMs(visibility) : null,
  };
}

/** @throws ApiError `bad_request` unless it is a whole number in range. @param seconds the fallback when absent. */
export function visibilityMs(seconds: number | undefined): number {
  if (seconds === undefined) return VISIBILITY.fallback * 1000;
  if (!isWholeWithin(seconds, VISIBILITY.min, VISIBILITY.max)) {
    throw new ApiError(
      'bad_request',
      `visibility: must be a whole number of seconds from ${VISIBILITY.min} to ${VISIBILITY.max}.`,
    );
  }
  return seconds * 1000;
}

export function isWholeWithin(value: number, min: number, max: number): boolean {
  return Number.isInteger(value) && value >= min && value <= max;
}

/** @throws ApiError unless the content fits and the recipient's address is well-formed. */
export function checkNewMessage(to: string, content: string, maxContentBytes: number): void {
  if (content.length * 3 > maxContentBytes && Buffer.byteLength(content) > maxContentBytes) {
    throw new ApiError('bad_request', `content: must be 1 to ${maxContentBytes} bytes.`);
  }
  if (!isAgentAddress(to)) throw new ApiError('not_found', NO_RECIPIENT);
}

/** @param name how the client knows it. @throws ApiError `bad_request` unless it is 1 to 128 visible ASCII characters. */
export function checkIdempotencyKey(key: string, name: string): void {
  if (key.length >= 1 && key.length <= MAX_IDEMPOTENCY_KEY_BYTES && isVisibleAscii(key)) return;
  throw new ApiError(
    'bad_request',
    `${name}: must be 1 to ${MAX_IDEMPOTENCY_KEY_BYTES} visible ASCII characters, without spaces.`,
  );
}

function isVisibleAscii(text: string): boolean {
  for (let index = 0; index < text.length; index++) {
    const unit = text.charCodeAt(index);
    if (unit < 0x21 || unit > 0x7e) return false;
  }
  return true;
}

export function renderReceipt({ from, to }: Pick<NewMessage, 'from' | 'to'>, receipt: MessageReceipt): string {
  return `{"message_id":"${receipt.messageId}","from":"${from}","to":"${to}","timestamp":"${isoTime(receipt.sentAtMs)}"}`;
}

export function renderBatch(batch: ReceivedBatch): string {
  let json = '{"messages":[';
  let separator = '';
  for (const message of batch.messages) {
    json += `${separator}${fields(message)}}`;
    separator = ',';
  }
  return `${json}],"remaining":${batch.remaining}}`;
}

export function renderLeasedBatch(batch: LeasedBatch): string {
  return `{"messages":[${batch.messages.map(renderLeased).join(',')}],"remaining":${batch.remaining}}`;
}

export function renderLeased(message: LeasedMessage): string {
  return `${fields(message)},"lease_id":${JSON.stringify(message.leaseId)},"delivery_count":${message.deliveryCount}}`;
}

/** All but the closing brace. */
function fields(message: ReceivedMessage): string {
  return `{"message_id":"${message.messageId}","from":"${message.from}","to":"${message.to}","content":${JSON.stringify(message.content)},"timestamp":"${isoTime(message.sentAtMs)}"`;
}
