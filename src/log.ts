import pino, { type Logger } from 'pino';
import type { Config } from './config/config.js';

export type { Logger } from 'pino';

/**
 * Structured log of one thread: one JSON line on stderr per noteworthy event, written at once so that a dying process
 * keeps its last words. Never pass a token, a hash of one, a webhook URL or a secret.
 */
export function createLogger(component: string, level: Config['log']['level']): Logger {
  return pino(
    { level, base: { component }, timestamp: pino.stdTimeFunctions.isoTime },
    pino.destination({ fd: 2, sync: true }),
  );
}
