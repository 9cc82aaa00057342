/** A large event log, and the observation service on it in a process of its own, for scenarios that ask of its size. */
import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { pidOf, SERVER_MAIN, stopProcess } from '../examples/demo/server-process.js';
import { HttpConnection } from './load/http-connection.js';
import type { BenchContext } from './scenario.js';

const READY_WITHIN_MS = 60_000;

export class ObservedLog {
  private constructor(
    private readonly child: ChildProcess,
    readonly url: string,
    /** From the start of the process until it served. */
    readonly readyMs: number,
  ) {}

  /** Stops when the scenario ends. */
  static async start(context: BenchContext, dataDir: string): Promise<ObservedLog> {
    const startedMs = performance.now();
    const child = spawn(process.execPath, [SERVER_MAIN, 'observe', '--data-dir', dataDir, '--listen', '127.0.0.1:0'], {
      stdio: ['ignore', 'pipe', 'inherit'],
      env: {
        ...process.env,
        TABULUM_OBSERVE_RATE_LIMIT_REQUESTS_PER_MIN_PER_IP: '10000000',
        TABULUM_LOG_LEVEL: 'error',
      },
    });
    context.onEnd(() => stopProcess(child));
    const url = await new Promise<string>((resolve, reject) => {
      let found = '';
      if (child.stdout === null) throw new Error('observe has no standard output');
      const deadline = setTimeout(() => reject(new Error('observe is not ready in time')), READY_WITHIN_MS);
      child.once('exit', (code) => reject(new Error(`observe ended with ${code}`)));
      createInterface({ input: child.stdout }).on('line', (line) => {
        found = /observation\s+(http:\S+)/.exec(line)?.[1] ?? found;
        if (line !== 'ready') return;
        clearTimeout(deadline);
        resolve(found);
      });
    });
    return new ObservedLog(child, url, performance.now() - startedMs);
  }

  get pid(): number {
    return pidOf(this.child);
  }

  async indexedEvents(connection: HttpConnection): Promise<number> {
    const { body } = await connection.send({ method: 'GET', path: '/observe/overview', token: '' });
    return (JSON.parse(body) as { events: number }).events;
  }

  /** Resolves when that many events are in the index, asked for a few times a second. */
  async untilIndexed(events: number): Promise<void> {
    const connection = await HttpConnection.open(this.url);
    try {
      while ((await this.indexedEvents(connection)) < events) await new Promise((resolve) => setTimeout(resolve, 200));
    } finally {
      connection.close();
    }
  }

  stop(): Promise<number | null> {
    return stopProcess(this.child);
  }
}
