/**
 * One shard on a faulty disk (its log) and a fresh directory (its LMDB view), driven as a gateway thread drives it,
 * without the thread.
 */
import assert from 'node:assert/strict';
import { cpSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import type { MessagePort } from 'node:worker_threads';
import pino, { type Logger } from 'pino';
import type { NewCredential } from '../../src/contract/engine.js';
import type { ApiErrorCode } from '../../src/contract/errors.js';
import { createVersionMemory, KeyVersions } from '../../src/shards/key-versions.js';
import type { LoggedEvent } from '../../src/shards/log-line.js';
import { scanLog } from '../../src/shards/log-reader.js';
import { logPosition } from '../../src/shards/segments.js';
import type { EngineSettings } from '../../src/shards/settings.js';
import { Shard } from '../../src/shards/shard.js';
import { createCounterMemory, SharedCounters } from '../../src/shards/shared-counters.js';
import { OPS, type Op, Outbox, STRIDE, type WireBatch } from '../../src/shards/wire.js';
import { FaultyDisk } from '../support/faulty-disk.js';
import { makeTempDir, removeTempDir } from '../support/temp-dir.js';
import { waitUntil } from '../support/wait.js';

export const SETTINGS: EngineSettings = {
  maxCapacityBytes: 1_000_000,
  maxQueuePerAgent: 100,
  maxQueuedBytes: 10_000_000,
  overflow: 'drop_oldest',
  maxSegmentBytes: 1_000_000,
  durability: 'fsync',
  flushIntervalMs: 5,
  logLevel: 'fatal',
};

export type Call = readonly [op: Op, a: unknown, b?: unknown, c?: unknown];

export interface Reply {
  readonly code: ApiErrorCode | null;
  readonly x: unknown;
  readonly y: unknown;
  readonly z: unknown;
}

/** A logger that keeps what is logged from `warn` on. */
export function recordingLogger(): { logger: Logger; lines: Record<string, unknown>[] } {
  const lines: Record<string, unknown>[] = [];
  const write = (line: string): void => {
    lines.push(JSON.parse(line) as Record<string, unknown>);
  };
  return { logger: pino({ level: 'warn' }, { write }), lines };
}

export interface RigOptions {
  readonly settings?: Partial<EngineSettings>;
  readonly disk?: FaultyDisk;
  readonly directory?: string;
  /** Answers arrive within the call that sends them; otherwise a turn later, as from a real port. */
  readonly synchronousPort?: boolean;
  /** Instead of one whose lines are kept in `log`. */
  readonly logger?: Logger;
  /** Instead of fresh ones. */
  readonly versions?: KeyVersions;
}

export class ShardRig {
  /** Everything answered so far. */
  readonly replies: Reply[] = [];
  private readonly waiting = new Map<number, (reply: Reply) => void>();
  private nextId = 0;
  private readonly outbox: Outbox;

  private constructor(
    readonly shard: Shard,
    readonly disk: FaultyDisk,
    readonly directory: string,
    readonly counters: SharedCounters,
    readonly log: Record<string, unknown>[],
    readonly broken: Error[],
    synchronousPort: boolean,
  ) {
    const port = {
      postMessage: (batch: WireBatch): void => {
        if (synchronousPort) this.receive(batch);
        else setImmediate(() => this.receive(batch));
      },
    };
    this.outbox = new Outbox(port as unknown as MessagePort);
    shard.attach(this.outbox);
  }

  static async open(options: RigOptions = {}): Promise<ShardRig> {
    const { settings = {}, disk = new FaultyDisk(), directory, synchronousPort = false } = options;
    const place = directory ?? (await makeTempDir());
    const counters = new SharedCounters(createCounterMemory(1));
    const { logger, lines } = options.logger === undefined ? recordingLogger() : { logger: options.logger, lines: [] };
    const broken: Error[] = [];
    const shard = await Shard.open({
      shard: 0,
      directory: place,
      disk,
      counters,
      versions: options.versions ?? new KeyVersions(createVersionMemory(1)),
      settings: { ...SETTINGS, ...settings },
      logger,
      onBroken: (error) => broken.push(error),
    });
    return new ShardRig(shard, disk, place, counters, lines, broken, synchronousPort);
  }

  /** One message of a gateway: all calls of one loop turn. */
  batch(calls: readonly Call[]): Promise<Reply>[] {
    const wire: WireBatch = [];
    const replies = calls.map(([op, a, b = null, c = null]) => {
      const id = this.nextId++;
      wire.push(op, id, a, b, c);
      return new Promise<Reply>((resolve) => this.waiting.set(id, resolve));
    });
    this.shard.handle(wire, this.outbox);
    return replies;
  }

  call(...call: Call): Promise<Reply> {
    return this.batch([call])[0] as Promise<Reply>;
  }

  async code(...call: Call): Promise<ApiErrorCode | null> {
    return (await this.call(...call)).code;
  }

  write(key: string, value: string): Promise<Reply> {
    return this.call(OPS.writeState, 'tab_writer', key, value);
  }

  /** The value, or null when there is none. */
  async value(key: string): Promise<unknown> {
    const { code, x } = await this.call(OPS.readState, 'tab_reader', key);
    assert.ok(code === null || code === 'not_found', `read of ${key}: ${code}`);
    return code === null ? x : null;
  }

  async registerAgent(address: string): Promise<void> {
    const { code } = await this.call(OPS.registerAgent, newAgent(address), address);
    assert.equal(code, null);
  }

  /** Makes a checkpoint due, as time does. */
  checkpointSoon(): void {
    (this.shard as unknown as { checkpoints: { soon(): void } }).checkpoints.soon();
  }

  get unanswered(): number {
    return this.waiting.size;
  }

  get logPath(): string {
    return this.disk.paths.at(-1) as string;
  }

  /** Every event in the log as a running process sees it. Fails on a torn or damaged line. */
  async events(disk: FaultyDisk = this.disk): Promise<LoggedEvent[]> {
    const events: LoggedEvent[] = [];
    for await (const line of scanLog(disk.copy(), join(this.directory, 'log'), logPosition(1, 0))) {
      if (line.kind !== 'event') assert.fail(JSON.stringify(line));
      events.push(line.event);
    }
    return events;
  }

  heldSync(count = 1): Promise<void> {
    return waitUntil(() => this.disk.heldSyncs >= count, { timeoutMs: 5_000, what: `${count} syncs under way` });
  }

  /**
   * Power loss, and on again: the shard is given up without another checkpoint, and opened from what is left.
   * `choose` decides what of the unsynced bytes survives; by default nothing.
   */
  async powerLoss(
    choose: (most: number) => number = () => 0,
    settings: Partial<EngineSettings> = {},
  ): Promise<ShardRig> {
    this.disk.powerLoss(choose);
    await this.abandon();
    this.disk.powerOn();
    return ShardRig.open({ disk: this.disk, directory: this.directory, settings });
  }

  /** kill -9, and on again: all bytes handed to the system are there. */
  async kill(settings: Partial<EngineSettings> = {}): Promise<ShardRig> {
    const disk = this.disk.copy();
    this.disk.powerLoss(() => 0);
    await this.abandon();
    return ShardRig.open({ disk, directory: this.directory, settings });
  }

  /** Graceful stop, and on again. */
  async restart(settings: Partial<EngineSettings> = {}): Promise<ShardRig> {
    await this.shard.close();
    return ShardRig.open({ disk: this.disk, directory: this.directory, settings });
  }

  /** Lets go of LMDB without a last checkpoint: a shard that can't write does not make one. */
  private async abandon(): Promise<void> {
    await this.write('abandoned', '');
    await waitUntil(() => this.shard.state === 'read-only', { timeoutMs: 5_000, what: 'the shard sees its dead disk' });
    await this.shard.close();
  }

  async end(): Promise<void> {
    this.disk.stopHolding();
    await this.shard.close();
    await removeTempDir(this.directory);
    assert.deepEqual(this.disk.misuses, []);
  }

  private receive(batch: WireBatch): void {
    for (let i = 0; i < batch.length; i += STRIDE) {
      const id = batch[i] as number;
      const resolve = this.waiting.get(id);
      assert.ok(resolve !== undefined, `request ${id} was answered twice`);
      this.waiting.delete(id);
      const reply: Reply = {
        code: batch[i + 1] as ApiErrorCode | null,
        x: batch[i + 2],
        y: batch[i + 3],
        z: batch[i + 4],
      };
      this.replies.push(reply);
      resolve(reply);
    }
  }
}

export function credentialFor(subject: string): NewCredential {
  return { lookup: `lookup-${subject}`, scheme: 'hmac', hash: `hash-${subject}` };
}

export function newAgent(address: string): unknown {
  return { operatorId: 'operator-1', credential: credentialFor(address), webhook: null };
}

/** A copy of a store's file as it is now; only while no checkpoint runs. */
export function copyStore(from: string, to: string): void {
  mkdirSync(to, { recursive: true });
  cpSync(join(from, 'store.mdb'), join(to, 'store.mdb'));
}
