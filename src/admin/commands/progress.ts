import { Presets, SingleBar } from 'cli-progress';
import { NO_PROGRESS, type Progress } from '../../shards/tools/progress.js';

/**
 * The progress bar of the command line: on standard error, only on a terminal, only for what takes over a second.
 */
const SHOW_AFTER_MS = 1_000;
const MEBIBYTE = 1024 * 1024;

export interface ShownProgress extends Progress {
  /** Takes the bar away. */
  end(): void;
}

/** `isQuiet`: nothing is shown, whatever standard error is. */
export function terminalProgress(isQuiet: boolean): ShownProgress {
  if (isQuiet || !process.stderr.isTTY) return { ...NO_PROGRESS, end() {} };
  return new TerminalProgress();
}

class TerminalProgress implements ShownProgress {
  private bar: SingleBar | null = null;
  private name = '';
  private totalBytes = 0;
  private doneBytes = 0;
  private readonly startedMs = performance.now();
  private shownMs = 0;

  stage(name: string, totalBytes: number): void {
    this.end();
    this.name = name;
    this.totalBytes = totalBytes;
    this.doneBytes = 0;
  }

  advance(bytes: number): void {
    this.doneBytes += bytes;
    const nowMs = performance.now();
    if (nowMs - this.startedMs < SHOW_AFTER_MS || nowMs - this.shownMs < 100) return;
    this.shownMs = nowMs;
    if (this.bar === null) {
      this.bar = new SingleBar(
        {
          format: `${this.name.padEnd(10)} {bar} {percentage}% | {value}/{total} MiB | {eta_formatted} left`,
          stream: process.stderr,
          clearOnComplete: true,
          hideCursor: true,
          // Signals end the command, which takes the bar away first.
          gracefulExit: false,
        },
        Presets.shades_classic,
      );
      this.bar.start(Math.ceil(this.totalBytes / MEBIBYTE), 0);
    }
    this.bar.update(Math.min(Math.ceil(this.totalBytes / MEBIBYTE), Math.floor(this.doneBytes / MEBIBYTE)));
  }

  end(): void {
    this.bar?.stop();
    this.bar = null;
  }
}
