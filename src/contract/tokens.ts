/**
 * The form of tokens, addresses and keys. A token is 256 random bits; it is shown once, never stored, never logged.
 * `lookup` is its public part: the prefix and 64 of the 256 bits, by which its credential is found without any bcrypt.
 */
export type PrincipalKind = 'operator' | 'agent';

export const TOKEN_PREFIX: Readonly<Record<PrincipalKind, string>> = { operator: 'sk_live_', agent: 'at_live_' };
export const TOKEN_LENGTH = 72;
export const TOKEN_LOOKUP_LENGTH = 24;

const TOKEN_PATTERN = /^(?:sk|at)_live_[0-9a-f]{64}$/;
const ADDRESS_PATTERN = /^tab_[a-z0-9]{20}$/;

/** True for exactly the prefix and 64 lowercase hex digits: bcrypt stops at 72 bytes, so longer must never pass. */
export function isWellFormedToken(token: string): boolean {
  return token.length === TOKEN_LENGTH && TOKEN_PATTERN.test(token);
}

/** Kind of a well-formed token. */
export function tokenKind(token: string): PrincipalKind {
  return token.startsWith(TOKEN_PREFIX.agent) ? 'agent' : 'operator';
}

export function tokenLookup(token: string): string {
  return token.slice(0, TOKEN_LOOKUP_LENGTH);
}

export function isAgentAddress(text: string): boolean {
  return ADDRESS_PATTERN.test(text);
}
