/**
 * The sharded engine as the conformance suite sees it: on a fresh directory, either in this process (graceful restarts)
 * or in a child process that can be killed (`kill -9`, then recovery).
 */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Engine, EngineReply } from '../../src/contract/engine.js';
import type { KernelEvent } from '../../src/contract/events.js';
import { DeathWatch } from '../../src/death-watch.js';
import { createLogger } from '../../src/log.js';
import { isInternalType } from '../../src/shards/internal-records.js';
import type { EngineSettings } from '../../src/shards/settings.js';
import { openShardedEngine, type ShardedEngine } from '../../src/shards/sharded-engine.js';
import { makeTempDir, removeTempDir } from '../support/temp-dir.js';
import type { EngineLimits, EngineRig } from './check.js';

export interface ShardedPlace {
  readonly dataDir: string;
  readonly shards: number;
  readonly limits: EngineLimits;
}

export function openSharded({ dataDir, shards, limits }: ShardedPlace): Promise<ShardedEngine> {
  const settings: EngineSettings = {
    ...limits,
    // Small, so that every longer check crosses segments.
    maxSegmentBytes: 64 * 1024,
    durability: 'fsync',
    flushIntervalMs: 10,
    logLevel: 'error',
  };
  const onFatal = (error: Error): never => {
    throw error;
  };
  const logger = createLogger('conformance', 'error');
  return openShardedEngine({ dataDir, shards, settings, logger, deaths: new DeathWatch(logger, onFatal), onFatal });
}

/** Opens in this process. */
export async function shardedRig(shards: number, limits: EngineLimits): Promise<EngineRig> {
  const dataDir = await makeTempDir();
  const place = { dataDir, shards, limits };
  let opened = await openSharded(place);
  return {
    engine: await opened.connect(),
    restart: async () => {
      await opened.close();
      opened = await openSharded(place);
      return opened.connect();
    },
    events: () => readEvents(dataDir),
    close: async () => {
      await opened.close();
      await removeTempDir(dataDir);
    },
  };
}

/** All events in all shards' logs, in `seq` order, without what is the log's own. */
async function readEvents(dataDir: string): Promise<KernelEvent[]> {
  const events: KernelEvent[] = [];
  const names = await readdir(dataDir, { recursive: true });
  for (const name of names.filter((each) => each.endsWith('.ndjson'))) {
    const text = await readFile(join(dataDir, name), 'utf8');
    for (const line of text.slice(0, text.lastIndexOf('\n') + 1).split('\n')) {
      if (line === '') continue;
      const logged = JSON.parse(line) as KernelEvent & Record<string, unknown>;
      if (isInternalType(logged.type)) continue;
      const { crc: _crc, ref: _ref, more: _more, push: _push, once: _once, ...event } = logged;
      events.push(event as KernelEvent);
    }
  }
  return events.sort((a, b) => a.seq - b.seq);
}

/** What the child is asked, and what it answers. An AbortSignal can't cross: see `withSignals`. */
export interface HostCall {
  readonly id: number;
  readonly method: keyof Engine;
  readonly args: readonly unknown[];
}
/** The signals of call `id` are aborted. */
export interface HostAbort {
  readonly abort: number;
}
export interface HostAnswer {
  readonly id: number;
  readonly reply: EngineReply<unknown>;
}

/** The engine in a child process. When the child dies, what is in flight is answered `unavailable`. */
class HostedEngine implements Engine {
  readonly #child: ChildProcess;
  readonly #waiting = new Map<number, (reply: EngineReply<unknown>) => void>();
  #lastId = 0;

  constructor(child: ChildProcess) {
    this.#child = child;
    child.on('message', (answer) => {
      const { id, reply } = answer as HostAnswer;
      this.#waiting.get(id)?.(reply);
      this.#waiting.delete(id);
    });
    child.on('exit', () => {
      for (const answer of this.#waiting.values()) answer({ ok: false, code: 'unavailable' });
      this.#waiting.clear();
    });
  }

  readonly createOperator: Engine['createOperator'] = (...args) => this.#call('createOperator', args);
  readonly registerAgent: Engine['registerAgent'] = (...args) => this.#call('registerAgent', args);
  readonly findCredential: Engine['findCredential'] = (...args) => this.#call('findCredential', args);
  readonly storeChallenge: Engine['storeChallenge'] = (...args) => this.#call('storeChallenge', args);
  readonly takeChallenge: Engine['takeChallenge'] = (...args) => this.#call('takeChallenge', args);
  readonly findAgent: Engine['findAgent'] = (...args) => this.#call('findAgent', args);
  readonly listAgents: Engine['listAgents'] = (...args) => this.#call('listAgents', args);
  readonly sendMessage: Engine['sendMessage'] = (...args) => this.#call('sendMessage', args);
  readonly receiveMessages: Engine['receiveMessages'] = (...args) => this.#call('receiveMessages', args);
  readonly sendMessageOnce: Engine['sendMessageOnce'] = (...args) => this.#call('sendMessageOnce', args);
  readonly leaseMessages: Engine['leaseMessages'] = (...args) => this.#call('leaseMessages', args);
  readonly ackMessages: Engine['ackMessages'] = (...args) => this.#call('ackMessages', args);
  readonly returnLeases: Engine['returnLeases'] = (...args) => this.#call('returnLeases', args);
  readonly awaitPushAgents: Engine['awaitPushAgents'] = (...args) => this.#call('awaitPushAgents', args);
  readonly peekPush: Engine['peekPush'] = (...args) => this.#call('peekPush', args);
  readonly settlePush: Engine['settlePush'] = (...args) => this.#call('settlePush', args);
  readonly readState: Engine['readState'] = (...args) => this.#call('readState', args);
  readonly writeState: Engine['writeState'] = (...args) => this.#call('writeState', args);
  readonly deleteState: Engine['deleteState'] = (...args) => this.#call('deleteState', args);
  readonly listKeys: Engine['listKeys'] = (...args) => this.#call('listKeys', args);
  readonly capacity: Engine['capacity'] = (...args) => this.#call('capacity', args);

  async #call<T>(method: keyof Engine, args: readonly unknown[]): Promise<EngineReply<T>> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return { ok: false, code: 'unavailable' };
    const id = ++this.#lastId;
    const sent = args.map((arg) =>
      withoutSignals(arg, () => this.#child.send({ abort: id } satisfies HostAbort, () => {})),
    );
    const reply = await new Promise<EngineReply<unknown>>((resolve) => {
      this.#waiting.set(id, resolve);
      // A child that was just killed does not take it; its exit, which follows, answers everything that waits.
      this.#child.send({ id, method, args: sent } satisfies HostCall, () => {});
    });
    return reply as EngineReply<T>;
  }
}

/** A signal, or the one in a `Wait`, as plain data. */
function withoutSignals(arg: unknown, onAbort: () => void): unknown {
  if (arg instanceof AbortSignal) {
    if (!arg.aborted) arg.addEventListener('abort', onAbort, { once: true });
    return { isSignal: true, aborted: arg.aborted };
  }
  if (typeof arg === 'object' && arg !== null && 'signal' in arg) {
    return { ...arg, signal: withoutSignals(arg.signal, onAbort) };
  }
  return arg;
}

/** In the child: gives an argument its signal back. */
export function withSignals(arg: unknown, signal: AbortSignal): unknown {
  if (typeof arg !== 'object' || arg === null) return arg;
  if ('isSignal' in arg) return 'aborted' in arg && arg.aborted === true ? AbortSignal.abort() : signal;
  return 'signal' in arg ? { ...arg, signal: withSignals(arg.signal, signal) } : arg;
}

let hostEntry: Promise<string> | undefined;

async function startHost(place: ShardedPlace): Promise<ChildProcess> {
  // Loaded here: the host process loads this file too.
  hostEntry ??= import('./host-bundle.js').then(({ bundleHost }) => bundleHost());
  // Without this process's flags: the host has no source maps to read.
  const child = fork(await hostEntry, [JSON.stringify(place)], { serialization: 'advanced', execArgv: [] });
  const [outcome] = await Promise.race([once(child, 'message'), once(child, 'exit')]);
  if (outcome !== 'ready') throw new Error(`the engine's process ended with ${String(outcome)} before it was ready`);
  return child;
}

/** Kills with SIGKILL; resolves when the system has taken the process away. */
async function kill(child: ChildProcess): Promise<void> {
  const gone = once(child, 'exit');
  child.kill('SIGKILL');
  await gone;
}

/** Opens in a child process, which `crash` kills. */
export async function killableShardedRig(shards: number, limits: EngineLimits): Promise<EngineRig> {
  const place = { dataDir: await makeTempDir(), shards, limits };
  let child = await startHost(place);
  return {
    engine: new HostedEngine(child),
    crash: async () => {
      await kill(child);
      child = await startHost(place);
      return new HostedEngine(child);
    },
    events: () => readEvents(place.dataDir),
    close: async () => {
      await kill(child);
      await removeTempDir(place.dataDir);
    },
  };
}
