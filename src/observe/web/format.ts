/** Numbers, sizes and times as people read them. Pure; the language is English, times are local, shown in 24 hours. */
const WHOLE = new Intl.NumberFormat('en');
const COMPACT = new Intl.NumberFormat('en', { notation: 'compact', maximumFractionDigits: 1 });
const DATE_TIME = new Intl.DateTimeFormat('en-GB', {
  year: 'numeric',
  month: 'short',
  day: 'numeric',
  hour: '2-digit',
  minute: '2-digit',
  second: '2-digit',
});
const CLOCK = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit', second: '2-digit' });
const DAY = new Intl.DateTimeFormat('en-GB', { day: 'numeric', month: 'short' });

export function whole(value: number): string {
  return WHOLE.format(value);
}

/** Short from 10,000 on: 9,999 but 12.3K. */
export function compact(value: number): string {
  return value < 10_000 ? WHOLE.format(value) : COMPACT.format(value);
}

/** A rate per second. */
export function rate(value: number): string {
  return value >= 100 || value === 0 ? compact(Math.round(value)) : value.toFixed(value >= 10 ? 0 : 1);
}

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB'] as const;

export function bytes(count: number): string {
  let value = count;
  let unit = 0;
  while (value >= 1024 && unit < UNITS.length - 1) {
    value /= 1024;
    unit++;
  }
  const digits = unit === 0 || value >= 100 || Number.isInteger(value) ? 0 : 1;
  return `${value.toFixed(digits)} ${UNITS[unit]}`;
}

export function dateTime(ts: string | number): string {
  const date = new Date(ts);
  return Number.isNaN(date.getTime()) ? '\u2013' : DATE_TIME.format(date);
}

/** Time of day with milliseconds; with the day in front when that is not today. */
export function clock(ts: string): string {
  const date = new Date(ts);
  if (Number.isNaN(date.getTime())) return '\u2013';
  return `${CLOCK.format(date)}.${String(date.getMilliseconds()).padStart(3, '0')}`;
}

export function day(ts: string | number): string {
  return DAY.format(new Date(ts));
}

/** How long ago, in the largest whole unit. */
export function ago(ts: string, nowMs: number): string {
  const seconds = Math.floor((nowMs - Date.parse(ts)) / 1000);
  if (Number.isNaN(seconds)) return '\u2013';
  if (seconds < 5) return 'just now';
  if (seconds < 60) return `${seconds} s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h ago`;
  return `${Math.floor(seconds / 86_400)} d ago`;
}

export function duration(ms: number): string {
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 60_000) return `${Math.round(ms / 1000)} s`;
  if (ms < 3_600_000) return `${Math.round(ms / 60_000)} min`;
  if (ms < 172_800_000) return `${Math.round(ms / 3_600_000)} h`;
  return `${Math.round(ms / 86_400_000)} d`;
}

/** An address short enough for a label, still telling agents apart: `tab_k3v0q8`. */
export function shortAddress(address: string): string {
  return address.length > 12 ? address.slice(0, 10) : address;
}

export function plural(count: number, one: string, many = `${one}s`): string {
  return `${whole(count)} ${count === 1 ? one : many}`;
}
