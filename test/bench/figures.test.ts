/** What the benchmark says of a figure: pure arithmetic, whatever was measured. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { spreadPlace } from '../../bench/dataset.js';
import { type CountedMetric, compare, countedRow, type Measurement, type Row, reaches } from '../../bench/measure.js';
import { describeTable } from '../../bench/report.js';

function measured(values: Partial<Measurement>): Measurement {
  const none = { completed: 1, failed: 0, ratePerSecond: 1, p50Ms: 1, p99Ms: 1, maxMs: 1, cpuMicrosPerOperation: 1 };
  return { ...none, ...values };
}

function counted(metric: CountedMetric, figures: readonly number[], target: Row['target']): Row {
  return countedRow(
    'what is counted',
    metric,
    'ours',
    figures.map((figure) => measured({ counted: figure })),
    target,
  );
}

test('a share is judged by itself, and better high', () => {
  const row = counted('share', [0.995, 0.996, 0.2], null);
  assert.equal(reaches(row, 0.99), true);
  assert.equal(reaches(row, 0.999), false);
});

test('a count is judged by itself, and better low: none reaches a bound of 0, one does not', () => {
  assert.equal(reaches(counted('count', [0], null), 0), true);
  assert.equal(reaches(counted('count', [1], null), 0), false);
});

test('the table shows a share and its bounds in per cent, with its verdict', () => {
  const target = { floor: 0.99, aim: 0.999 };
  const table = (figure: number): string =>
    describeTable([{ scenario: 's', dataset: 'd', checks: [], rows: [counted('share', [figure], target)] }]);
  assert.match(table(0.9945), /share +99\.45 % +- +- +99 % +99\.9 % +floor/);
  assert.match(table(0.9995), /share +99\.95 % .* aim /);
  assert.match(table(0.9845), /share +98\.45 % .* BELOW /);
});

test('a time is judged by its ratio to the reference, and better low; a rate better high', () => {
  const side = { name: 'side', pid: null, run: () => Promise.reject(new Error('is not run')) };
  const rounds = {
    ours: [measured({ p99Ms: 3, ratePerSecond: 3 })],
    reference: [measured({ p99Ms: 2, ratePerSecond: 2 })],
  };
  const time = compare('how long', 'p99', side, side, rounds, null);
  assert.deepEqual([reaches(time, 1.5), reaches(time, 1.4)], [true, false]);
  const rate = compare('how fast', 'rate', side, side, rounds, null);
  assert.deepEqual([reaches(rate, 1.5), reaches(rate, 1.6)], [true, false]);
});

test('turns spread over a world meet each place once, and the first of them lie all over it', () => {
  const size = 10_000;
  const places = Array.from({ length: size }, (_, turn) => spreadPlace(turn, size));
  assert.equal(new Set(places).size, size);
  const tenths = new Set(places.slice(0, 100).map((place) => Math.floor((place * 10) / size)));
  assert.equal(tenths.size, 10);
});
