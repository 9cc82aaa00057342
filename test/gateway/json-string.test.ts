import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { jsonString } from '../../src/gateway/json-string.js';
import { seedFor } from '../support/seed.js';

test('strings are written as JSON.stringify writes them', (t) => {
  for (const text of [
    '',
    'a/b',
    '"',
    '\\',
    '\0',
    '\x1f',
    ' ~',
    '\x7f',
    'é',
    '\u2028',
    '😀',
    'x'.repeat(49),
    `${'x'.repeat(47)}"`,
  ]) {
    assert.equal(jsonString(text), JSON.stringify(text));
  }
  fc.assert(
    fc.property(fc.string({ unit: 'binary', maxLength: 60 }), (text) => jsonString(text) === JSON.stringify(text)),
    { seed: seedFor(t) },
  );
});
