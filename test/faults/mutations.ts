/**
 * Takes away, one by one, the lines that each guarantee rests on, in a copy of the build, and runs the test that must
 * fail then. Prints the table; exit code 1 when a guarantee can be broken and no test notices.
 *
 *   node build/test/faults/mutations.js [WORD]     all, or those with WORD in their guarantee or line
 */
import { spawnSync } from 'node:child_process';
import { cpSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { BOUNDS } from './protecting-lines/bounds.js';
import { FAILURES } from './protecting-lines/failures.js';
import { LOG } from './protecting-lines/log.js';
import type { Mutation } from './protecting-lines/mutation.js';
import { OPERATION } from './protecting-lines/operation.js';
import { QUEUES_AND_ORDER } from './protecting-lines/queues-and-order.js';
import { TOOLS } from './protecting-lines/tools.js';

const MUTATIONS: readonly Mutation[] = [...LOG, ...FAILURES, ...QUEUES_AND_ORDER, ...BOUNDS, ...OPERATION, ...TOOLS];

/** A test that hangs has noticed, too. */
const TEST_LIMIT_MS = 90_000;

const buildDir = fileURLToPath(new URL('../..', import.meta.url)).replace(/\/$/, '');
const mutantDir = `${buildDir}-mutant`;

/** True when the test failed, as it must. @throws Error when it can't be tried */
function isNoticed(mutation: Mutation): boolean {
  const path = join(mutantDir, 'src', mutation.file);
  const original = readFileSync(path, 'utf8');
  const lines = new RegExp(mutation.line, 'g');
  const matches = original.match(lines)?.length ?? 0;
  if (matches !== (mutation.times ?? 1)) throw new Error(`${mutation.file} has ${matches} times ${mutation.line}`);
  writeFileSync(path, original.replaceAll(lines, mutation.instead));
  try {
    // What does not compile proves nothing by failing.
    const check = spawnSync(process.execPath, ['--check', path], { encoding: 'utf8' });
    if (check.status !== 0) throw new Error(`${mutation.file} is no JavaScript any more: ${mutation.instead}`);
    return isTestFailing(mutation);
  } finally {
    writeFileSync(path, original);
  }
}

function isTestFailing({ test, named, env }: Mutation): boolean {
  const { NODE_TEST_CONTEXT: _outerRun, ...inherited } = process.env;
  const pattern = named === undefined ? [] : ['--test-name-pattern', named];
  const flags = ['--test', '--test-reporter', 'tap', ...pattern];
  const { status, stdout, error } = spawnSync(process.execPath, [...flags, join(mutantDir, 'test', test)], {
    env: { ...inherited, ...env, TEST_SERVER_ENTRY: join(mutantDir, 'src', 'main.js') },
    timeout: TEST_LIMIT_MS,
    encoding: 'utf8',
  });
  if (error !== undefined) return true; // it hung
  if (status === 0) {
    if (!/^# pass [1-9]/m.test(stdout)) throw new Error(`nothing in ${test} is named ${named}`);
    return false;
  }
  // A file that can't be run fails under its own name; then nobody knows what the test would have said.
  const failed = stdout.split('\n').filter((line) => /^\s*not ok /.test(line));
  const isTheTest = failed.some((line) => line.includes(named ?? '') && !line.endsWith('.test.js'));
  if (!isTheTest) throw new Error(`${test} fails, but not the test itself:\n${stdout}`);
  return true;
}

function main(): void {
  const [word] = process.argv.slice(2);
  const chosen = MUTATIONS.filter(({ guarantee, without }) => `${guarantee} ${without}`.includes(word ?? ''));
  rmSync(mutantDir, { recursive: true, force: true });
  cpSync(buildDir, mutantDir, { recursive: true });
  let unnoticed = 0;
  console.log('| guarantee | without | test | it |\n|---|---|---|---|');
  try {
    for (const mutation of chosen) {
      const { guarantee, without, test, named } = mutation;
      let verdict = 'fails';
      try {
        if (!isNoticed(mutation)) verdict = 'PASSES';
      } catch (error) {
        verdict = `NOT TRIED: ${error instanceof Error ? error.message : String(error)}`;
      }
      if (verdict !== 'fails') unnoticed += 1;
      console.log(
        `| ${guarantee} | ${without} | ${test.replace('.js', '')}${named ? `: ${named}` : ''} | ${verdict} |`,
      );
    }
  } finally {
    rmSync(mutantDir, { recursive: true, force: true });
  }
  if (unnoticed > 0) process.exitCode = 1;
}

main();
