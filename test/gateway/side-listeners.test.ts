import assert from 'node:assert/strict';
import { test } from 'node:test';
import { startAdmin } from '../../src/admin/admin.js';
import type { Config } from '../../src/config/config.js';
import { VERSION } from '../../src/contract/version.js';
import { createLogger } from '../../src/log.js';
import { startBareObserver } from '../observe/bare-observer.js';
import { ask, LOOPBACK, RawConnection, testConfig } from './rig.js';

const logger = createLogger('side-listeners-test', 'fatal');
const listenAddr = { host: LOOPBACK, port: 0 };
const HOST = 'HTTP/1.1\r\nHost: x\r\n';

function observerConfig(requestsPerMinPerIp: number): Config {
  const config = testConfig();
  return { ...config, observe: { ...config.observe, listenAddr, requestsPerMinPerIp } };
}

test('the observer answers health and preflights to any origin, and refuses the rest as JSON', async (t) => {
  const observer = await startBareObserver(t, observerConfig(300), logger);
  t.after(() => observer.close());
  const health = await ask(t, observer.port, `GET /observe/health ${HOST}\r\n`);
  assert.deepEqual(JSON.parse(health.body), { status: 'ok', version: VERSION });
  assert.equal(health.headers['access-control-allow-origin'], '*');
  assert.equal(health.headers['x-ratelimit-limit'], '300');
  const preflight = await ask(t, observer.port, `OPTIONS /observe/health ${HOST}Origin: http://a\r\n\r\n`);
  assert.equal(preflight.status, 204);
  assert.equal(preflight.headers['access-control-allow-methods'], 'GET, OPTIONS');
  const post = await ask(t, observer.port, `POST /observe/health ${HOST}\r\n`);
  assert.equal(post.status, 405);
  assert.equal(post.headers.allow, 'GET, OPTIONS');
  const unknown = await ask(t, observer.port, `GET /observe/nothing ${HOST}\r\n`);
  assert.equal(unknown.status, 404);
  assert.equal(unknown.headers['content-type'], 'application/json');
  assert.equal((await ask(t, observer.port, `GET /observe/health HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n`)).status, 400);
});

test('the observer limits requests per address', async (t) => {
  const observer = await startBareObserver(t, observerConfig(3), logger);
  t.after(() => observer.close());
  const statuses = [];
  for (let count = 0; count < 4; count++) {
    statuses.push((await ask(t, observer.port, `GET /observe/health ${HOST}\r\n`)).status);
  }
  assert.deepEqual(statuses, [200, 200, 200, 429]);
});

test('the observer refuses a taken port in one line, and frees its port when closed', async (t) => {
  const first = await startBareObserver(t, observerConfig(300), logger);
  const config = observerConfig(300);
  const taken = { ...config, observe: { ...config.observe, listenAddr: { host: LOOPBACK, port: first.port } } };
  await assert.rejects(startBareObserver(t, taken, logger), /can't listen/);
  await first.close();
  const second = await startBareObserver(t, taken, logger);
  t.after(() => second.close());
  assert.equal(second.port, first.port);
});

test('the observer thread takes a head of several reads up to the same limit', async (t) => {
  const observer = await startBareObserver(t, observerConfig(300), logger);
  t.after(() => observer.close());
  const slow = await RawConnection.open(t, observer.port);
  slow.send(`GET /observe/health ${HOST}X-Filler: ${'a'.repeat(7_500)}`);
  // An answer on another connection shows that the first half has been read.
  assert.equal((await ask(t, observer.port, `GET /observe/health ${HOST}\r\n`)).status, 200);
  assert.equal((await slow.send(`${'a'.repeat(7_500)}\r\n\r\n`).response()).status, 200);
});

function adminConfig(key: string | null): Config {
  const config = testConfig();
  return { ...config, admin: { listenAddr, key } };
}

test('probes and metrics answer; readiness says why not', async (t) => {
  let ready = true;
  const admin = await startAdmin({
    config: adminConfig(null),
    logger,
    readiness: () => (ready ? { ready } : { ready, reason: 'shard 1 recovers' }),
    metrics: async () => '# HELP up\nup 1\n',
  });
  t.after(() => admin.close());
  assert.equal((await ask(t, admin.port, `GET /livez ${HOST}\r\n`)).status, 200);
  assert.equal((await ask(t, admin.port, `GET /readyz ${HOST}\r\n`)).status, 200);
  ready = false;
  const unready = await ask(t, admin.port, `GET /readyz ${HOST}\r\n`);
  assert.equal(unready.status, 503);
  assert.ok(unready.body.includes('shard 1 recovers'));
  const metrics = await ask(t, admin.port, `GET /metrics ${HOST}\r\n`);
  assert.equal(metrics.body, '# HELP up\nup 1\n');
  assert.match(metrics.headers['content-type'] ?? '', /^text\/plain/);
  assert.equal((await ask(t, admin.port, `POST /metrics ${HOST}\r\n`)).status, 405);
  assert.equal((await ask(t, admin.port, `GET /nothing ${HOST}\r\n`)).status, 404);
});

test('without a key there is no /admin; with one, only its holder gets past 401', async (t) => {
  const readiness = () => ({ ready: true });
  const metrics = async () => '';
  const closed = await startAdmin({ config: adminConfig(null), logger, readiness, metrics });
  t.after(() => closed.close());
  const key = 'the admin key';
  const open = await startAdmin({ config: adminConfig(key), logger, readiness, metrics });
  t.after(() => open.close());
  const statusOf = async (port: number, authorization: string) =>
    (await ask(t, port, `GET /admin/removals ${HOST}${authorization}\r\n`)).status;
  assert.equal(await statusOf(closed.port, ''), 404);
  assert.equal(await statusOf(closed.port, `Authorization: Bearer ${key}\r\n`), 404);
  assert.equal(await statusOf(open.port, ''), 401);
  assert.equal(await statusOf(open.port, `Authorization: Bearer ${key}x\r\n`), 401);
  assert.equal(await statusOf(open.port, `Authorization: Bearer ${key}\r\n`), 404);
});

test('metrics that fail are 500, not a crash', async (t) => {
  const admin = await startAdmin({
    config: adminConfig(null),
    logger,
    readiness: () => ({ ready: true }),
    metrics: () => Promise.reject(new Error('a thread did not answer')),
  });
  t.after(() => admin.close());
  assert.equal((await ask(t, admin.port, `GET /metrics ${HOST}\r\n`)).status, 500);
});
