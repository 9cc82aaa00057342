/**
 * A disk in memory, under the event log, that fails the way disks do and processes can't be made to: it forgets what
 * was not synced when power is lost, tears the last write, flips bits, runs out of room, and answers calls with errors.
 * Owns:  the bytes of all files, in two states: live (what a running process reads) and durable (what power loss leaves).
 * Never: decides by itself that something fails; every fault is asked for by a test.
 *
 * What it holds the log to: a failed sync is not repeated, and a closed file is not used. Violations are in `misuses`.
 *
 * A failed sync does what Linux does: the bytes it was for still read back, count as clean from then on, and are not on
 * the disk; only writing them again would bring them there. Every other handle of the file hears of the failure once.
 */
import { dirname, relative } from 'node:path';
import type { Disk, LogFile, ReadableFile } from '../../src/shards/disk.js';
import { type Change, contentAfter, DiskContent, pagesOf, tornAfter, withoutZeros } from './disk-content.js';

export type DiskCall = 'open' | 'write' | 'sync' | 'truncate' | 'read' | 'syncDirectory';
export type DiskErrorCode = 'EIO' | 'ENOSPC' | 'EDQUOT';

/** More changes than this are not kept beside the durable bytes. */
const MAX_SYNCED_CHANGES = 256;

class StoredFile {
  live: DiskContent;
  unsynced: Change[] = [];
  /** Syncs that failed so far; each open handle must hear of them. */
  failedSyncs = 0;
  private durableBytes: Buffer;
  /** Made durable after `durableBytes`: put together when somebody asks, as most are replaced before that. */
  private synced: Change[] = [];

  /** @param nameIsDurable the directory has been synced since the file was made */
  constructor(
    bytes: Buffer,
    public nameIsDurable: boolean,
  ) {
    this.live = new DiskContent(bytes);
    this.durableBytes = bytes;
  }

  change(change: Change): void {
    this.live.apply(change);
    this.unsynced.push(change);
  }

  /** Up to `last`; none when another sync has dealt with it already. */
  makeDurable(last: Change | undefined): void {
    this.synced.push(...takeUpTo(this.unsynced, last));
    if (this.synced.length > MAX_SYNCED_CHANGES) this.durable();
  }

  /** What power loss leaves. */
  durable(): Buffer {
    this.durableBytes = contentAfter(this.durableBytes, this.synced);
    this.synced = [];
    return this.durableBytes;
  }

  /** All of it durable. */
  become(bytes: Buffer): void {
    this.live = new DiskContent(bytes);
    this.durableBytes = bytes;
    this.synced = [];
    this.unsynced = [];
  }
}

interface HeldSync {
  finish(): void;
  fail(code: DiskErrorCode): void;
}

interface PlannedFault {
  readonly call: DiskCall;
  /** Calls of this kind that still succeed. */
  callsLeft: number;
  readonly code: DiskErrorCode;
}

export class DiskError extends Error {
  constructor(
    readonly code: string,
    call: string,
    path: string,
  ) {
    super(`${code}: simulated, ${call} '${path}'`);
    this.name = 'DiskError';
  }
}

export class FaultyDisk implements Disk {
  readonly files = new Map<string, StoredFile>();
  /** What the log must never do. */
  readonly misuses: string[] = [];
  /** How often each call was made. */
  readonly calls: Record<DiskCall, number> = { open: 0, write: 0, sync: 0, truncate: 0, read: 0, syncDirectory: 0 };
  /** All files together may hold this many live bytes; a write takes what fits, then fails with ENOSPC. */
  roomBytes = Number.POSITIVE_INFINITY;
  /** Called before each call; may throw, or end the power, in its name. */
  beforeCall: ((call: DiskCall, path: string) => void) | null = null;
  /** Takes zeros ahead of the log; refuses them otherwise, so that every write needs room of its own. */
  canFill = false;
  /** What a process that asks is told; a full disk comes as a surprise otherwise. */
  toldAvailableBytes = Number.POSITIVE_INFINITY;
  /** Files opened from now on also offer a sync that waits in place. */
  canSyncAtOnce = false;
  /** How long that one holds up its thread. */
  syncAtOnceMs = 0;
  /** A write takes at most this many bytes at once. */
  maxWriteBytes = Number.POSITIVE_INFINITY;
  /** Rises with every power loss; handles of an earlier life are dead. */
  life = 0;
  private readonly faults: PlannedFault[] = [];
  private isOff = false;
  private holding = false;
  private held: HeldSync[] = [];

  /** The call of this kind after `skip` more fails with `code`, once. */
  failNext(call: DiskCall, code: DiskErrorCode, skip = 0): void {
    this.faults.push({ call, callsLeft: skip, code });
  }

  /** Faults that no call has met yet. */
  get faultsAhead(): number {
    return this.faults.length;
  }

  /** From now on a sync waits for `finishSync` or `failSync`. */
  holdSyncs(): void {
    this.holding = true;
  }

  get heldSyncs(): number {
    return this.held.length;
  }

  /** Lets the oldest held sync succeed. */
  finishSync(): void {
    const sync = this.held.shift();
    if (sync === undefined) throw new Error('no sync is held');
    sync.finish();
  }

  failSync(code: DiskErrorCode = 'EIO'): void {
    const sync = this.held.shift();
    if (sync === undefined) throw new Error('no sync is held');
    sync.fail(code);
  }

  /** Lets all held syncs succeed, and all later ones at once. */
  stopHolding(): void {
    this.holding = false;
    while (this.held.length > 0) this.finishSync();
  }

  /**
   * The power goes; every call fails until `powerOn`. `choose`, asked for a number in 0..n, decides what of each file's
   * unsynced changes survives:
   *   `suffix lost`  the first so many changes, the last write of them torn at some byte
   *   `pages lost`   any of the pages written, in any combination; the others are as they were before
   * Files without a synced name go.
   */
  powerLoss(choose: (most: number) => number, how: 'suffix lost' | 'pages lost' = 'suffix lost'): void {
    this.life += 1;
    this.isOff = true;
    const held = this.held;
    this.held = [];
    for (const sync of held) sync.fail('EIO');
    for (const [path, file] of this.files) {
      if (!file.nameIsDurable) {
        this.files.delete(path);
        continue;
      }
      const survivors =
        how === 'pages lost'
          ? file.unsynced.flatMap(pagesOf).filter(() => choose(1) === 1)
          : tornAfter(file.unsynced, choose);
      file.become(contentAfter(file.durable(), survivors));
    }
  }

  powerOn(): void {
    this.isOff = false;
  }

  /** Turns one bit over, on the platter. */
  flipBit(path: string, offsetBytes: number, bit: number): void {
    this.overwrite(path, (bytes) => {
      bytes[offsetBytes] = (bytes[offsetBytes] as number) ^ (1 << bit);
      return bytes;
    });
  }

  /** Replaces a file's content, live and durable. */
  overwrite(path: string, change: (bytes: Buffer) => Buffer): void {
    const file = this.file(path);
    file.become(change(file.live.slice(0, file.live.length)));
  }

  /** Without the zeros at its end, which were filled in ahead of the log. */
  live(path: string): Buffer {
    return withoutZeros(this.file(path).live.snapshot());
  }

  durable(path: string): Buffer {
    return withoutZeros(this.file(path).durable());
  }

  /** Paths of all files, in order. */
  get paths(): string[] {
    return [...this.files.keys()].sort();
  }

  /** Another disk with the same files, as a running process sees them: all of it durable. */
  copy(): FaultyDisk {
    const copy = new FaultyDisk();
    for (const [path, { live }] of this.files) copy.files.set(path, new StoredFile(live.snapshot(), true));
    return copy;
  }

  openFile(path: string): LogFile {
    this.count('open', path);
    let file = this.files.get(path);
    if (file === undefined) {
      file = new StoredFile(Buffer.alloc(0), false);
      this.files.set(path, file);
    }
    return new FaultyFile(this, path, file);
  }

  openToRead(path: string): ReadableFile {
    this.count('open', path);
    const file = this.files.get(path);
    if (file === undefined) throw new DiskError('ENOENT', 'open', path);
    return new FaultyFile(this, path, file);
  }

  async syncDirectory(path: string): Promise<void> {
    this.count('syncDirectory', path);
    for (const [name, file] of this.files) if (dirname(name) === path) file.nameIsDurable = true;
  }

  list(path: string): string[] {
    return this.paths.filter((name) => dirname(name) === path).map((name) => relative(path, name));
  }

  availableBytes(): number {
    return this.toldAvailableBytes;
  }

  /** Bytes that still fit. */
  freeBytes(): number {
    let used = 0;
    for (const { live } of this.files.values()) used += live.length;
    return Math.max(0, this.roomBytes - used);
  }

  /** Counts a call, and fails it if it is its turn. */
  count(call: DiskCall, path: string): void {
    this.calls[call] += 1;
    this.beforeCall?.(call, path);
    if (this.isOff) throw new DiskError('EIO', call, path);
    const fault = this.faults.find((each) => each.call === call);
    if (fault === undefined) return;
    if (fault.callsLeft > 0) {
      fault.callsLeft -= 1;
      return;
    }
    this.faults.splice(this.faults.indexOf(fault), 1);
    throw new DiskError(fault.code, call, path);
  }

  /** Settles when a sync may end. Never in the same turn, as on a real disk. */
  syncTurn(path: string): Promise<void> {
    return new Promise((resolve, reject) => {
      const sync: HeldSync = {
        finish: () => setImmediate(resolve),
        fail: (code) => setImmediate(() => reject(new DiskError(code, 'sync', path))),
      };
      if (this.holding) this.held.push(sync);
      else sync.finish();
    });
  }

  private file(path: string): StoredFile {
    const file = this.files.get(path);
    if (file === undefined) throw new Error(`no file ${path}; there are: ${this.paths.join(', ')}`);
    return file;
  }
}

const NEVER_WOKEN = new Int32Array(new SharedArrayBuffer(4));

class FaultyFile implements LogFile {
  private readonly life: number;
  private closed = false;
  private syncFailed = false;
  private heardOfFailures: number;
  readonly syncNow?: () => void;

  constructor(
    private readonly disk: FaultyDisk,
    private readonly path: string,
    private readonly file: StoredFile,
  ) {
    this.life = disk.life;
    this.heardOfFailures = file.failedSyncs;
    if (disk.canSyncAtOnce) this.syncNow = () => this.syncAtOnce();
  }

  write(bytes: Uint8Array, positionBytes: number): number {
    this.begin('write');
    const allocatedBytes = Math.max(0, this.file.live.length - positionBytes);
    const taken = Math.min(bytes.length, this.disk.maxWriteBytes, allocatedBytes + this.disk.freeBytes());
    if (taken === 0 && bytes.length > 0) throw new DiskError('ENOSPC', 'write', this.path);
    this.file.change({ kind: 'write', positionBytes, bytes: Buffer.from(bytes.subarray(0, taken)) });
    return taken;
  }

  async fillZeros(fromBytes: number, toBytes: number): Promise<void> {
    if (!this.disk.canFill) throw new DiskError('ENOSPC', 'fill', this.path);
    await this.disk.syncTurn(this.path);
    this.begin('write');
    this.file.change({ kind: 'write', positionBytes: fromBytes, bytes: Buffer.alloc(toBytes - fromBytes) });
  }

  async sync(): Promise<void> {
    const last = this.file.unsynced.at(-1);
    try {
      this.beginSync();
      await this.disk.syncTurn(this.path);
      this.endSync(last);
    } catch (error) {
      this.failSync(last);
      throw error;
    }
  }

  private syncAtOnce(): void {
    const last = this.file.unsynced.at(-1);
    try {
      this.beginSync();
      if (this.disk.syncAtOnceMs > 0) Atomics.wait(NEVER_WOKEN, 0, 0, this.disk.syncAtOnceMs);
      this.endSync(last);
    } catch (error) {
      this.failSync(last);
      throw error;
    }
  }

  private beginSync(): void {
    if (this.syncFailed) this.disk.misuses.push(`sync of ${this.path} after it had failed`);
    this.begin('sync');
  }

  /** @param last change that the sync was for */
  private endSync(last: Change | undefined): void {
    const { file } = this;
    if (this.life !== this.disk.life || this.heardOfFailures < file.failedSyncs) {
      throw new DiskError('EIO', 'sync', this.path);
    }
    file.makeDurable(last);
  }

  private failSync(last: Change | undefined): void {
    if (this.life !== this.disk.life) return;
    const { file } = this;
    this.syncFailed = true;
    if (this.heardOfFailures === file.failedSyncs) file.failedSyncs += 1;
    this.heardOfFailures = file.failedSyncs;
    takeUpTo(file.unsynced, last);
  }

  truncate(sizeBytes: number): void {
    // A process whose power is off does nothing any more, and must still be able to end.
    if (this.life !== this.disk.life) return;
    this.begin('truncate');
    this.file.change({ kind: 'truncate', sizeBytes });
  }

  size(): number {
    return this.file.live.length;
  }

  async read(positionBytes: number, bytes: number): Promise<Buffer> {
    this.begin('read');
    return this.file.live.slice(positionBytes, positionBytes + bytes);
  }

  async close(): Promise<void> {
    if (this.closed) this.disk.misuses.push(`${this.path} closed twice`);
    this.closed = true;
  }

  private begin(call: DiskCall): void {
    if (this.closed) {
      this.disk.misuses.push(`${call} of ${this.path} after it was closed`);
      throw new DiskError('EBADF', call, this.path);
    }
    if (this.life !== this.disk.life) throw new DiskError('EIO', call, this.path);
    this.disk.count(call, this.path);
    // The hook may have ended the power.
    if (this.life !== this.disk.life) throw new DiskError('EIO', call, this.path);
  }
}

/** Takes the changes up to `last` away; none when another sync has dealt with it already. */
function takeUpTo(changes: Change[], last: Change | undefined): Change[] {
  return last === undefined ? [] : changes.splice(0, changes.indexOf(last) + 1);
}
