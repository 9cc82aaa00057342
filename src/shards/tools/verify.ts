import { mkdirSync, rmSync } from 'node:fs';
import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { refuseUnfinished } from '../data-directory.js';
import { shardOf } from '../routing.js';
import { createCounterMemory, SharedCounters } from '../shared-counters.js';
import { checkRegistrations, seedRegistrations } from './check-registrations.js';
import { compareTables, locateRows } from './compare-tables.js';
import { isLoggedAnywhere, ownerNameOf } from './event-owner.js';
import { type Finding, Findings } from './findings.js';
import { undoneBySignal } from './interruption.js';
import { LOG_START, logBytes, mergeBySeq, readShardLog, type SourceEvent } from './log-source.js';
import { existingManifest, lockIfStopped } from './open-directory.js';
import { NO_PROGRESS, type Progress } from './progress.js';
import { ShardCheck } from './shard-check.js';
import { closeSnapshots, openSnapshots } from './store-snapshots.js';

/**
 * Verification of a data directory: the logs are what was written, and the stores are what the logs make them. Every
 * shard's log is replayed, with the code that recovery uses, into a store of its own beside; then the two are compared
 * row by row.
 * Never:     changes anything in the directory; repairs.
 * Needs:     room for the replayed stores in a temporary directory, and for copies of the stores if a server runs.
 * Memory:    does not grow with the history: rows lie in the temporary stores.
 */
export interface VerifyReport {
  readonly ok: boolean;
  readonly dataDir: string;
  /** A server was using the directory: what lies behind its last checkpoints was checked as far as the log goes. */
  readonly serverRuns: boolean;
  readonly shards: number;
  readonly events: number;
  readonly lastSeq: number;
  readonly logBytes: number;
  readonly comparedRows: number;
  readonly findings: readonly Finding[];
  /** With those that are not kept. */
  readonly totalFindings: number;
  readonly notes: readonly string[];
}

export interface VerifyOptions {
  readonly dataDir: string;
  /** Where the temporary stores go; the system's temporary directory when left out. */
  readonly tempDir?: string;
  readonly progress: Progress;
  /** The caller is the directory's owner, and knows that a tool is not finished in it: it is that tool. */
  readonly isOwned?: boolean;
}

/** About 25 MB of log, or 50,000 events, a second. Rejects with DataDirectoryError, or the system's error when reading is not possible. */
export async function verifyDirectory(options: VerifyOptions): Promise<VerifyReport> {
  const { dataDir, tempDir, progress, isOwned = false } = options;
  existingManifest(dataDir);
  if (!isOwned) refuseUnfinished(dataDir);
  const lock = isOwned ? null : await lockIfStopped(dataDir);
  if (tempDir !== undefined) mkdirSync(tempDir, { recursive: true });
  const workDir = await mkdtemp(join(tempDir ?? tmpdir(), 'tabulum-verify-'));
  const cleanUp = (): void => rmSync(workDir, { recursive: true, force: true });
  const kept = undoneBySignal(cleanUp);
  try {
    return await new Verification(dataDir, workDir, lock === null && !isOwned, progress).run();
  } finally {
    kept();
    cleanUp();
    await lock?.close();
  }
}

class Verification {
  private readonly findings = new Findings();
  private readonly shards: number;
  private readonly counters: SharedCounters;
  private lastEvent: SourceEvent | null = null;
  private events = 0;
  private bytes = 0;

  constructor(
    private readonly dataDir: string,
    private readonly workDir: string,
    private readonly serverRuns: boolean,
    private readonly progress: Progress,
  ) {
    this.shards = existingManifest(dataDir).shards;
    this.counters = new SharedCounters(createCounterMemory(this.shards));
  }

  async run(): Promise<VerifyReport> {
    const { dataDir, workDir, findings, shards } = this;
    // Before the logs: they then hold all that the stores speak of.
    const snapshots = await openSnapshots(dataDir, shards, this.serverRuns ? workDir : null, findings);
    let comparedRows = 0;
    try {
      const registrations = await seedRegistrations(snapshots, workDir, findings);
      const checks = snapshots.map(
        (snapshot) => new ShardCheck(dataDir, snapshot, workDir, this.counters, findings, this.serverRuns),
      );
      try {
        await this.readLogs(checks);
        for (const check of checks) await check.finish();
        this.progress.stage('compare', 0);
        for (const check of checks) {
          if (check.snapshot.rows === null) continue;
          comparedRows += await compareTables(check.snapshot.rows, check.replayedPath, check.snapshot, findings);
        }
        await checkRegistrations(snapshots, registrations, findings);
        await this.locateFindings();
      } finally {
        for (const check of checks) await check.close();
        await registrations.close();
      }
    } finally {
      await closeSnapshots(snapshots);
    }
    return {
      ok: findings.total === 0,
      dataDir,
      serverRuns: this.serverRuns,
      shards,
      events: this.events,
      lastSeq: this.lastEvent?.event.seq ?? 0,
      logBytes: this.bytes,
      comparedRows,
      findings: findings.kept,
      totalFindings: findings.total,
      notes: findings.notes,
    };
  }

  private async readLogs(checks: readonly ShardCheck[]): Promise<void> {
    let totalBytes = 0;
    for (const { shard } of checks) totalBytes += await logBytes(this.dataDir, shard, LOG_START);
    this.progress.stage('replay', totalBytes);
    const sources = checks.map(({ shard }) =>
      readShardLog(this.dataDir, shard, LOG_START, this.progress, this.serverRuns),
    );
    for await (const item of mergeBySeq(sources)) {
      const check = checks[item.shard] as ShardCheck;
      if (item.kind !== 'event') {
        check.damaged(item);
        continue;
      }
      this.events += 1;
      this.bytes += item.bytes;
      if (!this.isNext(item, check)) continue;
      await check.event(item);
    }
  }

  /** Over all shards, each `seq` once. */
  private isNext(item: SourceEvent, check: ShardCheck): boolean {
    const { event, shard } = item;
    const before = this.lastEvent;
    if (before !== null && event.seq <= before.event.seq) {
      const isDouble = event.seq === before.event.seq && before.shard !== shard;
      const where = `${check.fileOf(before)} at ${check.offsetOf(before)}`;
      check.logFinding(
        item,
        isDouble ? `seq ${event.seq} is in ${where} too` : `seq ${event.seq} comes after ${before.event.seq}`,
      );
      return false;
    }
    const expected = (before?.event.seq ?? 0) + 1;
    if (event.seq > expected) this.noteGap(expected, event.seq - 1, item, check);
    this.lastEvent = item;
    const owner = ownerNameOf(event);
    if (owner === null) {
      check.logFinding(item, `an event of unknown type "${event.type}"`);
    } else if (!isLoggedAnywhere(event) && shardOf(owner, this.shards) !== shard) {
      check.logFinding(item, `an event of shard ${shardOf(owner, this.shards)} in the log of shard ${shard}`);
    }
    return true;
  }

  /** Numbers of a batch that could not be written are never used again, so a gap alone is no damage. */
  private noteGap(from: number, to: number, item: SourceEvent, check: ShardCheck): void {
    const seqs = from === to ? `seq ${from} is` : `seq ${from} to ${to} are`;
    this.findings.note(`${seqs} in no log; next is ${check.fileOf(item)} at ${check.offsetOf(item)}`);
  }

  /** Names the line that made a row which the store lacks or has otherwise: costs another reading, on damage only. */
  private async locateFindings(): Promise<void> {
    const sought = locateRows(this.findings);
    if (sought === null) return;
    for (let shard = 0; shard < this.shards; shard++) {
      for await (const item of readShardLog(this.dataDir, shard, LOG_START, NO_PROGRESS)) {
        sought.look(item, this.dataDir);
      }
    }
    sought.done();
  }
}
