/** Waiting in tests: on conditions, never on a guessed time. */
import { setTimeout as sleep } from 'node:timers/promises';

export interface WaitOptions {
  /** How long the condition may take before the test fails, in milliseconds. */
  readonly timeoutMs: number;
  /** What is awaited, for the failure message; the condition's source text when absent. */
  readonly what?: string;
}

const POLL_INTERVAL_MS = 5;

/** Resolves as soon as `condition` holds; rejects when it has not within `timeoutMs`, or when it throws. */
export async function waitUntil(condition: () => boolean | Promise<boolean>, options: WaitOptions): Promise<void> {
  const deadlineMs = performance.now() + options.timeoutMs;
  while (!(await condition())) {
    if (performance.now() > deadlineMs) {
      throw new Error(`not within ${options.timeoutMs} ms: ${options.what ?? condition.toString()}`);
    }
    await sleep(POLL_INTERVAL_MS);
  }
}
