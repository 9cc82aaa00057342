import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import type { NewAgent, NewOperator, StoredChallenge } from '../contract/engine.js';
import type { Logger } from '../log.js';
import { ByLaw, isByLaw } from './by-law.js';
import { Challenges } from './challenges.js';
import { Checkpoints } from './checkpoints.js';
import type { Disk } from './disk.js';
import { GroupCommit } from './group-commit.js';
import type { KeyVersions } from './key-versions.js';
import { type EventBody, eventBody, stateReadBody } from './log-line.js';
import { LineReader } from './log-reader.js';
import type { LogWriter } from './log-writer.js';
import { Messaging, type WireWait } from './messaging.js';
import { type RecoveryReport, recover } from './recovery.js';
import { Registrations } from './registrations.js';
import { finishPlan, type RemovalPlan } from './removal-plan.js';
import type { EngineSettings } from './settings.js';
import { ShardRemoval } from './shard-removal.js';
import type { SharedCounters } from './shared-counters.js';
import { SpaceGuard } from './space-guard.js';
import { StagedState } from './state-operations.js';
import { Store } from './store.js';
import { ORDER_KEY_PATTERN } from './store-keys.js';
import { View } from './view.js';
import { DurableMark } from './watermark.js';
import { OPS, type Op, type Outbox, ReplyTo, STRIDE, type WireBatch } from './wire.js';

/**
 * Shard: everything that belongs to the keys and agents hashed to it, in one thread.
 * Owns:      its event log, its view of it, its queues and challenges.
 * Never:     touches a socket, reads config, sees another shard, or answers a mutation before it is durable.
 * Failure:   any I/O error but a full disk makes it read-only; only reopening from disk repairs it.
 */
export type ShardState = 'serving' | 'read-only' | 'draining' | 'closed';

const NEXT_STATES: Readonly<Record<ShardState, readonly ShardState[]>> = {
  serving: ['read-only', 'draining'],
  'read-only': ['draining', 'closed'],
  draining: ['read-only', 'closed'],
  closed: [],
};

const CHECKPOINT_INTERVAL_MS = 1_000;

export interface ShardOptions {
  readonly shard: number;
  /** `data/shard-NN`; made if missing. */
  readonly directory: string;
  readonly disk: Disk;
  readonly counters: SharedCounters;
  readonly versions: KeyVersions;
  readonly settings: EngineSettings;
  readonly logger: Logger;
  /** The shard can only read from now on; somebody should reopen it. `outOfSpace`: nothing else is wrong with the disk. */
  onBroken(error: Error, outOfSpace: boolean): void;
}

export class Shard {
  private readonly options: ShardOptions;
  private readonly store: Store;
  private readonly view: View;
  private readonly log: LogWriter;
  private readonly reader: LineReader;
  private readonly commit: GroupCommit;
  private readonly stagedState: StagedState;
  private readonly messaging: Messaging;
  private readonly registrations: Registrations;
  private readonly checkpoints: Checkpoints;
  private readonly challenges = new Challenges();
  private readonly outboxes = new Set<Outbox>();
  private readonly checkpointTimer: NodeJS.Timeout;
  private readonly space: SpaceGuard;
  private readonly byLaw: ByLaw;
  private unloggedReads: number;
  /** Operations that wait for the disk before they can be staged. */
  private readonly underWay = new Set<Promise<void>>();
  private lifecycle: ShardState = 'serving';
  readonly recovery: RecoveryReport;

  /** Recovers the shard from its directory. Cost: the log behind the last checkpoint. */
  static async open(options: ShardOptions): Promise<Shard> {
    const logDir = join(options.directory, 'log');
    mkdirSync(logDir, { recursive: true });
    await options.disk.syncDirectory(options.directory);
    const store = new Store(join(options.directory, 'store.mdb'));
    try {
      return await Shard.openOn(store, logDir, options);
    } catch (error) {
      await store.close();
      throw error;
    }
  }

  private static async openOn(store: Store, logDir: string, options: ShardOptions): Promise<Shard> {
    const view = new View(store, options.shard, options.counters);
    // Lines half overwritten by a removal are no damage: they must be whole before anybody reads them.
    const plan = await finishPlan(options.disk, options.directory, logDir, options.logger);
    const { writer, report } = await recover(
      options.disk,
      logDir,
      view,
      options.settings.maxSegmentBytes,
      options.logger,
    );
    options.counters.publish(options.shard, { damagedLines: report.damagedLines, readOnly: 0, spaceShort: 0 });
    options.counters.raiseSeq(report.lastSeq);
    options.versions.allChanged(options.shard);
    const { stateBytes, queuedBytes } = view.meta;
    options.counters.resetReservation(options.shard, 'stateBytes', stateBytes);
    options.counters.resetReservation(options.shard, 'queuedBytes', queuedBytes);
    return new Shard(options, store, view, writer, new LineReader(options.disk, logDir, writer.recent), report, plan);
  }

  private constructor(
    options: ShardOptions,
    store: Store,
    view: View,
    log: LogWriter,
    reader: LineReader,
    recovery: RecoveryReport,
    plan: RemovalPlan | null,
  ) {
    const { counters, settings, logger } = options;
    this.options = options;
    this.store = store;
    this.view = view;
    this.log = log;
    this.reader = reader;
    this.recovery = recovery;
    this.commit = new GroupCommit({
      log,
      view,
      counters,
      mark: new DurableMark(counters, options.shard, log.position),
      durability: settings.durability,
      flushIntervalMs: settings.flushIntervalMs,
      logger,
      flushReplies: () => this.flushReplies(),
      betweenBatches: () => this.betweenBatches(),
      onBroken: (error) => this.break(error),
    });
    this.stagedState = new StagedState(options.shard, view, counters, options.versions, settings.maxCapacityBytes);
    this.messaging = new Messaging({
      shard: options.shard,
      view,
      commit: this.commit,
      reader,
      counters,
      settings,
      logger,
      track: (work, reply) => this.finish(work, reply),
    });
    this.registrations = new Registrations(view, this.commit);
    this.space = new SpaceGuard(
      {
        disk: options.disk,
        directory: options.directory,
        maxSegmentBytes: settings.maxSegmentBytes,
        logger,
        changedRows: () => store.changedRows,
        storeBytes: () => store.fileBytes,
      },
      log.position,
    );
    this.checkpoints = new Checkpoints({
      shard: options.shard,
      store,
      view,
      log,
      commit: this.commit,
      registrations: this.registrations,
      space: this.space,
      durability: settings.durability,
      logger,
      isReadOnly: () => this.lifecycle === 'read-only',
      isServing: () => this.lifecycle === 'serving',
      onBroken: (error) => this.break(error),
    });
    const removal = new ShardRemoval(
      {
        disk: options.disk,
        directory: options.directory,
        logDir: join(options.directory, 'log'),
        log,
        reader,
        view,
        commit: this.commit,
        stagedState: this.stagedState,
        logger,
        eraseInStore: (key) => this.checkpoints.erase(key),
        isStopped: () => this.lifecycle !== 'serving',
      },
      plan,
    );
    this.byLaw = new ByLaw(removal, view, this.commit, (subject) => this.messaging.revoked(subject));
    this.unloggedReads = counters.read(options.shard, 'unloggedReads');
    this.checkpointTimer = setInterval(() => this.everyInterval(), CHECKPOINT_INTERVAL_MS);
  }

  get state(): ShardState {
    return this.lifecycle;
  }

  /** A gateway that will send batches and takes replies through `outbox`. */
  attach(outbox: Outbox): void {
    this.outboxes.add(outbox);
  }

  detach(outbox: Outbox): void {
    this.outboxes.delete(outbox);
    if (this.lifecycle === 'closed') return;
    this.messaging.detach(outbox);
    this.commit.kick();
  }

  /** One gateway's requests of one loop turn. Reads are answered on return, mutations when they are durable. */
  handle(batch: WireBatch, outbox: Outbox): void {
    for (let i = 0; i < batch.length; i += STRIDE) {
      const reply = new ReplyTo(outbox, batch[i + 1] as number);
      this.dispatch(batch[i] as Op, batch[i + 2], batch[i + 3], batch[i + 4], reply);
    }
    this.commit.kick();
    outbox.flush();
  }

  /** Finishes what was accepted, writes a last checkpoint and lets go of all files. */
  async close(): Promise<void> {
    if (this.lifecycle === 'closed') return;
    if (this.lifecycle === 'serving') this.setState('draining', 'close');
    clearInterval(this.checkpointTimer);
    this.messaging.endWaits(null);
    try {
      await this.finishAccepted();
    } catch (error) {
      // Everything must be let go of all the same: what stays open would be shared with whoever opens it next.
      this.break(error);
    }
    const isBroken = this.hasBroken();
    this.setState('closed', 'close');
    this.messaging.close();
    const closed = await Promise.allSettled([this.reader.close(), this.log.close(), this.store.close()]);
    for (const outcome of closed) {
      if (outcome.status === 'fulfilled') continue;
      // A broken disk fails here too; all that matters is on it already, and must be let go of for the reopening.
      if (!isBroken) throw outcome.reason;
      this.options.logger.warn({ shard: this.options.shard, err: outcome.reason }, 'closing a broken shard');
    }
  }

  private async finishAccepted(): Promise<void> {
    // Work under way may stage more.
    while (this.underWay.size > 0) {
      await Promise.all([...this.underWay, this.commit.drain()]);
    }
    await this.commit.drain();
    await this.checkpoints.settled();
    if (!this.hasBroken()) await this.checkpoints.last();
  }

  private hasBroken(): boolean {
    return this.lifecycle === 'read-only' || this.commit.isBroken;
  }

  private dispatch(op: Op, a: unknown, b: unknown, c: unknown, reply: ReplyTo): void {
    // LMDB is not there any more: reading from it would end the process.
    if (this.lifecycle === 'closed') return reply.refuse('unavailable');
    switch (op) {
      case OPS.readState:
        return this.readState(a as string, b as string, reply);
      case OPS.logRead:
        return this.logRead(stateReadBody(a as string, b as string, true));
      case OPS.listKeys: {
        const { keys, total } = this.view.listKeys(a as string, b as string | null, c as number);
        return reply.ok(keys, total, null);
      }
      case OPS.findAgent: {
        const agent = this.view.agent(b as string);
        return agent === undefined ? reply.refuse('not_found') : reply.ok(agent.registeredAtMs, null, null);
      }
      case OPS.listAgents:
        return this.listAgents(a as string | null, b as string | null, c as number, reply);
      case OPS.findCredential: {
        const credential = this.store.credentials.get(b as string);
        return credential === undefined ? reply.refuse('not_found') : reply.ok(credential, null, null);
      }
      case OPS.storeChallenge:
        if (this.challenges.store(b as StoredChallenge, Date.now())) return reply.ok(null, null, null);
        return reply.refuse('unavailable');
      case OPS.takeChallenge: {
        const challenge = this.challenges.take(b as string, Date.now());
        return challenge === undefined ? reply.refuse('not_found') : reply.ok(challenge, null, null);
      }
      case OPS.cancelWait:
        return this.messaging.cancelWait(b as number, reply);
      case OPS.finishSend:
        return this.messaging.finishSend(a as string, b as string, c as string, reply);
      case OPS.awaitPush:
      case OPS.peekPush:
        if (this.lifecycle !== 'serving') return reply.refuse('unavailable');
        return this.finish(this.messaging.mutate(op, a as string, b, c, reply), reply);
      default:
        return this.mutate(op, a, b, c, reply);
    }
  }

  private mutate(op: Op, a: unknown, b: unknown, c: unknown, reply: ReplyTo): void {
    if (this.lifecycle !== 'serving') return reply.refuse('unavailable');
    // Not agents' writes: they make room, or take next to none.
    if (isByLaw(op)) return this.finish(this.byLaw.handle(op, a as string, b, c, reply), reply);
    if (!this.space.takesWrites) return reply.refuse('store_full');
    switch (op) {
      case OPS.writeState: {
        const write = this.stagedState.write(a as string, b as string, c as string, reply);
        return write === null ? reply.refuse('store_full') : this.commit.stage(write);
      }
      case OPS.deleteState: {
        const removal = this.stagedState.remove(a as string, b as string, reply);
        return removal === null ? reply.refuse('not_found') : this.commit.stage(removal);
      }
      case OPS.sendMessage:
        return this.finish(this.messaging.send(a as string, b as string, c as string, reply), reply);
      case OPS.receiveMessages:
        return this.finish(this.messaging.receive(a as string, b as number, c as WireWait | null, reply), reply);
      case OPS.createOperator:
        return this.finish(this.registrations.operator(b as string, a as NewOperator, reply), reply);
      case OPS.registerAgent:
        return this.finish(this.registrations.agent(b as string, a as NewAgent, reply), reply);
      default:
        return this.finish(this.messaging.mutate(op, a as string, b, c, reply), reply);
    }
  }

  /** An operation that goes on after this turn fails only when the disk does: then the shard can't be trusted. */
  private finish(pending: void | Promise<void>, reply: ReplyTo): void {
    if (pending === undefined) return;
    const settled = pending
      .catch((error: unknown) => {
        reply.refuse('unavailable');
        this.break(error);
      })
      .finally(() => {
        this.underWay.delete(settled);
        reply.outbox.flush();
      });
    this.underWay.add(settled);
  }

  private readState(reader: string, key: string, reply: ReplyTo): void {
    if (!this.commit.takesReads) return reply.refuse('unavailable');
    const row = this.view.stateRow(key);
    this.logRead(stateReadBody(reader, key, row !== undefined));
    if (row === undefined) return reply.refuse('not_found');
    const { versions, shard } = this.options;
    const counter = versions.counterOf(shard, key);
    reply.ok(row.value, row.modifiedBy, [row.modifiedAtMs, counter, versions.version(counter)]);
  }

  /** On a full disk reads go on, without their events. */
  private logRead(body: EventBody): void {
    if (this.space.takesReadEvents) return this.commit.logRead(body);
    this.unloggedReads += 1;
    this.options.counters.publish(this.options.shard, { unloggedReads: this.unloggedReads });
  }

  /** `reader` is null on the shards that do not own the reader: only one of them logs the event. */
  private listAgents(reader: string | null, cursor: string | null, limit: number, reply: ReplyTo): void {
    if (cursor !== null && !ORDER_KEY_PATTERN.test(cursor)) return reply.refuse('bad_request');
    if (!this.commit.takesReads) return reply.refuse('unavailable');
    if (reader !== null) this.logRead(eventBody('registry_read', reader, { read_by: reader }));
    const flat: string[] = [];
    for (const { order, address } of this.view.listAgents({ cursor, limit })) flat.push(order, address);
    reply.ok(flat, this.view.agentCount, null);
  }

  private everyInterval(): void {
    this.space.ask(this.log.position);
    const { counters, shard } = this.options;
    const spaceShort = this.space.takesWrites ? 0 : 1;
    this.messaging.report();
    if (counters.read(shard, 'spaceShort') !== spaceShort) counters.publish(shard, { spaceShort });
    this.checkpoints.soon();
  }

  private async betweenBatches(): Promise<void> {
    this.messaging.sweep();
    this.space.logged(this.log.position);
    await this.checkpoints.betweenBatches();
  }

  private flushReplies(): void {
    for (const outbox of this.outboxes) outbox.flush();
  }

  private break(cause: unknown): void {
    if (this.lifecycle === 'read-only' || this.lifecycle === 'closed') return;
    const error = cause instanceof Error ? cause : new Error(String(cause));
    this.setState('read-only', error.message);
    this.checkpoints.failWaiting();
    this.messaging.endWaits('unavailable');
    const { counters, shard } = this.options;
    counters.publish(shard, { readOnly: 1 });
    // LMDB names a full disk as an I/O error.
    this.options.onBroken(error, !this.commit.isBroken && !this.space.hasRoomForCheckpoint(this.log.position));
  }

  /** The only place where the state changes. */
  private setState(next: ShardState, reason: string): void {
    assert(NEXT_STATES[this.lifecycle].includes(next), `shard ${this.options.shard}: ${this.lifecycle} -> ${next}`);
    this.options.logger.info({ shard: this.options.shard, from: this.lifecycle, to: next, reason }, 'shard state');
    this.lifecycle = next;
  }
}
