import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { Command } from 'commander';
import { loadConfig } from '../../config/load.js';
import { createLogger } from '../../log.js';
import { ObservationService, observationSettings } from '../../observe/observation-service.js';
import { PublishedWatermark } from '../../observe/watermark-source.js';
import { DataDirectoryError, lockDataDirectory, readManifest } from '../../shards/data-directory.js';

const EXIT_FAILED = 1;
const EXIT_USAGE = 2;

interface ObserveFlags {
  readonly config?: string;
  readonly dataDir?: string;
  readonly listen?: string;
  readonly indexDir?: string;
}

/** The observation service in a process of its own: beside a running server, or on the logs of one that has ended. */
export function observeCommand(): Command {
  return new Command('observe')
    .description(
      'Serve the observation API and its web page from a process of its own, until SIGTERM or SIGINT: beside a running ' +
        'server, of which it reads files only, or from what a stopped one has left. It keeps an index of its own.',
    )
    .option('--data-dir <dir>', 'the data directory (default: data_dir of the configuration, else ./data)')
    .option('--listen <host:port>', 'where to listen (default: observe.listen_addr, else 127.0.0.1:8090)')
    .option('--index-dir <dir>', 'where its index is kept (default: observe-process in the data directory)')
    .option('--config <file>', 'YAML configuration of the server')
    .allowExcessArguments(false)
    .action(observe);
}

async function observe(flags: ObserveFlags): Promise<void> {
  const loaded = loadConfig({
    file: flags.config,
    env: process.env,
    flags: { data_dir: flags.dataDir, 'observe.listen_addr': flags.listen },
  });
  if (!loaded.ok) {
    // The settings know the option by its name at `serve`.
    for (const line of loaded.errors) process.stderr.write(`${line.replace(/^--observe-listen:/, '--listen:')}\n`);
    process.exitCode = EXIT_USAGE;
    return;
  }
  const { config } = loaded;
  const logger = createLogger('observe', config.log.level);
  const indexDir = flags.indexDir ?? join(config.dataDir, 'observe-process');
  let service: ObservationService | null = null;
  const fail = (error: unknown): void => {
    logger.fatal({ err: error }, 'the observer ends: it can not go on');
    service?.abandon();
    process.exit(EXIT_FAILED);
  };
  process.on('uncaughtException', fail);
  process.on('unhandledRejection', fail);
  try {
    const manifest = existsSync(config.dataDir) ? readManifest(config.dataDir) : null;
    if (manifest === null) throw new DataDirectoryError(`${config.dataDir} holds no data of a server`);
    await lockIndex(indexDir);
    const source = new PublishedWatermark(config.dataDir, manifest.shards);
    service = await ObservationService.start(observationSettings(config, indexDir), manifest, source, false, fail);
  } catch (error) {
    process.stderr.write(`tabulum observe: ${error instanceof Error ? error.message : String(error)}\n`);
    process.exit(EXIT_FAILED);
  }
  const started = service;
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    process.once(signal, () => void started.close().then(() => process.exit(0), fail));
  }
  const { host } = config.observe.listenAddr;
  process.stdout.write(`Tabulum observer
  observation   http://${host.includes(':') ? `[${host}]` : host}:${started.port}
  data          ${resolve(config.dataDir)}
  index         ${resolve(indexDir)}

ready
`);
}

/** Two observers must not write one index. */
async function lockIndex(indexDir: string): Promise<void> {
  try {
    await lockDataDirectory(indexDir);
  } catch (error) {
    if (!(error instanceof DataDirectoryError)) throw error;
    throw new DataDirectoryError(`${indexDir} is in use by another observer: name another one with --index-dir`);
  }
}
