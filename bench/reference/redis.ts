/** Redis with `appendfsync always`, and redis-benchmark as its load: the field's measure for durable small writes. */
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync } from 'node:fs';
import { createConnection, createServer } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { pidOf, stopProcess } from '../../examples/demo/server-process.js';
import { KEYS, VALUE_BYTES } from '../dataset.js';
import type { LoadResult } from '../load/load.js';
import type { Side } from '../measure.js';
import type { BenchContext } from '../scenario.js';

const READY_WITHIN_MS = 10_000;
/** Enough to see the rate, from which the number for a run of given length follows. */
const PROBE_REQUESTS = 3_000;

/** A side that measures this command, same connections and value size. Redis stops when the scenario ends. */
export async function startRedis(context: BenchContext, command: 'set' | 'lpush'): Promise<Side> {
  const dir = join(context.workDir, 'redis');
  mkdirSync(dir);
  const port = await freePort();
  const child = spawn(
    'redis-server',
    [
      ...['--port', String(port), '--bind', '127.0.0.1', '--dir', dir, '--save', '', '--loglevel', 'warning'],
      ...['--appendonly', 'yes', '--appendfsync', 'always', '--auto-aof-rewrite-percentage', '0'],
    ],
    { stdio: 'ignore' },
  );
  context.onEnd(() => stopProcess(child));
  const deadlineMs = performance.now() + READY_WITHIN_MS;
  while ((await ask(port, 'PING').catch(() => '')) !== '+PONG') {
    if (performance.now() > deadlineMs || child.exitCode !== null) throw new Error('redis-server did not start');
    await sleep(20);
  }
  const probe = await benchmark(port, command, context.connections, PROBE_REQUESTS);
  return {
    name: `Redis ${command.toUpperCase()}, appendfsync always`,
    pid: pidOf(child),
    run: async () => {
      await ask(port, 'FLUSHALL');
      const requests = Math.max(PROBE_REQUESTS, Math.round(probe.ratePerSecond * context.seconds));
      return benchmark(port, command, context.connections, requests);
    },
  };
}

async function benchmark(port: number, command: string, connections: number, requests: number): Promise<LoadResult> {
  const { stdout } = await promisify(execFile)(
    'redis-benchmark',
    [
      ...['-h', '127.0.0.1', '-p', String(port), '-c', String(connections), '-n', String(requests)],
      ...['-d', String(VALUE_BYTES), '-r', String(KEYS), '-t', command, '--csv'],
    ],
    { timeout: 300_000 },
  );
  // "test","rps","avg_latency_ms","min_latency_ms","p50_latency_ms","p95_latency_ms","p99_latency_ms","max_latency_ms"
  const line = stdout.split('\n').find((one) => one.toLowerCase().startsWith(`"${command}`));
  if (line === undefined) throw new Error(`redis-benchmark gave no result:\n${stdout}`);
  const fields = line.split(',').map((field) => Number(field.replaceAll('"', '')));
  const at = (index: number): number => fields[index] ?? Number.NaN;
  // It ends with an error of its own when an answer is one.
  return { completed: requests, failed: 0, ratePerSecond: at(1), p50Ms: at(4), p99Ms: at(6), maxMs: at(7) };
}

/** One command without arguments; the first line of the answer. */
async function ask(port: number, command: string): Promise<string> {
  const socket = createConnection(port, '127.0.0.1');
  try {
    socket.write(`${command}\r\n`);
    const [answer] = await once(socket, 'data');
    return String(answer).split('\r\n')[0] ?? '';
  } finally {
    socket.destroy();
  }
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  server.close();
  await once(server, 'close');
  if (address === null || typeof address === 'string') throw new Error('no free port');
  return address.port;
}
