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
}

export interface OperatorRow {
  readonly lookup: string;
  readonly createdAtMs: number;
}

/** The half of a registration that must never be in the log; waits in LMDB, flushed, for the event to be durable. */
export interface PendingRegistration {
  readonly credential: Credential;
  readonly webhook: { readonly url: string; readonly secret: string } | null;
}

/** Where a queued message lies in the log. */
export interface QueueRow {
  readonly position: LogPosition;
  readonly bytes: number;
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

/** [position: f64][bytes: u32] */
export const queueCodec: RowCodec<QueueRow> = {
  encode(row) {
    const bytes = Buffer.allocUnsafe(12);
    bytes.writeDoubleLE(row.position, 0);
    bytes.writeUInt32LE(row.bytes, 8);
    return bytes;
  },
  decode: (bytes) => ({ position: bytes.readDoubleLE(0), bytes: bytes.readUInt32LE(8) }),
};

export const countCodec: RowCodec<number> = {
  encode(count) {
    const bytes = Buffer.allocUnsafe(4);
    bytes.writeUInt32LE(count, 0);
    return bytes;
  },
  decode: (bytes) => bytes.readUInt32LE(0),
};

export const textCodec: RowCodec<string> = {
  encode: (text) => Buffer.from(text, 'utf8'),
  decode: (bytes) => bytes.toString('utf8', 0, bytes.length),
};
