/** The command `observe` as a process of its own. Owns the process; ends it by its own pid. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { HttpClient } from '../support/http.js';
import { SERVER_ENTRY } from '../support/server.js';
import { waitUntil } from '../support/wait.js';

const READY_WITHIN_MS = 30_000;

export class ObserveProcess {
  port = 0;
  /** Time from the start to `ready`. */
  readyMs = 0;
  readonly client = new HttpClient(() => this.port);
  readonly stderr: string[] = [];

  private constructor(private readonly child: ChildProcess) {}

  static async start(dataDir: string, args: readonly string[] = []): Promise<ObserveProcess> {
    const startedMs = performance.now();
    const flags = ['observe', '--data-dir', dataDir, '--listen', '127.0.0.1:0', ...args];
    const child = spawn(process.execPath, [SERVER_ENTRY, ...flags], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, TABULUM_OBSERVE_RATE_LIMIT_REQUESTS_PER_MIN_PER_IP: '1000000' },
    });
    // A test process that dies early takes it along.
    const killWithUs = (): void => void child.kill('SIGKILL');
    process.once('exit', killWithUs);
    child.once('exit', () => process.removeListener('exit', killWithUs));
    const observer = new ObserveProcess(child);
    const { stdout, stderr } = child;
    assert.ok(stdout !== null && stderr !== null);
    createInterface({ input: stderr }).on('line', (line) => observer.stderr.push(line));
    await new Promise<void>((ready, failed) => {
      const timer = setTimeout(() => failed(new Error('observe is not ready')), READY_WITHIN_MS);
      child.once('exit', (code) => failed(new Error(`observe ended with ${code}:\n${observer.stderr.join('\n')}`)));
      createInterface({ input: stdout }).on('line', (line) => {
        const port = /observation\s+http:\/\/.*:(\d+)$/.exec(line)?.[1];
        if (port !== undefined) observer.port = Number(port);
        if (line !== 'ready') return;
        clearTimeout(timer);
        ready();
      });
    });
    observer.readyMs = performance.now() - startedMs;
    return observer;
  }

  get pid(): number {
    assert.ok(this.child.pid !== undefined);
    return this.child.pid;
  }

  async ask<T>(path: string): Promise<T> {
    const answer = await this.client.get(path);
    assert.equal(answer.status, 200, `${path}: ${answer.text}`);
    return answer.json<T>();
  }

  async eventCount(): Promise<number> {
    return (await this.ask<{ events: number }>('/observe/overview')).events;
  }

  async untilEvents(count: number): Promise<void> {
    await waitUntil(async () => (await this.eventCount()) >= count, { timeoutMs: 120_000, what: `${count} events` });
  }

  async signal(name: 'SIGTERM' | 'SIGKILL'): Promise<number | null> {
    this.client.close();
    if (this.child.exitCode !== null || this.child.signalCode !== null) return this.child.exitCode;
    const exit = once(this.child, 'exit');
    this.child.kill(name);
    const [code] = (await exit) as [number | null];
    return code;
  }
}
