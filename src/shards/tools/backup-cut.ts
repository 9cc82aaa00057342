import { Buffer } from 'node:buffer';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Credential } from '../../contract/engine.js';
import { DataDirectoryError } from '../data-directory.js';
import { type AgentRow, jsonCodec, type PendingRegistration } from '../row-codecs.js';
import type { LogPosition } from '../segments.js';
import { LOG_START, readShardLog } from './log-source.js';
import { NO_PROGRESS } from './progress.js';
import { StoredRows } from './stored-rows.js';
import { TableWriter } from './table-writer.js';

/**
 * Where a backup cuts the log of a shard that may be growing, and what its copy of the store lacks for that.
 */
export interface LogCut {
  /** Behind the last whole operation up to the chosen `seq`. */
  readonly end: LogPosition;
  /** Agents and operators registered behind the store's checkpoint. */
  readonly registered: ReadonlySet<string>;
}

/** A batch that is just being written may look damaged: it is read again, so often at most, after so long. */
const MAX_READINGS = 50;
const READ_AGAIN_MS = 20;

const PENDING = 'pending_registrations';
const pendingCodec = jsonCodec<PendingRegistration>();
const agentCodec = jsonCodec<AgentRow>();

interface ShardMeta {
  readonly appliedSeq: number;
  readonly replayFrom: LogPosition;
}

export async function readShardMeta(storeCopy: string): Promise<ShardMeta> {
  const rows = StoredRows.open(storeCopy);
  try {
    const { appliedSeq = 0, replayFrom = LOG_START } = rows.meta() ?? {};
    return { appliedSeq, replayFrom };
  } finally {
    await rows.close();
  }
}

/** The last `seq` in a shard's log now. */
export async function lastSeqOf(dataDir: string, shard: number, storeCopy: string): Promise<number> {
  const { appliedSeq, replayFrom } = await readShardMeta(storeCopy);
  const { lastSeq } = await readTail(dataDir, shard, replayFrom, Number.POSITIVE_INFINITY);
  return Math.max(appliedSeq, lastSeq);
}

/** Cuts the log behind `maxSeq`, which must not lie before the store's checkpoint. */
export async function logCut(dataDir: string, shard: number, storeCopy: string, maxSeq: number): Promise<LogCut> {
  const { replayFrom } = await readShardMeta(storeCopy);
  return readTail(dataDir, shard, replayFrom, maxSeq);
}

async function readTail(
  dataDir: string,
  shard: number,
  from: LogPosition,
  maxSeq: number,
): Promise<LogCut & { readonly lastSeq: number }> {
  for (let reading = 1; ; reading++) {
    const tail = await tryReadTail(dataDir, shard, from, maxSeq);
    if (tail !== null) return tail;
    if (reading === MAX_READINGS) {
      throw new DataDirectoryError(`the log of shard ${shard} is damaged behind its last checkpoint: see "verify"`);
    }
    await sleep(READ_AGAIN_MS);
  }
}

/** Null when there is damage, which may be a batch on its way. */
async function tryReadTail(
  dataDir: string,
  shard: number,
  from: LogPosition,
  maxSeq: number,
): Promise<(LogCut & { readonly lastSeq: number }) | null> {
  let end = from;
  let lastSeq = 0;
  const registered = new Set<string>();
  for await (const item of readShardLog(dataDir, shard, from, NO_PROGRESS)) {
    if (item.kind === 'torn') break;
    if (item.kind !== 'event') return null;
    const { event } = item;
    if (event.seq > maxSeq) break;
    const data = event.data as { readonly address?: string; readonly operator_id?: string };
    if (event.type === 'agent_registered' && data.address !== undefined) registered.add(data.address);
    if (event.type === 'operator_created' && data.operator_id !== undefined) registered.add(data.operator_id);
    if (event.more === true) continue;
    lastSeq = event.seq;
    end = item.position + item.bytes;
  }
  return { end, lastSeq, registered };
}

/**
 * Gives the store's copy the credentials of those registered since, as registrations to be completed by the replay of
 * the log. They were in the store itself before they were in the log.
 */
export async function completeRegistrations(
  store: string,
  storeCopy: string,
  registered: ReadonlySet<string>,
): Promise<void> {
  const missing = new Set(registered);
  const copy = StoredRows.open(storeCopy);
  for (const { credential } of copy.pendingRegistrations()) missing.delete(credential.subject);
  await copy.close();
  if (missing.size === 0) return;
  const found = new Map<string, PendingRegistration>();
  const live = StoredRows.open(store);
  try {
    for (const credential of live.credentials()) {
      if (!missing.has(credential.subject)) continue;
      const row = live.get('agents', Buffer.from(credential.subject, 'latin1'));
      found.set(credential.subject, { credential, webhook: row === undefined ? null : agentCodec.decode(row).webhook });
    }
    for (const pending of live.pendingRegistrations()) {
      if (missing.has(pending.credential.subject)) found.set(pending.credential.subject, pending);
    }
  } finally {
    await live.close();
  }
  const writer = new TableWriter(storeCopy);
  for (const subject of missing) {
    const pending = found.get(subject) ?? { credential: revoked(subject), webhook: null };
    await writer.put(PENDING, Buffer.from(subject, 'latin1'), pendingCodec.encode(pending));
  }
  await writer.close();
}

/** Registered and revoked within the last moments: nobody can look this credential up. */
function revoked(subject: string): Credential {
  const kind = subject.startsWith('tab_') ? 'agent' : 'operator';
  return { kind, subject, lookup: `revoked:${subject}`, scheme: 'hmac', hash: '' };
}
