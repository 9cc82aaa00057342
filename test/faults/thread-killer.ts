/**
 * Loaded into a server with `--import`, so that a test can end one of its threads: at SIGUSR2 the thread named in the
 * file FAULTS_COMMAND is terminated from outside, or throws by itself. Touches nothing else of the server.
 */
import { readFileSync } from 'node:fs';
import { createRequire, syncBuiltinESMExports } from 'node:module';
import { BroadcastChannel, isMainThread, threadId, Worker, type WorkerOptions } from 'node:worker_threads';

export interface KillCommand {
  /** The thread's name, such as `shard-0`, or a part of its file's name. */
  readonly thread: string;
  readonly how: 'terminate' | 'throw';
}

const CHANNEL = 'faults';

if (isMainThread) watchWorkers();
else obey();

function watchWorkers(): void {
  const workers = new Map<string, Worker>();
  class WatchedWorker extends Worker {
    constructor(file: string | URL, options: WorkerOptions = {}) {
      super(file, { ...options, execArgv: ['--import', import.meta.url] });
      // The name when it has one: of several unnamed ones of a kind the last counts.
      workers.set(`${options.name ?? ''} ${String(file)}`, this);
    }
  }
  const threads = createRequire(import.meta.url)('node:worker_threads') as { Worker: typeof Worker };
  threads.Worker = WatchedWorker;
  syncBuiltinESMExports();

  const channel = new BroadcastChannel(CHANNEL);
  (channel as unknown as { unref(): void }).unref();
  process.on('SIGUSR2', () => {
    const command = JSON.parse(readFileSync(process.env.FAULTS_COMMAND ?? '', 'utf8')) as KillCommand;
    const found = [...workers].findLast(([name]) => name.includes(command.thread));
    if (found === undefined) throw new Error(`no thread ${command.thread} among ${[...workers.keys()].join(', ')}`);
    if (command.how === 'terminate') void found[1].terminate();
    else channel.postMessage(found[1].threadId);
  });
}

function obey(): void {
  const channel = new BroadcastChannel(CHANNEL);
  (channel as unknown as { unref(): void }).unref();
  channel.onmessage = (event) => {
    if ((event as { data?: unknown }).data !== threadId) return;
    setImmediate(() => {
      throw new Error('asked to die by a test');
    });
  };
}
