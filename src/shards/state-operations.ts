import { Buffer } from 'node:buffer';
import type { ApiErrorCode } from '../contract/errors.js';
import type { KeyVersions } from './key-versions.js';
import { type EventBody, eventBody, stateWrittenBody } from './log-line.js';
import { type Operation, RefuseLater } from './operations.js';
import type { StateRow } from './row-codecs.js';
import type { LogPosition } from './segments.js';
import type { SharedCounters } from './shared-counters.js';
import type { View } from './view.js';
import type { ReplyTo } from './wire.js';

/**
 * Staged state: what each key will be when everything staged is applied. A mutation is judged against this, so that two
 * deletes in one batch do not both find the key; its answer waits for the batch, so nothing shows before it is durable.
 * Owns:      the last staged operation of each key, and the room it reserved.
 */

/** Above the bytes of any key and value together. */
const TICKET_UNIT = 2 ** 22;
/** Tickets start again long after the operations that had them are settled. */
const MAX_TICKETS = 2 ** 30;

export class StagedState {
  private readonly shard: number;
  private readonly view: View;
  private readonly counters: SharedCounters;
  private readonly versions: KeyVersions;
  private readonly maxCapacityBytes: number;
  /**
   * Of each key with staged operations: the last one's ticket * 2^22 + the bytes that key and value will then take, 0
   * when the key will be gone. Numbers, not the operations: a Map that lives on keeps what passed through it from being
   * collected young (its old tables point to each other), and operations hold values.
   */
  private readonly last = new Map<string, number>();
  private tickets = 0;

  constructor(shard: number, view: View, counters: SharedCounters, versions: KeyVersions, maxCapacityBytes: number) {
    this.versions = versions;
    this.shard = shard;
    this.view = view;
    this.counters = counters;
    this.maxCapacityBytes = maxCapacityBytes;
  }

  /** When the store has no room for the value: null if that is durable, else an operation that says so once it is. */
  write(writer: string, key: string, value: string, reply: ReplyTo): Operation | null {
    const keyBytes = Buffer.byteLength(key);
    const valueBytes = Buffer.byteLength(value);
    const before = this.usedBytes(key, keyBytes);
    const growth = keyBytes + valueBytes - before;
    if (growth > 0 && !this.counters.reserve(this.shard, 'stateBytes', growth, this.maxCapacityBytes)) {
      return this.last.size > 0 ? new RefuseLater('store_full', reply) : null;
    }
    const body = stateWrittenBody(writer, key, value, valueBytes);
    const row = { value, valueBytes, modifiedBy: writer, modifiedAtMs: 0 };
    const ticket = this.stage(key, keyBytes + valueBytes);
    return new StateOperation(this, ticket, key, row, growth, before === 0, [body], reply);
  }

  /** When the key is not there: null if that is durable, else an operation that says so once it is. */
  remove(deleter: string, key: string, reply: ReplyTo): Operation | null {
    const keyBytes = Buffer.byteLength(key);
    const before = this.usedBytes(key, keyBytes);
    if (before > 0) {
      const body = eventBody('state_deleted', deleter, { key, deleted_by: deleter });
      return new StateOperation(this, this.stage(key, 0), key, null, -before, false, [body], reply);
    }
    return this.last.has(key) ? new RefuseLater('not_found', reply) : null;
  }

  /**
   * Removes the key, by law and not by an agent. Never null: its record is logged also when the key is not there, since
   * its place in the log divides the values that go from those that are written later.
   */
  erase(key: string, body: EventBody, outcome: ErasureOutcome): Operation {
    const before = this.usedBytes(key, Buffer.byteLength(key));
    const ticket = before > 0 ? this.stage(key, 0) : 0;
    const change = before > 0 ? { ticket, key, row: null, growthBytes: -before, isNew: false } : null;
    return new ErasureOperation(this, key, change, [body], outcome);
  }

  /** The live value of a key that is about to be removed. */
  valueOf(key: string): string | null {
    return this.view.stateRow(key)?.value ?? null;
  }

  /** Makes the operation visible and gives back the room it freed. */
  applied(operation: StateChange, atMs: number, isErasure = false): void {
    const { key, row, growthBytes } = operation;
    this.versions.changed(this.shard, key);
    if (isErasure) {
      this.view.eraseState(key, growthBytes);
    } else if (row === null) {
      this.view.removeState(key, growthBytes);
    } else {
      row.modifiedAtMs = atMs;
      this.view.putState(key, row, growthBytes, operation.isNew);
    }
    if (growthBytes < 0) this.counters.release(this.shard, 'stateBytes', -growthBytes);
    this.settle(operation);
  }

  failed(operation: StateChange): void {
    if (operation.growthBytes > 0) this.counters.release(this.shard, 'stateBytes', operation.growthBytes);
    this.settle(operation);
  }

  private stage(key: string, bytes: number): number {
    this.tickets = (this.tickets + 1) % MAX_TICKETS;
    this.last.set(key, this.tickets * TICKET_UNIT + bytes);
    return this.tickets;
  }

  private settle({ key, ticket }: StateChange): void {
    const last = this.last.get(key);
    if (last !== undefined && Math.floor(last / TICKET_UNIT) === ticket) this.last.delete(key);
  }

  /** Key and value bytes once all that is staged is applied; 0 when the key will not be there. */
  private usedBytes(key: string, keyBytes: number): number {
    const staged = this.last.get(key);
    if (staged !== undefined) return staged % TICKET_UNIT;
    const valueBytes = this.view.valueBytes(key);
    return valueBytes < 0 ? 0 : keyBytes + valueBytes;
  }
}

/** A row whose time is the batch's, and so not known when it is staged. */
type StagedRow = { -readonly [Field in keyof StateRow]: StateRow[Field] };

/** What one staged operation does to its key. */
interface StateChange {
  readonly ticket: number;
  readonly key: string;
  /** null deletes. */
  readonly row: StagedRow | null;
  readonly growthBytes: number;
  /** The key is not there before this. */
  readonly isNew: boolean;
}

class StateOperation implements Operation, StateChange {
  constructor(
    readonly staged: StagedState,
    readonly ticket: number,
    readonly key: string,
    /** null deletes. */
    readonly row: StagedRow | null,
    readonly growthBytes: number,
    /** The key is not there before this. */
    readonly isNew: boolean,
    readonly bodies: readonly EventBody[],
    readonly reply: ReplyTo,
  ) {}

  logged(): void {}

  apply(atMs: number): void {
    this.staged.applied(this, atMs);
  }

  answer(atMs: number): void {
    this.reply.ok(atMs, null, null);
  }

  fail(code: ApiErrorCode): void {
    this.staged.failed(this);
    this.reply.refuse(code);
  }
}

/** Who asked for a removal, and what becomes of it. */
export interface ErasureOutcome {
  /** Durable and visible. @param value what the key had; null when it was not there. */
  erased(position: LogPosition, value: string | null): void;
  failed(code: ApiErrorCode): void;
}

class ErasureOperation implements Operation {
  private position: LogPosition = 0;
  private value: string | null = null;

  constructor(
    readonly staged: StagedState,
    readonly key: string,
    /** null: the key is not there. */
    readonly change: StateChange | null,
    readonly bodies: readonly EventBody[],
    readonly outcome: ErasureOutcome,
  ) {}

  logged(_seq: number, position: LogPosition): void {
    this.position = position;
  }

  apply(atMs: number): void {
    if (this.change === null) return;
    this.value = this.staged.valueOf(this.key);
    this.staged.applied(this.change, atMs, true);
  }

  answer(): void {
    this.outcome.erased(this.position, this.value);
  }

  fail(code: ApiErrorCode): void {
    if (this.change !== null) this.staged.failed(this.change);
    this.outcome.failed(code);
  }
}
