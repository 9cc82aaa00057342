import { Buffer } from 'node:buffer';
import {
  close,
  constants,
  fdatasync,
  fdatasyncSync,
  fstatSync,
  fsync,
  ftruncateSync,
  open,
  openSync,
  read,
  readdirSync,
  statfsSync,
  write,
  writeSync,
} from 'node:fs';
import { promisify } from 'node:util';

/**
 * The little of a file system that the event log uses, so that tests can put a faulty disk under it: one that forgets
 * unsynced bytes, tears the last write, or fails at the n-th call.
 */
export interface ReadableFile {
  /** Its size now. */
  size(): number;
  /** Up to `bytes` bytes from `positionBytes`; fewer at the end of the file. */
  read(positionBytes: number, bytes: number): Promise<Buffer>;
  close(): Promise<void>;
}

export interface LogFile extends ReadableFile {
  /** Writes at the end as far as the system takes it; returns the bytes taken. Synchronous: a copy to the page cache. */
  write(bytes: Uint8Array, positionBytes: number): number;
  /** Writes zeros from one offset up to another, in the background; what it did when it fails is unknown. */
  fillZeros(fromBytes: number, toBytes: number): Promise<void>;
  /** Resolves when all that was written is on the disk. A failure is final: never call it again. */
  sync(): Promise<void>;
  /** As `sync`, while this thread waits: without two changes of thread, but nothing else happens meanwhile. */
  syncNow?(): void;
  /** Cuts the file off at `sizeBytes`. */
  truncate(sizeBytes: number): void;
}

export interface Disk {
  /** Opens for reading and writing; creates the file if it is not there. */
  openFile(path: string): LogFile;
  /** Opens for reading only. Throws an error with `code: 'ENOENT'` when there is no such file. */
  openToRead(path: string): ReadableFile;
  /** Makes the names in a directory durable. */
  syncDirectory(path: string): Promise<void>;
  list(path: string): string[];
  /** What may still be written to the disk that holds `path`; a disk that does not say is never full beforehand. */
  availableBytes?(path: string): number;
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

  /** 'a+' would append wherever the position argument says; the writer passes exact positions instead. */
  constructor(path: string, flags = O_READ_WRITE_CREATE) {
    this.fd = openSync(path, flags, 0o644);
  }

  size(): number {
    return fstatSync(this.fd).size;
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

  syncNow(): void {
    fdatasyncSync(this.fd);
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
  openToRead: (path) => new RealFile(path, constants.O_RDONLY),
  async syncDirectory(path) {
    const fd = await openAsync(path, 'r');
    try {
      await fsyncAsync(fd);
    } finally {
      await closeAsync(fd);
    }
  },
  list: (path) => readdirSync(path),
  availableBytes(path) {
    const { bavail, bsize } = statfsSync(path);
    return bavail * bsize;
  },
};
