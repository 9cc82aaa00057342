/**
 * How the observers' index looks in LMDB: keys in byte order, and rows of fixed form. Numbers in keys are big-endian, so
 * that byte order is their order; in rows little-endian.
 */
import { Buffer } from 'node:buffer';
import { hash } from 'node:crypto';
import type { LogPosition } from '../shards/segments.js';

/** A change to anything here or to what is counted needs a new number: an index of another one is built anew. */
export const INDEX_FORMAT = 2;

const TWO_32 = 2 ** 32;
/** In `lists` and `activity`: all agents together. */
export const EVERYBODY = 0;

function writeSeq(key: Buffer, seq: number, offset: number): void {
  key.writeUInt32BE(Math.floor(seq / TWO_32), offset);
  key.writeUInt32BE(seq % TWO_32, offset + 4);
}

function readSeq(key: Buffer, offset: number): number {
  return key.readUInt32BE(offset) * TWO_32 + key.readUInt32BE(offset + 4);
}

export function seqKey(seq: number): Buffer {
  const key = Buffer.allocUnsafe(8);
  writeSeq(key, seq, 0);
  return key;
}

export function seqOfKey(key: Buffer): number {
  return readSeq(key, 0);
}

/** Where an event lies, and what is asked of many of them without reading their lines. */
export interface EventRow {
  readonly shard: number;
  readonly typeId: number;
  readonly position: LogPosition;
  readonly bytes: number;
  readonly atMs: number;
}

/** [position: f64][atMs: f64][bytes: u32][shard: u16][type: u8] */
export function encodeEvent(row: EventRow): Buffer {
  const bytes = Buffer.allocUnsafe(23);
  bytes.writeDoubleLE(row.position, 0);
  bytes.writeDoubleLE(row.atMs, 8);
  bytes.writeUInt32LE(row.bytes, 16);
  bytes.writeUInt16LE(row.shard, 20);
  bytes.writeUInt8(row.typeId, 22);
  return bytes;
}

export function decodeEvent(bytes: Buffer): EventRow {
  return {
    position: bytes.readDoubleLE(0),
    atMs: bytes.readDoubleLE(8),
    bytes: bytes.readUInt32LE(16),
    shard: bytes.readUInt16LE(20),
    typeId: bytes.readUInt8(22),
  };
}

/** [agent: u32][type: u8][seq: u64]: the events of one type of one agent, or of everybody, lie together in order. */
export function listKey(agentId: number, typeId: number, seq: number): Buffer {
  const key = Buffer.allocUnsafe(13);
  key.writeUInt32BE(agentId, 0);
  key.writeUInt8(typeId, 4);
  writeSeq(key, seq, 5);
  return key;
}

export function seqOfListKey(key: Buffer): number {
  return readSeq(key, 5);
}

export function agentIdKey(agentId: number): Buffer {
  const key = Buffer.allocUnsafe(4);
  key.writeUInt32BE(agentId, 0);
  return key;
}

/** Figures of one agent; numbered in the order of registration. */
export interface AgentRow {
  readonly agentId: number;
  readonly registeredAtMs: number;
  readonly messagesSent: number;
  readonly messagesReceived: number;
  readonly stateWrites: number;
  /** 0: never. */
  readonly lastActiveMs: number;
}

export function encodeAgent(row: AgentRow): Buffer {
  const bytes = Buffer.allocUnsafe(44);
  bytes.writeUInt32LE(row.agentId, 0);
  bytes.writeDoubleLE(row.registeredAtMs, 4);
  bytes.writeDoubleLE(row.messagesSent, 12);
  bytes.writeDoubleLE(row.messagesReceived, 20);
  bytes.writeDoubleLE(row.stateWrites, 28);
  bytes.writeDoubleLE(row.lastActiveMs, 36);
  return bytes;
}

export function decodeAgent(bytes: Buffer): AgentRow {
  return {
    agentId: bytes.readUInt32LE(0),
    registeredAtMs: bytes.readDoubleLE(4),
    messagesSent: bytes.readDoubleLE(12),
    messagesReceived: bytes.readDoubleLE(20),
    stateWrites: bytes.readDoubleLE(28),
    lastActiveMs: bytes.readDoubleLE(36),
  };
}

export function edgeKey(fromId: number, toId: number): Buffer {
  const key = Buffer.allocUnsafe(8);
  key.writeUInt32BE(fromId, 0);
  key.writeUInt32BE(toId, 4);
  return key;
}

export function encodeCount(count: number): Buffer {
  const bytes = Buffer.allocUnsafe(8);
  bytes.writeDoubleLE(count, 0);
  return bytes;
}

export function decodeCount(bytes: Buffer): number {
  return bytes.readDoubleLE(0);
}

/** The last write of a live state key, and where its line lies. */
export interface StateRow {
  readonly shard: number;
  readonly position: LogPosition;
  readonly bytes: number;
  readonly valueBytes: number;
  readonly modifiedAtMs: number;
  readonly modifiedBy: string;
}

export function encodeState(row: StateRow): Buffer {
  const bytes = Buffer.allocUnsafe(26 + row.modifiedBy.length);
  bytes.writeDoubleLE(row.position, 0);
  bytes.writeDoubleLE(row.modifiedAtMs, 8);
  bytes.writeUInt32LE(row.bytes, 16);
  bytes.writeUInt32LE(row.valueBytes, 20);
  bytes.writeUInt16LE(row.shard, 24);
  bytes.write(row.modifiedBy, 26, 'latin1');
  return bytes;
}

export function decodeState(bytes: Buffer): StateRow {
  return {
    position: bytes.readDoubleLE(0),
    modifiedAtMs: bytes.readDoubleLE(8),
    bytes: bytes.readUInt32LE(16),
    valueBytes: bytes.readUInt32LE(20),
    shard: bytes.readUInt16LE(24),
    modifiedBy: bytes.toString('latin1', 26, bytes.length),
  };
}

/** [first 8 bytes of the key's SHA-1][seq: u64]: keys that share a hash share a list; the line tells them apart. */
export function historyKey(keyHash: Buffer, seq: number): Buffer {
  const key = Buffer.allocUnsafe(16);
  keyHash.copy(key, 0, 0, 8);
  writeSeq(key, seq, 8);
  return key;
}

export function seqOfHistoryKey(key: Buffer): number {
  return readSeq(key, 8);
}

export function hashOfStateKey(key: string): Buffer {
  return hash('sha1', key, 'buffer');
}

/** Lengths of the slots in which activity is counted: the finer one for what is shown, the coarser for long spans. */
export const ACTIVITY_SLOTS_MS = [10_000, 3_600_000] as const;

export interface ActivityRow {
  readonly events: number;
  readonly messagesSent: number;
  readonly messagesReceived: number;
  readonly stateWrites: number;
}

/** [agent: u32][resolution: u8][slot: u32] */
export function activityKey(agentId: number, resolution: number, slot: number): Buffer {
  const key = Buffer.allocUnsafe(9);
  key.writeUInt32BE(agentId, 0);
  key.writeUInt8(resolution, 4);
  key.writeUInt32BE(slot, 5);
  return key;
}

export function slotOfActivityKey(key: Buffer): number {
  return key.readUInt32BE(5);
}

export function encodeActivity(row: ActivityRow): Buffer {
  const bytes = Buffer.allocUnsafe(16);
  bytes.writeUInt32LE(row.events, 0);
  bytes.writeUInt32LE(row.messagesSent, 4);
  bytes.writeUInt32LE(row.messagesReceived, 8);
  bytes.writeUInt32LE(row.stateWrites, 12);
  return bytes;
}

export function decodeActivity(bytes: Buffer): ActivityRow {
  return {
    events: bytes.readUInt32LE(0),
    messagesSent: bytes.readUInt32LE(4),
    messagesReceived: bytes.readUInt32LE(8),
    stateWrites: bytes.readUInt32LE(12),
  };
}
