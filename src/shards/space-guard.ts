import type { Logger } from '../log.js';
import type { Disk } from './disk.js';
import { type LogPosition, offsetOf, segmentOf } from './segments.js';

/**
 * Space guard: says when the disk under a shard gets too full for more writes.
 * Owns:      what is known of the free space, and how much of it the next checkpoint may need.
 * Never:     writes, or asks the system for each operation: it asks when a good part of the known room may be used up.
 *
 * LMDB lies on the disk that the log fills. A commit that finds no room is final for an LMDB environment, so writers are
 * refused (`store_full`) while there still is room for the rows that wait in memory, and a checkpoint that might not fit
 * is put off. Nothing is lost by waiting: the log has it all.
 */

/** Left over when writers are refused: for other shards, for LMDB's own needs, for the events of reads. */
const RESERVE_BYTES = 16 * 1024 * 1024;
/** Below this part of the reserve the events of reads are no longer logged either. */
const READ_RESERVE_BYTES = RESERVE_BYTES / 2;
/** Writers come back when there is this much more, so that they don't come and go with every batch. */
const COMEBACK_BYTES = 4 * 1024 * 1024;
/** LMDB copies a page for each row it changes, and now and then one above it. */
const BYTES_PER_ROW = 6 * 1024;
/** A page that a long value fills in part, and the rest of the log line, both at most as long as the line. */
const BYTES_PER_LOG_BYTE = 2;
const BYTES_PER_CHECKPOINT = 1024 * 1024;
/** The system is asked again when this part of the spare room may be gone; other shards use it too. */
const ASK_AFTER_PART = 8;

export interface SpaceGuardOptions {
  readonly disk: Disk;
  /** Any path on the disk in question. */
  readonly directory: string;
  readonly maxSegmentBytes: number;
  readonly logger: Logger;
  /** Rows that wait for the next checkpoint. */
  changedRows(): number;
  /** Size of LMDB's file: a checkpoint copies at most all of it. */
  storeBytes(): number;
}

export class SpaceGuard {
  private readonly options: SpaceGuardOptions;
  private askedAt: LogPosition;
  private allowanceBytes = 0;
  /** Where the log was when the last checkpoint began. */
  private checkpointAt: LogPosition;

  /** False: refuse what has to be logged with `store_full`. */
  takesWrites = true;
  /** False: the events of reads have no room either. */
  takesReadEvents = true;

  constructor(options: SpaceGuardOptions, position: LogPosition) {
    this.options = options;
    this.askedAt = position;
    this.checkpointAt = position;
    this.ask(position);
  }

  /** The log goes on at `position`. Costs nothing as long as there is plenty of room. */
  logged(position: LogPosition): void {
    if (position - this.askedAt >= this.allowanceBytes) this.ask(position);
  }

  /** Asks the system now; a few microseconds. */
  ask(position: LogPosition): void {
    const { disk, directory } = this.options;
    this.askedAt = position;
    const freeBytes = disk.availableBytes?.(directory) ?? Number.POSITIVE_INFINITY;
    const spareBytes = freeBytes - this.checkpointBytes(position);
    this.allowanceBytes = Math.max(0, (spareBytes - RESERVE_BYTES) / ASK_AFTER_PART);
    const takesWrites = spareBytes >= (this.takesWrites ? RESERVE_BYTES : RESERVE_BYTES + COMEBACK_BYTES);
    this.takesReadEvents = takesWrites || spareBytes >= READ_RESERVE_BYTES;
    if (takesWrites === this.takesWrites) return;
    this.takesWrites = takesWrites;
    const place = { directory, freeBytes, reserveBytes: RESERVE_BYTES };
    if (takesWrites) this.options.logger.warn(place, 'there is room on the disk again: writes are taken');
    else this.options.logger.error(place, 'the disk is nearly full: writes are refused with 507 until there is room');
  }

  /** Whether a checkpoint of all that waits is sure to fit. */
  hasRoomForCheckpoint(position: LogPosition): boolean {
    const { disk, directory } = this.options;
    const freeBytes = disk.availableBytes?.(directory) ?? Number.POSITIVE_INFINITY;
    return freeBytes >= this.checkpointBytes(position);
  }

  /** A checkpoint of everything up to `position` has begun. */
  checkpointBegan(position: LogPosition): void {
    this.checkpointAt = position;
  }

  /** The most that LMDB's file may grow by at the next checkpoint. */
  private checkpointBytes(position: LogPosition): number {
    const { maxSegmentBytes, changedRows, storeBytes } = this.options;
    const segments = segmentOf(position) - segmentOf(this.checkpointAt);
    const loggedBytes = segments * maxSegmentBytes + offsetOf(position) - offsetOf(this.checkpointAt);
    const copiedBytes = Math.min(changedRows() * BYTES_PER_ROW, storeBytes());
    return BYTES_PER_CHECKPOINT + copiedBytes + Math.max(0, loggedBytes) * BYTES_PER_LOG_BYTE;
  }
}
