import type { Logger } from '../log.js';
import type { Disk } from './disk.js';
import { type ScannedLine, scanLog } from './log-reader.js';
import { LogWriter } from './log-writer.js';
import { openSegment } from './segment-reader.js';
import { type LogPosition, listSegments, offsetOf, segmentOf, segmentPath } from './segments.js';
import type { Store } from './store.js';
import type { View } from './view.js';

/**
 * Recovery: brings the view up to the end of the log, and the log to the end of its last whole operation.
 * Reads only what lies behind the last checkpoint, so a start costs the tail, not the history.
 *
 * Power loss keeps any of the pages of the batch under way and loses the others, which then read as zeros. That batch was
 * never answered, so the log ends at the first page that is missing. Zeros in a line that was flushed once are damage
 * like any other: skipped, and what lies behind is kept. The two are told apart by time: all lines of one batch have one.
 */
/** Below this free space a start leaves LMDB alone. */
const CLEAN_UP_ROOM_BYTES = 8 * 1024 * 1024;

export interface RecoveryReport {
  readonly lastSeq: number;
  readonly replayedEvents: number;
  readonly damagedLines: number;
  readonly cutBytes: number;
}

export interface RecoveredLog {
  readonly writer: LogWriter;
  readonly report: RecoveryReport;
}

export async function recover(
  disk: Disk,
  logDir: string,
  view: View,
  maxSegmentBytes: number,
  logger: Logger,
): Promise<RecoveredLog> {
  const { appliedSeq, replayFrom } = view.meta;
  let end: LogPosition = replayFrom;
  let lastSeq = appliedSeq;
  let replayedEvents = 0;
  let damagedLines = 0;
  let cutBytes = 0;
  /** Events of an operation whose last line has not come yet: applied together or not at all. */
  let group: Parameters<View['replay']>[] = [];

  const lastSegment = await checkedLastSegment(disk, logDir, replayFrom);
  for await (const line of scanLog(disk, logDir, replayFrom)) {
    if (line.kind === 'torn' && segmentOf(line.position) === lastSegment) {
      cutBytes += line.bytes;
      const place = { segment: segmentOf(line.position), offsetBytes: offsetOf(line.position), bytes: line.bytes };
      logger.warn({ logDir, ...place }, 'event log: incomplete last line, cut off');
      continue;
    }
    if (line.kind === 'damaged' && segmentOf(line.position) === lastSegment && (await isLostPage(disk, logDir, line))) {
      const bytes = await bytesOfOneBatch(disk, logDir, line.position);
      if (bytes !== null) {
        cutBytes += bytes;
        const place = { segment: lastSegment, offsetBytes: offsetOf(line.position), bytes };
        logger.warn({ logDir, ...place }, 'event log: incomplete last batch, cut off');
        break;
      }
    }
    if (line.kind !== 'event' || line.event.seq <= lastSeq) {
      damagedLines += 1;
      const place = { segment: segmentOf(line.position), offsetBytes: offsetOf(line.position), bytes: line.bytes };
      logger.error({ logDir, ...place }, 'event log: damaged line, skipped');
      if (group.length === 0) end = line.position + line.bytes;
      continue;
    }
    lastSeq = line.event.seq;
    group.push([line.event, line.position, line.bytes]);
    if (line.event.more === true) continue;
    for (const replay of group) view.replay(...replay);
    replayedEvents += group.length;
    group = [];
    end = line.position + line.bytes;
  }
  for (const [, , bytes] of group) cutBytes += bytes;
  if (group.length > 0) logger.warn({ logDir, events: group.length }, 'event log: incomplete operation, cut off');

  // A segment begun just before the crash may hold nothing yet.
  const sizeBytes = segmentOf(end) === lastSegment ? offsetOf(end) : 0;
  const tailBytes = segmentOf(replayFrom) === lastSegment ? Math.min(offsetOf(replayFrom), sizeBytes) : 0;
  const writer = await LogWriter.open(disk, logDir, maxSegmentBytes, lastSegment, sizeBytes, logger, tailBytes);
  view.advance(view.meta.appliedSeq, writer.position);
  // With damage in the log a missing event proves nothing.
  const hasRoom = (disk.availableBytes?.(logDir) ?? Number.POSITIVE_INFINITY) >= CLEAN_UP_ROOM_BYTES;
  if (damagedLines === 0 && hasRoom) await removeUnloggedRegistrations(view.store, logger);
  view.report();
  return { writer, report: { lastSeq, replayedEvents, damagedLines, cutBytes } };
}

/** No line ever holds a zero byte: JSON escapes it. */
async function isLostPage(disk: Disk, logDir: string, line: ScannedLine): Promise<boolean> {
  const file = await openSegment(disk, logDir, segmentOf(line.position));
  try {
    return (await file.read(offsetOf(line.position), line.bytes)).includes(0);
  } finally {
    await file.close();
  }
}

/** Bytes from `from` to the end of the log; null when there are lines of more than one batch. */
async function bytesOfOneBatch(disk: Disk, logDir: string, from: LogPosition): Promise<number | null> {
  let end = from;
  let batchTs: string | null = null;
  for await (const line of scanLog(disk, logDir, from)) {
    end = line.position + line.bytes;
    if (line.kind !== 'event') continue;
    if (batchTs !== null && line.event.ts !== batchTs) return null;
    batchTs = line.event.ts;
  }
  return end - from;
}

/**
 * The number of the last segment.
 * @throws Error when the log ends before the last checkpoint does: somebody took files away, and going on would hide it.
 */
async function checkedLastSegment(disk: Disk, logDir: string, replayFrom: LogPosition): Promise<number> {
  const lastSegment = listSegments(disk, logDir).at(-1) ?? 1;
  const offset = offsetOf(replayFrom);
  const missing = `event log in ${logDir} ends before the last checkpoint (segment ${segmentOf(replayFrom)}, byte ${offset}); restore it from a backup`;
  if (lastSegment < segmentOf(replayFrom)) throw new Error(missing);
  if (offset > 0) {
    const file = disk.openFile(segmentPath(logDir, segmentOf(replayFrom)));
    try {
      const before = await file.read(offset - 1, 1);
      if (before[0] !== NEWLINE) throw new Error(missing);
    } finally {
      await file.close();
    }
  }
  return lastSegment;
}

const NEWLINE = 0x0a;

/** A credential whose event never became durable was never answered: it goes. */
async function removeUnloggedRegistrations(store: Store, logger: Logger): Promise<void> {
  for (const subject of store.pendingSubjects()) {
    if (store.agents.has(subject) || store.operators.has(subject)) continue;
    logger.warn({ subject }, 'registration without an event: removed');
    await store.removePending(subject);
  }
}
