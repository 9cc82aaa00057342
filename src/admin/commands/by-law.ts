/**
 * What the commands `remove` and `revoke` have in common: they ask the running server's admin API, or, given a data
 * directory, do the same themselves on a stopped one.
 * Exit codes: 0 done, 1 failed, 2 wrong usage.
 */
import { createInterface } from 'node:readline/promises';
import type { Command } from 'commander';
import { loadConfig } from '../../config/load.js';
import type { EngineReply } from '../../contract/engine.js';
import { API_ERRORS } from '../../contract/errors.js';
import { DeathWatch } from '../../death-watch.js';
import { createLogger, type Logger } from '../../log.js';
import type { AdminEngine } from '../../shards/admin-engine.js';
import { DataDirectoryError } from '../../shards/data-directory.js';
import { engineSettings } from '../../shards/settings.js';
import { openShardedEngine } from '../../shards/sharded-engine.js';
import { existingManifest } from '../../shards/tools/open-directory.js';

export const DEFAULT_ADMIN_URL = 'http://127.0.0.1:9090';
const EXIT_FAILED = 1;
const EXIT_USAGE = 2;

export interface ByLawFlags {
  readonly adminUrl: string;
  readonly dataDir?: string;
  readonly config?: string;
  readonly yes?: true;
  readonly json?: true;
}

/** Ends the command with one line on standard error. */
export class CommandFailure extends Error {
  constructor(
    message: string,
    readonly exitCode: number = EXIT_FAILED,
  ) {
    super(message);
    this.name = 'CommandFailure';
  }
}

export function withByLawOptions(command: Command): Command {
  return command
    .option(
      '--admin-url <url>',
      'admin address of the running server; its key is in TABULUM_ADMIN_KEY',
      DEFAULT_ADMIN_URL,
    )
    .option('--data-dir <dir>', 'do it on this directory of a stopped server instead')
    .option('--config <file>', 'YAML configuration of the stopped server; with --data-dir')
    .option('--yes', 'do not ask')
    .option('--json', 'print the answer as one JSON object')
    .allowExcessArguments(false);
}

/** Runs `steps`, prints the answer, and sets the exit code. */
export async function runByLaw(
  name: string,
  flags: ByLawFlags,
  steps: () => Promise<{ readonly answer: object; readonly text: string }>,
): Promise<void> {
  try {
    const { answer, text } = await steps();
    process.stdout.write(flags.json === true ? `${JSON.stringify(answer)}\n` : `${text}\n`);
  } catch (error) {
    if (!(error instanceof CommandFailure || error instanceof DataDirectoryError)) throw error;
    process.stderr.write(`tabulum ${name}: ${error.message}\n`);
    process.exitCode = error instanceof CommandFailure ? error.exitCode : EXIT_FAILED;
  }
}

/** @throws CommandFailure unless the person agrees; where nobody can be asked, `--yes` must say so. */
export async function confirm(question: string, flags: ByLawFlags): Promise<void> {
  if (flags.yes === true) return;
  if (!process.stdin.isTTY) throw new CommandFailure('nobody can be asked here: repeat it with --yes', EXIT_USAGE);
  const prompt = createInterface({ input: process.stdin, output: process.stderr });
  try {
    const said = await prompt.question(`${question} Type "yes" to go on: `);
    if (said.trim().toLowerCase() !== 'yes') throw new CommandFailure('nothing was done');
  } finally {
    prompt.close();
  }
}

/** Posts to the running server. @throws CommandFailure with what the server says. */
export async function askServer(flags: ByLawFlags, path: string, body: object): Promise<Record<string, unknown>> {
  const key = process.env.TABULUM_ADMIN_KEY;
  if (key === undefined || key === '') {
    const how = 'set TABULUM_ADMIN_KEY to the key that the server was started with';
    throw new CommandFailure(`${how}, or name the directory of a stopped server with --data-dir`, EXIT_USAGE);
  }
  const url = adminUrl(flags.adminUrl, path);
  let response: Response;
  try {
    response = await fetch(url, {
      method: 'POST',
      headers: { Authorization: `Bearer ${key}`, 'Content-Type': 'application/json' },
      body: JSON.stringify(body),
      redirect: 'error',
    });
  } catch {
    throw new CommandFailure(
      `no server answers at ${url.origin}; on a stopped one, name its directory with --data-dir`,
    );
  }
  const text = await response.text();
  const answer = parsed(text);
  if (response.ok && answer !== null) return answer;
  const said = typeof answer?.message === 'string' ? answer.message : `it answered ${response.status}`;
  const hint =
    response.status === 404 && answer?.message === API_ERRORS.not_found.message
      ? ' (a server that was started without TABULUM_ADMIN_KEY has no admin API)'
      : '';
  throw new CommandFailure(`${said}${hint}`);
}

/** Opens the shards of a stopped server, as its only owner, for `work`. @throws CommandFailure, DataDirectoryError */
export async function onStoppedDirectory<T>(
  flags: ByLawFlags & { readonly dataDir: string },
  work: (engine: AdminEngine, dataDir: string, logger: Logger) => Promise<T>,
): Promise<T> {
  const loaded = loadConfig({ file: flags.config, env: process.env, flags: { data_dir: flags.dataDir } });
  if (!loaded.ok) throw new CommandFailure(loaded.errors.join('; '), EXIT_USAGE);
  const { dataDir } = loaded.config;
  existingManifest(dataDir);
  const logger = createLogger('command', 'error');
  const onFatal = (error: Error): never => {
    process.stderr.write(`tabulum: ${error.message}\n`);
    process.exit(EXIT_FAILED);
  };
  const shards = await openShardedEngine({
    dataDir,
    shards: null,
    // Whatever the server promises its agents: what is done here is on the disk when the command ends.
    settings: { ...engineSettings(loaded.config), durability: 'fsync', logLevel: 'error' },
    logger,
    deaths: new DeathWatch(logger, onFatal),
    onFatal,
  });
  try {
    return await work(await shards.connectAdmin(), dataDir, logger);
  } finally {
    await shards.close();
  }
}

/** @throws CommandFailure with the refusal in one line. */
export function valueOrFailure<T>(reply: EngineReply<T>, notFound: string): T {
  if (reply.ok) return reply.value;
  throw new CommandFailure(reply.code === 'not_found' ? notFound : API_ERRORS[reply.code].message);
}

function adminUrl(base: string, path: string): URL {
  try {
    return new URL(path, base);
  } catch {
    throw new CommandFailure(`--admin-url is "${base}"; expected a URL such as ${DEFAULT_ADMIN_URL}`, EXIT_USAGE);
  }
}

function parsed(text: string): Record<string, unknown> | null {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' ? (value as Record<string, unknown> | null) : null;
  } catch {
    return null; // not our server's answer
  }
}
