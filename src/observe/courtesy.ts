/**
 * Courtesy: how long the observer rests between batches, so that it takes little where agents need all there is. Its low
 * priority alone does not do that: a thread that always has work also costs caches and wake-ups, a tenth of the agents'
 * rate on two busy cores (bench/scenarios/put-state.ts).
 * Owns: the last look at the machine's processor times.
 */
import { cpus } from 'node:os';

/** With less than this part of the machine's processor time unused, it is busy. */
const BUSY_BELOW_IDLE = 0.25;
/** Then it rests this many times as long as it worked: a tenth of one core is what it takes. */
const REST_FACTOR = 9;
/** A watcher waits no longer for what comes next; a batch of a busy machine takes no more than a ninth of it. */
const MAX_REST_MS = 250;
const LOOK_INTERVAL_MS = 250;

/** Milliseconds of processor time, of all cores together, since some fixed moment. */
export interface ProcessorTimes {
  readonly idleMs: number;
  readonly allMs: number;
}

export class Courtesy {
  private last: ProcessorTimes;
  private lookedMs: number;
  /** As of the last look. */
  isBusy = false;

  constructor(
    private readonly times: () => ProcessorTimes = processorTimes,
    private readonly nowMs: () => number = () => performance.now(),
  ) {
    this.last = times();
    this.lookedMs = nowMs();
  }

  /** Milliseconds to rest after `workedMs` of work; 0 while the machine has time to spare. A tenth of a millisecond's work. */
  restMs(workedMs: number): number {
    const nowMs = this.nowMs();
    if (nowMs - this.lookedMs >= LOOK_INTERVAL_MS) {
      const { idleMs, allMs } = this.times();
      this.isBusy = idleMs - this.last.idleMs < (allMs - this.last.allMs) * BUSY_BELOW_IDLE;
      this.last = { idleMs, allMs };
      this.lookedMs = nowMs;
    }
    return this.isBusy ? Math.min(MAX_REST_MS, workedMs * REST_FACTOR) : 0;
  }
}

function processorTimes(): ProcessorTimes {
  let idleMs = 0;
  let allMs = 0;
  for (const { times } of cpus()) {
    idleMs += times.idle;
    allMs += times.user + times.nice + times.sys + times.idle + times.irq;
  }
  return { idleMs, allMs };
}
