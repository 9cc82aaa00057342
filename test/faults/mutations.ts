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

interface Mutation {
  readonly guarantee: string;
  /** What is taken away, in words. */
  readonly without: string;
  /** Below build/src. */
  readonly file: string;
  /** Must match once, or `times`. */
  readonly line: RegExp;
  readonly times?: number;
  readonly instead: string;
  /** Below build/test, and the test in it that must fail. */
  readonly test: string;
  readonly named?: string;
  readonly env?: Readonly<Record<string, string>>;
}

const SIMULATED = { test: 'faults/simulated-disk.test.js', env: { FAULT_SEEDS: '400' } } as const;

const MUTATIONS: readonly Mutation[] = [
  {
    guarantee: '1 nothing is answered before its event is on disk',
    without: 'the fdatasync before the answer',
    file: 'shards/group-commit.js',
    line: /await log\.sync\([^;]*\); \/\/ \.\.\.and the disk.*/,
    instead: '',
    test: 'shards/group-commit.test.js',
    named: 'no mutation is answered before its sync has ended',
  },
  {
    guarantee: '1 the same, on a real disk',
    without: 'the fdatasync before the answer',
    file: 'shards/group-commit.js',
    line: /await log\.sync\([^;]*\); \/\/ \.\.\.and the disk.*/,
    instead: '',
    test: 'faults/flush.test.js',
    named: 'slow',
  },
  {
    guarantee: '1 what a reopening shows is on the disk',
    without: 'writing the tail again after a failed flush',
    file: 'shards/log-writer.js',
    line: /await writer\.rewrite\(.*\);/,
    instead: '',
    test: 'faults/whole-operations.test.js',
    named: 'reopening after a failed fsync',
  },
  {
    guarantee: '1 a new segment has a durable name',
    without: 'the flush of the directory',
    file: 'shards/log-writer.js',
    line: /await this\.disk\.syncDirectory\(this\.logDir\);/,
    instead: '',
    test: 'shards/log-files.test.js',
    named: 'named durably',
  },
  {
    guarantee: '2 rows and applied seq change together',
    without: 'the applied seq in the LMDB transaction',
    file: 'shards/store.js',
    line: /this\.meta\.put\(META_KEY, meta\);/,
    instead: '',
    test: 'shards/recovery.test.js',
    named: 'recovering twice',
  },
  {
    guarantee: '2 LMDB is never ahead of the log',
    without: 'the flush of the log before a checkpoint (interval, none)',
    file: 'shards/shard.js',
    line: /await this\.commit\.sync\(\);/,
    instead: ';',
    test: 'faults/whole-operations.test.js',
    named: 'never ahead of the log',
  },
  {
    guarantee: '2 a registration is complete or absent',
    without: 'the credential in LMDB before the event',
    file: 'shards/registrations.js',
    line: /await this\.view\.store\.putPending\(subject, pending\);/,
    instead: '',
    test: 'shards/group-commit.test.js',
    named: 'logged only when its credential is in LMDB',
  },
  {
    guarantee: '3 nothing is visible before it is durable',
    without: 'the order of flush and apply',
    file: 'shards/group-commit.js',
    line: /await log\.sync\([^;]*\); \/\/ \.\.\.and the disk.*/,
    instead: 'for (const operation of batch) { operation.apply(atMs); operation.apply = () => {}; } await log.sync();',
    test: 'shards/group-commit.test.js',
    named: 'nothing of a batch is visible before it is durable',
  },
  {
    guarantee: '3 an operation is whole or absent',
    without: 'the group of a torn operation',
    file: 'shards/recovery.js',
    line: /if \(line\.event\.more === true\)/,
    instead: 'if (false)',
    test: 'shards/recovery.test.js',
    named: 'whose last event is missing',
  },
  {
    guarantee: '3 an operation is whole or absent',
    without: 'the end of the log at a lost page',
    file: 'shards/recovery.js',
    line: /\(await isLostPage\(/,
    instead: '(false && await isLostPage(',
    test: 'faults/whole-operations.test.js',
    named: 'whole or not at all',
  },
  {
    guarantee: '4 queue positions survive',
    without: 'the row of a queued message',
    file: 'shards/view.js',
    line: /this\.store\.queues\.put\(queueKey\(to, seq\), row\);/,
    instead: '',
    ...SIMULATED,
  },
  {
    guarantee: '5 seq rises over restarts',
    without: 'the last seq found on disk',
    file: 'shards/shard.js',
    line: /options\.counters\.raiseSeq\(report\.lastSeq\);/,
    instead: '',
    ...SIMULATED,
  },
  {
    guarantee: '6 a failed flush is final',
    without: 'the refusal behind it',
    file: 'shards/group-commit.js',
    line: /this\.broken = true;/,
    times: 2,
    instead: '',
    test: 'shards/group-commit.test.js',
    named: 'a failed sync answers unavailable',
  },
  {
    guarantee: '6 a full disk is 507, not an end',
    without: 'the name of the error',
    file: 'shards/log-writer.js',
    line: /throw new DiskFullError\(error\);/,
    instead: 'throw error;',
    test: 'shards/group-commit.test.js',
    named: 'a full disk answers store_full',
  },
  {
    guarantee: '6 what was refused with 507 never happened',
    without: 'the flush of the cut',
    file: 'shards/log-writer.js',
    line: /await this\.file\.sync\(\);\s+throw new DiskFullError/,
    instead: 'throw new DiskFullError',
    test: 'faults/whole-operations.test.js',
    named: 'refused for want of room',
  },
  {
    guarantee: '6 LMDB never meets a full disk',
    without: 'the refusal while room is short',
    file: 'shards/shard.js',
    line: /if \(!this\.space\.takesWrites\)/,
    instead: 'if (false)',
    test: 'faults/whole-operations.test.js',
    named: 'nearly full',
  },
  {
    guarantee: '6 no checkpoint without room for it',
    without: 'the look at the free space',
    file: 'shards/shard.js',
    line: /if \(!this\.space\.hasRoomForCheckpoint\(this\.log\.position\)\) \{/,
    instead: 'if (false) {',
    test: 'faults/disk-full.test.js',
    named: 'from one moment to the next',
  },
  {
    guarantee: '6 an incomplete last line is cut off',
    without: 'the cut',
    file: 'shards/log-writer.js',
    line: /writer\.file\.truncate\(sizeBytes\);/,
    instead: '',
    test: 'shards/recovery.test.js',
    named: 'torn at any byte',
  },
  {
    guarantee: '6 a damaged line is found',
    without: 'the checksum',
    file: 'shards/log-line.js',
    line: /if \(hex32\(crc32\(line\.subarray\(0, checkedBytes\)\)\) !== written\)/,
    instead: 'if (false)',
    test: 'shards/log-files.test.js',
    named: 'any flipped bit',
  },
  {
    guarantee: '8 one owner, over containers',
    without: 'the lock on the directory itself',
    file: 'shards/data-directory.js',
    line: /if \(await isFlockedByAnother\(directory\)\)/,
    instead: 'if (false)',
    test: 'faults/one-owner.test.js',
  },
  {
    guarantee: '8 the shard count is fixed',
    without: 'the comparison',
    file: 'shards/data-directory.js',
    line: /shards !== null && shards !== existing\.shards/,
    instead: 'false',
    test: 'shards/data-directory.test.js',
    named: 'another shard count',
  },
  {
    guarantee: '9 a dead shard is restarted',
    without: 'the restart',
    file: 'shards/sharded-engine.js',
    line: /void this\.reopen\(shard\);/,
    instead: '',
    test: 'faults/thread-death.test.js',
    named: 'terminate',
  },
  {
    guarantee: '9 three deaths in a minute end the process',
    without: 'the count',
    file: 'death-watch.js',
    line: /if \(deaths < MAX_DEATHS\)/,
    instead: 'if (true)',
    test: 'faults/thread-death.test.js',
    named: 'three deaths',
  },
];

/** A test that hangs has noticed, too. */
const TEST_LIMIT_MS = 180_000;

const buildDir = fileURLToPath(new URL('../..', import.meta.url)).replace(/\/$/, '');
const mutantDir = `${buildDir}-mutant`;

/** True when the test failed, as it must. @throws Error when it can't be tried */
function isNoticed(mutation: Mutation): boolean {
  const path = join(mutantDir, 'src', mutation.file);
  const original = readFileSync(path, 'utf8');
  const matches = original.match(new RegExp(mutation.line, 'g'))?.length ?? 0;
  if (matches !== (mutation.times ?? 1)) throw new Error(`${mutation.file} has ${matches} times ${mutation.line}`);
  writeFileSync(
    path,
    original.replaceAll(new RegExp(mutation.line, 'g'), () => mutation.instead),
  );
  try {
    return runTest(mutation) !== 0;
  } finally {
    writeFileSync(path, original);
  }
}

function runTest({ test, named, env }: Mutation): number | null {
  const { NODE_TEST_CONTEXT: _outerRun, ...inherited } = process.env;
  const pattern = named === undefined ? [] : ['--test-name-pattern', named];
  const result = spawnSync(process.execPath, ['--test', ...pattern, join(mutantDir, 'test', test)], {
    env: { ...inherited, ...env, TEST_SERVER_ENTRY: join(mutantDir, 'src', 'main.js') },
    timeout: TEST_LIMIT_MS,
    encoding: 'utf8',
  });
  if (result.status === 0 && !/^# pass [1-9]/m.test(result.stdout))
    throw new Error(`nothing in ${test} is named ${named}`);
  return result.status;
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
