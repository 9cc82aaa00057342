/** The table a run prints, and the JSON it leaves behind. Pure but for `writeReport`. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Conditions } from './conditions.js';
import { judgedFigure, type Measurement, type Metric, medianOf, type Row, reaches } from './measure.js';
import type { ScenarioResult } from './scenario.js';
import { median } from './statistics.js';

export interface NamedResult extends ScenarioResult {
  readonly scenario: string;
}

export interface Report {
  readonly conditions: Conditions;
  readonly settings: Readonly<Record<string, unknown>>;
  readonly results: readonly NamedResult[];
}

export function describeConditions({ conditions, settings }: Omit<Report, 'results'>): string {
  const c = conditions;
  return [
    `Tabulum ${c.version}, commit ${c.commit}, node ${c.node}, ${c.date}`,
    `${c.cpu}, ${c.cores} cores, ${(c.memoryBytes / 2 ** 30).toFixed(0)} GiB, Linux ${c.kernel}, data on ${c.fileSystem}`,
    `load from ${c.loadGenerator}; ${c.redis}; load average before: ${c.loadBefore.toFixed(2)}`,
    Object.entries(settings)
      .map(([name, value]) => `${name} ${value}`)
      .join(', '),
  ].join('\n');
}

/** One scenario: what it was measured on, both sides, the ratio and whether it reaches its target. */
export function describeResult(result: NamedResult): string {
  const lines = [`${result.scenario}: ${result.dataset}`];
  for (const row of result.rows) lines.push(sideLine(row.oursName, row.ours), ...referenceLines(row));
  for (const one of result.checks) lines.push(`  ${one.holds ? 'ok   ' : 'WRONG'} ${one.what} (${one.found})`);
  return lines.join('\n');
}

const COLUMNS = [
  'what',
  'compared',
  'ours',
  'reference',
  'ratio',
  'ratio per round',
  'floor',
  'aim',
  '',
  'CPU µs/op',
  'ref CPU',
];

/** The table of DESIGN.md's figures to reach, as far as this run measured them. */
export function describeTable(results: readonly NamedResult[]): string {
  const rows = results.flatMap((result) => result.rows);
  const cells = [COLUMNS, ...rows.map(rowCells)];
  const widths = COLUMNS.map((_, column) => Math.max(...cells.map((row) => (row[column] ?? '').length)));
  return cells
    .map((row) =>
      row
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}

/** Returns the file's path. */
export function writeReport(directory: string, report: Report): string {
  mkdirSync(directory, { recursive: true });
  const file = join(directory, `${report.conditions.date.replaceAll(':', '-')}.json`);
  writeFileSync(file, `${JSON.stringify(report, null, 2)}\n`);
  return file;
}

function rowCells(row: Row): string[] {
  return [
    row.question,
    row.metric,
    withUnit(row.metric, medianOf(row.metric, row.ours)),
    row.reference.length === 0 ? '-' : withUnit(row.metric, medianOf(row.metric, row.reference)),
    row.ratio === null ? '-' : row.ratio.toFixed(2),
    row.ratios.map((ratio) => ratio.toFixed(2)).join(' '),
    row.target === null ? '-' : boundText(row.metric, row.target.floor),
    row.target === null ? '-' : boundText(row.metric, row.target.aim),
    verdict(row),
    cpuOf(row.ours),
    cpuOf(row.reference),
  ];
}

function verdict(row: Row): string {
  if (row.target === null || judgedFigure(row) === null) return '';
  if (reaches(row, row.target.aim)) return 'aim';
  return reaches(row, row.target.floor) ? 'floor' : 'BELOW';
}

function referenceLines(row: Row): string[] {
  return row.reference.length === 0 ? [`  ${row.referenceName}`] : [sideLine(row.referenceName, row.reference)];
}

function sideLine(name: string, measurements: readonly Measurement[]): string {
  const rate = withUnit('rate', medianOf('rate', measurements));
  const times = (['p50', 'p99', 'longest wait'] as const).map((metric) =>
    withUnit(metric, medianOf(metric, measurements)),
  );
  return `  ${name.padEnd(44)} ${rate.padStart(11)}  p50 ${times[0]}  p99 ${times[1]}  max ${times[2]}  CPU ${cpuOf(measurements)} µs/op`;
}

function withUnit(metric: Metric, value: number): string {
  if (Number.isNaN(value)) return '-';
  if (metric === 'rate') return `${value.toFixed(0)}/s`;
  if (metric === 'share') return `${(value * 100).toFixed(2)} %`;
  if (metric === 'count') return value.toFixed(0);
  return `${value.toFixed(value < 10 ? 3 : 0)} ms`;
}

function boundText(metric: Metric, bound: number): string {
  return metric === 'share' ? `${bound * 100} %` : String(bound);
}

function cpuOf(measurements: readonly Measurement[]): string {
  const value = median(measurements.map((one) => one.cpuMicrosPerOperation));
  return Number.isNaN(value) ? '-' : value.toFixed(1);
}
