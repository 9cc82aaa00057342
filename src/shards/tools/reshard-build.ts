import { Buffer } from 'node:buffer';
import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Credential } from '../../contract/engine.js';
import { DataDirectoryError, shardDirectory } from '../data-directory.js';
import { realDisk } from '../disk.js';
import { shardOf } from '../routing.js';
import { jsonCodec } from '../row-codecs.js';
import { type LogPosition, offsetOf, segmentOf } from '../segments.js';
import { createCounterMemory, SharedCounters } from '../shared-counters.js';
import { encodePending, indexSubjects, registrationsOf } from './check-registrations.js';
import { writeDurably } from './durable-files.js';
import { ownerNameOf } from './event-owner.js';
import { Findings } from './findings.js';
import { LOG_START, mergeBySeq, readShardLog, segmentFile } from './log-source.js';
import { NewShard } from './new-shard.js';
import type { Progress } from './progress.js';
import type { LogEnd } from './segment-writer.js';
import { closeSnapshots, openSnapshots, type StoreSnapshot, storePath } from './store-snapshots.js';
import { StoredRows } from './stored-rows.js';
import { TableWriter } from './table-writer.js';

/**
 * Building the shards of a new count beside the old ones.
 *
 * Lines keep their bytes: `seq`, time and checksum stay, so references between them do. The rows are made by the code
 * that recovery uses. What the log does not hold is taken from the old stores: credentials and webhooks. A credential
 * goes to the shard of its lookup, the agent or operator to that of the address or id: with another count than they
 * were registered under, these may be two.
 *
 * Progress is noted at each checkpoint, when all new logs and stores are on the disk; a later run goes on from there.
 */
export interface SourceState {
  readonly appliedSeq: number;
  readonly replayFrom: LogPosition;
}

export interface BuildOptions {
  readonly dataDir: string;
  readonly workDir: string;
  readonly from: number;
  readonly to: number;
  /** Where the old shards are; another state than that of an interrupted run starts over. */
  readonly sources: readonly SourceState[];
  readonly maxSegmentBytes: number;
  readonly progress: Progress;
}

interface BuildProgress {
  readonly sources: readonly SourceState[];
  readonly maxSegmentBytes: number;
  /** Where each old log goes on. */
  readonly positions: readonly LogPosition[];
  readonly ends: readonly LogEnd[];
  readonly lines: readonly number[];
  readonly isBuilt: boolean;
}

const CHECKPOINT_ROWS = 50_000;
const CHECKPOINT_LOG_BYTES = 64 * 1024 * 1024;
const PENDING = 'pending_registrations';
const CREDENTIALS = 'credentials';
const credentialCodec = jsonCodec<Credential>();

export async function sourceStateOf(dataDir: string, shard: number): Promise<SourceState> {
  const rows = StoredRows.open(storePath(dataDir, shard));
  try {
    const { appliedSeq = 0, replayFrom = LOG_START } = rows.meta() ?? {};
    return { appliedSeq, replayFrom };
  } finally {
    await rows.close();
  }
}

/** Resolves when the new shards are complete and on the disk. Returns how many lines they have. */
export async function buildShards(options: BuildOptions): Promise<{ events: number; isContinued: boolean }> {
  const { dataDir, workDir, from, to } = options;
  const before = readProgress(options);
  if (before?.isBuilt === true) return { events: sum(before.lines), isContinued: true };
  const start = before ?? (await startOver(options));
  const snapshots = await openSnapshots(dataDir, from, null, refusing());
  try {
    const lines = await copyLines(options, start);
    await placeCredentials(snapshots, workDir, to);
    await writeProgress(options, { ...start, lines, isBuilt: true });
    return { events: sum(lines), isContinued: before !== null };
  } finally {
    await closeSnapshots(snapshots);
  }
}

/** Empty new shards, in which every registration finds what it needs. */
async function startOver(options: BuildOptions): Promise<BuildProgress> {
  const { dataDir, workDir, from, to, sources, maxSegmentBytes } = options;
  await rm(workDir, { recursive: true, force: true });
  mkdirSync(workDir, { recursive: true });
  await realDisk.syncDirectory(dataDir);
  const snapshots = await openSnapshots(dataDir, from, null, refusing());
  const writers: TableWriter[] = [];
  try {
    for (let shard = 0; shard < to; shard++) {
      mkdirSync(join(shardDirectory(workDir, shard), 'log'), { recursive: true });
      writers.push(new TableWriter(storePath(workDir, shard)));
      await realDisk.syncDirectory(shardDirectory(workDir, shard));
    }
    await realDisk.syncDirectory(workDir);
    const index = await indexSubjects(snapshots, workDir);
    for (const snapshot of snapshots) {
      for (const { subject, pending, isMissing } of registrationsOf(snapshot, index)) {
        const name = subject.toString('latin1');
        if (isMissing)
          throw new DataDirectoryError(`${pending.credential.kind} ${name} has no credential: see "verify"`);
        await writers[shardOf(name, to)]?.put(PENDING, subject, encodePending(pending));
      }
    }
    await index.close();
  } finally {
    for (const writer of writers) await writer.close();
    await closeSnapshots(snapshots);
  }
  for (const name of ['subjects.mdb', 'subjects.mdb-lock']) await rm(join(workDir, name), { force: true });
  const progress: BuildProgress = {
    sources,
    maxSegmentBytes,
    positions: sources.map(() => LOG_START),
    ends: Array.from({ length: to }, () => ({ segment: 1, sizeBytes: 0 })),
    lines: Array.from({ length: to }, () => 0),
    isBuilt: false,
  };
  await writeProgress(options, progress);
  return progress;
}

/** Returns the lines of each new shard. */
async function copyLines(options: BuildOptions, start: BuildProgress): Promise<number[]> {
  const { dataDir, workDir, to, maxSegmentBytes, progress } = options;
  const counters = new SharedCounters(createCounterMemory(to));
  const shards: NewShard[] = [];
  const positions = [...start.positions];
  try {
    for (let shard = 0; shard < to; shard++) {
      const end = start.ends[shard] ?? { segment: 1, sizeBytes: 0 };
      const directory = shardDirectory(workDir, shard);
      shards.push(await NewShard.open(directory, shard, counters, maxSegmentBytes, end, start.lines[shard] ?? 0));
    }
    const checkpoint = async (): Promise<void> => {
      for (const shard of shards) await shard.checkpoint();
      const ends = shards.map((shard) => shard.end);
      const lines = shards.map((shard) => shard.lines);
      await writeProgress(options, { ...start, positions, ends, lines });
    };
    let bytes = 0;
    const logs = positions.map((position, shard) => readShardLog(dataDir, shard, position, progress));
    for await (const item of mergeBySeq(logs)) {
      if (item.kind !== 'event') {
        const place = item.kind === 'broken-file' ? item.path : placeOf(dataDir, item.shard, item.position);
        throw new DataDirectoryError(`${place} is damaged: see "verify", and restore a backup`);
      }
      const name = ownerNameOf(item.event);
      if (name === null) {
        const place = placeOf(dataDir, item.shard, item.position);
        throw new DataDirectoryError(`${place}: a record of unknown type "${item.event.type}"`);
      }
      const shard = shards[shardOf(name, to)] as NewShard;
      await shard.add(item.event, item.line);
      positions[item.shard] = item.position + item.bytes;
      bytes += item.bytes;
      const isDue = bytes >= CHECKPOINT_LOG_BYTES || shard.changedRows >= CHECKPOINT_ROWS;
      // Never within an operation: a run that goes on from here would not see its beginning.
      if (!isDue || item.event.more === true) continue;
      bytes = 0;
      await checkpoint();
    }
    await checkpoint();
    return shards.map((shard) => shard.lines);
  } finally {
    for (const shard of shards) await shard.close();
  }
}

/** Each credential where it will be looked for. May be repeated. */
async function placeCredentials(snapshots: readonly StoreSnapshot[], workDir: string, to: number): Promise<void> {
  const writers = Array.from({ length: to }, (_, shard) => new TableWriter(storePath(workDir, shard)));
  try {
    for (const writer of writers) await writer.clear(CREDENTIALS);
    for (const { rows } of snapshots) {
      if (rows === null) continue;
      for (const credential of rows.credentials()) {
        const key = Buffer.from(credential.lookup, 'latin1');
        await writers[shardOf(credential.lookup, to)]?.put(CREDENTIALS, key, credentialCodec.encode(credential));
      }
    }
    for (const writer of writers) await writer.clear(PENDING);
  } finally {
    for (const writer of writers) await writer.close();
  }
}

function placeOf(dataDir: string, shard: number, position: LogPosition): string {
  return `${segmentFile(dataDir, shard, segmentOf(position))} at ${offsetOf(position)}`;
}

/** A store that can't be read ends the build: it is not for this tool to go on without it. */
function refusing(): Findings {
  const findings = new Findings();
  findings.add = ({ file, detail }) => {
    throw new DataDirectoryError(`${file} ${detail}: see "verify", and restore a backup`);
  };
  return findings;
}

function progressPath(workDir: string): string {
  return join(workDir, 'progress.json');
}

/** Null when there is nothing to go on from. */
function readProgress({ workDir, sources, maxSegmentBytes }: BuildOptions): BuildProgress | null {
  const path = progressPath(workDir);
  if (!existsSync(path)) return null;
  const progress = JSON.parse(readFileSync(path, 'utf8')) as BuildProgress;
  const isSame = JSON.stringify(progress.sources) === JSON.stringify(sources);
  return isSame && progress.maxSegmentBytes === maxSegmentBytes ? progress : null;
}

async function writeProgress({ workDir }: BuildOptions, progress: BuildProgress): Promise<void> {
  await writeDurably(progressPath(workDir), `${JSON.stringify(progress)}\n`);
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}
