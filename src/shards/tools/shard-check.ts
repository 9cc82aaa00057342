import { AssertionError } from 'node:assert/strict';
import { relative } from 'node:path';
import { type LogPosition, logPosition, offsetOf, segmentOf } from '../segments.js';
import type { SharedCounters } from '../shared-counters.js';
import { Store } from '../store.js';
import { View } from '../view.js';
import { replayPath } from './check-registrations.js';
import type { Findings } from './findings.js';
import {
  LOG_START,
  type SourceBrokenFile,
  type SourceDamage,
  type SourceEvent,
  type SourceTorn,
  segmentFile,
} from './log-source.js';
import type { StoreSnapshot } from './store-snapshots.js';

/**
 * Shard check: replays one shard's log into a view of its own, up to where the shard's store is, and notes what a sound
 * log could not hold.
 * Owns:      the replayed store; what is known of the log's order.
 * Never:     looks at the shard's own rows: those are compared when the replay is over.
 */
const CHECKPOINT_ROWS = 50_000;
/** Rows wait for their checkpoint in memory, and a row may be a mebibyte. */
const CHECKPOINT_LOG_BYTES = 64 * 1024 * 1024;

export class ShardCheck {
  readonly shard: number;
  readonly replayedPath: string;
  private readonly store: Store;
  private readonly view: View;
  /** As the store says: what it reflects, and where the log goes on. */
  private readonly appliedSeq: number;
  private readonly replayFrom: LogPosition;
  private uncommittedBytes = 0;
  private readonly files = new Map<number, string>();
  /** The operation that the line before belongs to goes on. */
  private expectsMore: SourceEvent | null = null;
  private end: LogPosition = LOG_START;
  /** Damage at the end of the log that power loss explains, unless a later batch follows. */
  private tail: { readonly items: SourceDamage[]; ts: string | null } | null = null;

  constructor(
    private readonly dataDir: string,
    readonly snapshot: StoreSnapshot,
    workDir: string,
    counters: SharedCounters,
    private readonly findings: Findings,
    private readonly serverRuns: boolean,
  ) {
    this.shard = snapshot.shard;
    this.replayedPath = replayPath(workDir, this.shard);
    this.store = new Store(this.replayedPath);
    this.view = new View(this.store, this.shard, counters);
    const meta = snapshot.rows?.meta();
    this.appliedSeq = meta?.appliedSeq ?? 0;
    this.replayFrom = meta?.replayFrom ?? LOG_START;
  }

  fileOf({ shard, position }: { readonly shard: number; readonly position: LogPosition }): string {
    if (shard !== this.shard) return segmentFile(this.dataDir, shard, segmentOf(position));
    const segment = segmentOf(position);
    const known = this.files.get(segment);
    if (known !== undefined) return known;
    const file = segmentFile(this.dataDir, shard, segment);
    this.files.set(segment, file);
    return file;
  }

  offsetOf({ position }: { readonly position: LogPosition }): number {
    return offsetOf(position);
  }

  logFinding(item: { readonly shard: number; readonly position: LogPosition }, detail: string): void {
    const file = this.fileOf(item);
    this.findings.add({ kind: 'log', shard: this.shard, file, offsetBytes: offsetOf(item.position), detail });
  }

  damaged(item: SourceDamage | SourceTorn | SourceBrokenFile): void {
    if (item.kind === 'broken-file') {
      const file = relative(this.dataDir, item.path);
      this.findings.add({ kind: 'file', shard: this.shard, file, offsetBytes: item.offsetBytes, detail: item.reason });
      return;
    }
    this.end = item.position + item.bytes;
    if (item.kind === 'torn') {
      if (!item.isLastSegment) this.logFinding(item, `${item.bytes} bytes at the end of the segment are no line`);
      else if (!this.serverRuns) this.noteTail(item, `an incomplete last line of ${item.bytes} bytes`);
      return;
    }
    // Behind the checkpoint, with zeros that no line holds: a page of the last batch that power loss took.
    if (item.isLastSegment && item.position >= this.replayFrom && (this.tail !== null || item.line.includes(0))) {
      this.tail ??= { items: [], ts: null };
      this.tail.items.push(item);
      return;
    }
    this.logFinding(item, `a damaged line of ${item.bytes} bytes`);
  }

  /** The next event of this shard, in order over all shards. */
  async event(item: SourceEvent): Promise<void> {
    const { event, position, bytes } = item;
    this.judgeTail(item);
    this.end = position + bytes;
    this.judgeGroup(item);
    if (this.snapshot.rows === null) return;
    const isReflected = event.seq <= this.appliedSeq;
    if (isReflected !== position < this.replayFrom) {
      const goesOn = `segment ${segmentOf(this.replayFrom)} at ${offsetOf(this.replayFrom)}`;
      const detail = `seq ${event.seq}: the store reflects the log up to seq ${this.appliedSeq}, and says it goes on in ${goesOn}`;
      this.logFinding(item, detail);
    }
    if (!isReflected) return;
    await this.replay(item);
    this.uncommittedBytes += bytes;
    if (this.store.changedRows < CHECKPOINT_ROWS && this.uncommittedBytes < CHECKPOINT_LOG_BYTES) return;
    this.uncommittedBytes = 0;
    await this.store.checkpoint(this.view.meta);
  }

  /** The log has been read to its end. */
  async finish(): Promise<void> {
    if (this.tail !== null) {
      for (const item of this.tail.items) this.noteTail(item, 'an incomplete last batch');
    }
    if (this.expectsMore !== null && !this.serverRuns) this.noteTail(this.expectsMore, 'an incomplete last operation');
    await this.store.checkpoint(this.view.meta);
    if (this.snapshot.rows === null) return;
    const storedMeta = this.snapshot.rows.meta();
    if (this.end < this.replayFrom && offsetOf(this.replayFrom) > 0) {
      const position = logPosition(segmentOf(this.end), offsetOf(this.end));
      this.logFinding({ shard: this.shard, position }, `the log ends here, before the store's last checkpoint`);
    }
    if (storedMeta === undefined) return;
    const replayed = { ...this.view.meta, replayFrom: storedMeta.replayFrom };
    for (const [name, value] of Object.entries(replayed)) {
      const stored: unknown = storedMeta[name as keyof typeof storedMeta];
      if (stored === value) continue;
      const detail = `the total ${name} is ${String(stored)}; the log makes it ${String(value)}`;
      this.findings.add({ kind: 'view', shard: this.shard, file: this.snapshot.file, offsetBytes: null, detail });
    }
  }

  async close(): Promise<void> {
    await this.store.close();
  }

  private async replay(item: SourceEvent): Promise<void> {
    const { event, position, bytes } = item;
    if (event.type === 'agent_registered' || event.type === 'operator_created') await this.ensureRegistration(item);
    const data = event.data as { readonly to?: unknown };
    const isRemoval = event.type === 'message_delivered' || event.type === 'message_dropped';
    const messages = this.view.meta.queuedMessages;
    try {
      this.view.replay(event, position, bytes);
    } catch (error) {
      if (!(error instanceof AssertionError)) throw error;
      this.logFinding(item, `seq ${event.seq} can't be replayed: ${error.message}`);
      return;
    }
    if (isRemoval && this.view.meta.queuedMessages === messages) {
      this.logFinding(item, `seq ${event.seq} speaks of message seq ${event.ref}, which is in no queue of ${data.to}`);
    }
  }

  /** A registration that the store knows nothing of gets a credential in name only, so that the replay goes on. */
  private async ensureRegistration(item: SourceEvent): Promise<void> {
    const data = item.event.data as { readonly address?: string; readonly operator_id?: string };
    const isAgent = data.address !== undefined;
    const subject = data.address ?? data.operator_id ?? '';
    if (this.store.getPending(subject) !== undefined) return;
    const detail = `${subject} is registered here, but its shard's store has no such ${isAgent ? 'agent' : 'operator'}`;
    const place = { file: this.fileOf(item), offsetBytes: offsetOf(item.position) };
    this.findings.add({ kind: 'registration', shard: this.shard, ...place, detail });
    const kind = isAgent ? 'agent' : 'operator';
    const credential = { kind, subject, lookup: `missing:${subject}`, scheme: 'hmac', hash: '' } as const;
    await this.store.putPending(subject, { credential, webhook: null });
  }

  private judgeGroup(item: SourceEvent): void {
    const before = this.expectsMore;
    if (before !== null && item.event.seq !== before.event.seq + 1) {
      this.logFinding(item, `the operation that begins at seq ${before.event.seq} should go on here, but does not`);
    }
    this.expectsMore = item.event.more === true ? item : null;
  }

  /** Damage is the end of the last batch only as long as one batch at most follows. */
  private judgeTail(item: SourceEvent): void {
    if (this.tail === null) return;
    if (this.tail.ts === null || this.tail.ts === item.event.ts) {
      this.tail.ts = item.event.ts;
      return;
    }
    for (const damage of this.tail.items) this.logFinding(damage, `a damaged line of ${damage.bytes} bytes`);
    this.tail = null;
  }

  private noteTail(item: { readonly shard: number; readonly position: LogPosition }, what: string): void {
    this.findings.note(
      `${this.fileOf(item)} at ${offsetOf(item.position)}: ${what}; the next start cuts it off, nothing acknowledged is lost`,
    );
  }
}
