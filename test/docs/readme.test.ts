/**
 * The documentation, pasted: the shell blocks of the README's first session, and of the page that goes on from it, run in
 * bash against a fresh server, and what they print must be what the block below each shows.
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { startServer } from '../support/server.js';
import { tempDir } from '../support/temp-dir.js';
import { PROJECT_ROOT } from './project-root.js';

const DEFAULT_KERNEL_URL = 'http://127.0.0.1:8080';
const DEFAULT_ADMIN_URL = 'http://127.0.0.1:9090';
const SESSION = /^## A first session\n(.*?)^## /ms;
const BLOCK = /^```(sh|json|text)\n(.*?)^```$/gms;
const SESSION_LIMIT_MS = 60_000;
const MARKER = '--- next block ---';

/** A shell block and what is shown below it: text exactly as printed, or JSON of the same form. */
interface Step {
  readonly script: string;
  readonly shownAs: 'json' | 'text';
  readonly shownLines: readonly string[];
}

function stepsIn(text: string): Step[] {
  const steps: Step[] = [];
  let script: string | undefined;
  for (const [, language, block = ''] of text.matchAll(BLOCK)) {
    if (language === 'sh') {
      assert.equal(script, undefined, `nothing is shown for:\n${script}`);
      script = block;
    } else {
      assert.ok(script !== undefined, `no commands before:\n${block}`);
      steps.push({ script, shownAs: language === 'json' ? 'json' : 'text', shownLines: block.trimEnd().split('\n') });
      script = undefined;
    }
  }
  assert.equal(script, undefined, `nothing is shown for:\n${script}`);
  return steps;
}

/** Types, names and their order; of strings and numbers only that they are some. */
function formOf(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(formOf);
  if (typeof value !== 'object' || value === null) return value === null ? null : typeof value;
  return Object.entries(value).map(([name, inner]) => [name, formOf(inner)]);
}

function assertShown(step: Step, printed: string): void {
  const lines = printed.trimEnd().split('\n');
  if (step.shownAs === 'text') {
    assert.deepEqual(lines, step.shownLines, step.script);
    return;
  }
  assert.equal(lines.length, step.shownLines.length, `as many answers as shown:\n${printed}`);
  step.shownLines.forEach((shown, index) => {
    const answer = lines[index] ?? '';
    assert.deepEqual(formOf(JSON.parse(answer)), formOf(JSON.parse(shown)), `shown: ${shown}\nprinted: ${answer}`);
  });
}

test('what the documentation has the reader paste works, and prints what it shows', async (t) => {
  const readme = SESSION.exec(readFileSync(join(PROJECT_ROOT, 'README.md'), 'utf8'))?.[1];
  assert.ok(readme !== undefined, 'README.md has a section "A first session"');
  const session = stepsIn(readme);
  const differences = stepsIn(readFileSync(join(PROJECT_ROOT, 'docs/differences.md'), 'utf8'));
  const steps = [...session, ...differences];
  assert.ok(session.length >= 4 && differences.length >= 10, 'the steps are found');

  const workDir = await tempDir(t);
  const server = await startServer(t);
  const pasted = steps.map((step) => step.script).join(`\necho '${MARKER}'\n`);
  assert.ok(pasted.includes(DEFAULT_KERNEL_URL) && pasted.includes(DEFAULT_ADMIN_URL), 'default addresses are used');
  const script = pasted
    .replaceAll(DEFAULT_KERNEL_URL, `http://127.0.0.1:${server.kernelPort}`)
    .replaceAll(DEFAULT_ADMIN_URL, `http://127.0.0.1:${server.adminPort}`);

  const shell = promisify(execFile)('bash', ['-c', `set -eo pipefail\n${script}`], {
    cwd: workDir,
    timeout: SESSION_LIMIT_MS,
  });
  const { stdout, stderr } = await shell;
  assert.equal(stderr, '');
  const printed = stdout.split(`${MARKER}\n`);
  assert.equal(printed.length, steps.length);
  for (const [index, step] of steps.entries()) assertShown(step, printed[index] ?? '');

  assert.match(stdout, /"content":"hello, Bob".*"remaining":0/);
  assert.match(stdout, /"key":"plans\/picnic","value":"Sunday, by the lake"/);
  assert.match(stdout, /"keys":\["plans\/picnic"\],"next_cursor":null,"total":1/);
  assert.match(stdout, /"used_bytes":0,"total_bytes":1073741824,"key_count":0/);
});
