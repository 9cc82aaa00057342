/** How the page cuts keys into a tree and texts into visible parts. Pure: no browser. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { keyParts, pathsTo, treeRows } from '../../src/observe/web/views/state-tree.js';
import { cutText, oneLine, visibleParts } from '../../src/observe/web/visible-text.js';
import { seedFor } from '../support/seed.js';

const anyText = fc.string({ unit: 'binary', maxLength: 60 });
const anyKey = fc.string({ unit: fc.constantFrom('a', 'b', '/', ':', '.', 'é', '😀'), minLength: 1, maxLength: 20 });

function row(key: string): { key: string; value_length: number } {
  return { key, value_length: 1 };
}

test('the parts of a text are the text, and none that is shown hides anything', (t) => {
  const seed = seedFor(t);
  fc.assert(
    fc.property(anyText, (text) => {
      const parts = visibleParts(text);
      assert.equal(parts.map((part) => part.text).join(''), text);
      for (const part of parts)
        if (part.odd === null) assert.doesNotMatch(part.text, /[\u202a-\u202e\u2066-\u2069\u200b\ufeff]/);
    }),
    { seed },
  );
});

test('characters that hide or turn text are named by code, those of an emoji are left to it', () => {
  const codes = (text: string): string[] => visibleParts(text).flatMap(({ odd }) => (odd === null ? [] : [odd.code]));
  assert.deepEqual(codes('a\u202eb\u200bc\ufeff\u0000\u{e0041}'), ['U+202E', 'U+200B', 'U+FEFF', 'U+0000', 'U+E0041']);
  assert.deepEqual(codes('lone \ud800 half'), ['U+D800']);
  assert.deepEqual(codes('👩‍💻 and 👩🏽‍🚀'), []);
  assert.deepEqual(codes('a\u200db'), ['U+200D']);
  assert.deepEqual(codes('plain, é, 漢字, tab\tand\nnewline'), []);
});

test('a text is never cut through a pair of surrogates', (t) => {
  const seed = seedFor(t);
  fc.assert(
    fc.property(fc.string({ unit: 'grapheme', maxLength: 40 }), fc.integer({ min: 1, max: 40 }), (text, length) => {
      const cut = cutText(text, length);
      assert.ok(text.startsWith(cut) && cut.length <= length);
      assert.ok(cut.isWellFormed());
      assert.ok(oneLine(text, length).isWellFormed());
    }),
    { seed },
  );
});

test('a key is its parts, and each part but the last ends with a separator', (t) => {
  const seed = seedFor(t);
  fc.assert(
    fc.property(anyKey, (key) => {
      const parts = keyParts(key);
      assert.equal(parts.join(''), key);
      for (const part of parts.slice(0, -1)) assert.match(part, /[/:.]$/);
    }),
    { seed },
  );
  assert.deepEqual(keyParts('a/b:c.d'), ['a/', 'b:', 'c.', 'd']);
  assert.deepEqual(keyParts('//'), ['//']);
  assert.deepEqual(keyParts('plain'), ['plain']);
});

test('with every branch open the tree shows every key once, and counts them', (t) => {
  const seed = seedFor(t);
  fc.assert(
    fc.property(fc.uniqueArray(anyKey, { maxLength: 40 }), (keys) => {
      const open = new Set(keys.flatMap(pathsTo));
      const rows = treeRows(keys.sort().map(row), open);
      const shown = rows.filter(({ kind }) => kind === 'key').map(({ path }) => path);
      assert.deepEqual(shown.sort(), [...keys].sort());
      const top = treeRows(keys.map(row), new Set()).filter(({ depth }) => depth === 0);
      assert.equal(
        top.reduce((sum, { count }) => sum + count, 0),
        keys.length,
      );
    }),
    { seed },
  );
});

test('a branch with one child only is drawn with it', () => {
  const rows = treeRows(['a/b/c/one', 'a/b/c/two', 'z'].map(row), new Set());
  assert.deepEqual(
    rows.map(({ label, kind, count }) => [label, kind, count]),
    [
      ['a/b/c/', 'branch', 2],
      ['z', 'key', 1],
    ],
  );
});
