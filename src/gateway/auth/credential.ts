/**
 * Making tokens and what is stored of them.
 * Never:     stores, logs or returns a token other than to the one who asked for it.
 */
import { createHmac, randomBytes } from 'node:crypto';
import type { HashReply, PasswordHasher } from '../../auth-pool/password-hasher.js';
import type { NewCredential } from '../../contract/engine.js';
import { type PrincipalKind, TOKEN_PREFIX, tokenLookup } from '../../contract/tokens.js';

const TOKEN_RANDOM_BYTES = 32;

/** A fresh token of 256 random bits. */
export function newToken(kind: PrincipalKind): string {
  return TOKEN_PREFIX[kind] + randomBytes(TOKEN_RANDOM_BYTES).toString('hex');
}

/** What `scheme: hmac` stores: the lowercase hex of HMAC-SHA256(server key, token). Tokens are 256-bit random, so a fast
 *  hash under a secret key loses nothing against bcrypt; it does lose every token's validity with the key file. */
export function hmacCredentialHash(hmacServerKey: Buffer, token: string): string {
  return createHmac('sha256', hmacServerKey).update(token).digest('hex');
}

/** What to store of a token. `unavailable` when the bcrypt queue is full (scheme `bcrypt` only, which costs one bcrypt). */
export async function createCredential(
  token: string,
  scheme: NewCredential['scheme'],
  hasher: PasswordHasher,
  hmacServerKey: Buffer,
): Promise<HashReply<NewCredential>> {
  const lookup = tokenLookup(token);
  if (scheme === 'hmac') {
    return { ok: true, value: { lookup, scheme, hash: hmacCredentialHash(hmacServerKey, token) } };
  }
  const hashed = await hasher.hash(token);
  return hashed.ok ? { ok: true, value: { lookup, scheme, hash: hashed.value } } : hashed;
}
