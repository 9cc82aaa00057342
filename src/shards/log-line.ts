import { Buffer } from 'node:buffer';
import { crc32 } from 'node:zlib';
import type { EventData, EventType } from '../contract/events.js';
import { REDACTED_TEXT } from '../contract/redaction.js';
import type { InternalData, InternalType } from './internal-records.js';

/**
 * The form of one line of the event log:
 *
 *   {"seq":7,"ts":"...","type":"...","agent":"...","data":{...},"crc":"0f3a91bc"}\n
 *
 * `crc` is the CRC-32 of every byte before `,"crc"`, always eight hex digits, so that a line whose content is removed
 * by law keeps its length: then asterisks stand in the content's place, and `red` instead of `crc` (see redact-line.ts).
 * Some fields are the log's own and are not shown to readers:
 *   `ref`   on message_delivered and message_dropped: `seq` of the message_sent event that is meant
 *   `more`  the next line belongs to the same operation; recovery keeps such a group whole or not at all
 *   `push`  on message_sent: it is to be pushed to the recipient's webhook first
 *   `once`  on message_sent: its id is remembered, so that a repeat of the send finds it
 * Lines of some types are the log's own altogether: see internal-records.ts.
 */
export interface LoggedEvent {
  readonly seq: number;
  readonly ts: string;
  readonly type: EventType | InternalType;
  readonly agent?: string;
  readonly data: EventData[EventType] | InternalData[InternalType];
  readonly ref?: number;
  readonly more?: true;
  readonly push?: true;
  readonly once?: true;
  /** The content was removed by law: `data` has REDACTED_TEXT in its place, and the length of what was there. */
  readonly redacted?: true;
}

const CRC_FIELD = ',"crc":"';
/** In the place of CRC_FIELD in a line whose content was removed; as long. */
const REDACTED_FIELD = ',"red":"';
/** `,"crc":"01234567"}` */
export const TRAILER_BYTES = CRC_FIELD.length + 8 + 2;

/** The fields of a line between `ts` and `crc`, as JSON text. Made when an operation is staged, before `seq` is known. */
export type EventBody = string;

/** Put together by hand, like the two below: they are most of what is logged, and this is half the cost. */
export function stateReadBody(reader: string, key: string, found: boolean): EventBody {
  return `"type":"state_read","agent":"${reader}","data":{"key":${JSON.stringify(key)},"read_by":"${reader}","found":${found}}`;
}

export function stateWrittenBody(writer: string, key: string, value: string, valueBytes: number): EventBody {
  return `"type":"state_written","agent":"${writer}","data":{"key":${JSON.stringify(key)},"value":${JSON.stringify(value)},"value_length":${valueBytes},"written_by":"${writer}"}`;
}

/** Addresses and ids are ours and need no escaping; the recipient is known to exist. */
export function messageSentBody(messageId: string, from: string, to: string, content: string): EventBody {
  return `"type":"message_sent","agent":"${from}","data":{"message_id":"${messageId}","from":"${from}","to":"${to}","content":${JSON.stringify(content)},"content_length":${Buffer.byteLength(content)}}`;
}

export function eventBody<Type extends EventType>(type: Type, agent: string | null, data: EventData[Type]): EventBody {
  return agent === null
    ? `"type":"${type}","data":${JSON.stringify(data)}`
    : `"type":"${type}","agent":"${agent}","data":${JSON.stringify(data)}`;
}

/** The whole line with its newline. About a microsecond for a line of 300 bytes. */
export function encodeLine(seq: number, ts: string, body: EventBody, more: boolean): string {
  const checked = `{"seq":${seq},"ts":"${ts}",${body}${more ? ',"more":true' : ''}`;
  return `${checked}${CRC_FIELD}${hex32(crc32(checked))}"}\n`;
}

/** Two digits for each byte: numbers above 2^31 are not small integers, and `toString(16)` takes a microsecond for them. */
const HEX_BYTES = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, '0'));

function hex32(value: number): string {
  return `${HEX_BYTES[value >>> 24]}${HEX_BYTES[(value >>> 16) & 255]}${HEX_BYTES[(value >>> 8) & 255]}${HEX_BYTES[value & 255]}`;
}

/** The event of one line (without its newline), or null when the line is damaged. */
export function decodeLine(line: Buffer): LoggedEvent | null {
  const checkedBytes = line.length - TRAILER_BYTES;
  if (checkedBytes <= 0) return null;
  const trailer = line.toString('latin1', checkedBytes);
  const isRedacted = trailer.startsWith(REDACTED_FIELD);
  if (!(isRedacted || trailer.startsWith(CRC_FIELD)) || !trailer.endsWith('"}')) return null;
  const written = trailer.slice(CRC_FIELD.length, CRC_FIELD.length + 8);
  if (hex32(crc32(line.subarray(0, checkedBytes))) !== written) return null;
  // The checksum holds, so this is what the server wrote: a text that does not parse is our bug and may throw.
  const event = JSON.parse(line.toString('utf8')) as LoggedEvent;
  return isRedacted ? withRedactedText(event) : event;
}

function withRedactedText(event: LoggedEvent): LoggedEvent {
  const shown = event.type === 'message_sent' ? { content: REDACTED_TEXT } : { value: REDACTED_TEXT };
  return { ...event, data: { ...event.data, ...shown } as LoggedEvent['data'], redacted: true };
}

/** The last bytes of a line (without its newline) whose content was removed and which now begins with `checked`. */
export function redactedTrailer(checked: Buffer): string {
  return `${REDACTED_FIELD}${hex32(crc32(checked))}"}`;
}
