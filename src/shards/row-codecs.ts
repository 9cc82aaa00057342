import { Buffer } from 'node:buffer';
import type { Credential } from '../contract/engine.js';
/** How rows look in LMDB. */
import type { RowCodec } from './overlay-table.js';
import type { LogPosition } from './segments.js';

/** One live state key. `valueBytes` is kept so that the size is known without decoding the value. */
export interface StateRow {
  readonly value: string;
  readonly valueBytes: number;
  readonly modifiedBy: string;
  readonly modifiedAtMs: number;
}

export interface AgentRow {
  readonly operatorId: string;
  readonly registeredAtMs: number;
  /** `seq` of the agent_registered event. */
  readonly seq: number;
  readonly webhook: { readonly url: string; readonly secret: string } | null;
  /** Its token is refused for good; nobody can send to it. */
  readonly revoked?: true;
}

export interface OperatorRow {
  readonly lookup: string;
  readonly createdAtMs: number;
  /** Its key is refused for good. */
  readonly revoked?: true;
}

/** The half of a registration that must never be in the log; waits in LMDB, flushed, for the event to be durable. */
export interface PendingRegistration {
  readonly credential: Credential;
  readonly webhook: { readonly url: string; readonly secret: string } | null;
}

/** A durable lease; over when `untilMs` is: then it only tells how often the message was handed out. */
export interface QueueLease {
  /** The random part of the lease's id. */
  readonly lease: string;
  readonly untilMs: number;
  readonly count: number;
}

/** Where a queued message lies in the log, and what keeps it from being taken by anybody. */
export interface QueueRow {
  readonly position: LogPosition;
  readonly bytes: number;
  /** `push`: it waits to be pushed to a webhook. */
  readonly hold?: 'push' | QueueLease;
}

/** An agent with messages to push, or one whose last pushes failed. */
export interface PushRow {
  /** Messages that wait to be pushed. */
  readonly waiting: number;
  /** Of the first of them. */
  readonly attempts: number;
  readonly nextAttemptAtMs: number;
  readonly failedInRow: number;
  readonly circuitOpenUntilMs: number;
}

/** A key in use: which message it stands for, and a digest of what was sent. */
export interface SendClaimRow {
  readonly fingerprint: string;
  readonly messageId: string;
  readonly claimedAtMs: number;
}

/** What is true of the whole view at a checkpoint. */
export interface ViewMeta {
  /** Highest `seq` whose effects are in the view. */
  readonly appliedSeq: number;
  /** Where the log goes on after that event. */
  readonly replayFrom: LogPosition;
  readonly stateBytes: number;
  readonly keys: number;
  readonly agents: number;
  readonly queuedMessages: number;
  readonly queuedBytes: number;
  /** Of the queued ones, those that wait to be pushed; a store from before there were any has no figure. */
  readonly pushMessages?: number;
}

export function jsonCodec<Row>(): RowCodec<Row> {
  return {
    encode: (row) => Buffer.from(JSON.stringify(row), 'utf8'),
    decode: (bytes) => JSON.parse(bytes.toString('utf8', 0, bytes.length)) as Row,
  };
}

const STATE_HEADER_BYTES = 9;

/** [modifiedAtMs: f64][length of modifiedBy: u8][modifiedBy: ASCII][value: UTF-8] */
export const stateCodec: RowCodec<StateRow> = {
  encode(row) {
    const byLength = row.modifiedBy.length;
    const bytes = Buffer.allocUnsafe(STATE_HEADER_BYTES + byLength + row.valueBytes);
    bytes.writeDoubleLE(row.modifiedAtMs, 0);
    bytes.writeUInt8(byLength, 8);
    bytes.write(row.modifiedBy, STATE_HEADER_BYTES, 'latin1');
    bytes.write(row.value, STATE_HEADER_BYTES + byLength, 'utf8');
    return bytes;
  },
  decode(bytes) {
    const valueStart = STATE_HEADER_BYTES + bytes.readUInt8(8);
    return {
      value: bytes.toString('utf8', valueStart, bytes.length),
      valueBytes: bytes.length - valueStart,
      modifiedBy: bytes.toString('latin1', STATE_HEADER_BYTES, valueStart),
      modifiedAtMs: bytes.readDoubleLE(0),
    };
  },
  sizeOf: (row) => row.valueBytes,
  storedSizeOf: (bytes) => bytes.length - STATE_HEADER_BYTES - bytes.readUInt8(8),
};

const QUEUE_PLAIN_BYTES = 12;
const QUEUE_LEASE_BYTES = QUEUE_PLAIN_BYTES + 13;
const HOLD_PUSH = 1;
const HOLD_LEASE = 2;

/**
 * [position: f64][bytes: u32], which is all of most rows; then, if something holds the message,
 * [1: u8] or [2: u8][untilMs: f64][count: u32][lease: ASCII]
 */
export const queueCodec: RowCodec<QueueRow> = {
  encode({ position, bytes: lineBytes, hold }) {
    let size = QUEUE_PLAIN_BYTES;
    if (hold !== undefined) size = hold === 'push' ? QUEUE_PLAIN_BYTES + 1 : QUEUE_LEASE_BYTES + hold.lease.length;
    const bytes = Buffer.allocUnsafe(size);
    bytes.writeDoubleLE(position, 0);
    bytes.writeUInt32LE(lineBytes, 8);
    if (hold === 'push') {
      bytes.writeUInt8(HOLD_PUSH, QUEUE_PLAIN_BYTES);
    } else if (hold !== undefined) {
      bytes.writeUInt8(HOLD_LEASE, QUEUE_PLAIN_BYTES);
      bytes.writeDoubleLE(hold.untilMs, QUEUE_PLAIN_BYTES + 1);
      bytes.writeUInt32LE(hold.count, QUEUE_PLAIN_BYTES + 9);
      bytes.write(hold.lease, QUEUE_LEASE_BYTES, 'latin1');
    }
    return bytes;
  },
  decode(bytes) {
    const position = bytes.readDoubleLE(0);
    const lineBytes = bytes.readUInt32LE(8);
    if (bytes.length === QUEUE_PLAIN_BYTES) return { position, bytes: lineBytes };
    if (bytes.readUInt8(QUEUE_PLAIN_BYTES) === HOLD_PUSH) return { position, bytes: lineBytes, hold: 'push' };
    const hold = {
      lease: bytes.toString('latin1', QUEUE_LEASE_BYTES, bytes.length),
      untilMs: bytes.readDoubleLE(QUEUE_PLAIN_BYTES + 1),
      count: bytes.readUInt32LE(QUEUE_PLAIN_BYTES + 9),
    };
    return { position, bytes: lineBytes, hold };
  },
};

export const countCodec: RowCodec<number> = {
  encode(count) {
    const bytes = Buffer.allocUnsafe(4);
    bytes.writeUInt32LE(count, 0);
    return bytes;
  },
  decode: (bytes) => bytes.readUInt32LE(0),
};

export const timeCodec: RowCodec<number> = {
  encode(timeMs) {
    const bytes = Buffer.allocUnsafe(8);
    bytes.writeDoubleLE(timeMs, 0);
    return bytes;
  },
  decode: (bytes) => bytes.readDoubleLE(0),
};

export const textCodec: RowCodec<string> = {
  encode: (text) => Buffer.from(text, 'utf8'),
  decode: (bytes) => bytes.toString('utf8', 0, bytes.length),
};
