import { Buffer } from 'node:buffer';
import { crc32 } from 'node:zlib';

/**
 * Cursors: opaque to clients, and self-checking, so that one this server never made for this listing is refused instead
 * of starting again from somewhere. Form: base64url of the text, a dot, and a CRC-32 of listing and text.
 */
export type Listing = 'agents' | 'keys';

export function encodeCursor(listing: Listing, text: string): string {
  const encoded = Buffer.from(text, 'utf8').toString('base64url');
  return `${encoded}.${checkOf(listing, encoded)}`;
}

/** Undefined for anything `encodeCursor` does not return for this listing. */
export function decodeCursor(listing: Listing, cursor: string): string | undefined {
  const dot = cursor.lastIndexOf('.');
  if (dot < 0) return undefined;
  const encoded = cursor.slice(0, dot);
  if (checkOf(listing, encoded) !== cursor.slice(dot + 1)) return undefined;
  const text = Buffer.from(encoded, 'base64url').toString('utf8');
  return encodeCursor(listing, text) === cursor ? text : undefined;
}

function checkOf(listing: Listing, encoded: string): string {
  return crc32(`${listing}:${encoded}`).toString(36);
}
