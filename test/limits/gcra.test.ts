/** GCRA against a token bucket that counts whole tokens, and its boundaries to the microsecond. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  gcra,
  type RateLimit,
  REFUSED,
  rateLimit,
  remainingTokens,
  resetEpochSeconds,
  retryAfterSeconds,
} from '../../src/gateway/limits/gcra.js';
import { seedFor } from '../support/seed.js';

const NOW_US = 1_800_000_000_000_000;

/** The textbook token bucket, in units of 1/interval tokens so that it stays exact: `level` counts microseconds of refill. */
class NaiveBucket {
  private levelUs: number;
  private atUs = 0;
  constructor(private readonly limit: RateLimit) {
    this.levelUs = limit.burst * limit.emissionIntervalUs;
  }
  take(nowUs: number): boolean {
    this.refill(nowUs);
    if (this.levelUs < this.limit.emissionIntervalUs) return false;
    this.levelUs -= this.limit.emissionIntervalUs;
    return true;
  }
  refill(nowUs: number): void {
    const full = this.limit.burst * this.limit.emissionIntervalUs;
    this.levelUs = Math.min(full, this.levelUs + (nowUs - this.atUs));
    this.atUs = nowUs;
  }
  remaining(): number {
    return Math.floor(this.levelUs / this.limit.emissionIntervalUs);
  }
  usUntilFull(): number {
    return this.limit.burst * this.limit.emissionIntervalUs - this.levelUs;
  }
  usUntilOne(): number {
    return this.limit.emissionIntervalUs - this.levelUs;
  }
}

test('every decision, remaining, reset and retry-after equals that of a token bucket', (t) => {
  const limits = fc.record({
    count: fc.oneof(fc.integer({ min: 1, max: 10 }), fc.integer({ min: 1, max: 5000 })),
    periodMs: fc.constantFrom(1_000, 60_000, 3_600_000),
  });
  const gapsUs = fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 3_000 }), fc.integer({ min: 0, max: 90_000_000 }));
  fc.assert(
    fc.property(limits, fc.array(gapsUs, { minLength: 1, maxLength: 200 }), ({ count, periodMs }, gaps) => {
      const limit = rateLimit(count, periodMs);
      const bucket = new NaiveBucket(limit);
      let nowUs = NOW_US;
      let tatUs = 0;
      for (const gapUs of gaps) {
        nowUs += gapUs;
        const next = gcra(tatUs, nowUs, limit);
        assert.equal(next !== REFUSED, bucket.take(nowUs));
        if (next === REFUSED) {
          assert.equal(retryAfterSeconds(tatUs, nowUs, limit), Math.max(1, Math.ceil(bucket.usUntilOne() / 1e6)));
        } else {
          tatUs = next;
        }
        assert.equal(remainingTokens(tatUs, nowUs, limit), bucket.remaining());
        assert.equal(resetEpochSeconds(tatUs, nowUs, limit), Math.ceil((nowUs + bucket.usUntilFull()) / 1e6));
      }
    }),
    { seed: seedFor(t), numRuns: 500 },
  );
});

test('after the first burst the figure passes per period, spread evenly', () => {
  const limit = rateLimit(7, 60_000);
  let tatUs = 0;
  const acceptedUs: number[] = [];
  for (let nowUs = NOW_US; nowUs < NOW_US + 180_000_000; nowUs += 10_000) {
    for (let attempt = 0; attempt < 10; attempt++) {
      const next = gcra(tatUs, nowUs, limit);
      if (next === REFUSED) continue;
      tatUs = next;
      acceptedUs.push(nowUs - NOW_US);
    }
  }
  assert.deepEqual(acceptedUs.slice(0, 8), [0, 0, 0, 0, 0, 0, 0, 8_580_000]);
  assert.equal(acceptedUs.length, 7 + 20, '180 s refill 21 tokens but for the last instant');
  const gapsUs = acceptedUs.slice(7).map((us, i) => us - (acceptedUs[i + 6] ?? 0));
  assert.ok(
    gapsUs.every((gap) => gap === 8_570_000 || gap === 8_580_000),
    String(gapsUs),
  );
});

test('a token is back at its microsecond and not one earlier', () => {
  const limit = rateLimit(60, 60_000);
  let tatUs = 0;
  for (let i = 0; i < 60; i++) tatUs = gcra(tatUs, NOW_US, limit);
  assert.equal(gcra(tatUs, NOW_US, limit), REFUSED);
  assert.equal(gcra(tatUs, NOW_US + 999_999, limit), REFUSED);
  assert.notEqual(gcra(tatUs, NOW_US + 1_000_000, limit), REFUSED);
  assert.equal(retryAfterSeconds(tatUs, NOW_US, limit), 1);
  assert.equal(retryAfterSeconds(tatUs, NOW_US + 999_999, limit), 1);
  assert.equal(resetEpochSeconds(tatUs, NOW_US, limit), NOW_US / 1e6 + 60);
});

test('an hourly limit tells minutes of waiting in whole seconds', () => {
  const limit = rateLimit(5, 3_600_000);
  let tatUs = 0;
  for (let i = 0; i < 5; i++) tatUs = gcra(tatUs, NOW_US, limit);
  assert.equal(retryAfterSeconds(tatUs, NOW_US, limit), 720);
  assert.equal(retryAfterSeconds(tatUs, NOW_US + 1, limit), 720);
  assert.equal(retryAfterSeconds(tatUs, NOW_US + 1_000_000, limit), 719);
});

test('rates that do not divide the period never refill more than the figure', () => {
  for (const count of [1, 7, 11, 59, 61, 299, 1_000_003]) {
    const limit = rateLimit(count, 60_000);
    assert.ok(Number.isInteger(limit.emissionIntervalUs) && limit.emissionIntervalUs * count >= 60_000_000);
  }
  assert.equal(rateLimit(1_000_000_000, 60_000).emissionIntervalUs, 1);
  for (const bad of [0, -1, 1.5, Number.NaN, Number.POSITIVE_INFINITY])
    assert.throws(() => rateLimit(bad, 60_000), RangeError);
});

test('a clock set back shuts nobody out, and clocks that differ by milliseconds give nothing away', () => {
  const limit = rateLimit(3, 60_000);
  let tatUs = 0;
  for (let i = 0; i < 3; i++) tatUs = gcra(tatUs, NOW_US, limit);
  assert.equal(gcra(tatUs, NOW_US - 4_000_000, limit), REFUSED);
  assert.notEqual(gcra(tatUs, NOW_US - 3_600_000_000, limit), REFUSED);
  assert.equal(remainingTokens(tatUs, NOW_US - 3_600_000_000, limit), 3);
});
