import { randomUUID } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { copyFile, link, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Logger } from '../../log.js';
import {
  DataDirectoryError,
  lockDataDirectory,
  lockForTools,
  type Manifest,
  manifestPath,
  reshardSwitchPath,
  restoreMarkerPath,
  shardDirectory,
  writeManifest,
} from '../data-directory.js';
import { realDisk } from '../disk.js';
import { createVersionMemory, KeyVersions } from '../key-versions.js';
import { loadPlan } from '../removal-plan.js';
import type { EngineSettings } from '../settings.js';
import { Shard } from '../shard.js';
import { createCounterMemory, SharedCounters } from '../shared-counters.js';
import { recordBackup } from './backup-records.js';
import { requireRoom, writeDurably } from './durable-files.js';
import { LOG_START, logBytes } from './log-source.js';
import { closed, existingManifest } from './open-directory.js';
import type { Progress } from './progress.js';
import { buildShards, type SourceState, sourceStateOf } from './reshard-build.js';
import { compareShards } from './reshard-compare.js';

/**
 * Resharding: gives a stopped server's directory another number of shards.
 *
 *   recover  the shards are opened and closed once, so that nothing is half done
 *   build    every line of all logs, in order of `seq`, goes into the log of the new shard that owns its name
 *   compare  every row of the old stores is looked for in the new ones
 *   switch   marked by a file with which no server starts: old shards out, new ones in, new manifest
 *
 * Never:     changes or removes an old shard's files before the new ones are compared and on the disk.
 * Invariant: interrupted anywhere, the same command goes on. Until the switch the old shards can be served; if they were,
 *            the build starts over.
 */
export interface ReshardReport {
  readonly from: number;
  readonly to: number;
  readonly events: number;
  readonly comparedRows: number;
  /** Where the old shards are, as a data directory of its own; null when they were removed. */
  readonly original: string | null;
  /** An earlier run had done a part. */
  readonly isContinued: boolean;
}

export interface ReshardOptions {
  readonly dataDir: string;
  readonly shards: number;
  readonly removeOriginal: boolean;
  readonly settings: EngineSettings;
  readonly logger: Logger;
  readonly progress: Progress;
}

/** What the switch has to do; in the file that marks it. */
interface Switch {
  readonly step: 'out' | 'in';
  readonly from: number;
  readonly manifest: Manifest;
  readonly original: string;
  readonly events: number;
  readonly comparedRows: number;
  readonly lastSeq: number;
}

/** Room for the new shards beside the old ones: as much as these, and some for LMDB's pages. */
const ROOM_FACTOR = 1.2;

/** Rejects with DataDirectoryError: in use, damaged (see `verify`), no room, nothing to do; or with the system's error. */
export async function reshardDirectory(options: ReshardOptions): Promise<ReshardReport> {
  const { dataDir } = options;
  existingManifest(dataDir);
  const tools = await lockForTools(dataDir);
  try {
    const lock = await lockDataDirectory(dataDir);
    try {
      return await reshardOwned(options);
    } finally {
      await closed(lock);
    }
  } finally {
    await closed(tools);
  }
}

async function reshardOwned(options: ReshardOptions): Promise<ReshardReport> {
  const { dataDir, shards, removeOriginal } = options;
  if (existsSync(restoreMarkerPath(dataDir))) throw new DataDirectoryError(`${dataDir} holds an unfinished restore`);
  const begun = readSwitch(dataDir);
  if (begun !== null && begun.manifest.shards !== shards) {
    throw new DataDirectoryError(`${dataDir}: finish the reshard to ${begun.manifest.shards} shards first`);
  }
  const { prepared, isContinued } = begun === null ? await prepare(options) : { prepared: begun, isContinued: true };
  await carryOut(dataDir, prepared);
  const { from, events, comparedRows } = prepared;
  if (removeOriginal) await rm(join(dataDir, prepared.original), { recursive: true, force: true });
  const original = removeOriginal ? null : join(dataDir, prepared.original);
  return { from, to: shards, events, comparedRows, original, isContinued };
}

/** Everything up to the switch, and its mark. */
async function prepare(options: ReshardOptions): Promise<{ prepared: Switch; isContinued: boolean }> {
  const { dataDir, shards, progress } = options;
  const manifest = existingManifest(dataDir);
  if (manifest.shards === shards) throw new DataDirectoryError(`${dataDir} has ${shards} shards already`);
  for (const name of readdirSync(dataDir)) {
    const isOther = /^reshard-\d+$/.test(name) && name !== `reshard-${shards}`;
    if (isOther) await rm(join(dataDir, name), { recursive: true });
  }
  const sources = await recoverShards(options, manifest);
  let bytes = 0;
  for (let shard = 0; shard < manifest.shards; shard++) bytes += await logBytes(dataDir, shard, LOG_START);
  const workDir = join(dataDir, `reshard-${shards}`);
  if (!existsSync(workDir)) requireRoom(dataDir, bytes * ROOM_FACTOR + 64 * 1024 * 1024);
  progress.stage('reshard', bytes);
  const built = await buildShards({
    dataDir,
    workDir,
    from: manifest.shards,
    to: shards,
    sources,
    maxSegmentBytes: options.settings.maxSegmentBytes,
    progress,
  });
  const comparedRows = await compareShards(dataDir, manifest.shards, workDir, shards, progress);
  const prepared: Switch = {
    step: 'out',
    from: manifest.shards,
    manifest: { ...manifest, id: randomUUID(), origin: manifest.origin ?? manifest.id, shards },
    original: `shards-before-reshard-${new Date().toISOString().replaceAll(':', '-')}`,
    events: built.events,
    comparedRows,
    lastSeq: Math.max(...sources.map(({ appliedSeq }) => appliedSeq)),
  };
  await writeSwitch(dataDir, prepared);
  return { prepared, isContinued: built.isContinued };
}

/** Brings every shard to where nothing is half done, as a start and a graceful stop do. */
async function recoverShards(options: ReshardOptions, manifest: Manifest): Promise<SourceState[]> {
  const { dataDir, settings, logger } = options;
  const counters = new SharedCounters(createCounterMemory(manifest.shards));
  const versions = new KeyVersions(createVersionMemory(manifest.shards));
  const sources: SourceState[] = [];
  for (let number = 0; number < manifest.shards; number++) {
    const directory = shardDirectory(dataDir, number);
    let broken: Error | null = null;
    const shard = await Shard.open({
      shard: number,
      directory,
      disk: realDisk,
      counters,
      versions,
      settings,
      logger,
      onBroken: (error) => {
        broken = error;
      },
    });
    const { damagedLines } = shard.recovery;
    await shard.close();
    if (broken !== null) throw broken;
    if (damagedLines > 0) {
      throw new DataDirectoryError(`the log of shard ${number} is damaged: see "verify", and restore a backup`);
    }
    if ((await loadPlan(realDisk, directory)) !== null) {
      throw new DataDirectoryError('a removal is not finished: start the server once, stop it, and try again');
    }
    sources.push(await sourceStateOf(dataDir, number));
  }
  return sources;
}

/** Does what is left of the switch. Each step may be repeated. */
async function carryOut(dataDir: string, prepared: Switch): Promise<void> {
  const { from, manifest, original, lastSeq } = prepared;
  const originalDir = join(dataDir, original);
  const workDir = join(dataDir, `reshard-${manifest.shards}`);
  if (prepared.step === 'out') {
    mkdirSync(originalDir, { recursive: true });
    // What it takes to serve the old shards again, by hand, from a directory of their own.
    await copyFile(manifestPath(dataDir), join(originalDir, 'manifest.json'));
    await linkOnce(join(dataDir, 'server.key'), join(originalDir, 'server.key'));
    const record = { path: originalDir, createdAt: new Date().toISOString(), lastSeq };
    await recordBackup(dataDir, record);
    await moveShards(from, dataDir, originalDir);
    await writeSwitch(dataDir, { ...prepared, step: 'in' });
  }
  await moveShards(manifest.shards, workDir, dataDir);
  await rm(join(dataDir, 'watermark'), { force: true });
  await writeManifest(realDisk, dataDir, manifest);
  await rm(workDir, { recursive: true, force: true });
  await rm(reshardSwitchPath(dataDir));
  await realDisk.syncDirectory(dataDir);
}

/** Those that are not moved yet. */
async function moveShards(shards: number, fromDir: string, toDir: string): Promise<void> {
  for (let shard = 0; shard < shards; shard++) {
    const from = shardDirectory(fromDir, shard);
    if (existsSync(from)) await rename(from, shardDirectory(toDir, shard));
  }
  await realDisk.syncDirectory(toDir);
  if (existsSync(fromDir)) await realDisk.syncDirectory(fromDir);
}

async function linkOnce(from: string, to: string): Promise<void> {
  if (existsSync(from) && !existsSync(to)) await link(from, to);
}

function readSwitch(dataDir: string): Switch | null {
  const path = reshardSwitchPath(dataDir);
  return existsSync(path) ? (JSON.parse(readFileSync(path, 'utf8')) as Switch) : null;
}

async function writeSwitch(
  dataDir: string,
  { step, from, manifest, original, events, comparedRows, lastSeq }: Switch,
): Promise<void> {
  const stored: Switch = { step, from, manifest, original, events, comparedRows, lastSeq };
  await writeDurably(reshardSwitchPath(dataDir), `${JSON.stringify(stored)}\n`);
}
