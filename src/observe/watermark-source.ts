/**
 * Where observers learn how far the log is durable over all shards.
 * Two ways: from the memory that the server's threads share, or, in a process of its own, from a small file that the
 * server's observer keeps in the data directory - and from the logs themselves when no server runs.
 * Never:     says that something is durable which a crash could undo.
 */
import { Buffer } from 'node:buffer';
import { closeSync, openSync, readFileSync, statSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import { isDataDirectoryInUse, shardDirectory } from '../shards/data-directory.js';
import { realDisk } from '../shards/disk.js';
import { scanSegment } from '../shards/log-reader.js';
import { openSegment } from '../shards/segment-reader.js';
import { type LogPosition, listSegments, logPosition } from '../shards/segments.js';
import type { DurableState, SharedCounters } from '../shards/shared-counters.js';

export interface WatermarkSource {
  /** As of now. Costs microseconds in the server; elsewhere the read of a small file, and more when the server has ended. */
  read(): Promise<DurableState>;
  /** As `read`, where it can be had at once. */
  now?(): DurableState;
}

const FILE_NAME = 'watermark';
const MAGIC = 0x54_42_57_4d; // "TBWM"
/** A server that has nothing new to say says so this often. */
const BEAT_MS = 500;
/** Silence that means that no server runs, whatever its lock looks like from here. */
const SILENCE_MS = 4 * BEAT_MS;
/** How often an observer in a process of its own asks whether a silent server still runs. */
const LOCK_CHECK_MS = 500;
const HEADER_BYTES = 20;

interface WatermarkRecord extends DurableState {
  /** Rises with everything that is published. */
  readonly beat: number;
}

/** [magic: u32][shards: u32][beat: u32][watermark: f64][end: f64]*shards[CRC-32: u32] */
function encodeRecord(record: WatermarkRecord): Buffer {
  const bytes = Buffer.alloc(HEADER_BYTES + record.ends.length * 8 + 4);
  bytes.writeUInt32LE(MAGIC, 0);
  bytes.writeUInt32LE(record.ends.length, 4);
  bytes.writeUInt32LE(record.beat, 8);
  bytes.writeDoubleLE(record.watermark, 12);
  for (const [shard, end] of record.ends.entries()) bytes.writeDoubleLE(end, HEADER_BYTES + shard * 8);
  bytes.writeUInt32LE(crc32(bytes.subarray(0, bytes.length - 4)), bytes.length - 4);
  return bytes;
}

/** Null for one that is not whole: it is just being written. */
function decodeRecord(bytes: Buffer, shards: number): WatermarkRecord | null {
  const sizeBytes = HEADER_BYTES + shards * 8 + 4;
  if (bytes.length < sizeBytes || bytes.readUInt32LE(0) !== MAGIC || bytes.readUInt32LE(4) !== shards) return null;
  if (crc32(bytes.subarray(0, sizeBytes - 4)) !== bytes.readUInt32LE(sizeBytes - 4)) return null;
  return {
    beat: bytes.readUInt32LE(8),
    watermark: bytes.readDoubleLE(12),
    ends: Array.from({ length: shards }, (_, shard) => bytes.readDoubleLE(HEADER_BYTES + shard * 8)),
  };
}

/** The server's own observer: reads shared memory, and writes the file for observers in other processes. */
export class SharedWatermark implements WatermarkSource {
  private readonly fd: number;
  private published: DurableState | null = null;
  private publishedMs = 0;
  private beat = 0;

  constructor(
    private readonly counters: SharedCounters,
    dataDir: string,
  ) {
    this.fd = openSync(join(dataDir, FILE_NAME), 'w', 0o644);
    this.publish(Date.now());
  }

  now(): DurableState {
    return this.counters.durableState();
  }

  read(): Promise<DurableState> {
    return Promise.resolve(this.now());
  }

  /** Only into the page cache: it is worth nothing after a crash of the machine, and not read then. */
  publish(nowMs: number): void {
    const state = this.now();
    const isNews = this.published === null || !isSame(state, this.published);
    if (!isNews && nowMs - this.publishedMs < BEAT_MS) return;
    this.published = state;
    this.publishedMs = nowMs;
    this.beat += 1;
    const record = encodeRecord({ ...state, beat: this.beat });
    writeSync(this.fd, record, 0, record.length, 0);
  }

  close(): void {
    closeSync(this.fd);
  }
}

/**
 * An observer in a process of its own. While a server runs its file counts. When none does, nothing is written: all that
 * the logs have is final, as far as it is whole. A server that starts in between writes the file anew, so a look at the
 * logs counts only if the file is the same before and after it.
 */
export class PublishedWatermark implements WatermarkSource {
  private record: Buffer | null = null;
  private lockCheckedMs = Number.NEGATIVE_INFINITY;
  private state: DurableState = { watermark: 0, ends: [] };
  private isAtRest = false;

  constructor(
    private readonly dataDir: string,
    private readonly shards: number,
  ) {}

  async read(): Promise<DurableState> {
    const record = this.readRecord();
    if (this.record === null || !record.equals(this.record)) {
      const published = decodeRecord(record, this.shards);
      this.record = record;
      this.isAtRest = false;
      if (published !== null) this.state = published;
    }
    const nowMs = performance.now();
    if (!this.isAtRest && nowMs - this.lockCheckedMs >= LOCK_CHECK_MS) {
      this.lockCheckedMs = nowMs;
      if (await this.mayBeAtRest()) await this.readLogs(record);
    }
    return this.state;
  }

  private async mayBeAtRest(): Promise<boolean> {
    // A server whose lock can't be seen from here (in another container, say) would have written lately.
    const writtenMs = statSync(join(this.dataDir, FILE_NAME), { throwIfNoEntry: false })?.mtimeMs ?? 0;
    return Date.now() - writtenMs >= SILENCE_MS && !(await isDataDirectoryInUse(this.dataDir));
  }

  private async readLogs(record: Buffer): Promise<void> {
    const ends: LogPosition[] = [];
    let watermark = 0;
    for (let shard = 0; shard < this.shards; shard++) {
      const { end, seq } = await intactEnd(join(shardDirectory(this.dataDir, shard), 'log'));
      ends.push(end);
      watermark = Math.max(watermark, seq);
    }
    if ((await isDataDirectoryInUse(this.dataDir)) || !this.readRecord().equals(record)) return;
    this.isAtRest = true;
    this.state = { watermark, ends };
  }

  private readRecord(): Buffer {
    try {
      return readFileSync(join(this.dataDir, FILE_NAME));
    } catch (error) {
      if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return Buffer.alloc(0);
      throw error;
    }
  }
}

/** The last whole operation of a log: where it ends, and its number; 0 when there is none. */
interface IntactEnd {
  readonly end: LogPosition;
  readonly seq: number;
}

/**
 * A start of the server keeps everything up to there. Only the last segment is read, and one before it where the last has
 * no event yet: those before were synced whole.
 */
async function intactEnd(logDir: string): Promise<IntactEnd> {
  const [last, ...earlier] = listSegments(realDisk, logDir).reverse();
  if (last === undefined) return { end: logPosition(1, 0), seq: 0 };
  const { end, seq } = await intactEndOf(logDir, last);
  for (const segment of seq > 0 ? [] : earlier) {
    const before = await intactEndOf(logDir, segment);
    if (before.seq > 0) return { end, seq: before.seq };
  }
  return { end, seq };
}

async function intactEndOf(logDir: string, segment: number): Promise<IntactEnd> {
  let end = logPosition(segment, 0);
  let seq = 0;
  const file = await openSegment(realDisk, logDir, segment);
  try {
    let isWithinGroup = false;
    let lastSeq = 0;
    for await (const line of scanSegment(file, segment, 0)) {
      if (line.kind === 'torn') break;
      if (line.kind === 'event') {
        isWithinGroup = line.event.more === true;
        lastSeq = line.event.seq;
      }
      if (isWithinGroup) continue;
      end = line.position + line.bytes;
      seq = lastSeq;
    }
  } finally {
    await file.close();
  }
  return { end, seq };
}

function isSame(a: DurableState, b: DurableState): boolean {
  return a.watermark === b.watermark && a.ends.every((end, shard) => end === b.ends[shard]);
}
