/**
 * GCRA, the generic cell rate algorithm (ITU-T I.371): a token bucket kept as one number per key, with no timers.
 * Pure: no clock, no state, no memory. Everything is whole microseconds, exact in a double until the year 2255.
 */

/** A bucket of `burst` tokens, refilled by one every `emissionIntervalUs`. */
export interface RateLimit {
  /** Whole, at least 1. */
  readonly burst: number;
  /** Whole, at least 1. */
  readonly emissionIntervalUs: number;
}

/** `newTatUs` of a request that is refused: the arrival time stays as it was. */
export const REFUSED = -1;

/**
 * How far beyond a full bucket an arrival time may lie before it is taken for a clock that was set back. Threads read the
 * clock at slightly different moments, so a little is normal; without the rule an agent would be shut out until the
 * clock has made up what it lost.
 */
const CLOCK_STEP_US = 5_000_000;

/**
 * A burst of `count` requests, refilled evenly over `periodMs`. The interval is rounded up to whole microseconds, so at
 * most `count` are refilled in a period; rates beyond one per microsecond refill at one per microsecond.
 * @param count whole, at least 1
 */
export function rateLimit(count: number, periodMs: number): RateLimit {
  if (!Number.isSafeInteger(count) || count < 1)
    throw new RangeError(`a rate limit of ${count} is not a whole number from 1`);
  return { burst: count, emissionIntervalUs: Math.max(1, Math.ceil((periodMs * 1000) / count)) };
}

/**
 * Decides one request.
 * @param tatUs theoretical arrival time left by the last accepted request, epoch us; 0 if there was none
 * @returns the new theoretical arrival time, to be stored by compare-and-swap; `REFUSED` if there is no token
 */
export function gcra(tatUs: number, nowUs: number, limit: RateLimit): number {
  const arrivalUs = nowUs + waitUs(tatUs, nowUs, limit);
  const burstToleranceUs = (limit.burst - 1) * limit.emissionIntervalUs;
  return arrivalUs - nowUs > burstToleranceUs ? REFUSED : arrivalUs + limit.emissionIntervalUs;
}

/** Requests that would be allowed at this moment, 0 to `burst`. */
export function remainingTokens(tatUs: number, nowUs: number, limit: RateLimit): number {
  const freeUs = limit.burst * limit.emissionIntervalUs - waitUs(tatUs, nowUs, limit);
  return freeUs <= 0 ? 0 : Math.floor(freeUs / limit.emissionIntervalUs);
}

/** Unix time in whole seconds, rounded up, at which the bucket is full again; the present second if it is full. */
export function resetEpochSeconds(tatUs: number, nowUs: number, limit: RateLimit): number {
  return Math.ceil((nowUs + waitUs(tatUs, nowUs, limit)) / 1_000_000);
}

/** Whole seconds, rounded up and at least 1, until a refused request would be allowed if no other came before it. */
export function retryAfterSeconds(tatUs: number, nowUs: number, limit: RateLimit): number {
  const burstToleranceUs = (limit.burst - 1) * limit.emissionIntervalUs;
  return Math.max(1, Math.ceil((waitUs(tatUs, nowUs, limit) - burstToleranceUs) / 1_000_000));
}

/** Time until the bucket is full; 0 for one that is, and for one whose arrival time a set-back clock has made absurd. */
function waitUs(tatUs: number, nowUs: number, limit: RateLimit): number {
  const aheadUs = tatUs - nowUs;
  return aheadUs <= 0 || aheadUs > limit.burst * limit.emissionIntervalUs + CLOCK_STEP_US ? 0 : aheadUs;
}
