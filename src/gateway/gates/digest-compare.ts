import { Buffer } from 'node:buffer';
import { createHash, timingSafeEqual } from 'node:crypto';

/** Whether `expectedHex` is the SHA-256 of `text`, in a time that does not tell how near it was. */
export function isDigestOf(expectedHex: string, text: string): boolean {
  const expected = Buffer.from(expectedHex, 'hex');
  const actual = createHash('sha256').update(text).digest();
  return expected.length === actual.length && timingSafeEqual(expected, actual);
}
