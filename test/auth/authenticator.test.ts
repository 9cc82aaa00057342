/** The authenticator's caches, against an engine and a hasher that count and can be held. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { LRUCache } from 'lru-cache';
import type { HashReply, PasswordHasher } from '../../src/auth-pool/password-hasher.js';
import type { Credential, EngineReply } from '../../src/contract/engine.js';
import { type PrincipalKind, tokenLookup } from '../../src/contract/tokens.js';
import { Authenticator, type AuthenticatorDeps } from '../../src/gateway/auth/authenticator.js';
import { createCredential, newToken } from '../../src/gateway/auth/credential.js';
import { waitUntil } from '../support/wait.js';

const SERVER_KEY = Buffer.alloc(32, 7);
const TTL_MS = 30_000;
const UNAUTHORIZED = { ok: false, code: 'unauthorized' };
const UNAVAILABLE = { ok: false, code: 'unavailable' };

/** Stands for bcrypt: a readable "hash", a count, and a gate that can hold answers back. */
class CountingHasher implements PasswordHasher {
  verifications = 0;
  refuse = false;
  held: (() => void)[] | null = null;

  async hash(token: string): Promise<HashReply<string>> {
    return { ok: true, value: `hash of ${token}` };
  }

  async verify(token: string, hash: string): Promise<HashReply<boolean>> {
    this.verifications++;
    if (this.refuse) return { ok: false, code: 'unavailable' };
    const held = this.held;
    if (held !== null) await new Promise<void>((release) => held.push(release));
    return { ok: true, value: hash === `hash of ${token}` };
  }

  stats() {
    return { running: 0, waiting: 0, completed: this.verifications };
  }
}

class Fixture {
  readonly hasher = new CountingHasher();
  readonly credentials = new Map<string, Credential>();
  lookups = 0;
  nowMs = 1_000_000;
  lookupFailure: 'unavailable' | 'internal_error' | 'store_full' | null = null;
  readonly auth: Authenticator;

  constructor(overrides: Partial<AuthenticatorDeps> = {}) {
    this.auth = new Authenticator({
      engine: { findCredential: (lookup) => this.findCredential(lookup) },
      hasher: this.hasher,
      sessionTtlMs: TTL_MS,
      hmacServerKey: SERVER_KEY,
      now: () => this.nowMs,
      ...overrides,
    });
  }

  async findCredential(lookup: string): Promise<EngineReply<Credential>> {
    this.lookups++;
    if (this.lookupFailure !== null) return { ok: false, code: this.lookupFailure };
    const credential = this.credentials.get(lookup);
    return credential === undefined ? { ok: false, code: 'not_found' } : { ok: true, value: credential };
  }

  async register(kind: PrincipalKind, subject: string, scheme: 'bcrypt' | 'hmac' = 'bcrypt'): Promise<string> {
    const token = newToken(kind);
    const credential = await createCredential(token, scheme, this.hasher, SERVER_KEY);
    assert.ok(credential.ok);
    this.credentials.set(tokenLookup(token), { ...credential.value, kind, subject });
    return token;
  }

  async session(token: string) {
    const result = await this.auth.authenticate(token);
    assert.ok(result.ok);
    return result.session;
  }
}

/** The same lookup, another rest. */
function wrongRest(token: string): string {
  return token.slice(0, -1) + (token.endsWith('0') ? '1' : '0');
}

test('a verified token has its session from then on, without lookup or bcrypt, until the TTL', async () => {
  const f = new Fixture();
  const token = await f.register('agent', 'tab_a');
  assert.equal(f.auth.cached(token), undefined);
  const session = await f.session(token);
  assert.deepEqual([session.kind, session.subject, session.limiterSlot], ['agent', 'tab_a', -1]);
  assert.equal(session.expiresAtMs, f.nowMs + TTL_MS);
  f.nowMs += TTL_MS - 1;
  assert.equal(f.auth.cached(token), session);
  assert.equal(await f.session(token), session);
  assert.deepEqual([f.lookups, f.hasher.verifications], [1, 1]);
  f.nowMs += 1;
  assert.equal(f.auth.cached(token), undefined);
});

test('after the TTL a session is renewed by a lookup alone, as long as the stored hash is the one it was proven against', async () => {
  const f = new Fixture();
  const token = await f.register('agent', 'tab_a');
  const first = await f.session(token);
  first.limiterSlot = 5;
  f.nowMs += TTL_MS;
  const second = await f.session(token);
  assert.notEqual(second, first);
  assert.equal(second.limiterSlot, -1);
  assert.equal(second.expiresAtMs, f.nowMs + TTL_MS);
  assert.deepEqual([f.lookups, f.hasher.verifications, f.auth.stats().renewals], [2, 1, 1]);

  const lookup = tokenLookup(token);
  const credential = f.credentials.get(lookup);
  assert.ok(credential);
  f.credentials.set(lookup, { ...credential, hash: 'hash of another token' });
  f.nowMs += TTL_MS;
  assert.deepEqual(await f.auth.authenticate(token), UNAUTHORIZED);
  assert.equal(f.hasher.verifications, 2);
});

test('a credential that is gone after the TTL is gone for good: its return needs a new bcrypt', async () => {
  const f = new Fixture();
  const token = await f.register('agent', 'tab_a');
  await f.session(token);
  const kept = f.credentials.get(tokenLookup(token));
  assert.ok(kept);
  f.credentials.clear();
  f.nowMs += TTL_MS;
  assert.deepEqual(await f.auth.authenticate(token), UNAUTHORIZED);
  f.credentials.set(tokenLookup(token), kept);
  await f.session(token);
  assert.equal(f.hasher.verifications, 2);
});

test("malformed tokens cost neither lookup nor bcrypt, and never meet another token's session", async () => {
  const f = new Fixture();
  const token = await f.register('agent', 'tab_a');
  await f.session(token);
  const malformed = [
    '',
    `${token}0`,
    token.slice(0, -1),
    token.toUpperCase(),
    token.replace('at_live_', 'xx_live_'),
    `${token}\n`,
    // Their low bytes spell the token: a latin1 copy would alias it.
    String.fromCharCode(token.charCodeAt(0) + 0x100) + token.slice(1),
    token.slice(0, 71) + String.fromCharCode(token.charCodeAt(71) + 0x200),
    `${token.slice(0, 71)}\u00e9`,
    '\ud800'.repeat(72),
  ];
  for (const text of malformed) {
    assert.equal(f.auth.cached(text), undefined, JSON.stringify(text));
    assert.deepEqual(await f.auth.authenticate(text), UNAUTHORIZED, JSON.stringify(text));
  }
  assert.deepEqual([f.lookups, f.hasher.verifications], [1, 1]);
});

test('an unknown token costs one lookup and no bcrypt, each time, and is good as soon as it is registered', async () => {
  const f = new Fixture();
  const token = await f.register('agent', 'tab_a');
  const credential = f.credentials.get(tokenLookup(token));
  assert.ok(credential);
  f.credentials.clear();
  assert.deepEqual(await f.auth.authenticate(token), UNAUTHORIZED);
  assert.deepEqual(await f.auth.authenticate(token), UNAUTHORIZED);
  assert.deepEqual([f.lookups, f.hasher.verifications], [2, 0]);
  f.credentials.set(tokenLookup(token), credential);
  await f.session(token);
});

test('a known lookup with a wrong rest costs one bcrypt in 30 s, and does not harm the right token', async () => {
  const f = new Fixture();
  const token = await f.register('operator', 'op-1');
  for (let i = 0; i < 5; i++) assert.deepEqual(await f.auth.authenticate(wrongRest(token)), UNAUTHORIZED);
  assert.deepEqual([f.lookups, f.hasher.verifications, f.auth.stats().negativeHits], [1, 1, 4]);
  await f.session(token);
  f.nowMs += 30_000;
  assert.deepEqual(await f.auth.authenticate(wrongRest(token)), UNAUTHORIZED);
  assert.equal(f.hasher.verifications, 3);
});

test('concurrent misses of one token share one lookup and one bcrypt', async () => {
  const f = new Fixture();
  const token = await f.register('agent', 'tab_a');
  const results = await Promise.all(Array.from({ length: 50 }, () => f.auth.authenticate(token)));
  const sessions = new Set(results.map((result) => result.ok && result.session));
  assert.equal(sessions.size, 1);
  assert.deepEqual([f.lookups, f.hasher.verifications, f.auth.stats().sharedMisses], [1, 1, 49]);
  assert.equal(f.auth.stats().inFlight, 0);
});

test('a full hasher or engine is unavailable, is not remembered, and ends with the next call', async () => {
  const f = new Fixture();
  const token = await f.register('agent', 'tab_a');
  f.hasher.refuse = true;
  assert.deepEqual(await f.auth.authenticate(token), UNAVAILABLE);
  f.hasher.refuse = false;
  f.lookupFailure = 'unavailable';
  assert.deepEqual(await f.auth.authenticate(token), UNAVAILABLE);
  f.lookupFailure = 'store_full';
  assert.deepEqual(await f.auth.authenticate(token), { ok: false, code: 'internal_error' });
  f.lookupFailure = null;
  await f.session(token);
});

test('an engine that rejects leaves nothing in flight', async () => {
  let failing = true;
  const f = new Fixture({
    engine: {
      findCredential: async (lookup) => {
        if (failing) throw new Error('a bug');
        return f.findCredential(lookup);
      },
    },
  });
  const token = await f.register('agent', 'tab_a');
  await assert.rejects(f.auth.authenticate(token), /a bug/);
  failing = false;
  await f.session(token);
});

test('a session that outlived its renewal attempt keeps its proof when the engine was only unavailable', async () => {
  const f = new Fixture();
  const token = await f.register('agent', 'tab_a');
  await f.session(token);
  f.nowMs += TTL_MS;
  f.lookupFailure = 'unavailable';
  assert.deepEqual(await f.auth.authenticate(token), UNAVAILABLE);
  f.lookupFailure = null;
  await f.session(token);
  assert.equal(f.hasher.verifications, 1);
});

test('scheme hmac needs no hasher, refuses a wrong rest, and knows its server key', async () => {
  const f = new Fixture();
  const token = await f.register('agent', 'tab_a', 'hmac');
  const session = await f.session(token);
  assert.equal(session.subject, 'tab_a');
  assert.deepEqual(await f.auth.authenticate(wrongRest(token)), UNAUTHORIZED);
  assert.equal(f.hasher.verifications, 0);
  const otherKey = new Fixture({ hmacServerKey: Buffer.alloc(32, 8) });
  for (const [lookup, credential] of f.credentials) otherKey.credentials.set(lookup, credential);
  assert.deepEqual(await otherKey.auth.authenticate(token), UNAUTHORIZED);
});

test('a damaged hmac hash refuses instead of throwing', async () => {
  const f = new Fixture();
  const token = await f.register('agent', 'tab_a', 'hmac');
  const credential = f.credentials.get(tokenLookup(token));
  assert.ok(credential);
  for (const hash of ['', 'zz', credential.hash.slice(2), `${credential.hash}00`]) {
    f.credentials.set(tokenLookup(token), { ...credential, hash });
    f.auth.clear();
    assert.deepEqual(await f.auth.authenticate(token), UNAUTHORIZED, hash);
  }
});

test('a credential of the other kind than the token says is refused', async () => {
  const f = new Fixture();
  const token = await f.register('agent', 'tab_a');
  const credential = f.credentials.get(tokenLookup(token));
  assert.ok(credential);
  f.credentials.set(tokenLookup(token), { ...credential, kind: 'operator' });
  assert.deepEqual(await f.auth.authenticate(token), UNAUTHORIZED);
  assert.equal(f.hasher.verifications, 0);
});

test('revoking a subject ends its sessions at once and leaves others alone', async () => {
  const f = new Fixture();
  const a = await f.register('agent', 'tab_a');
  const b = await f.register('agent', 'tab_b');
  await f.session(a);
  await f.session(b);
  f.credentials.delete(tokenLookup(a));
  f.auth.revoke('tab_a');
  assert.equal(f.auth.cached(a), undefined);
  assert.deepEqual(await f.auth.authenticate(a), UNAUTHORIZED);
  assert.ok(f.auth.cached(b));
});

test('a revocation during the bcrypt wins over it', async () => {
  const f = new Fixture();
  const token = await f.register('agent', 'tab_a');
  const held: (() => void)[] = [];
  f.hasher.held = held;
  const first = f.auth.authenticate(token);
  const second = f.auth.authenticate(token);
  await waitUntil(() => held.length === 1, { timeoutMs: 1_000 });
  f.credentials.clear();
  f.auth.revoke('tab_a');
  for (const release of held) release();
  assert.deepEqual(await Promise.all([first, second]), [UNAUTHORIZED, UNAUTHORIZED]);
  assert.equal(f.auth.cached(token), undefined);
});

test('a revocation during the lookup wins over it, also when the session is only being renewed', async () => {
  let release: (() => void) | null = null;
  let holdNext = false;
  const f = new Fixture({
    engine: {
      findCredential: async (lookup) => {
        const reply = await f.findCredential(lookup); // read before the revocation
        if (holdNext) {
          await new Promise<void>((resolve) => {
            release = resolve;
          });
        }
        return reply;
      },
    },
  });
  const token = await f.register('agent', 'tab_a');
  await f.session(token);
  f.nowMs += TTL_MS;
  holdNext = true;
  const renewing = f.auth.authenticate(token);
  await waitUntil(() => release !== null, { timeoutMs: 1_000 });
  f.auth.revoke('tab_a');
  (release as (() => void) | null)?.();
  assert.deepEqual(await renewing, UNAUTHORIZED);
  assert.equal(f.auth.cached(token), undefined);
});

test('clear forgets sessions and refusals, and what is in flight leaves no session', async () => {
  const f = new Fixture();
  const a = await f.register('agent', 'tab_a');
  const b = await f.register('agent', 'tab_b');
  await f.session(a);
  await f.auth.authenticate(wrongRest(a));
  const held: (() => void)[] = [];
  f.hasher.held = held;
  const running = f.auth.authenticate(b);
  await waitUntil(() => held.length === 1, { timeoutMs: 1_000 });
  f.auth.clear();
  f.hasher.held = null;
  for (const release of held) release();
  assert.ok((await running).ok);
  assert.equal(f.auth.cached(a), undefined);
  assert.equal(f.auth.cached(b), undefined);
  const before = f.hasher.verifications;
  await f.session(a);
  assert.deepEqual(await f.auth.authenticate(wrongRest(a)), UNAUTHORIZED);
  assert.equal(f.hasher.verifications, before + 2);
});

test('neither cache holds a token', async () => {
  const f = new Fixture();
  const token = await f.register('agent', 'tab_a', 'hmac');
  await f.session(token);
  await f.auth.authenticate(wrongRest(token));
  const contents: string[] = [];
  for (const owned of Object.values(f.auth)) {
    if (owned instanceof LRUCache || owned instanceof Map) contents.push(JSON.stringify([...owned.entries()]));
  }
  assert.equal(contents.length, 3, 'sessions, negatives, in flight');
  assert.match(contents.join(), /tab_a/);
  assert.ok(!contents.join().includes(token.slice(24, 60)));
});
