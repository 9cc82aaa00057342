/**
 * A load from a process of its own, of low priority, as it would come from other machines. The script prints `ready` when
 * it is under way and, when its standard input ends, one line with what came of it.
 * Owns: the process.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { constants, setPriority } from 'node:os';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { pidOf } from '../../examples/demo/server-process.js';

const READY = 'ready';

export class LoadProcess {
  private lastLine = READY;

  private constructor(
    private readonly child: ChildProcess,
    private readonly script: string,
  ) {}

  /** Resolves when it is under way. @param script beside or above this file, compiled. @throws Error when it ends by itself. */
  static async start(script: string, args: readonly string[]): Promise<LoadProcess> {
    const entry = fileURLToPath(new URL(script, import.meta.url));
    const child = spawn(process.execPath, [entry, ...args], { stdio: ['pipe', 'pipe', 'inherit'] });
    const load = new LoadProcess(child, script);
    setPriority(pidOf(child), constants.priority.PRIORITY_BELOW_NORMAL);
    const output = createInterface({ input: child.stdout });
    output.on('line', (line) => {
      load.lastLine = line;
    });
    await Promise.race([
      once(output, 'line'),
      once(child, 'exit').then(() => Promise.reject(new Error(`${script} ended by itself`))),
    ]);
    return load;
  }

  /** What came of it. @throws Error when it did not say. */
  async end(): Promise<unknown> {
    const closed = once(this.child, 'close');
    this.child.stdin?.end();
    await closed;
    if (this.lastLine === READY) throw new Error(`${this.script} did not say what came of it`);
    return JSON.parse(this.lastLine);
  }
}
