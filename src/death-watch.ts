import type { Logger } from './log.js';

/**
 * Counts threads that ended by themselves. One is restarted and life goes on; three within a minute mean that the
 * machine, the data or the build is broken, and restarting only hides it.
 */
const MAX_DEATHS = 3;
const WINDOW_MS = 60_000;

export class DeathWatch {
  private readonly deathsMs: number[] = [];
  private readonly logger: Logger;
  private readonly onFatal: (error: Error) => void;

  /** `onFatal` must end the process with a non-zero code. */
  constructor(logger: Logger, onFatal: (error: Error) => void) {
    this.logger = logger;
    this.onFatal = onFatal;
  }

  /** Logs the death; false when it was one too many, and `onFatal` has been told. */
  record(thread: string, error: Error, nowMs: number = Date.now()): boolean {
    this.deathsMs.push(nowMs);
    while ((this.deathsMs[0] ?? nowMs) < nowMs - WINDOW_MS) this.deathsMs.shift();
    const deaths = this.deathsMs.length;
    this.logger.error({ thread, err: error, deathsInLastMinute: deaths }, 'thread died');
    if (deaths < MAX_DEATHS) return true;
    this.onFatal(new Error(`${deaths} threads died within a minute, the last one: ${thread}`, { cause: error }));
    return false;
  }
}
