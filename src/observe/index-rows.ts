/**
 * How the observers' index looks in LMDB: keys in byte order, and rows of fixed form. Numbers in keys are big-endian, so
 * that byte order is their order; in rows little-endian.
 */
import { Buffer } from 'node:buffer';
import type { LogPosition } from '../shards/segments.js';

/** A change to anything here or to what is counted needs a new number: an index of another one is built anew. */
export const INDEX_FORMAT = 3;

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

const SEQ_BYTES = 8;

function writeSeqs(seqs: readonly number[], row: Buffer, offset: number): number {
  let at = offset;
  for (const seq of seqs) at = row.writeDoubleLE(seq, at);
  return at;
}

function readSeqs(row: Buffer, offset: number, end: number): number[] {
  const seqs: number[] = [];
  for (let at = offset; at < end; at += SEQ_BYTES) seqs.push(row.readDoubleLE(at));
  return seqs;
}

/** [seq: f64]... */
export function encodeBlock(seqs: readonly number[]): Buffer {
  const block = Buffer.allocUnsafe(seqs.length * SEQ_BYTES);
  writeSeqs(seqs, block, 0);
  return block;
}

export function decodeBlock(block: Buffer): number[] {
  return readSeqs(block, 0, block.length);
}

/** [agent: u32][type: u8][last seq: u64]: the blocks of one type of one agent, or of everybody, lie together in order. */
export function listKey(agentId: number, typeId: number, seq: number): Buffer {
  const key = Buffer.allocUnsafe(13);
  key.writeUInt32BE(agentId, 0);
  key.writeUInt8(typeId, 4);
  writeSeq(key, seq, 5);
  return key;
}

/** Where the open list of everybody lies, who has no row among the agents: in front of the blocks. */
export const EVERYBODY_OPEN_KEY = listKey(EVERYBODY, 0, 0);

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

/** Behind the figures lies the agent's open list, to the end of the row; see seq-lists.ts. */
export const AGENT_BYTES = 44;

/** With room for so many bytes of an open list. */
export function encodeAgent(row: AgentRow, openBytes: number): Buffer {
  const bytes = Buffer.allocUnsafe(AGENT_BYTES + openBytes);
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

const STATE_BYTES = 27;

/** [position: f64][modifiedAtMs: f64][bytes: u32][valueBytes: u32][shard: u16][open: u8][open history: f64...][modifiedBy] */
export function encodeState(row: StateRow, openHistory: readonly number[]): Buffer {
  const nameAt = STATE_BYTES + openHistory.length * SEQ_BYTES;
  const bytes = Buffer.allocUnsafe(nameAt + row.modifiedBy.length);
  bytes.writeDoubleLE(row.position, 0);
  bytes.writeDoubleLE(row.modifiedAtMs, 8);
  bytes.writeUInt32LE(row.bytes, 16);
  bytes.writeUInt32LE(row.valueBytes, 20);
  bytes.writeUInt16LE(row.shard, 24);
  bytes.writeUInt8(openHistory.length, 26);
  writeSeqs(openHistory, bytes, STATE_BYTES);
  bytes.write(row.modifiedBy, nameAt, 'latin1');
  return bytes;
}

export function decodeState(bytes: Buffer): StateRow {
  return {
    position: bytes.readDoubleLE(0),
    modifiedAtMs: bytes.readDoubleLE(8),
    bytes: bytes.readUInt32LE(16),
    valueBytes: valueBytesOfState(bytes),
    shard: bytes.readUInt16LE(24),
    modifiedBy: bytes.toString('latin1', endOfOpenHistory(bytes), bytes.length),
  };
}

export function valueBytesOfState(bytes: Buffer): number {
  return bytes.readUInt32LE(20);
}

/** The newest writes and deletions of the key, rising, fewer than a block. */
export function openHistoryOfState(bytes: Buffer): number[] {
  return readSeqs(bytes, STATE_BYTES, endOfOpenHistory(bytes));
}

function endOfOpenHistory(bytes: Buffer): number {
  return STATE_BYTES + bytes.readUInt8(26) * SEQ_BYTES;
}

/** [first 16 bytes of the key's SHA-256][first seq: u64]: the blocks of one key lie together in order. */
export function historyKey(keyHash: Buffer, seq: number): Buffer {
  const key = Buffer.allocUnsafe(24);
  keyHash.copy(key, 0, 0, 16);
  writeSeq(key, seq, 16);
  return key;
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
