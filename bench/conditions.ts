/** The circumstances of a run, without which its figures mean nothing. */
import { execFileSync } from 'node:child_process';
import { statfsSync } from 'node:fs';
import { cpus, loadavg, release, totalmem } from 'node:os';
import { VERSION } from '../src/contract/version.js';

export interface Conditions {
  readonly date: string;
  readonly commit: string;
  readonly version: string;
  readonly node: string;
  readonly cpu: string;
  readonly cores: number;
  readonly memoryBytes: number;
  readonly kernel: string;
  readonly fileSystem: string;
  /** One-minute load average before the run: far from 0 means that somebody else was using the machine. */
  readonly loadBefore: number;
  readonly loadGenerator: string;
  readonly redis: string;
}

const FILE_SYSTEMS: Readonly<Record<number, string>> = {
  61267: 'ext4',
  16914836: 'tmpfs (fdatasync costs nothing here: durable figures mean nothing)',
  1481003842: 'xfs',
  2435016766: 'btrfs',
  2035054128: 'overlayfs',
  801189825: 'zfs',
};

export function readConditions(dataDir: string, loadGenerator: string): Conditions {
  const type = statfsSync(dataDir).type;
  return {
    date: new Date().toISOString(),
    commit: firstLineOf('git', ['describe', '--always', '--dirty', '--abbrev=12']),
    version: VERSION,
    node: process.version,
    cpu: cpus()[0]?.model ?? 'unknown',
    cores: cpus().length,
    memoryBytes: totalmem(),
    kernel: release(),
    fileSystem: FILE_SYSTEMS[type] ?? `type 0x${type.toString(16)}`,
    loadBefore: loadavg()[0] ?? 0,
    loadGenerator,
    redis: firstLineOf('redis-server', ['--version']),
  };
}

/** False when the program is not installed. */
export function isInstalled(program: string): boolean {
  return firstLineOf('which', [program]) !== 'none';
}

function firstLineOf(program: string, options: readonly string[]): string {
  try {
    return (
      execFileSync(program, options, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).split('\n')[0] ?? ''
    );
  } catch {
    return 'none'; // not installed, or no repository: a fact of the conditions, not a fault
  }
}
