import { Buffer } from 'node:buffer';
import { dirname, join } from 'node:path';
import type { TransparencyEntry } from '../contract/redaction.js';
import type { Disk, LogFile } from './disk.js';

/**
 * Transparency log: what was removed by law, and why; `transparency.ndjson` in the data directory, one entry a line.
 * Owns:      the file, as its only writer; memory for one entry for each removal.
 * Never:     changes or takes back an entry.
 * Invariant: an entry that `append` has promised is on the disk; what a crash leaves of another is cut off at the start.
 */
const NEWLINE = 0x0a;

export function transparencyPath(dataDir: string): string {
  return join(dataDir, 'transparency.ndjson');
}

export class TransparencyLog {
  private readonly disk: Disk;
  private readonly path: string;
  private readonly list: TransparencyEntry[];
  private sizeBytes: number;

  private constructor(disk: Disk, path: string, list: TransparencyEntry[], sizeBytes: number) {
    this.disk = disk;
    this.path = path;
    this.list = list;
    this.sizeBytes = sizeBytes;
  }

  /** @throws Error with one clear line when an entry before the last is not what was written. */
  static async open(disk: Disk, dataDir: string): Promise<TransparencyLog> {
    const path = transparencyPath(dataDir);
    if (!disk.list(dataDir).includes('transparency.ndjson')) return new TransparencyLog(disk, path, [], 0);
    const file = disk.openFile(path);
    try {
      const bytes = await file.read(0, file.size());
      const { entries, wholeBytes } = parse(bytes, path);
      if (wholeBytes < bytes.length) {
        file.truncate(wholeBytes);
        await file.sync();
      }
      return new TransparencyLog(disk, path, entries, wholeBytes);
    } finally {
      await file.close();
    }
  }

  /** Oldest first. */
  get entries(): readonly TransparencyEntry[] {
    return this.list;
  }

  /** Durable on return. Rejects with the system's error; the log is then as it was. One call at a time. */
  async append(entry: TransparencyEntry): Promise<void> {
    const line = Buffer.from(`${JSON.stringify(entry)}\n`, 'utf8');
    const file = this.disk.openFile(this.path);
    try {
      await this.write(file, line);
    } finally {
      await file.close();
    }
    this.sizeBytes += line.length;
    this.list.push(entry);
  }

  private async write(file: LogFile, line: Buffer): Promise<void> {
    try {
      for (let written = 0; written < line.length; ) {
        written += file.write(line.subarray(written), this.sizeBytes + written);
      }
      await file.sync();
      await this.disk.syncDirectory(dirname(this.path));
    } catch (error) {
      file.truncate(this.sizeBytes);
      throw error;
    }
  }
}

function parse(bytes: Buffer, path: string): { entries: TransparencyEntry[]; wholeBytes: number } {
  const entries: TransparencyEntry[] = [];
  let wholeBytes = 0;
  for (;;) {
    const end = bytes.indexOf(NEWLINE, wholeBytes);
    if (end < 0) return { entries, wholeBytes };
    try {
      entries.push(JSON.parse(bytes.toString('utf8', wholeBytes, end)) as TransparencyEntry);
    } catch {
      const isLast = bytes.indexOf(NEWLINE, end + 1) < 0;
      if (isLast) return { entries, wholeBytes };
      throw new Error(`${path} is damaged at byte ${wholeBytes}; restore it from a backup`);
    }
    wholeBytes = end + 1;
  }
}
