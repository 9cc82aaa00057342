import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { ApiError } from '../../src/contract/errors.js';
import { percentDecode, queryDecode } from '../../src/gateway/percent-decode.js';
import { pageCursor, pageLimit, parseQuery } from '../../src/gateway/query.js';
import { seedFor } from '../support/seed.js';
import { ask, startRig } from './rig.js';

const DECODED: readonly [raw: string, key: string][] = [
  ['plain', 'plain'],
  ['a/b', 'a/b'],
  ['a%2Fb', 'a/b'],
  ['a%2fb', 'a/b'],
  ['%2541', '%41'],
  ['%25', '%'],
  ['a+b', 'a+b'],
  ['a%2Bb', 'a+b'],
  ['/', '/'],
  ['a//b', 'a//b'],
  ['./..', './..'],
  ['%00', '\0'],
  ['%C3%A9', 'é'],
  ['é', 'é'],
  ['%F0%9F%98%80', '😀'],
  ['😀', '😀'],
  ['%EF%BF%BD', '\uFFFD'],
  ['%E2%80%A8', '\u2028'],
  ['a#b', 'a#b'],
];

const MALFORMED: readonly [what: string, raw: string][] = [
  ['a lone percent sign', '%'],
  ['a short escape', '%4'],
  ['an escape that is not hexadecimal', '%zz'],
  ['half an escape behind a good one', '%41%'],
  ['a lone continuation byte', '%80'],
  ['a cut sequence', '%C3'],
  ['an overlong slash', '%C0%AF'],
  ['an encoded surrogate', '%ED%A0%80'],
  ['a byte that UTF-8 never has', '%FF'],
  ['beyond Unicode', '%F4%90%80%80'],
  ['a raw byte that is not UTF-8', '\uFFFD'],
];

describe('percent-decoding', () => {
  for (const [raw, key] of DECODED) {
    test(`${JSON.stringify(raw)} is ${JSON.stringify(key)}`, () => assert.equal(percentDecode(raw), key));
  }
  for (const [what, raw] of MALFORMED) {
    test(`${what} is bad_request`, () => {
      assert.throws(
        () => percentDecode(raw),
        (error) => error instanceof ApiError && error.code === 'bad_request',
      );
    });
  }
  test('any well-formed string survives encoding and one decoding', (t) => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (text) => percentDecode(encodeURIComponent(text)) === text),
      { seed: seedFor(t) },
    );
  });
});

describe('query strings', () => {
  test('a plus is a space, an encoded plus is a plus', () => assert.equal(queryDecode('a+b%2Bc'), 'a b+c'));
  test('of a repeated name the first counts', () => assert.equal(parseQuery('a=1&a=2').get('a'), '1'));
  test('names are decoded, values may hold equals signs, parts may be empty', () => {
    assert.deepEqual(
      [...parseQuery('&%61=b=c&d&')],
      [
        ['a', 'b=c'],
        ['d', ''],
      ],
    );
  });
  test('malformed encoding anywhere is bad_request', () => {
    for (const raw of ['a=%', '%zz=1', 'limit=5&other=%C3']) assert.throws(() => parseQuery(raw), ApiError);
  });
  test('a limit out of range, or no whole number, falls back', () => {
    const bounds = { fallback: 50, max: 100 };
    const limitOf = (query: string) => pageLimit(parseQuery(query), bounds);
    assert.deepEqual(['limit=1', 'limit=100', 'limit=007'].map(limitOf), [1, 100, 7]);
    for (const query of [
      '',
      'limit=',
      'limit=0',
      'limit=101',
      'limit=-1',
      'limit=1.5',
      'limit=1e1',
      'limit=abc',
      'limit=99999999999999',
    ]) {
      assert.equal(limitOf(query), 50, query);
    }
  });
  test('an empty cursor is none', () => {
    assert.equal(pageCursor(parseQuery('cursor=')), null);
    assert.equal(pageCursor(parseQuery('')), null);
    assert.equal(pageCursor(parseQuery('cursor=a%2Bb')), 'a+b');
  });
});

describe('keys over HTTP', () => {
  test('raw UTF-8 in the path names the same key as its encoded form', async (t) => {
    const { gateway, bearer, engine } = await startRig(t);
    await engine.writeState('tab_writer', 'é€😀', 'found');
    for (const path of [Buffer.from('é€😀'), encodeURIComponent('é€😀')]) {
      const response = await ask(t, gateway.port, 'GET /v1/state/', path, ` HTTP/1.1\r\nHost: x\r\n${bearer}\r\n`);
      assert.equal(response.status, 200);
      assert.equal(JSON.parse(response.body).value, 'found');
    }
  });

  test('raw bytes that are not UTF-8 are 400, in path and query', async (t) => {
    const { gateway, bearer } = await startRig(t);
    for (const target of ['/v1/state/a\xff', '/v1/state/\xc3', '/v1/state/\xed\xa0\x80', '/v1/state?prefix=\xe9']) {
      const response = await ask(t, gateway.port, `GET ${target} HTTP/1.1\r\nHost: x\r\n${bearer}\r\n`);
      assert.equal(response.status, 400, target);
    }
  });

  test('paths are not normalised: each spelling is its own key', async (t) => {
    const { gateway, bearer, engine } = await startRig(t);
    for (const key of ['/', 'a//b', '.', '..', 'a/../b', 'A'])
      await engine.writeState('tab_writer', key, `value of ${key}`);
    for (const [path, key] of [
      ['/', '/'],
      ['a//b', 'a//b'],
      ['.', '.'],
      ['..', '..'],
      ['a/../b', 'a/../b'],
      ['%2541', undefined],
      ['%41', 'A'],
    ] as const) {
      const response = await ask(t, gateway.port, `GET /v1/state/${path} HTTP/1.1\r\nHost: x\r\n${bearer}\r\n`);
      if (key === undefined) assert.equal(response.status, 404);
      else assert.equal(JSON.parse(response.body).key, key);
    }
  });
});
