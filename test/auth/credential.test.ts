/** Tokens, what is stored of them, the server key file, and the fast HMAC. */
import assert from 'node:assert/strict';
import { createHmac, randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import type { PasswordHasher } from '../../src/auth-pool/password-hasher.js';
import { isWellFormedToken, tokenKind, tokenLookup } from '../../src/contract/tokens.js';
import { createCredential, newToken } from '../../src/gateway/auth/credential.js';
import { loadServerKey } from '../../src/gateway/auth/server-key.js';
import {
  createTokenFingerprint,
  hmacFingerprint,
  twoHashFingerprint,
} from '../../src/gateway/auth/token-fingerprint.js';
import { seedFor } from '../support/seed.js';
import { tempDir } from '../support/temp-dir.js';

const busyHasher: PasswordHasher = {
  hash: async () => ({ ok: false, code: 'unavailable' }),
  verify: async () => ({ ok: false, code: 'unavailable' }),
  stats: () => ({ running: 0, waiting: 0, completed: 0 }),
};

test('new tokens are well-formed, of their kind, and never the same', () => {
  const tokens = Array.from({ length: 100 }, (_, i) => newToken(i % 2 === 0 ? 'agent' : 'operator'));
  assert.ok(tokens.every(isWellFormedToken));
  assert.ok(tokens.every((token, i) => tokenKind(token) === (i % 2 === 0 ? 'agent' : 'operator')));
  assert.equal(new Set(tokens.map(tokenLookup)).size, tokens.length);
});

test('an hmac credential is the HMAC under the server key and needs no hasher', async () => {
  const key = randomBytes(32);
  const token = newToken('agent');
  const hash = createHmac('sha256', key).update(token).digest('hex');
  assert.deepEqual(await createCredential(token, 'hmac', busyHasher, key), {
    ok: true,
    value: { lookup: token.slice(0, 24), scheme: 'hmac', hash },
  });
});

test('a bcrypt credential is unavailable when the hasher is, and holds its hash otherwise', async () => {
  const token = newToken('operator');
  const key = randomBytes(32);
  assert.deepEqual(await createCredential(token, 'bcrypt', busyHasher, key), { ok: false, code: 'unavailable' });
  const hasher: PasswordHasher = { ...busyHasher, hash: async () => ({ ok: true, value: 'the hash' }) };
  assert.deepEqual(await createCredential(token, 'bcrypt', hasher, key), {
    ok: true,
    value: { lookup: tokenLookup(token), scheme: 'bcrypt', hash: 'the hash' },
  });
});

test('the server key is made once, for the owner only, and read back ever after', async (t) => {
  const dir = await tempDir(t);
  writeFileSync(join(dir, 'server.key.new'), 'left by a crash');
  const key = loadServerKey(dir);
  assert.equal(key.length, 32);
  assert.equal(statSync(join(dir, 'server.key')).mode & 0o777, 0o600);
  assert.deepEqual(readdirSync(dir), ['server.key']);
  assert.deepEqual(loadServerKey(dir), key);
  assert.notDeepEqual(loadServerKey(await tempDir(t)), key);
});

test('a server key of the wrong length is refused with its path, and left alone', async (t) => {
  const dir = await tempDir(t);
  const path = join(dir, 'server.key');
  for (const length of [0, 31, 33]) {
    writeFileSync(path, Buffer.alloc(length, 1));
    assert.throws(() => loadServerKey(dir), new RegExp(`server\\.key holds ${length} bytes instead of 32`));
    assert.equal(readFileSync(path).length, length);
  }
});

test('a key that can not be written is an error, not a key in memory', async (t) => {
  const dir = await tempDir(t);
  mkdirSync(join(dir, 'server.key.new')); // in the way of the draft, for root too
  assert.throws(() => loadServerKey(dir), /server\.key\.new/);
  assert.ok(!existsSync(join(dir, 'server.key')));
});

test('the fast HMAC equals createHmac for every key and token', (t) => {
  const digits = fc.string({ unit: fc.constantFrom(...'0123456789abcdef'), minLength: 64, maxLength: 64 });
  const ascii = fc.string({ unit: 'binary-ascii', minLength: 72, maxLength: 72 });
  const token = fc.oneof(
    fc.tuple(fc.constantFrom('at_live_', 'sk_live_'), digits).map((parts) => parts.join('')),
    ascii,
  );
  fc.assert(
    fc.property(
      fc.uint8Array({ minLength: 1, maxLength: 64 }),
      fc.array(token, { minLength: 1, maxLength: 4 }),
      (bytes, tokens) => {
        const key = Buffer.from(bytes);
        const fast = twoHashFingerprint(key);
        const plain = hmacFingerprint(key);
        const chosen = createTokenFingerprint(key);
        for (const text of tokens) {
          const expected = createHmac('sha256', key).update(text).digest('binary');
          assert.equal(fast(text), expected);
          assert.equal(plain(text), expected);
          assert.equal(chosen(text), expected);
        }
      },
    ),
    { seed: seedFor(t), numRuns: 500 },
  );
});

test('anything but 72 ASCII characters has no fingerprint', (t) => {
  const key = randomBytes(64);
  const forms = [twoHashFingerprint(key), hmacFingerprint(key)];
  fc.assert(
    fc.property(fc.string({ unit: 'binary', maxLength: 80 }), (text) => {
      fc.pre(text.length !== 72 || Buffer.byteLength(text) !== 72);
      for (const form of forms) assert.equal(form(text), undefined);
    }),
    { seed: seedFor(t), numRuns: 500 },
  );
  for (const form of forms) {
    assert.equal(form(`${'a'.repeat(71)}é`), undefined);
    assert.equal(form('字'.repeat(72)), undefined);
    assert.equal(form('a'.repeat(71)), undefined);
    assert.equal(form('a'.repeat(73)), undefined);
    assert.equal(form('a'.repeat(72))?.length, 32);
  }
});

test('a key over one block is refused rather than treated differently from createHmac', () => {
  assert.throws(() => twoHashFingerprint(Buffer.alloc(65)), RangeError);
});
