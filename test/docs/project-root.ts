/** Where the documentation lies, whichever directory the compiled test lies in. */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const PROJECT_ROOT = findProjectRoot(fileURLToPath(import.meta.url));

function findProjectRoot(start: string): string {
  const parent = dirname(start);
  assert.notEqual(parent, start, 'no package.json above the test');
  return existsSync(join(parent, 'package.json')) ? parent : findProjectRoot(parent);
}
