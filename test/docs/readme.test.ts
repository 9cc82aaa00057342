/**
 * The README's first session, pasted: its shell blocks run in bash against a fresh server, and each answer must have the
 * form that the block of JSON below it shows.
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { startServer } from '../../examples/demo/server-process.js';
import { tempDir } from '../support/temp-dir.js';
import { PROJECT_ROOT } from './project-root.js';

const DEFAULT_URL = 'http://127.0.0.1:8080';
const SESSION = /^## A first session\n(.*?)^## /ms;
const BLOCK = /^```(sh|json)\n(.*?)^```$/gms;
const SESSION_LIMIT_MS = 60_000;

interface Step {
  readonly script: string;
  readonly shownLines: readonly string[];
}

/** Each shell block with the answers shown below it. */
function sessionSteps(): Step[] {
  const section = SESSION.exec(readFileSync(join(PROJECT_ROOT, 'README.md'), 'utf8'))?.[1];
  assert.ok(section !== undefined, 'README.md has a section "A first session"');
  const steps: Step[] = [];
  let script: string | undefined;
  for (const [, language, text = ''] of section.matchAll(BLOCK)) {
    if (language === 'sh') {
      assert.equal(script, undefined, `no answer is shown for:\n${script}`);
      script = text;
    } else {
      assert.ok(script !== undefined, `no commands before the answer:\n${text}`);
      steps.push({ script, shownLines: text.trimEnd().split('\n') });
      script = undefined;
    }
  }
  assert.equal(script, undefined, `no answer is shown for:\n${script}`);
  return steps;
}

/** Types, names and their order; of strings and numbers only that they are some. */
function formOf(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(formOf);
  if (typeof value !== 'object' || value === null) return value === null ? null : typeof value;
  return Object.entries(value).map(([name, inner]) => [name, formOf(inner)]);
}

test("the README's first session works as pasted, and its answers look as shown", async (t) => {
  const workDir = await tempDir(t);
  const steps = sessionSteps();
  assert.ok(steps.length >= 4, 'the session has its four parts');
  const server = await startServer({ workDir });
  t.after(() => server.stop());

  const marker = '--- next block ---';
  const script = steps.map((step) => step.script).join(`\necho '${marker}'\n`);
  assert.ok(script.includes(DEFAULT_URL), 'the session uses the default address');
  const shell = ['-c', `set -eo pipefail\n${script.replaceAll(DEFAULT_URL, server.kernelUrl)}`];
  const { stdout, stderr } = await promisify(execFile)('bash', shell, { cwd: workDir, timeout: SESSION_LIMIT_MS });
  assert.equal(stderr, '');

  const outputs = stdout.split(`${marker}\n`);
  assert.equal(outputs.length, steps.length);
  steps.forEach(({ shownLines }, index) => {
    const answers = (outputs[index] ?? '').trimEnd().split('\n');
    assert.equal(answers.length, shownLines.length, `as many answers as shown:\n${answers.join('\n')}`);
    shownLines.forEach((shown, line) => {
      assert.deepEqual(formOf(JSON.parse(answers[line] ?? '')), formOf(JSON.parse(shown)), `${shown}\n${answers[line]}`);
    });
  });
  assert.match(stdout, /"content":"hello, Bob".*"remaining":0/);
  assert.match(stdout, /"key":"plans\/picnic","value":"Sunday, by the lake"/);
  assert.match(stdout, /"keys":\["plans\/picnic"\],"next_cursor":null,"total":1/);
  assert.match(stdout, /"used_bytes":0,"total_bytes":1073741824,"key_count":0/);
});
