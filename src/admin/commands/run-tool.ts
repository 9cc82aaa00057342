import { type Command, InvalidArgumentError } from 'commander';
import { loadConfig } from '../../config/load.js';
import { DataDirectoryError } from '../../shards/data-directory.js';
import { type EngineSettings, engineSettings } from '../../shards/settings.js';
import { endBySignal } from '../../shards/tools/interruption.js';
import { StoreDamagedError } from '../../shards/tools/stored-rows.js';
import { type ShownProgress, terminalProgress } from './progress.js';

/**
 * What the commands that work on a data directory have in common: their options, their one line of error, exit codes.
 * Exit codes: 0 done, 1 failed or damage found, 2 wrong usage.
 */
const EXIT_FAILED = 1;
const EXIT_USAGE = 2;

export interface ToolFlags {
  readonly config?: string;
  readonly dataDir?: string;
  readonly json?: true;
}

export interface ToolSettings {
  readonly dataDir: string;
  readonly engine: EngineSettings;
}

export interface ToolOutcome {
  /** Printed with `--json`. */
  readonly report: object;
  /** Printed without. */
  readonly text: string;
  readonly failed?: boolean;
}

/** Adds `--data-dir`, `--config` and `--json`. */
export function withToolOptions(command: Command): Command {
  return command
    .option('--data-dir <dir>', 'the data directory (default: data_dir of the configuration, else ./data)')
    .option('--config <file>', 'YAML configuration of the server')
    .option('--json', 'print the report as one JSON object')
    .allowExcessArguments(false);
}

/** Runs a tool and prints what it found: to standard output, or one line to standard error when it could not run. */
export async function runTool(
  name: string,
  flags: ToolFlags,
  run: (settings: ToolSettings, progress: ShownProgress) => Promise<ToolOutcome>,
): Promise<void> {
  const loaded = loadConfig({ file: flags.config, env: process.env, flags: { data_dir: flags.dataDir } });
  if (!loaded.ok) {
    for (const line of loaded.errors) process.stderr.write(`${line}\n`);
    process.exitCode = EXIT_USAGE;
    return;
  }
  const progress = terminalProgress(false);
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.once(signal, () => {
      progress.end();
      endBySignal(signal);
    });
  }
  try {
    const settings = { dataDir: loaded.config.dataDir, engine: engineSettings(loaded.config) };
    const outcome = await run(settings, progress);
    progress.end();
    process.stdout.write(flags.json === true ? `${JSON.stringify(outcome.report)}\n` : outcome.text);
    if (outcome.failed === true) process.exitCode = EXIT_FAILED;
  } catch (error) {
    progress.end();
    if (!isExpected(error)) throw error;
    process.stderr.write(`tabulum ${name}: ${error.message}\n`);
    process.exitCode = EXIT_FAILED;
  }
}

/** A whole number from `min` to `max`. */
export function wholeNumber(min: number, max: number): (text: string) => number {
  return (text) => {
    const number = Number(text);
    if (/^\d+$/.test(text) && number >= min && number <= max) return number;
    throw new InvalidArgumentError(`Expected a whole number from ${min} to ${max}.`);
  };
}

export function mebibytes(bytes: number): string {
  return `${(bytes / 1024 / 1024).toFixed(1)} MiB`;
}

export function counted(number: number, what: string): string {
  return `${number.toLocaleString('en-US')} ${what}${number === 1 ? '' : 's'}`;
}

/** The world's errors, which one line explains; anything else is our mistake and may show its stack. */
function isExpected(error: unknown): error is Error {
  if (error instanceof DataDirectoryError || error instanceof StoreDamagedError) return true;
  return error instanceof Error && 'code' in error && typeof error.code === 'string' && /^E[A-Z]+$/.test(error.code);
}
