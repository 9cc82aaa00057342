/** What is remembered of tokens is bounded, however many come. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { PasswordHasher } from '../../src/auth-pool/password-hasher.js';
import type { Credential, EngineReply } from '../../src/contract/engine.js';
import { tokenLookup } from '../../src/contract/tokens.js';
import { Authenticator } from '../../src/gateway/auth/authenticator.js';

/** As in the authenticator. */
const MAX_SESSIONS = 100_000;
const MAX_NEGATIVES = 10_000;
const MAX_IN_FLIGHT = 10_000;

type FindCredential = (lookup: string) => Promise<EngineReply<Credential>>;

function tokenOf(number: number): string {
  return `at_live_${number.toString(16).padStart(16, '0')}${'0'.repeat(48)}`;
}

function authenticatorWith(findCredential: FindCredential, isRight: boolean): Authenticator {
  const hasher: PasswordHasher = {
    hash: async () => ({ ok: true, value: '' }),
    verify: async () => ({ ok: true, value: isRight }),
    stats: () => ({ running: 0, waiting: 0, completed: 0 }),
  };
  const engine = { findCredential };
  return new Authenticator({ engine, hasher, sessionTtlMs: 30_000, hmacServerKey: Buffer.alloc(32), now: () => 1 });
}

const everybody: FindCredential = async (lookup) => {
  return { ok: true, value: { kind: 'agent', subject: lookup, lookup, scheme: 'bcrypt', hash: 'h' } };
};

async function authenticateAll(auth: Authenticator, count: number): Promise<void> {
  const atOnce = 1_000;
  for (let first = 0; first < count; first += atOnce) {
    const numbers = Array.from({ length: Math.min(atOnce, count - first) }, (_, n) => first + n);
    await Promise.all(numbers.map((number) => auth.authenticate(tokenOf(number))));
  }
}

test('of more tokens than the session cache holds, the last ones have sessions', async () => {
  const auth = authenticatorWith(everybody, true);
  await authenticateAll(auth, MAX_SESSIONS + 500);
  assert.equal(auth.stats().sessions, MAX_SESSIONS);
  assert.equal(auth.cached(tokenOf(0)), undefined);
  assert.equal(auth.cached(tokenOf(MAX_SESSIONS + 499))?.subject, tokenLookup(tokenOf(MAX_SESSIONS + 499)));
});

test('of more wrong tokens than the negative cache holds, the last ones are remembered', async () => {
  const auth = authenticatorWith(everybody, false);
  await authenticateAll(auth, MAX_NEGATIVES + 500);
  assert.equal(auth.stats().negatives, MAX_NEGATIVES);
});

test('past so many verifications under way the next token is unavailable, and those before are answered', async () => {
  let release = (): void => {};
  const gate = new Promise<void>((resolve) => {
    release = resolve;
  });
  const auth = authenticatorWith((lookup) => gate.then(() => everybody(lookup)), true);
  const accepted = Array.from({ length: MAX_IN_FLIGHT }, (_, number) => auth.authenticate(tokenOf(number)));
  const next = auth.authenticate(tokenOf(MAX_IN_FLIGHT));
  assert.equal(auth.stats().inFlight, MAX_IN_FLIGHT);
  release();
  assert.deepEqual(await next, { ok: false, code: 'unavailable' });
  for (const result of await Promise.all(accepted)) assert.ok(result.ok);
  assert.equal(auth.stats().inFlight, 0);
});
