/** One bcrypt for a token, however many gateway threads meet it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { HashReply, PasswordHasher } from '../../src/auth-pool/password-hasher.js';
import { ProvenHasher } from '../../src/auth-pool/proven-hasher.js';

/** Takes `token` for right when the hash is `hash of <token>`; counts, and answers when told to. */
class CountingHasher implements PasswordHasher {
  verifications = 0;
  refuse = false;

  async hash(token: string): Promise<HashReply<string>> {
    return { ok: true, value: `hash of ${token}` };
  }

  async verify(token: string, hash: string): Promise<HashReply<boolean>> {
    this.verifications += 1;
    if (this.refuse) return { ok: false, code: 'unavailable' };
    return { ok: true, value: hash === `hash of ${token}` };
  }

  stats() {
    return { running: 0, waiting: 0, completed: this.verifications };
  }
}

test('a token proven once is not checked again, and equal checks at once share one', async () => {
  const counting = new CountingHasher();
  const hasher = new ProvenHasher(counting);
  const together = await Promise.all(Array.from({ length: 5 }, () => hasher.verify('token', 'hash of token')));
  assert.deepEqual(new Set(together.map((reply) => reply.ok && reply.value)), new Set([true]));
  assert.deepEqual(await hasher.verify('token', 'hash of token'), { ok: true, value: true });
  assert.equal(counting.verifications, 1);
});

test('another hash for the same token, or another token for the same hash, is checked', async () => {
  const counting = new CountingHasher();
  const hasher = new ProvenHasher(counting);
  await hasher.verify('token', 'hash of token');
  assert.deepEqual(await hasher.verify('token', 'hash of other'), { ok: true, value: false });
  assert.deepEqual(await hasher.verify('other', 'hash of token'), { ok: true, value: false });
  assert.equal(counting.verifications, 3);
});

test('a wrong token is not checked again either; an overloaded pool is remembered by nobody', async () => {
  const counting = new CountingHasher();
  const hasher = new ProvenHasher(counting);
  for (let round = 0; round < 2; round++) {
    assert.deepEqual(await hasher.verify('token', 'hash of other'), { ok: true, value: false });
  }
  counting.refuse = true;
  assert.deepEqual(await hasher.verify('token', 'hash of token'), { ok: false, code: 'unavailable' });
  counting.refuse = false;
  assert.deepEqual(await hasher.verify('token', 'hash of token'), { ok: true, value: true });
  assert.equal(counting.verifications, 3);
});
