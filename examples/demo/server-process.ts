/**
 * A Tabulum server as a child process on ports of its own, for the demo and the benchmarks.
 * Owns:  the process: it is stopped by its own pid, first politely, then not.
 * Never: touches the data directory, which belongs to the caller.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

/** The compiled server that was built together with this file. */
export const SERVER_MAIN = fileURLToPath(new URL('../../../dist/main.js', import.meta.url));

const READY_WITHIN_MS = 60_000;
/** A server must be gone 10 s after SIGTERM; a busy machine gets a little more. */
const STOP_WITHIN_MS = 15_000;

export interface ServerOptions {
  /** Holds the configuration file, the log and, unless `dataDir` says otherwise, the data. Must exist. */
  readonly workDir: string;
  /** YAML; empty for all defaults. */
  readonly configYaml?: string;
  readonly dataDir?: string;
}

export interface ServerProcess {
  readonly pid: number;
  readonly kernelUrl: string;
  readonly adminUrl: string;
  /** What the server printed when it started. */
  readonly banner: readonly string[];
  /** SIGTERM, then SIGKILL for one that stays. Resolves with the exit code once it is gone; null when killed. */
  stop(): Promise<number | null>;
}

/** Resolves when the banner says `ready`. @throws Error with the end of the server's log when it does not come up. */
export async function startServer(options: ServerOptions): Promise<ServerProcess> {
  const configFile = join(options.workDir, 'tabulum.yaml');
  const logFile = join(options.workDir, 'server.log');
  writeFileSync(configFile, options.configYaml ?? '');
  const log = openSync(logFile, 'a');
  const anyPort = '127.0.0.1:0';
  const child = spawn(
    process.execPath,
    [
      ...['--enable-source-maps', SERVER_MAIN, 'serve', '--config', configFile],
      ...['--data-dir', options.dataDir ?? join(options.workDir, 'data')],
      ...['--listen', anyPort, '--observe-listen', anyPort, '--admin-listen', anyPort],
    ],
    { stdio: ['ignore', 'pipe', log] },
  );
  closeSync(log);
  const banner = await readBanner(child).catch(async (error: unknown) => {
    await stopProcess(child);
    throw new Error(`the server did not start: ${String(error)}\n${readFileSync(logFile, 'utf8').slice(-2000)}`);
  });
  return {
    pid: pidOf(child),
    kernelUrl: urlIn(banner, 'kernel API'),
    adminUrl: urlIn(banner, 'admin'),
    banner,
    stop: () => stopProcess(child),
  };
}

/** Ends a child by its pid. Resolves with its exit code; null when a signal ended it. */
export async function stopProcess(child: ChildProcess): Promise<number | null> {
  if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) return child.exitCode;
  const exit = once(child, 'exit');
  child.kill('SIGTERM');
  const deadline = setTimeout(() => child.kill('SIGKILL'), STOP_WITHIN_MS);
  await exit;
  clearTimeout(deadline);
  return child.exitCode;
}

export function pidOf(child: ChildProcess): number {
  if (child.pid === undefined) throw new Error(`${child.spawnfile} did not start`);
  return child.pid;
}

function readBanner(child: ChildProcess): Promise<string[]> {
  return new Promise((resolve, reject) => {
    if (child.stdout === null) throw new Error('the server has no standard output');
    const lines: string[] = [];
    const deadline = setTimeout(() => reject(new Error('not ready in time')), READY_WITHIN_MS);
    // Goes on reading for as long as the process lives: a full pipe would block it.
    createInterface({ input: child.stdout }).on('line', (line) => {
      lines.push(line);
      if (line.trim() !== 'ready') return;
      clearTimeout(deadline);
      resolve(lines);
    });
    child.once('error', reject);
    child.once('exit', (code, signal) => {
      clearTimeout(deadline);
      reject(new Error(`it ended with ${code ?? signal}`));
    });
  });
}

function urlIn(banner: readonly string[], label: string): string {
  for (const line of banner) {
    const [, url] = line.trim().split(`${label} `);
    if (url !== undefined && line.trim().startsWith(label)) return url.trim();
  }
  throw new Error(`the banner names no ${label}:\n${banner.join('\n')}`);
}
