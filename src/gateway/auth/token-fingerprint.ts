/**
 * HMAC-SHA256 of tokens (RFC 2104), as fast as Node allows: it stands on the path of every request.
 * Never:     tells one token from another but by the whole of it; hands out or logs a token.
 *
 * Two one-shot hashes over buffers that already hold the padded key take 0.75 us here, `createHmac` 1.65 us: its cost is
 * the native object it makes. Digests travel as latin1 strings of 32 characters; a Buffer for each costs 1.2 us more.
 */
import { Buffer } from 'node:buffer';
import * as crypto from 'node:crypto';
import { TOKEN_LENGTH } from '../../contract/tokens.js';

/**
 * HMAC-SHA256(key, token) as a latin1 string of 32 characters, or undefined for anything but 72 ASCII characters.
 * Synchronous; not for use by two threads.
 */
export type TokenFingerprint = (token: string) => string | undefined;

const BLOCK_BYTES = 64;
const DIGEST_BYTES = 32;
const INNER_PAD = 0x36;
const OUTER_PAD = 0x5c;
/** Room for any string of TOKEN_LENGTH UTF-16 units, so that one which is not ASCII shows by its length in bytes. */
const MAX_ENCODED_BYTES = TOKEN_LENGTH * 3;

/** @param key at most 64 bytes: RFC 2104 would hash a longer one first, which nobody here needs. */
export function createTokenFingerprint(key: Buffer): TokenFingerprint {
  // crypto.hash came with Node 20.12
  return typeof crypto.hash === 'function' ? twoHashFingerprint(key) : hmacFingerprint(key);
}

/** The form for Node with `crypto.hash`. */
export function twoHashFingerprint(key: Buffer): TokenFingerprint {
  if (key.length > BLOCK_BYTES) throw new RangeError(`an HMAC key of ${key.length} bytes is over ${BLOCK_BYTES}`);
  const scratch = Buffer.alloc(BLOCK_BYTES + MAX_ENCODED_BYTES);
  const inner = scratch.subarray(0, BLOCK_BYTES + TOKEN_LENGTH);
  const outer = Buffer.alloc(BLOCK_BYTES + DIGEST_BYTES);
  for (let i = 0; i < BLOCK_BYTES; i++) {
    const byte = key[i] ?? 0;
    inner[i] = byte ^ INNER_PAD;
    outer[i] = byte ^ OUTER_PAD;
  }
  return (token) => {
    if (token.length !== TOKEN_LENGTH || scratch.write(token, BLOCK_BYTES, 'utf8') !== TOKEN_LENGTH) return undefined;
    outer.write(crypto.hash('sha256', inner, 'binary'), BLOCK_BYTES, 'latin1');
    return crypto.hash('sha256', outer, 'binary');
  };
}

/** The form for Node without `crypto.hash`. */
export function hmacFingerprint(key: Buffer): TokenFingerprint {
  return (token) => {
    if (token.length !== TOKEN_LENGTH || Buffer.byteLength(token) !== TOKEN_LENGTH) return undefined;
    return crypto.createHmac('sha256', key).update(token).digest('binary');
  };
}
