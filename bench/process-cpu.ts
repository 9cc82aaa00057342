import { readFileSync } from 'node:fs';

/** Linux counts in these, whatever its own tick is (USER_HZ). */
const TICKS_PER_SECOND = 100;

/**
 * CPU time a process has used in all its threads, user + system, in microseconds; 10,000 at a time.
 * @throws Error when there is no such process, or no /proc.
 */
export function processCpuMicros(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
  // The name, in parentheses, may hold spaces: count fields from behind it. utime and stime are fields 14 and 15.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return ((Number(fields[11]) + Number(fields[12])) * 1_000_000) / TICKS_PER_SECOND;
}
