import type { ApiErrorCode } from '../contract/errors.js';
import type { Logger } from '../log.js';
import type { Disk } from './disk.js';
import type { GroupCommit } from './group-commit.js';
import { internalBody } from './internal-records.js';
import type { LineReader } from './log-reader.js';
import { isDiskFull, type LogWriter } from './log-writer.js';
import { carryOut, clearPlan, type RemovalPlan, storePlan } from './removal-plan.js';
import {
  contentHash,
  contentOf,
  type FoundContent,
  type FoundLine,
  findContent,
  RemovalInterrupted,
  type RemovalTarget,
} from './removal-scan.js';
import { type LogPosition, logPosition, segmentOf } from './segments.js';
import type { StagedState } from './state-operations.js';
import type { View } from './view.js';

/**
 * Removal by law, one shard's part of it: out of the live store and out of the log.
 * Owns:      the plan of the removal under way, in memory and in its file.
 * Never:     begins a second removal before the first is settled; forgets one that it has begun.
 * Order:     find -> (all that changes starts here) record in the log -> plan on disk -> overwrite -> checkpoint -> settle
 *
 * What is removed: of a state key, the live value and every value logged before the removal's own record; what an agent
 * writes behind that record stays. Of a message, its content; its place in a queue stays, and it is delivered redacted.
 */
export interface ShardRemovalParts {
  readonly disk: Disk;
  readonly directory: string;
  readonly logDir: string;
  readonly log: LogWriter;
  readonly reader: LineReader;
  readonly view: View;
  readonly commit: GroupCommit;
  readonly stagedState: StagedState;
  readonly logger: Logger;
  /** Resolves when LMDB holds all that is visible now, and nothing of what was erased; false when there is no room for that. */
  eraseInStore(key: string): Promise<boolean>;
  /** True once the shard should do nothing long any more. */
  isStopped(): boolean;
}

/** What a shard holds of a content. */
export interface FoundPart {
  readonly isFound: boolean;
  /** Null when nothing could be read. */
  readonly contentHash: string | null;
  /** `seq` of the event that it is of, 0 for none: the highest, over all shards, has the hash to go by. */
  readonly hashedSeq: number;
  /** `seq` of the first event that holds, or held, the content: what ended before it does not hold it. */
  readonly firstSeq: number;
}

export interface RemovedPart extends FoundPart {
  /** Archives that still hold it, since they can't be read. */
  readonly unreadable: readonly string[];
}

/** `refused` is the world's: nothing is half done that a repetition would not finish. */
export type RemovalReply<Part> =
  | { readonly ok: true; readonly part: Part }
  | { readonly ok: false; readonly code: ApiErrorCode };

interface Searched {
  readonly id: string;
  readonly content: FoundContent;
  readonly to: LogPosition;
}

export class ShardRemoval {
  private readonly parts: ShardRemovalParts;
  private plan: RemovalPlan | null;
  /** What the last `find` found, so that `remove` need not search again. */
  private searched: Searched | null = null;

  /** @param plan that recovery has carried out. */
  constructor(parts: ShardRemovalParts, plan: RemovalPlan | null) {
    this.parts = parts;
    this.plan = plan;
  }

  /** Looks, and changes nothing. Cost: reading the shard's whole log. */
  async find(id: string, target: RemovalTarget): Promise<RemovalReply<FoundPart>> {
    return this.refusing(async () => {
      const { view } = this.parts;
      const to = view.meta.replayFrom;
      const content = await this.search(id, target, logPosition(1, 0), to);
      this.searched = { id, content, to };
      const live = target.kind === 'state' ? (view.stateRow(target.key)?.value ?? null) : null;
      const hashed = await this.hashOf(content.lines, live);
      return { isFound: live !== null || content.lines.length > 0, firstSeq: content.firstSeq, ...hashed };
    });
  }

  /**
   * Removes what `target` names, durably. May be repeated with the same id, after a crash too, and does then only what
   * is left to do. @param isOwner of the state key: the shard logs the record.
   */
  async remove(id: string, target: RemovalTarget, isOwner: boolean): Promise<RemovalReply<RemovedPart>> {
    return this.refusing(async () => {
      if (this.plan?.id !== id) this.plan = await this.begin(id, target, isOwner);
      const { plan } = this;
      await this.overwrite(plan);
      if (target.kind === 'state' && isOwner) await this.parts.eraseInStore(target.key);
      return {
        isFound: plan.lines.length > 0 || plan.contentHash !== null,
        contentHash: plan.contentHash,
        hashedSeq: plan.hashedSeq,
        firstSeq: plan.firstSeq,
        unreadable: plan.unreadable,
      };
    });
  }

  /** The removal is in the transparency log: the shard may forget it. */
  async settle(id: string): Promise<void> {
    if (this.plan?.id !== id) return;
    await clearPlan(this.parts.disk, this.parts.directory);
    this.plan = null;
  }

  private async begin(id: string, target: RemovalTarget, isOwner: boolean): Promise<RemovalPlan> {
    const { disk, directory, commit, view } = this.parts;
    if (this.plan !== null) await this.settle(this.plan.id);
    const known = this.searched?.id === id ? this.searched : null;
    this.searched = null;
    const to = known?.to ?? view.meta.replayFrom;
    const content = known?.content ?? (await this.search(id, target, logPosition(1, 0), to));
    let lines = content.lines;
    let { unreadable, firstSeq } = content;
    let live: string | null = null;
    if (target.kind === 'state' && isOwner) {
      let cut = content.markerPosition;
      if (cut === null) {
        const erased = await this.erase(id, target.key);
        cut = erased.position;
        live = erased.value;
        const since = await this.search(id, target, to, cut);
        lines = [...lines, ...since.lines];
        unreadable = [...unreadable, ...since.unreadable];
        firstSeq = Math.min(firstSeq, since.firstSeq);
      }
      const end = cut;
      lines = lines.filter(({ position }) => position < end);
    }
    // Without `durability: fsync`: a line must not lie on the disk redacted while the record before it does not.
    await commit.sync();
    const plan = { id, target, ...(await this.hashOf(lines, live)), firstSeq, lines, unreadable };
    await storePlan(disk, directory, plan);
    return plan;
  }

  private async overwrite(plan: RemovalPlan): Promise<void> {
    const { disk, logDir, log, reader, logger } = this.parts;
    const touched = new Set<number>();
    await carryOut(disk, logDir, plan, logger, (position, line) => {
      log.recent.replace(position, line);
      touched.add(segmentOf(position));
    });
    // An archive has been replaced by another file.
    for (const segment of touched) reader.forget(segment);
  }

  /** The place of the record, and the value that the key had. */
  private erase(id: string, key: string): Promise<{ position: LogPosition; value: string | null }> {
    const { stagedState, commit } = this.parts;
    return new Promise((resolve, reject) => {
      const body = internalBody('state_removed', { key, removal_id: id });
      const operation = stagedState.erase(key, body, {
        erased: (position, value) => resolve({ position, value }),
        failed: (code) => reject(new Refused(code)),
      });
      commit.stage(operation);
      commit.kick();
    });
  }

  private search(id: string, target: RemovalTarget, from: LogPosition, to: LogPosition): Promise<FoundContent> {
    const { disk, logDir, isStopped } = this.parts;
    return findContent(disk, logDir, target, id, { from, to }, isStopped);
  }

  /** The hash of the last content that can be read; of the live value when no line can. */
  private async hashOf(
    lines: readonly FoundLine[],
    live: string | null,
  ): Promise<Pick<FoundPart, 'contentHash' | 'hashedSeq'>> {
    const last = lines.findLast((line) => !line.isDamaged);
    const event = last === undefined ? null : await this.parts.reader.read(last.position, last.lineBytes);
    const content = contentOf(event);
    if (event !== null && content !== null) return { contentHash: contentHash(content), hashedSeq: event.seq };
    return { contentHash: live === null ? null : contentHash(live), hashedSeq: 0 };
  }

  /** A full disk, a stop and a log that takes no writes are refusals; any other error ends the shard, as everywhere. */
  private async refusing<Part>(work: () => Promise<Part>): Promise<RemovalReply<Part>> {
    try {
      return { ok: true, part: await work() };
    } catch (error) {
      if (error instanceof Refused) return { ok: false, code: error.code };
      if (error instanceof RemovalInterrupted) return { ok: false, code: 'unavailable' };
      if (isDiskFull(error)) return { ok: false, code: 'store_full' };
      throw error;
    }
  }
}

class Refused extends Error {
  constructor(readonly code: ApiErrorCode) {
    super(`refused: ${code}`);
    this.name = 'Refused';
  }
}
