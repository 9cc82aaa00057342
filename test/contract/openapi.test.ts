import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { API_ERRORS } from '../../src/contract/errors.js';
import { buildOpenApi } from '../../src/contract/openapi.js';
import { VERSION } from '../../src/contract/version.js';

type Json = Record<string, unknown>;

/** As a client sees it: after serialization. */
const document: unknown = JSON.parse(JSON.stringify(buildOpenApi()));

function at(value: unknown, ...path: readonly (string | number)[]): unknown {
  for (const step of path) {
    if (typeof value !== 'object' || value === null || !Object.hasOwn(value, step)) return undefined;
    value = (value as Json)[step];
  }
  return value;
}

function objectAt(value: unknown, ...path: readonly (string | number)[]): Json {
  const found = at(value, ...path);
  assert.ok(typeof found === 'object' && found !== null && !Array.isArray(found), `no object at ${path.join(' / ')}`);
  return found as Json;
}

function walk(value: unknown, visit: (node: Json) => void): void {
  if (typeof value !== 'object' || value === null) return;
  if (!Array.isArray(value)) visit(value as Json);
  for (const item of Object.values(value)) walk(item, visit);
}

interface FoundOperation {
  readonly path: string;
  readonly method: string;
  readonly operation: Json;
}

function operations(): FoundOperation[] {
  return Object.entries(objectAt(document, 'paths')).flatMap(([path, item]) =>
    Object.entries(objectAt(item)).map(([method, operation]) => ({ path, method, operation: objectAt(operation) })),
  );
}

const KERNEL_ROUTES: Readonly<Record<string, readonly number[]>> = {
  'get /v1/health': [200, 500, 503],
  'head /v1/health': [200, 500, 503],
  'get /v1/openapi.json': [200, 500, 503],
  'post /v1/operators': [201, 400, 413, 415, 429, 500, 503, 507],
  'get /v1/agents/verification-challenge': [200, 401, 500, 503],
  'post /v1/agents': [201, 400, 401, 403, 413, 415, 500, 503, 507],
  'get /v1/agents/me': [200, 401, 429, 500, 503],
  'get /v1/registry': [200, 400, 401, 429, 500, 503],
  'post /v1/messages': [202, 400, 401, 404, 409, 413, 415, 429, 500, 503, 507],
  'get /v1/messages': [200, 400, 401, 429, 500, 503, 507],
  'post /v1/messages/ack': [200, 400, 401, 413, 415, 429, 500, 503, 507],
  'get /v1/connect': [101, 400, 401, 500, 503],
  'get /v1/state': [200, 400, 401, 429, 500, 503],
  'get /v1/state/_capacity': [200, 401, 429, 500, 503],
  'get /v1/state/{key}': [200, 400, 401, 404, 429, 500, 503],
  'put /v1/state/{key}': [200, 400, 401, 413, 415, 429, 500, 503, 507],
  'delete /v1/state/{key}': [200, 400, 401, 404, 429, 500, 503, 507],
};

test('the document is OpenAPI 3.1 of this version', () => {
  assert.equal(at(document, 'openapi'), '3.1.0');
  assert.equal(at(document, 'info', 'version'), VERSION);
});

test('every kernel route is documented with exactly the statuses it can answer', () => {
  const documented = Object.fromEntries(
    operations().map(({ path, method, operation }) => [
      `${method} ${path}`,
      Object.keys(objectAt(operation, 'responses')).map(Number),
    ]),
  );
  assert.deepEqual(documented, KERNEL_ROUTES);
});

test('every reference resolves, and every component is used', () => {
  const used = new Set<string>();
  walk(document, (node) => {
    if (node.$ref === undefined) return;
    assert.ok(typeof node.$ref === 'string' && node.$ref.startsWith('#/'), String(node.$ref));
    assert.deepEqual(Object.keys(node), ['$ref']);
    assert.notEqual(at(document, ...node.$ref.slice(2).split('/')), undefined, node.$ref);
    used.add(node.$ref);
  });
  for (const kind of ['schemas', 'headers']) {
    for (const name of Object.keys(objectAt(document, 'components', kind))) {
      assert.ok(used.has(`#/components/${kind}/${name}`), `${kind}/${name} is never used`);
    }
  }
});

test('operation ids are unique, and security names an existing scheme', () => {
  const ids = operations().map(({ operation }) => operation.operationId);
  assert.equal(new Set(ids).size, ids.length);
  for (const { operation } of operations()) {
    assert.ok(Array.isArray(operation.security));
    for (const requirement of operation.security) {
      for (const scheme of Object.keys(objectAt(requirement)))
        objectAt(document, 'components', 'securitySchemes', scheme);
    }
    const needsToken = operation.security.length > 0;
    assert.equal(objectAt(operation, 'responses')['401'] !== undefined, needsToken, String(operation.operationId));
  }
});

test('path parameters are declared exactly where the path has them', () => {
  for (const { path, operation } of operations()) {
    const inTemplate = [...path.matchAll(/\{([^}]+)\}/g)].map((match) => match[1]);
    const parameters = Array.isArray(operation.parameters) ? operation.parameters.map((item) => objectAt(item)) : [];
    const declared = parameters.filter((parameter) => parameter.in === 'path');
    assert.deepEqual(
      declared.map((parameter) => parameter.name),
      inTemplate,
      path,
    );
    for (const parameter of declared) assert.equal(parameter.required, true);
  }
});

test('every error answer has the error schema, except where there is no body', () => {
  for (const { path, method, operation } of operations()) {
    for (const [status, response] of Object.entries(objectAt(operation, 'responses'))) {
      assert.equal(typeof at(response, 'description'), 'string');
      if (Number(status) < 400) continue;
      const schema = at(response, 'content', 'application/json', 'schema', '$ref');
      assert.equal(schema, method === 'head' ? undefined : '#/components/schemas/Error', `${method} ${path} ${status}`);
    }
  }
});

test('limited routes document the limit headers on all but 401, and waiting times on 429 and 503', () => {
  const limitHeaders = ['X-RateLimit-Limit', 'X-RateLimit-Remaining', 'X-RateLimit-Reset'];
  let limitedCount = 0;
  for (const { path, method, operation } of operations()) {
    const responses = objectAt(operation, 'responses');
    const limited = responses['429'] !== undefined;
    if (limited) limitedCount++;
    for (const [status, response] of Object.entries(responses)) {
      const expected = limited && status !== '401' ? [...limitHeaders] : [];
      if (status === '429' || status === '503') expected.push('Retry-After');
      const headers = at(response, 'headers') === undefined ? [] : Object.keys(objectAt(response, 'headers'));
      assert.deepEqual(headers, expected, `${method} ${path} ${status}`);
    }
  }
  assert.equal(limitedCount, 11);
});

test('the error codes are those of the catalogue', () => {
  const codes = at(document, 'components', 'schemas', 'Error', 'properties', 'error', 'enum');
  assert.deepEqual(codes, Object.keys(API_ERRORS));
});

test('byte-counted strings come out as strings with their bounds', () => {
  const contactHash = objectAt(document, 'components', 'schemas', 'NewOperatorBody', 'properties', 'contact_hash');
  assert.equal(contactHash.type, 'string');
  assert.equal(contactHash['x-minBytes'], 1);
  assert.equal(contactHash['x-maxBytes'], 256);
  assert.match(String(contactHash.description), /1 to 256 UTF-8 bytes/);
  assert.deepEqual(at(document, 'components', 'schemas', 'NewOperatorBody', 'required'), ['contact_hash']);
});

test('callers get documents of their own', () => {
  const first = objectAt(buildOpenApi());
  delete objectAt(first, 'paths')['/v1/health'];
  assert.notEqual(at(buildOpenApi(), 'paths', '/v1/health'), undefined);
});

test('the catalogue holds the codes and statuses agents were promised', () => {
  assert.deepEqual(Object.fromEntries(Object.entries(API_ERRORS).map(([code, { status }]) => [code, status])), {
    bad_request: 400,
    unauthorized: 401,
    verification_failed: 403,
    not_found: 404,
    method_not_allowed: 405,
    idempotency_conflict: 409,
    value_too_large: 413,
    unsupported_media_type: 415,
    rate_limited: 429,
    internal_error: 500,
    unavailable: 503,
    too_many_connections: 503,
    store_full: 507,
  });
});

/** The checkout's root, whichever directory the compiled test lies in. */
function projectRoot(): string {
  let directory = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(directory, 'package.json'))) {
    const parent = dirname(directory);
    assert.notEqual(parent, directory, 'no package.json above the test');
    directory = parent;
  }
  return directory;
}

test('where the documentation tables error codes, the table is the catalogue', (t) => {
  const docs = join(projectRoot(), 'docs');
  const tables = (existsSync(docs) ? readdirSync(docs) : [])
    .filter((name) => name.endsWith('.md'))
    .map((name) => {
      const text = readFileSync(join(docs, name), 'utf8');
      return { name, rows: [...text.matchAll(/^\|\s*`([a-z_]+)`\s*\|\s*(\d{3})\s*\|/gm)] };
    })
    .filter(({ rows }) => rows.length > 0);
  if (tables.length === 0) {
    t.skip('no page of docs/ has a table of error codes yet');
    return;
  }
  const catalogue = Object.entries(API_ERRORS).map(([code, { status }]) => `${code} ${status}`);
  for (const { name, rows } of tables) {
    const listed = rows.map((row) => `${row[1]} ${row[2]}`);
    assert.deepEqual(listed.sort(), [...catalogue].sort(), name);
  }
});
