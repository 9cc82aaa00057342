/**
 * Loaded before a command under test (`node --import`): ends its process by SIGKILL right before the n-th call that
 * changes the file system. It tells the number of such calls when the process ends by itself.
 */
import fs from 'node:fs';
import promises from 'node:fs/promises';
import { syncBuiltinESMExports } from 'node:module';

const crashBefore = Number(process.env.CRASH_BEFORE_CHANGE ?? 0);
let changes = 0;

type Functions = Record<string, (...args: unknown[]) => unknown>;

function hook(functions: Functions, names: readonly string[]): void {
  for (const name of names) {
    const original = functions[name] as (...args: unknown[]) => unknown;
    functions[name] = (...args) => {
      const isReading = name === 'open' && (args[1] === undefined || args[1] === 'r');
      if (!isReading) changes += 1;
      if (!isReading && changes === crashBefore) process.kill(process.pid, 'SIGKILL');
      return original(...args);
    };
  }
}

hook(promises as unknown as Functions, ['rename', 'rm', 'link', 'utimes', 'copyFile', 'open']);
hook(fs as unknown as Functions, ['renameSync', 'writeFileSync', 'mkdirSync', 'ftruncateSync']);
syncBuiltinESMExports();
process.on('exit', () => process.stderr.write(`changes=${changes}\n`));
