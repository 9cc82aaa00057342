#!/usr/bin/env node
import { resolve } from 'node:path';
import { Command, CommanderError } from 'commander';
import type { Config, ListenAddress } from './config/config.js';
import { loadConfig } from './config/load.js';
import { VERSION } from './contract/version.js';
import { createLogger, type Logger } from './log.js';
import type { RunningServer } from './server.js';

/**
 * Command line. Exit codes: 0 done, 1 failed, 2 wrong usage or configuration.
 */
const EXIT_FAILED = 1;
const EXIT_USAGE = 2;
/** A stop that takes longer is a bug: say so and end, rather than hang for ever. */
const STOP_LIMIT_MS = 9_500;
/** The same after a fatal error, when not everything can be waited for. */
const FATAL_STOP_LIMIT_MS = 7_000;

interface ServeFlags {
  readonly config?: string;
  readonly dataDir?: string;
  readonly listen?: string;
  readonly observeListen?: string;
  readonly adminListen?: string;
}

const program = new Command('tabulum')
  .description('The kernel of a world where AI agents register, find each other, send messages and share state.')
  .version(VERSION)
  .exitOverride()
  .configureOutput({ outputError: (text, write) => write(`${text.trim().replaceAll('\n', ' ')}\n`) })
  .showSuggestionAfterError(true);

program
  .command('serve')
  .description('Run the server until SIGTERM or SIGINT.')
  .option('--config <file>', 'YAML configuration; see docs/configuration.md')
  .option('--data-dir <dir>', 'where everything is kept (default: ./data)')
  .option('--listen <host:port>', 'address of the kernel API (default: 127.0.0.1:8080)')
  .option('--observe-listen <host:port>', 'address of the observation API (default: 127.0.0.1:8090)')
  .option('--admin-listen <host:port>', 'address of the admin service (default: 127.0.0.1:9090)')
  .allowExcessArguments(false)
  .action(serve);

/** Only the one that is asked for is loaded; all of them for help, or when the name is none of them. */
const OTHER_COMMANDS: Readonly<Record<string, () => Promise<Command>>> = {
  observe: async () => (await import('./admin/commands/observe.js')).observeCommand(),
  remove: async () => (await import('./admin/commands/remove.js')).removeCommand(),
  revoke: async () => (await import('./admin/commands/revoke.js')).revokeCommand(),
  verify: async () => (await import('./admin/commands/verify.js')).verifyCommand(),
  backup: async () => (await import('./admin/commands/backup.js')).backupCommand(),
  restore: async () => (await import('./admin/commands/restore.js')).restoreCommand(),
  reshard: async () => (await import('./admin/commands/reshard.js')).reshardCommand(),
  archive: async () => (await import('./admin/commands/archive.js')).archiveCommand(),
};
const asked = process.argv[2] ?? '';
if (asked !== 'serve') {
  const loads = Object.hasOwn(OTHER_COMMANDS, asked) ? [OTHER_COMMANDS[asked]] : Object.values(OTHER_COMMANDS);
  for (const load of loads) if (load !== undefined) program.addCommand((await load()).copyInheritedSettings(program));
}

try {
  await program.parseAsync();
} catch (error) {
  if (!(error instanceof CommanderError)) throw error;
  process.exitCode = error.exitCode === 0 ? 0 : EXIT_USAGE;
}

async function serve(flags: ServeFlags): Promise<void> {
  const loaded = loadConfig({
    file: flags.config,
    env: process.env,
    flags: {
      data_dir: flags.dataDir,
      'server.listen_addr': flags.listen,
      'observe.listen_addr': flags.observeListen,
      'admin.listen_addr': flags.adminListen,
    },
  });
  if (!loaded.ok) {
    for (const line of loaded.errors) process.stderr.write(`${line}\n`);
    process.exitCode = EXIT_USAGE;
    return;
  }
  const { config } = loaded;
  const logger = createLogger('main', config.log.level);
  let running: RunningServer | null = null;
  const fatal = (error: Error): void => {
    logger.fatal({ err: error }, 'the server ends: it can not go on');
    const exit = (): never => process.exit(EXIT_FAILED);
    const ending = running;
    running = null;
    if (ending === null) exit();
    // Threads that listen close first: ending them as they are would abort the process (uWebSockets.js).
    setTimeout(killSelf, FATAL_STOP_LIMIT_MS);
    ending?.stop().then(exit, exit);
  };
  process.on('uncaughtException', fatal);
  process.on('unhandledRejection', (reason) => fatal(reason instanceof Error ? reason : new Error(String(reason))));

  let server: RunningServer;
  try {
    // Here, since the other commands need none of it.
    const { startServer } = await import('./server.js');
    server = await startServer(config, logger, fatal);
    running = server;
    warnOfSmallThreadPool(server.shards, logger);
  } catch (error) {
    process.stderr.write(`tabulum: ${error instanceof Error ? error.message : String(error)}\n`);
    process.exit(EXIT_FAILED);
  }
  let isStopping = false;
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    process.on(signal, () => {
      // Ctrl-C reaches a server under npm twice: from the terminal, and from npm. The second must not cut the stop short.
      if (!isStopping) void stop(server, signal, logger);
      isStopping = true;
    });
  }
  process.stdout.write(banner(config, server));
}

async function stop(server: RunningServer, signal: string, logger: Logger): Promise<void> {
  logger.info({ signal }, 'stopping: requests in hand are finished, then everything is flushed');
  const limit = setTimeout(() => {
    logger.fatal({ limitMs: STOP_LIMIT_MS }, 'the stop took too long');
    killSelf();
  }, STOP_LIMIT_MS);
  await server.stop();
  clearTimeout(limit);
  logger.info('stopped');
  process.exit(0);
}

/** When a stop hangs: process.exit would wait for the I/O threads, one of which may wait for a disk for ever. */
function killSelf(): void {
  process.kill(process.pid, 'SIGKILL');
}

function banner(config: Config, { addresses, shards }: RunningServer): string {
  const { gateways } = config.topology;
  const kernel = url(addresses.kernel);
  return `Tabulum ${VERSION}
  kernel API    ${kernel}
  observation   ${url(addresses.observe)}
  admin         ${url(addresses.admin)}
  data          ${resolve(config.dataDir)}
  threads       ${count(gateways, 'gateway')}, ${count(shards, 'shard')}, ${count(config.auth.poolThreads, 'bcrypt thread')}
  durability    ${config.eventLog.durability}

Register as an operator:
  curl -s ${kernel}/v1/operators -H 'Content-Type: application/json' -d '{"contact_hash":"me","accept_terms":true}'

ready
`;
}

function url({ host, port }: ListenAddress): string {
  return `http://${host.includes(':') ? `[${host}]` : host}:${port}`;
}

function count(number: number, what: string): string {
  return `${number} ${what}${number === 1 ? '' : 's'}`;
}

/**
 * fdatasync runs in libuv's pool, of which a process has one; its size is read from the environment before the first
 * line of this file runs, so all that is left here is to say when it is too small.
 */
function warnOfSmallThreadPool(shards: number, logger: Logger): void {
  const poolThreads = Number(process.env.UV_THREADPOOL_SIZE ?? 4);
  if (poolThreads >= shards) return;
  const advice = `start with UV_THREADPOOL_SIZE=${shards + 4}`;
  logger.warn({ poolThreads, shards, advice }, 'fewer I/O threads than shards: flushes wait for each other');
}
