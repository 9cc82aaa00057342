/** The bcrypt pool and its remote form: answers, bounds, deaths. Cost 4 but where a bcrypt must last. */
import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { getPriority } from 'node:os';
import { test } from 'node:test';
import { MessageChannel } from 'node:worker_threads';
import { BcryptPool, type BcryptPoolOptions } from '../../src/auth-pool/bcrypt-pool.js';
import { connectHasher, serveHasher } from '../../src/auth-pool/remote-hasher.js';
import { newToken } from '../../src/gateway/auth/credential.js';
import type { Cleanup } from '../support/temp-dir.js';
import { waitUntil } from '../support/wait.js';

const UNAVAILABLE = { ok: false, code: 'unavailable' };
/** Takes hours to verify: stays in flight until its thread ends. */
const ENDLESS_HASH = `$2b$31$${'a'.repeat(53)}`;

function makePool(t: Cleanup, options: Partial<BcryptPoolOptions> = {}): BcryptPool {
  const pool = new BcryptPool({ threads: 1, maxPending: 10, cost: 4, ...options });
  t.after(() => pool.close());
  return pool;
}

/** A hash of `token`; fails the test when the pool refuses. */
async function hashed(pool: BcryptPool, token: string): Promise<string> {
  const reply = await pool.hash(token);
  assert.ok(reply.ok);
  return reply.value;
}

test('a token matches its own hash and no other', async (t) => {
  const pool = makePool(t);
  const token = newToken('agent');
  const hash = await hashed(pool, token);
  assert.match(hash, /^\$2[aby]\$04\$/);
  assert.ok(!hash.includes(token));
  assert.deepEqual(await pool.verify(token, hash), { ok: true, value: true });
  const lastDigit = token.endsWith('0') ? '1' : '0';
  assert.deepEqual(await pool.verify(token.slice(0, -1) + lastDigit, hash), { ok: true, value: false });
  assert.notEqual(await hashed(pool, token), hash, 'the salt must differ each time');
});

test('the published bcrypt vectors verify', async (t) => {
  const pool = makePool(t);
  // From the crypt_blowfish test suite by Solar Designer.
  assert.deepEqual(await pool.verify('U*U', '$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW'), {
    ok: true,
    value: true,
  });
  assert.deepEqual(await pool.verify('U*U*', '$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW'), {
    ok: true,
    value: false,
  });
});

test('what bcrypt can not read is no match, and costs no thread', async (t) => {
  const deaths: Error[] = [];
  const pool = makePool(t, { onThreadDeath: (error) => deaths.push(error) });
  const token = newToken('operator');
  const hash = await hashed(pool, token);
  const badPairs: [string, string][] = [
    [`${token}x`, hash],
    [`${token.slice(0, 70)}é`, hash.slice(0, -1)],
    ['', hash],
    [token, ''],
    [token, 'plain text'],
    [token, hash.slice(0, -1)],
    [token, `${hash}A`],
    [token, hash.replace('$04$', '$99$')],
    [token, hash.replace('$04$', '$03$')],
    [token, `${hash.slice(0, -1)}=`],
  ];
  for (const [password, stored] of badPairs) {
    assert.deepEqual(await pool.verify(password, stored), { ok: true, value: false }, stored);
  }
  assert.deepEqual(await pool.verify(token, hash), { ok: true, value: true });
  assert.deepEqual(deaths, []);
});

test('past threads + maxPending a task is refused at once, and the accepted ones are answered', async (t) => {
  const pool = makePool(t, { threads: 2, maxPending: 3 });
  const hash = await hashed(pool, 'token');
  const replies = Array.from({ length: 8 }, () => pool.verify('token', hash));
  assert.deepEqual(pool.stats(), { running: 2, waiting: 3, completed: 1 });
  assert.deepEqual(await Promise.all(replies.slice(5)), [UNAVAILABLE, UNAVAILABLE, UNAVAILABLE]);
  for (const reply of await Promise.all(replies.slice(0, 5))) assert.deepEqual(reply, { ok: true, value: true });
  assert.deepEqual(pool.stats(), { running: 0, waiting: 0, completed: 6 });
});

test('the bound also holds for the first burst, while threads still start', async (t) => {
  const pool = makePool(t, { threads: 1, maxPending: 1 });
  const replies = await Promise.all(Array.from({ length: 20 }, () => pool.hash('token')));
  assert.equal(replies.filter((reply) => reply.ok).length, 2);
});

test('a thread that dies answers its task as unavailable, and another takes its place', async (t) => {
  const deaths: Error[] = [];
  const pool = makePool(t, { threads: 1, maxPending: 5, onThreadDeath: (error) => deaths.push(error) });
  const hash = await hashed(pool, 'token');
  const doomed = pool.verify('token', ENDLESS_HASH);
  const queued = pool.verify('token', hash);
  await pool.terminateThread();
  assert.deepEqual(await doomed, UNAVAILABLE);
  assert.deepEqual(await queued, { ok: true, value: true });
  assert.deepEqual(await pool.verify('token', hash), { ok: true, value: true });
  assert.equal(deaths.length, 1);
});

test('a thread that dies idle is reported and replaced', async (t) => {
  const deaths: Error[] = [];
  const pool = makePool(t, { threads: 1, onThreadDeath: (error) => deaths.push(error) });
  const hash = await hashed(pool, 'token');
  await pool.terminateThread();
  await waitUntil(() => deaths.length === 1, { timeoutMs: 5_000 });
  assert.deepEqual(await pool.verify('token', hash), { ok: true, value: true });
});

test('a closing pool refuses what waits, what runs and what comes', async (t) => {
  const pool = makePool(t);
  await hashed(pool, 'token');
  const running = pool.verify('token', ENDLESS_HASH);
  const waiting = pool.verify('token', ENDLESS_HASH);
  const closing = pool.close();
  assert.deepEqual(await pool.hash('token'), UNAVAILABLE);
  assert.deepEqual(await Promise.all([running, waiting]), [UNAVAILABLE, UNAVAILABLE]);
  await closing;
  await pool.close();
});

test('pool threads run at lower priority than the rest of the process', {
  skip: process.platform !== 'linux',
}, async (t) => {
  const pool = makePool(t, { threads: 2 });
  await Promise.all([pool.hash('token'), pool.hash('token')]);
  const own = getPriority();
  const priorities = readdirSync('/proc/self/task').map((threadId) => getPriority(Number(threadId)));
  assert.equal(priorities.filter((priority) => priority === Math.min(19, own + 10)).length, 2);
  assert.equal(getPriority(process.pid), own);
});

test('a remote hasher gives the answers, the refusals and the counts of the pool', async (t) => {
  const pool = makePool(t, { threads: 1, maxPending: 1 });
  const { port1, port2 } = new MessageChannel();
  serveHasher(port1, pool);
  const remote = connectHasher(port2);
  t.after(async () => port2.close());
  const reply = await remote.hash('token');
  assert.ok(reply.ok);
  assert.deepEqual(await remote.verify('token', reply.value), { ok: true, value: true });
  assert.deepEqual(await remote.verify('other', reply.value), { ok: true, value: false });
  const burst = Array.from({ length: 5 }, () => remote.verify('token', reply.value));
  assert.equal(remote.stats().waiting, 5);
  const refused = (await Promise.all(burst)).filter((answer) => !answer.ok);
  assert.equal(refused.length, 3);
  assert.deepEqual(remote.stats(), { running: 0, waiting: 0, completed: 5 });
});

test('calls over a port that closes are unavailable, then and later', async (t) => {
  const pool = makePool(t);
  await hashed(pool, 'token');
  const { port1, port2 } = new MessageChannel();
  serveHasher(port1, pool);
  const remote = connectHasher(port2);
  const open = remote.verify('token', ENDLESS_HASH);
  await waitUntil(() => pool.stats().running === 1, { timeoutMs: 5_000 });
  port1.close();
  assert.deepEqual(await open, UNAVAILABLE);
  assert.deepEqual(await remote.hash('token'), UNAVAILABLE);
});
