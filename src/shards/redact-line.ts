import { Buffer } from 'node:buffer';
import { redactedTrailer, TRAILER_BYTES } from './log-line.js';

/**
 * Redacting a line of the event log: where the content lies in it, and what its bytes are once the content is gone.
 * Never: changes a line's length, or any byte of it but the content's and the trailer's; so doing it again, after a
 *        crash in the middle, ends in the same bytes.
 */

/** Bytes within a line: of the text between the content's quotes. */
export interface ContentPlace {
  readonly offsetBytes: number;
  readonly bytes: number;
}

const DATA = Buffer.from('"data":{');
const KEY = Buffer.from('"key":"');
const VALUE = Buffer.from(',"value":"');
const CONTENT = Buffer.from(',"content":"');
const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const ASTERISK = 0x2a;

/**
 * Where the value of a state_written line lies, or the content of a message_sent line; null when the line holds neither.
 * Works on the text alone, so that a damaged line can be relieved of its content too. Quotes within JSON strings are
 * escaped: the names sought can't be found inside what an agent wrote.
 */
export function contentPlace(line: Buffer): ContentPlace | null {
  const data = line.indexOf(DATA);
  if (data < 0) return null;
  const dataStart = data + DATA.length;
  let start: number;
  if (startsWith(line, KEY, dataStart)) {
    const keyEnd = stringEnd(line, dataStart + KEY.length);
    if (keyEnd < 0 || !startsWith(line, VALUE, keyEnd + 1)) return null;
    start = keyEnd + 1 + VALUE.length;
  } else {
    const content = line.indexOf(CONTENT, dataStart);
    if (content < 0) return null;
    start = content + CONTENT.length;
  }
  const end = stringEnd(line, start);
  return end < 0 ? null : { offsetBytes: start, bytes: end - start };
}

/**
 * Overwrites the content in `line` (without its newline). A sound line gets a trailer that says so; a damaged one stays
 * damaged, since nobody knows what else is wrong with it.
 */
export function redactLine(line: Buffer, place: ContentPlace, isDamaged: boolean): void {
  line.fill(ASTERISK, place.offsetBytes, place.offsetBytes + place.bytes);
  if (isDamaged) return;
  const checkedBytes = line.length - TRAILER_BYTES;
  line.write(redactedTrailer(line.subarray(0, checkedBytes)), checkedBytes, 'latin1');
}

function startsWith(line: Buffer, text: Buffer, offset: number): boolean {
  return line.compare(text, 0, text.length, offset, Math.min(offset + text.length, line.length)) === 0;
}

/** Offset of the quote that ends the JSON string whose text begins at `from`; -1 when there is none. */
function stringEnd(line: Buffer, from: number): number {
  for (let quote = line.indexOf(QUOTE, from); quote >= 0; quote = line.indexOf(QUOTE, quote + 1)) {
    let escapes = 0;
    while (quote - escapes > from && line[quote - escapes - 1] === BACKSLASH) escapes++;
    if (escapes % 2 === 0) return quote;
  }
  return -1;
}
