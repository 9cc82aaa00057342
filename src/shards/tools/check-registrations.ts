import { Buffer } from 'node:buffer';
import { join } from 'node:path';
import type { Credential } from '../../contract/engine.js';
import { shardOf } from '../routing.js';
import { type AgentRow, jsonCodec, type OperatorRow, type PendingRegistration } from '../row-codecs.js';
import type { Findings } from './findings.js';
import type { StoreSnapshot } from './store-snapshots.js';
import { TableWriter } from './table-writer.js';

/**
 * Registrations in the stores: what is not in the log, and so can't come out of a replay.
 * A subject's row lies in the shard of its address or id, its credential in that of its lookup; these are one shard for
 * whatever was registered since the shard count was last changed, and need not be for what came before.
 */
const SUBJECTS = 'subjects';
const PENDING = 'pending_registrations';
const agentCodec = jsonCodec<AgentRow>();
const operatorCodec = jsonCodec<OperatorRow>();
const credentialCodec = jsonCodec<Credential>();
const pendingCodec = jsonCodec<PendingRegistration>();

/** Where the replay of a shard is made. */
export function replayPath(workDir: string, shard: number): string {
  return join(workDir, `replay-${shard}.mdb`);
}

/** Credentials of all shards by the agent or operator they stand for. */
export type SubjectIndex = TableWriter;

/** Copies every credential into an index by its subject. Close it when done. */
export async function indexSubjects(snapshots: readonly StoreSnapshot[], workDir: string): Promise<SubjectIndex> {
  const index = new TableWriter(join(workDir, 'subjects.mdb'));
  for (const { rows } of snapshots) {
    if (rows === null) continue;
    for (const credential of rows.credentials()) {
      await index.put(SUBJECTS, Buffer.from(credential.subject, 'latin1'), credentialCodec.encode(credential));
    }
  }
  await index.commit();
  return index;
}

/**
 * Every agent and operator of a store with what its registration needs in a replay: its credential, or for one that is
 * revoked a stand-in, and its webhook.
 */
export function* registrationsOf(
  { rows }: StoreSnapshot,
  index: SubjectIndex,
): Generator<{ readonly subject: Buffer; readonly pending: PendingRegistration; readonly isMissing: boolean }> {
  if (rows === null) return;
  for (const { key, value } of rows.rows('agents')) {
    const row = agentCodec.decode(value);
    const credential = index.get(SUBJECTS, key);
    const pending = {
      credential: credential === undefined ? standIn('agent', key, null) : credentialCodec.decode(credential),
      webhook: row.webhook,
    };
    yield { subject: key, pending, isMissing: credential === undefined && row.revoked !== true };
  }
  for (const { key, value } of rows.rows('operators')) {
    const row = operatorCodec.decode(value);
    const credential = index.get(SUBJECTS, key);
    const pending = {
      credential: credential === undefined ? standIn('operator', key, row.lookup) : credentialCodec.decode(credential),
      webhook: null,
    };
    yield { subject: key, pending, isMissing: credential === undefined && row.revoked !== true };
  }
}

export function encodePending(pending: PendingRegistration): Buffer {
  return pendingCodec.encode(pending);
}

/** Prepares the stores of the replays, so that each registration finds its credential. */
export async function seedRegistrations(
  snapshots: readonly StoreSnapshot[],
  workDir: string,
  findings: Findings,
): Promise<SubjectIndex> {
  const index = await indexSubjects(snapshots, workDir);
  for (const snapshot of snapshots) {
    const replayed = new TableWriter(replayPath(workDir, snapshot.shard));
    for (const { subject, pending, isMissing } of registrationsOf(snapshot, index)) {
      await replayed.put(PENDING, subject, encodePending(pending));
      if (!isMissing) continue;
      const detail = `${pending.credential.kind} ${subject.toString('latin1')} has no credential in any shard`;
      const { shard, file } = snapshot;
      findings.add({ kind: 'registration', shard, file, offsetBytes: null, detail });
    }
    await replayed.close();
  }
  return index;
}

/** Each credential is where it is looked for, and stands for somebody who is there. */
export async function checkRegistrations(
  snapshots: readonly StoreSnapshot[],
  index: SubjectIndex,
  findings: Findings,
): Promise<void> {
  for (const { rows, shard, file } of snapshots) {
    if (rows === null) continue;
    const found = (detail: string): void =>
      findings.add({ kind: 'registration', shard, file, offsetBytes: null, detail });
    for (const credential of rows.credentials()) {
      const { kind, subject, lookup } = credential;
      const home = shardOf(lookup, snapshots.length);
      if (home !== shard) found(`the credential of ${kind} ${subject} belongs to shard ${home}`);
      const subjectKey = Buffer.from(subject, 'latin1');
      const owner = snapshots[shardOf(subject, snapshots.length)]?.rows;
      const table = kind === 'agent' ? 'agents' : 'operators';
      if (owner !== null && owner?.get(table, subjectKey) === undefined) {
        found(`the credential of ${kind} ${subject}, who is not registered`);
      }
      const indexed = index.get(SUBJECTS, subjectKey);
      if (indexed !== undefined && credentialCodec.decode(indexed).lookup !== lookup) {
        found(`a second credential of ${kind} ${subject}`);
      }
    }
  }
}

/** A revoked one's lookup is known of operators only; nobody ever looks for the other. */
function standIn(kind: Credential['kind'], subject: Buffer, lookup: string | null): Credential {
  const name = subject.toString('latin1');
  return { kind, subject: name, lookup: lookup ?? `none:${name}`, scheme: 'hmac', hash: '' };
}
