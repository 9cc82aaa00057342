/** The table in docs/durability.md is the fault matrix, and each of its rows is held against what a test saw. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { PROJECT_ROOT } from '../docs/project-root.js';
import { FAULT_MATRIX, renderMatrix } from './fault-matrix.js';

test('docs/durability.md has the fault matrix as the tests know it', () => {
  const page = readFileSync(join(PROJECT_ROOT, 'docs', 'durability.md'), 'utf8');
  assert.ok(page.includes(renderMatrix()), `print it with: node build/test/faults/print-matrix.js\n${renderMatrix()}`);
});

test('every row of the fault matrix is held against what a test saw', () => {
  const directory = join(PROJECT_ROOT, 'test', 'faults');
  const tests = readdirSync(directory)
    .filter((name) => name.endsWith('.test.ts') && name !== 'matrix.test.ts')
    .map((name) => readFileSync(join(directory, name), 'utf8'))
    .join('\n');
  const unseen = Object.keys(FAULT_MATRIX).filter((fault) => !tests.includes(`'${fault}'`));
  assert.deepEqual(unseen, []);
});
