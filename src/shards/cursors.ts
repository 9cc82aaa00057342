import { crc32 } from 'node:zlib';

/**
 * Cursors: opaque to clients, and self-checking, so that one this server never made is refused instead of starting
 * again from somewhere. Form: base64url of the text, a dot, and its CRC-32.
 */
export function encodeCursor(text: string): string {
  const encoded = Buffer.from(text, 'utf8').toString('base64url');
  return `${encoded}.${crc32(encoded).toString(36)}`;
}

/** Undefined for anything `encodeCursor` does not return. */
export function decodeCursor(cursor: string): string | undefined {
  const dot = cursor.lastIndexOf('.');
  if (dot < 0) return undefined;
  const encoded = cursor.slice(0, dot);
  if (crc32(encoded).toString(36) !== cursor.slice(dot + 1)) return undefined;
  const text = Buffer.from(encoded, 'base64url').toString('utf8');
  return encodeCursor(text) === cursor ? text : undefined;
}
