/** RFC 3339 times for answers, several times cheaper than `Date`: what whole seconds look like is remembered. */

const REMEMBERED_SECONDS = 1024;
const seconds = new Float64Array(REMEMBERED_SECONDS).fill(-1);
const prefixes: string[] = new Array(REMEMBERED_SECONDS).fill('');
const SUFFIXES: readonly string[] = Array.from({ length: 1000 }, (_, ms) => `.${String(ms).padStart(3, '0')}Z`);

/** @param epochMs whole, 0 to the year 9999. @returns e.g. `2026-03-18T05:30:00.123Z`. */
export function isoTime(epochMs: number): string {
  const second = Math.floor(epochMs / 1000);
  const slot = second % REMEMBERED_SECONDS;
  if (seconds[slot] !== second) {
    prefixes[slot] = new Date(second * 1000).toISOString().slice(0, 19);
    seconds[slot] = second;
  }
  return (prefixes[slot] ?? '') + (SUFFIXES[epochMs - second * 1000] ?? '.000Z');
}
