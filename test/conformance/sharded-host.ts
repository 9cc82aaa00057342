/** Child process that holds a sharded engine for tests that kill it: see sharded-rig.ts. */
import assert from 'node:assert/strict';
import type { Engine, EngineReply } from '../../src/contract/engine.js';
import { type HostAnswer, type HostCall, openSharded, type ShardedPlace } from './sharded-rig.js';

const [place] = process.argv.slice(2);
assert.ok(place !== undefined && process.send, 'started by sharded-rig.ts only');
const toParent = process.send.bind(process);

const opened = await openSharded(JSON.parse(place) as ShardedPlace);
const engine: Engine = await opened.connect();

process.on('message', async ({ id, method, args }: HostCall) => {
  const operation = engine[method] as (...args: unknown[]) => Promise<EngineReply<unknown>>;
  toParent({ id, reply: await operation.apply(engine, [...args]) } satisfies HostAnswer);
});
// A parent that is gone needs no engine.
process.on('disconnect', () => process.exit(1));
toParent('ready');
