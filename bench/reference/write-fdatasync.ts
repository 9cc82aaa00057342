/** What the machine itself takes to make one small write durable: append, fdatasync, again. */
import { closeSync, fdatasyncSync, openSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import type { Side } from '../measure.js';
import { percentiles } from '../statistics.js';

/** About the line that one event of a 200-byte value makes in the log. */
const LINE_BYTES = 512;

/** @param dir on the file system under test. Blocks this thread for `seconds` a run. */
export function writeAndSyncSide(dir: string, seconds: number): Side {
  return {
    name: `write ${LINE_BYTES} bytes + fdatasync`,
    pid: null,
    run: async () => {
      const file = join(dir, 'bare-writes');
      const descriptor = openSync(file, 'a');
      const line = Buffer.alloc(LINE_BYTES, 'x');
      const latenciesMs: number[] = [];
      const startedMs = performance.now();
      try {
        for (let nowMs = startedMs; nowMs - startedMs < seconds * 1000; ) {
          writeSync(descriptor, line);
          fdatasyncSync(descriptor);
          const doneMs = performance.now();
          latenciesMs.push(doneMs - nowMs);
          nowMs = doneMs;
        }
      } finally {
        closeSync(descriptor);
        rmSync(file);
      }
      const completed = latenciesMs.length;
      const ratePerSecond = (completed * 1000) / (performance.now() - startedMs);
      return { completed, failed: 0, ratePerSecond, ...percentiles(latenciesMs) };
    },
  };
}
