/** Child process that holds a sharded engine for tests that kill it: see sharded-rig.ts. */
import assert from 'node:assert/strict';
import type { Engine, EngineReply } from '../../src/contract/engine.js';
import {
  type HostAbort,
  type HostAnswer,
  type HostCall,
  openSharded,
  type ShardedPlace,
  withSignals,
} from './sharded-rig.js';

const [place] = process.argv.slice(2);
assert.ok(place !== undefined && process.send, 'started by sharded-rig.ts only');
const toParent = process.send.bind(process);

const opened = await openSharded(JSON.parse(place) as ShardedPlace);
const engine: Engine = await opened.connect();

const aborts = new Map<number, AbortController>();

process.on('message', async (message: HostCall | HostAbort) => {
  if ('abort' in message) return aborts.get(message.abort)?.abort();
  const { id, method, args } = message;
  const controller = new AbortController();
  aborts.set(id, controller);
  const operation = engine[method] as (...args: unknown[]) => Promise<EngineReply<unknown>>;
  const reply = await operation.apply(
    engine,
    args.map((arg) => withSignals(arg, controller.signal)),
  );
  aborts.delete(id);
  toParent({ id, reply } satisfies HostAnswer);
});
// A parent that is gone needs no engine.
process.on('disconnect', () => process.exit(1));
toParent('ready');
