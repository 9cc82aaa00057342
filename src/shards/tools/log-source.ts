import type { Buffer } from 'node:buffer';
import { join, relative } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { ArchiveDamagedError, ArchivedSegment } from '../archived-segment.js';
import { shardDirectory } from '../data-directory.js';
import { realDisk } from '../disk.js';
import { decodeLine, type LoggedEvent } from '../log-line.js';
import { type ScannedLine, scanSegment } from '../log-reader.js';
import { openSegment, type SegmentFile } from '../segment-reader.js';
import {
  archivedSegmentPath,
  type LogPosition,
  listSegments,
  logPosition,
  offsetOf,
  segmentOf,
  segmentPath,
} from '../segments.js';
import type { Progress } from './progress.js';

/**
 * Log source: the event logs of a data directory as tools read them, one shard's or all of them in `seq` order.
 * Never:     changes a file, or stops at damage: what is wrong is handed out with its place.
 */
export interface SourceEvent {
  readonly kind: 'event';
  readonly shard: number;
  readonly position: LogPosition;
  /** With the newline. */
  readonly bytes: number;
  readonly event: LoggedEvent;
  /** Without the newline. */
  readonly line: Buffer;
  readonly isLastSegment: boolean;
}

export interface SourceDamage {
  readonly kind: 'damaged';
  readonly shard: number;
  readonly position: LogPosition;
  readonly bytes: number;
  readonly line: Buffer;
  readonly isLastSegment: boolean;
}

/** The rest of a segment that is no complete line. */
export interface SourceTorn {
  readonly kind: 'torn';
  readonly shard: number;
  readonly position: LogPosition;
  readonly bytes: number;
  readonly isLastSegment: boolean;
}

/** A segment that is not there, or an archive that is not what was written. */
export interface SourceBrokenFile {
  readonly kind: 'broken-file';
  readonly shard: number;
  readonly path: string;
  /** In the file itself. */
  readonly offsetBytes: number;
  readonly reason: string;
}

export type SourceItem = SourceEvent | SourceDamage | SourceTorn | SourceBrokenFile;

const LOOKS_AGAIN = 10;
const LOOK_AGAIN_MS = 20;
const NEWLINE = 0x0a;

export function logDirOf(dataDir: string, shard: number): string {
  return join(shardDirectory(dataDir, shard), 'log');
}

/** The segment's file, as a path within the data directory; the archive when only that is there. */
export function segmentFile(dataDir: string, shard: number, segment: number): string {
  const logDir = logDirOf(dataDir, shard);
  const plain = segmentPath(logDir, segment);
  const isPlain = realDisk.list(logDir).some((name) => join(logDir, name) === plain);
  return relative(dataDir, isPlain ? plain : archivedSegmentPath(logDir, segment));
}

/** Bytes of the plain form of a shard's log from `from` on; what can't be opened counts nothing. */
export async function logBytes(dataDir: string, shard: number, from: LogPosition): Promise<number> {
  const logDir = logDirOf(dataDir, shard);
  let bytes = 0;
  for (const segment of listSegments(realDisk, logDir)) {
    if (segment < segmentOf(from)) continue;
    const [opened] = await Promise.allSettled([openSegment(realDisk, logDir, segment)]);
    if (opened.status === 'rejected') continue;
    bytes += opened.value.sizeBytes - (segment === segmentOf(from) ? offsetOf(from) : 0);
    await opened.value.close();
  }
  return bytes;
}

/**
 * Everything in one shard's log from `from` on. Memory: one chunk, or the longest line.
 * @param isLive a server may be writing: a line that looks damaged is looked at again, since a batch may be on its way
 *   into the file, or a removal by law half-way through the line.
 */
export async function* readShardLog(
  dataDir: string,
  shard: number,
  from: LogPosition,
  progress: Progress,
  isLive = false,
): AsyncGenerator<SourceItem> {
  const logDir = logDirOf(dataDir, shard);
  const segments = listSegments(realDisk, logDir);
  const lastSegment = segments.at(-1) ?? 0;
  let expected = segmentOf(from);
  for (const segment of segments) {
    if (segment < expected) continue;
    for (; expected < segment; expected++) {
      yield { kind: 'broken-file', shard, path: segmentPath(logDir, expected), offsetBytes: 0, reason: 'is missing' };
    }
    expected += 1;
    let file: SegmentFile;
    try {
      file = await openSegment(realDisk, logDir, segment);
    } catch (error) {
      if (!(error instanceof ArchiveDamagedError)) throw error;
      yield { kind: 'broken-file', shard, path: error.path, offsetBytes: 0, reason: error.reason };
      continue;
    }
    try {
      const startBytes = segment === segmentOf(from) ? offsetOf(from) : 0;
      const isLastSegment = segment === lastSegment;
      for await (const line of scanSegment(file, segment, startBytes)) {
        progress.advance(line.bytes);
        const settled = line.kind === 'damaged' && isLive ? await lookAgain(logDir, line) : line;
        yield { ...settled, shard, isLastSegment };
      }
      if (file instanceof ArchivedSegment) {
        for (const block of file.damagedBlocks) {
          const place = { path: archivedSegmentPath(logDir, segment), offsetBytes: file.memberOffset(block) };
          yield { kind: 'broken-file', shard, ...place, reason: `block ${block} is damaged` };
        }
      }
    } finally {
      await file.close();
    }
  }
}

/** The line as an event as soon as it is one; as it was when it stays damaged. */
async function lookAgain(logDir: string, damaged: ScannedLine): Promise<ScannedLine> {
  const { position, bytes } = damaged;
  for (let look = 0; look < LOOKS_AGAIN; look++) {
    await sleep(LOOK_AGAIN_MS);
    const file = await openSegment(realDisk, logDir, segmentOf(position));
    const read = await file.read(offsetOf(position), bytes);
    await file.close();
    const line = read.subarray(0, -1);
    const event = read.at(-1) === NEWLINE ? decodeLine(line) : null;
    if (event !== null) return { kind: 'event', position, bytes, event, line };
  }
  return damaged;
}

/**
 * The logs of all shards: what is no event as soon as it is met, events in the order of their `seq`. A shard's events
 * that do not rise come as they are. Cost: a comparison for each shard and event.
 */
export async function* mergeBySeq(sources: readonly AsyncGenerator<SourceItem>[]): AsyncGenerator<SourceItem> {
  const heads: (SourceEvent | null)[] = [];
  for (const source of sources) heads.push(yield* nextEvent(source));
  for (;;) {
    let least = -1;
    let leastSeq = Number.POSITIVE_INFINITY;
    for (let i = 0; i < heads.length; i++) {
      const head = heads[i];
      if (head === null || head === undefined || head.event.seq >= leastSeq) continue;
      least = i;
      leastSeq = head.event.seq;
    }
    const source = sources[least];
    const head = heads[least];
    if (source === undefined || head === undefined || head === null) return;
    yield head;
    heads[least] = yield* nextEvent(source);
  }
}

/** Hands on what comes before the source's next event; null at its end. */
async function* nextEvent(source: AsyncGenerator<SourceItem>): AsyncGenerator<SourceItem, SourceEvent | null> {
  for (;;) {
    const next = await source.next();
    if (next.done === true) return null;
    if (next.value.kind === 'event') return next.value;
    yield next.value;
  }
}

/** The beginning of every log. */
export const LOG_START = logPosition(1, 0);
