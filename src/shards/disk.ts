import { Buffer } from 'node:buffer';
import {
  close,
  constants,
  fdatasync,
  fsync,
  ftruncateSync,
  open,
  openSync,
  read,
  readdirSync,
  write,
  writeSync,
} from 'node:fs';
import { promisify } from 'node:util';

/**
 * The little of a file system that the event log uses, so that tests can put a faulty disk under it: one that forgets
 * unsynced bytes, tears the last write, or fails at the n-th call.
 */
export interface LogFile {
  /** Writes at the end as far as the system takes it; returns the bytes taken. Synchronous: a copy to the page cache. */
  write(bytes: Uint8Array, positionBytes: number): number;
  /** Writes zeros from one offset up to another, in the background; what it did when it fails is unknown. */
  fillZeros(fromBytes: number, toBytes: number): Promise<void>;
  /** Resolves when all that was written is on the disk. A failure is final: never call it again. */
  sync(): Promise<void>;
  /** Cuts the file off at `sizeBytes`. */
  truncate(sizeBytes: number): void;
  /** Up to `bytes` bytes from `positionBytes`; fewer at the end of the file. */
  read(positionBytes: number, bytes: number): Promise<Buffer>;
  close(): Promise<void>;
}

export interface Disk {
  /** Opens for reading and writing; creates the file if it is not there. */
  openFile(path: string): LogFile;
  /** Makes the names in a directory durable. */
  syncDirectory(path: string): Promise<void>;
  list(path: string): string[];
}

const fdatasyncAsync = promisify(fdatasync);
const fsyncAsync = promisify(fsync);
const openAsync = promisify(open);
const closeAsync = promisify(close);
const readAsync = promisify(read);
const writeAsync = promisify(write);
const ZEROS = Buffer.alloc(256 * 1024);

const O_READ_WRITE_CREATE = constants.O_RDWR | constants.O_CREAT;

class RealFile implements LogFile {
  private readonly fd: number;

  constructor(path: string) {
    // 'a+' would append wherever the position argument says; the writer passes exact positions instead.
    this.fd = openSync(path, O_READ_WRITE_CREATE, 0o644);
  }

  write(bytes: Uint8Array, positionBytes: number): number {
    return writeSync(this.fd, bytes, 0, bytes.length, positionBytes);
  }

  async fillZeros(fromBytes: number, toBytes: number): Promise<void> {
    for (let position = fromBytes; position < toBytes; ) {
      const bytes = Math.min(ZEROS.length, toBytes - position);
      const { bytesWritten } = await writeAsync(this.fd, ZEROS, 0, bytes, position);
      position += bytesWritten;
    }
  }

  async sync(): Promise<void> {
    await fdatasyncAsync(this.fd);
  }

  truncate(sizeBytes: number): void {
    ftruncateSync(this.fd, sizeBytes);
  }

  async read(positionBytes: number, bytes: number): Promise<Buffer> {
    const buffer = Buffer.allocUnsafe(bytes);
    let filled = 0;
    while (filled < bytes) {
      const { bytesRead } = await readAsync(this.fd, buffer, filled, bytes - filled, positionBytes + filled);
      if (bytesRead === 0) break;
      filled += bytesRead;
    }
    return buffer.subarray(0, filled);
  }

  async close(): Promise<void> {
    await closeAsync(this.fd);
  }
}

export const realDisk: Disk = {
  openFile: (path) => new RealFile(path),
  async syncDirectory(path) {
    const fd = await openAsync(path, 'r');
    try {
      await fsyncAsync(fd);
    } finally {
      await closeAsync(fd);
    }
  },
  list: (path) => readdirSync(path),
};
