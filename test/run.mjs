/**
 * Runs the compiled tests: every *.test.js below build/test, or those whose path holds one of the arguments.
 *
 *   node test/run.mjs                      all
 *   node test/run.mjs conformance seed     only files with "conformance" or "seed" in their path
 *
 * SEED=<n> replays randomised tests; TEST_CONCURRENCY=<n> sets how many files run at once (one more than cores: many wait).
 * The files are named one by one, since Node 20, 22 and 24 each search directories and globs in their own way.
 */
import { spawn } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { availableParallelism, constants } from 'node:os';
import { join, relative, sep } from 'node:path';
import { fileURLToPath } from 'node:url';

const projectDir = fileURLToPath(new URL('..', import.meta.url));
const testDir = join(projectDir, 'build', 'test');
const filters = process.argv.slice(2);

function refuse(message) {
  process.stderr.write(`${message}\n`);
  process.exit(2);
}

if (!existsSync(testDir)) refuse('there is no build/test: run "npm run build:all" first');

const concurrency = process.env.TEST_CONCURRENCY ?? String(availableParallelism() + 1);
if (!/^[1-9][0-9]*$/.test(concurrency)) {
  refuse(`TEST_CONCURRENCY is "${concurrency}"; expected a whole number from 1`);
}

const files = readdirSync(testDir, { recursive: true, encoding: 'utf8' })
  .filter((name) => name.endsWith('.test.js'))
  // A compiled test whose source is gone is a leftover of an earlier build, not a test.
  .filter((name) => existsSync(join(projectDir, 'test', name.replace(/\.js$/, '.ts'))))
  .map((name) => ({ path: join(testDir, name), name: name.split(sep).join('/') }))
  .filter(({ name }) => filters.length === 0 || filters.some((filter) => name.includes(filter)))
  .map(({ path }) => relative(projectDir, path))
  .sort();
if (files.length === 0) refuse(`no test file has ${filters.join(' or ') || '.test.js'} in its name`);

// Without this a run started from inside another test run would report to that one, not to the terminal.
const { NODE_TEST_CONTEXT: _outerRun, ...env } = process.env;
const flags = ['--test', '--enable-source-maps', `--test-concurrency=${concurrency}`];

const child = spawn(process.execPath, [...flags, ...files], { cwd: projectDir, stdio: 'inherit', env });
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => child.kill(signal));
child.on('error', (error) => refuse(`the test runner did not start: ${error.message}`));
child.on('exit', (code, signal) => {
  if (code !== 0) {
    const seed = process.env.SEED === undefined ? '<n>' : process.env.SEED;
    process.stderr.write(
      `\nRandomised tests print their seed as SEED=<n>; replay with: SEED=${seed} npm test -- <file>\n`,
    );
  }
  process.exit(code ?? 128 + (signal === null ? 0 : constants.signals[signal]));
});
