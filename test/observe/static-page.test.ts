/** The web page as files: what is served, how it may be cached, what it may do, and what is not served. */
import assert from 'node:assert/strict';
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { startListener } from '../../src/gateway/listener.js';
import { createLogger } from '../../src/log.js';
import { StaticPage } from '../../src/observe/static-page.js';
import { HttpClient, rawExchange } from '../support/http.js';
import { type Cleanup, tempDir } from '../support/temp-dir.js';

async function serve(t: Cleanup, directory: string): Promise<{ client: HttpClient; port: number }> {
  const page = new StaticPage(directory);
  const listener = await startListener(
    {
      host: '127.0.0.1',
      port: 0,
      shared: false,
      readTimeoutMs: 5_000,
      writeTimeoutMs: 5_000,
      expectedRecoveryMs: null,
      logger: createLogger('test', 'error'),
    },
    (reply, head) => {
      if (!page.answer(reply, head)) reply.refuse('not_found');
    },
  );
  const client = new HttpClient(() => listener.port);
  t.after(async () => {
    client.close();
    listener.close();
  });
  return { client, port: listener.port };
}

test('the files of the page are served with their types, a strict policy, and hashed ones for ever', async (t) => {
  const directory = await tempDir(t);
  mkdirSync(join(directory, 'assets'));
  writeFileSync(join(directory, 'index.html'), '<!doctype html><title>ü</title>');
  writeFileSync(join(directory, 'favicon.svg'), '<svg/>');
  writeFileSync(join(directory, 'assets', 'main-4f2a.js'), 'export {}');
  writeFileSync(join(directory, 'assets', 'main-4f2a.css'), 'a{}');
  writeFileSync(join(directory, 'assets', 'server.pem'), 'secret');
  const { client, port } = await serve(t, directory);
  const expected: [path: string, type: RegExp, cache: RegExp][] = [
    ['/', /^text\/html; charset=utf-8$/, /^no-cache$/],
    ['/index.html', /^text\/html; charset=utf-8$/, /^no-cache$/],
    ['/favicon.svg', /^image\/svg\+xml/, /^no-cache$/],
    ['/assets/main-4f2a.js', /^text\/javascript; charset=utf-8$/, /immutable/],
    ['/assets/main-4f2a.css', /^text\/css; charset=utf-8$/, /immutable/],
  ];
  for (const [path, type, cache] of expected) {
    const answer = await client.get(path);
    assert.equal(answer.status, 200, path);
    assert.match(answer.headers['content-type'] ?? '', type);
    assert.match(String(answer.headers['cache-control']), cache);
    assert.equal(answer.headers['x-content-type-options'], 'nosniff');
    assert.equal(answer.headers['referrer-policy'], 'no-referrer');
    const policy = String(answer.headers['content-security-policy']);
    assert.match(
      policy,
      /^default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'/,
    );
    assert.doesNotMatch(policy, /unsafe|\*|http/);
    assert.equal((await client.send('HEAD', path)).status, 200);
    assert.equal((await client.send('POST', path, { body: '{}' })).status, 405);
  }
  assert.equal((await client.get('/')).text, '<!doctype html><title>ü</title>');
  // Only what the build made, under the names it made.
  for (const path of ['/assets/server.pem', '/assets', '/assets/', '/INDEX.HTML', '/index.html/', '//index.html']) {
    assert.equal((await client.get(path)).status, 404, path);
  }
  symlinkSync('/etc', join(directory, 'late'));
  for (const path of ['/../package.json', '/assets/../../etc/passwd', '/%2e%2e/etc/passwd', '/late/passwd', '/..%2f']) {
    const raw = await rawExchange(port, `GET ${path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`);
    assert.match(raw, /^HTTP\/1\.1 404 /, path);
  }
});

test('without a built page its address says so, in plain text', async (t) => {
  const { client } = await serve(t, await tempDir(t));
  const answer = await client.get('/');
  assert.equal(answer.status, 404);
  assert.match(answer.headers['content-type'] ?? '', /^text\/plain/);
  assert.match(answer.text, /\/observe\/events/);
  assert.equal((await client.get('/index.html')).status, 404);
});
