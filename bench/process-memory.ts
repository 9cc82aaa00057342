import { readFileSync } from 'node:fs';

/**
 * Anonymous resident memory of a process in bytes: what it really holds. Mapped files (LMDB) are not in it.
 * @throws Error when there is no such process, or no /proc.
 */
export function anonymousBytes(pid: number): number {
  const status = readFileSync(`/proc/${pid}/status`, 'latin1');
  const kibibytes = /^RssAnon:\s+(\d+) kB$/m.exec(status)?.[1];
  if (kibibytes === undefined) throw new Error('this kernel does not tell RssAnon');
  return Number(kibibytes) * 1024;
}
