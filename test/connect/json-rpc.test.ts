import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { RPC_ERROR_CODES } from '../../src/contract/connect.js';
import { API_ERRORS, ApiError, type ApiErrorCode } from '../../src/contract/errors.js';
import { parseFrame, rpcNotification, rpcRefusal, rpcResult } from '../../src/gateway/connect/json-rpc.js';
import { connectMethods } from '../../src/gateway/connect/methods.js';
import { createGate } from '../../src/gateway/gates/gate.js';
import { Waits } from '../../src/gateway/waits.js';
import { DEFAULT_LIMITS } from '../conformance/check.js';
import { MemoryEngine } from '../conformance/memory-engine.js';
import { PROJECT_ROOT } from '../docs/project-root.js';
import { testConfig } from '../gateway/rig.js';

function parse(text: string): unknown {
  return parseFrame(Buffer.from(text));
}

function refusalOf(text: string): { id: unknown; error: { code: number; data: Record<string, unknown> } } {
  const parsed = parse(text);
  assert.ok(typeof parsed === 'object' && parsed !== null && 'answer' in parsed, text);
  return JSON.parse(String(parsed.answer));
}

test('a call keeps its id, method and parameters; one without id is a notification', () => {
  assert.deepEqual(parse('{"jsonrpc":"2.0","id":7,"method":"m","params":{"a":1}}'), {
    id: 7,
    method: 'm',
    params: { a: 1 },
  });
  assert.deepEqual(parse('{"jsonrpc":"2.0","id":null,"method":"m"}'), { id: null, method: 'm', params: {} });
  assert.deepEqual(parse('{"jsonrpc":"2.0","method":"m","params":[1]}'), { id: undefined, method: 'm', params: [1] });
  assert.deepEqual(parse('{"jsonrpc":"2.0","method":"grüße","id":"é😀\\u0000"}'), {
    id: 'é😀\0',
    method: 'grüße',
    params: {},
  });
});

test('what is not JSON is a parse error with id null', () => {
  for (const text of ['', '{', 'nonsense', '{"jsonrpc": "2.0", "method": "m", "id": 1', '[1,', '\ufeff{}']) {
    const { id, error } = refusalOf(text);
    assert.equal(id, null);
    assert.equal(error.code, -32700, text);
    assert.deepEqual([error.data.error, error.data.status], ['bad_request', 400]);
  }
});

test('what is JSON but no call is an invalid request, with the id where it is usable', () => {
  for (const [text, id] of [
    ['1', null],
    ['null', null],
    ['"text"', null],
    ['{}', null],
    ['[]', null],
    ['{"jsonrpc":"1.0","id":3,"method":"m"}', 3],
    ['{"id":"a","method":"m"}', 'a'],
    ['{"jsonrpc":"2.0","id":3}', 3],
    ['{"jsonrpc":"2.0","id":3,"method":1}', 3],
    ['{"jsonrpc":"2.0","id":3,"method":"m","params":"p"}', 3],
    ['{"jsonrpc":"2.0","id":3,"method":"m","params":null}', 3],
    ['{"jsonrpc":"2.0","id":{},"method":"m"}', null],
    ['{"jsonrpc":"2.0","id":[],"method":"m"}', null],
    ['{"jsonrpc":"2.0","id":true,"method":"m"}', null],
    ['{"jsonrpc":"2.0","id":1e400,"method":"m"}', null],
    ['{"jsonrpc":"2.0","id":9007199254740993,"method":"m"}', null],
  ] as const) {
    const refusal = refusalOf(text);
    assert.equal(refusal.error.code, -32600, text);
    assert.equal(refusal.id, id, text);
  }
});

test('a batch keeps its order and judges each part by itself; it may not be too long', () => {
  const parsed = parse('[{"jsonrpc":"2.0","id":1,"method":"a"},2,{"jsonrpc":"2.0","method":"b"}]');
  assert.ok(Array.isArray(parsed) && parsed.length === 3);
  assert.equal(parsed[0].method, 'a');
  assert.equal(JSON.parse(parsed[1].answer).error.code, -32600);
  assert.equal(parsed[2].id, undefined);
  const call = '{"jsonrpc":"2.0","id":1,"method":"a"}';
  assert.ok(Array.isArray(parse(`[${Array(50).fill(call).join(',')}]`)));
  assert.equal(refusalOf(`[${Array(51).fill(call).join(',')}]`).error.code, -32600);
});

test('ids come back exactly, whatever they hold', () => {
  for (const id of [0, -1, 1.5, Number.MAX_SAFE_INTEGER, 1e-7, '', '1', 'a"\\\n', '\ud800', null]) {
    assert.deepEqual(JSON.parse(rpcResult(id, '{}')).id, id);
  }
});

test('an error carries what its HTTP answer would have, and its own code', () => {
  const codes = new Set<number>();
  for (const code of Object.keys(API_ERRORS) as ApiErrorCode[]) {
    const { error } = JSON.parse(rpcRefusal(1, new ApiError(code, 'do "this"', { retryAfterSeconds: 7 })));
    const { status } = API_ERRORS[code];
    const retry = status === 429 || status === 503 ? { retry_after: 7 } : {};
    assert.deepEqual(error, {
      code: RPC_ERROR_CODES[code],
      message: 'do "this"',
      data: { error: code, message: 'do "this"', status, ...retry },
    });
    codes.add(error.code);
    assert.ok(error.code === -32602 || error.code === -32603 || (error.code <= -32000 && error.code >= -32099));
  }
  assert.equal(codes.size, Object.keys(API_ERRORS).length, 'every error has a code of its own');
});

test('a notification has no id', () => {
  assert.deepEqual(JSON.parse(rpcNotification('messages.deliver', '{"a":1}')), {
    jsonrpc: '2.0',
    method: 'messages.deliver',
    params: { a: 1 },
  });
});

test('docs/delivery.md lists every code and every method', () => {
  const page = readFileSync(join(PROJECT_ROOT, 'docs/delivery.md'), 'utf8');
  const listed = [...page.matchAll(/^\| (-32\d{3}) \| `([a-z_]+)` \|/gm)].map(([, code, error]) => `${code} ${error}`);
  const protocol = ['-32700 bad_request', '-32600 bad_request', '-32601 not_found'];
  const own = Object.entries(RPC_ERROR_CODES).map(([error, code]) => `${code} ${error}`);
  assert.deepEqual(listed.sort(), [...protocol, ...own].sort());
  const methods = [...page.matchAll(/^\| `((?:agent|registry|messages|state)\.[a-z]+)` \|/gm)].map(([, name]) => name);
  const config = testConfig();
  const engine = new MemoryEngine(DEFAULT_LIMITS);
  const table = connectMethods({
    config,
    engine,
    hasher: { hash: unused, verify: unused, stats: unused },
    hmacServerKey: Buffer.alloc(0),
    gate: createGate(config.verification),
    waits: new Waits(),
    now: Date.now,
  });
  assert.deepEqual(methods.sort(), [...table.keys()].sort());
});

function unused(): never {
  throw new Error('nothing is called here');
}
