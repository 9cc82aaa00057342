import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Logger } from '../log.js';
import { ArchiveDamagedError, archiveDraftPath, rewriteArchivedSegment } from './archived-segment.js';
import type { Disk, LogFile } from './disk.js';
import { clearNote, readNote, writeNote } from './durable-note.js';
import { redactLine } from './redact-line.js';
import type { FoundLine, RemovalTarget } from './removal-scan.js';
import { archivedSegmentPath, type LogPosition, offsetOf, segmentOf, segmentPath } from './segments.js';

/**
 * Removal plan: which bytes of one shard's log are overwritten, durable before the first of them is.
 * Owns:      `removal.json` in the shard's directory.
 * Invariant: while a line may be half overwritten, a plan that names it is on the disk; carrying it out again ends in
 *            the same bytes. So recovery carries it out first, and never counts such a line as damaged.
 */
export interface RemovalPlan {
  /** Of the removal. */
  readonly id: string;
  readonly target: RemovalTarget;
  /** Of what is removed; null when the shard held only what could not be read. */
  readonly contentHash: string | null;
  /** `seq` of the event that the hash is of; 0 for none. */
  readonly hashedSeq: number;
  /** As `FoundContent.firstSeq`. */
  readonly firstSeq: number;
  readonly lines: readonly FoundLine[];
  /** Archives of which some lines, or all, could not be reached. */
  unreadable: readonly string[];
}

/** A line takes 60 bytes of the file as numbers; with names it would take twice as much. */
type PackedLine = readonly [position: LogPosition, lineBytes: number, offset: number, bytes: number, damaged: 0 | 1];

type StoredPlan = Omit<RemovalPlan, 'lines'> & { readonly lines: readonly PackedLine[] };

const FILE_NAME = 'removal.json';

export async function loadPlan(disk: Disk, directory: string): Promise<RemovalPlan | null> {
  const stored = await readNote<StoredPlan>(disk, join(directory, FILE_NAME));
  if (stored === null) return null;
  const lines = stored.lines.map(([position, lineBytes, offsetBytes, bytes, damaged]) => {
    return { position, lineBytes, offsetBytes, bytes, isDamaged: damaged === 1 };
  });
  return { ...stored, lines };
}

/** Durable on return. There must be no other plan. */
export function storePlan(disk: Disk, directory: string, plan: RemovalPlan): Promise<void> {
  const lines = plan.lines.map(({ position, lineBytes, offsetBytes, bytes, isDamaged }): PackedLine => {
    return [position, lineBytes, offsetBytes, bytes, isDamaged ? 1 : 0];
  });
  return writeNote(disk, join(directory, FILE_NAME), { ...plan, lines } satisfies StoredPlan);
}

export function clearPlan(disk: Disk, directory: string): Promise<void> {
  return clearNote(disk, join(directory, FILE_NAME));
}

/** Before recovery reads the log: what an earlier process had begun to overwrite is overwritten. Null: there was nothing. */
export async function finishPlan(
  disk: Disk,
  directory: string,
  logDir: string,
  logger: Logger,
): Promise<RemovalPlan | null> {
  const plan = await loadPlan(disk, directory);
  if (plan === null) return null;
  await carryOut(disk, logDir, plan, logger, () => {});
  logger.info({ logDir, removal: plan.id, lines: plan.lines.length }, 'removal finished that a crash had interrupted');
  return plan;
}

/**
 * Overwrites every line of the plan; durable on return. Notes in the plan what could not be reached.
 * @param overwritten told of each line (with its newline) in the same turn as its file changes.
 */
export async function carryOut(
  disk: Disk,
  logDir: string,
  plan: RemovalPlan,
  logger: Logger,
  overwritten: (position: LogPosition, line: Buffer) => void,
): Promise<void> {
  const unreadable = new Set(plan.unreadable);
  for (const [segment, lines] of bySegment(plan.lines)) {
    // Both may be there for a while: an archive that is complete, and the plain segment that it will take the place of.
    if (has(disk, logDir, segmentPath(logDir, segment))) {
      await overwritePlain(disk, segmentPath(logDir, segment), lines, overwritten);
    }
    // One that was being written when the process died means nothing, but may hold the content.
    await rm(archiveDraftPath(logDir, segment), { force: true });
    if (!has(disk, logDir, archivedSegmentPath(logDir, segment))) continue;
    try {
      await overwriteArchived(disk, logDir, segment, lines, overwritten);
    } catch (error) {
      if (!(error instanceof ArchiveDamagedError)) throw error;
      logger.error({ err: error, removal: plan.id }, 'a damaged archive keeps content that was to be removed');
      unreadable.add(error.path);
    }
  }
  plan.unreadable = [...unreadable];
}

async function overwritePlain(
  disk: Disk,
  path: string,
  lines: readonly FoundLine[],
  overwritten: (position: LogPosition, line: Buffer) => void,
): Promise<void> {
  const file = disk.openFile(path);
  try {
    for (const found of lines) {
      const line = await file.read(offsetOf(found.position), found.lineBytes);
      // A crash may have taken the end of a log that was not flushed, with `durability: interval` or `none`.
      if (line.length < found.lineBytes) continue;
      redactLine(line.subarray(0, -1), found, found.isDamaged);
      // One call, and in this turn: who reads the line in this thread sees it before or after, or reads it again.
      writeAll(file, line.subarray(found.offsetBytes), offsetOf(found.position) + found.offsetBytes);
      overwritten(found.position, line);
    }
    await file.sync();
  } finally {
    await file.close();
  }
}

function overwriteArchived(
  disk: Disk,
  logDir: string,
  segment: number,
  lines: readonly FoundLine[],
  overwritten: (position: LogPosition, line: Buffer) => void,
): Promise<boolean> {
  let next = 0;
  return rewriteArchivedSegment(disk, logDir, segment, (part, partOffset) => {
    let hasChanged = false;
    for (; next < lines.length; next++) {
      const found = lines[next] as FoundLine;
      const start = offsetOf(found.position) - partOffset;
      if (start >= part.length) break;
      const line = part.subarray(start, start + found.lineBytes);
      redactLine(line.subarray(0, -1), found, found.isDamaged);
      overwritten(found.position, line);
      hasChanged = true;
    }
    return hasChanged;
  });
}

function writeAll(file: LogFile, bytes: Buffer, offsetBytes: number): void {
  for (let written = 0; written < bytes.length; ) {
    written += file.write(bytes.subarray(written), offsetBytes + written);
  }
}

function bySegment(lines: readonly FoundLine[]): Map<number, FoundLine[]> {
  const segments = new Map<number, FoundLine[]>();
  for (const line of lines) {
    const segment = segmentOf(line.position);
    const others = segments.get(segment);
    if (others === undefined) segments.set(segment, [line]);
    else others.push(line);
  }
  return segments;
}

function has(disk: Disk, logDir: string, path: string): boolean {
  return disk.list(logDir).some((name) => join(logDir, name) === path);
}
