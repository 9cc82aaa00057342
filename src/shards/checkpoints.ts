import type { Logger } from '../log.js';
import type { GroupCommit } from './group-commit.js';
import type { LogWriter } from './log-writer.js';
import { toByteString } from './overlay-table.js';
import type { Registrations } from './registrations.js';
import type { SpaceGuard } from './space-guard.js';
import type { Store } from './store.js';
import type { View } from './view.js';

/**
 * Checkpoints: when LMDB takes the rows that changed, and who waits for that.
 * Owns:      the one checkpoint under way, and whether another is due.
 * Never:     runs two at a time, or begins one amid a batch: a checkpoint has whole batches only.
 * Failure:   one for which there may be no room is put off, as the log has it all; any other error ends writing for good.
 */

/** Rows that make a checkpoint due at once: handing them to LMDB stops the shard's thread for about 20 ms. */
const CHECKPOINT_ROWS = 16_384;

export interface CheckpointsOptions {
  readonly shard: number;
  readonly store: Store;
  readonly view: View;
  readonly log: LogWriter;
  readonly commit: GroupCommit;
  readonly registrations: Registrations;
  readonly space: SpaceGuard;
  readonly durability: 'fsync' | 'interval' | 'none';
  readonly logger: Logger;
  /** After a failed commit the rows it had are the only ones that readers see: no other may take their place. */
  isReadOnly(): boolean;
  isServing(): boolean;
  onBroken(error: unknown): void;
}

export class Checkpoints {
  private readonly options: CheckpointsOptions;
  private isDue = false;
  private running: Promise<void> = Promise.resolve();
  /** Who waits for the next one: told whether it was made. */
  private waiting: ((isMade: boolean) => void)[] = [];

  constructor(options: CheckpointsOptions) {
    this.options = options;
  }

  /** Makes one due if there is anything for it. */
  soon(): void {
    const { store, commit } = this.options;
    if (store.changedRows === 0 || store.isCheckpointing) return;
    this.isDue = true;
    commit.wake();
  }

  /** With `fsync` a checkpoint runs beside the next batches; without, the log must be on the disk before LMDB is. */
  async betweenBatches(): Promise<void> {
    const { store, log, space, commit, durability, isReadOnly } = this.options;
    if (store.isCheckpointing || isReadOnly()) return;
    if (!this.isDue && store.changedRows < CHECKPOINT_ROWS) return;
    this.isDue = false;
    // Put off: the rows stay in memory, and the log has them.
    if (!space.hasRoomForCheckpoint(log.position)) {
      this.failWaiting();
      return space.ask(log.position);
    }
    space.checkpointBegan(log.position);
    if (durability !== 'fsync') await commit.sync();
    this.running = this.run();
  }

  /** Resolves when none is under way. */
  settled(): Promise<void> {
    return this.running;
  }

  /**
   * Makes one of all that is visible now, in which the key's state row is deleted, and overwrites what LMDB leaves of it.
   * False: there is no room for one, or the shard is broken.
   */
  async erase(key: string): Promise<boolean> {
    const { store, commit, isReadOnly, isServing } = this.options;
    await this.running;
    if (isReadOnly()) return false;
    const isMade = await new Promise<boolean>((resolve) => {
      this.waiting.push(resolve);
      this.isDue = true;
      commit.wake();
    });
    if (!isMade) return false;
    await store.eraseRemains(toByteString(key), () => !isServing());
    return true;
  }

  /** Makes the next start quick; it does as well without. */
  async last(): Promise<void> {
    const { store, view, log, space, logger, shard } = this.options;
    if (space.hasRoomForCheckpoint(log.position)) return store.checkpoint(view.meta);
    logger.warn({ shard }, 'no room for a last checkpoint: the next start replays the log');
  }

  /** Nobody need wait for the next one. */
  failWaiting(): void {
    for (const tell of this.takeWaiting()) tell(false);
  }

  private async run(): Promise<void> {
    const { store, view, registrations, commit, onBroken } = this.options;
    const cleanUp = registrations.checkpointed();
    const waiting = this.takeWaiting();
    try {
      await store.checkpoint(view.meta);
      await cleanUp();
      for (const tell of waiting) tell(true);
    } catch (error) {
      for (const tell of waiting) tell(false);
      onBroken(error);
    }
    // Somebody came while this one was under way: what they wait for may not be in it.
    if (this.waiting.length > 0) commit.wake();
  }

  private takeWaiting(): ((isMade: boolean) => void)[] {
    const waiting = this.waiting;
    this.waiting = [];
    return waiting;
  }
}
