/** A real server whose disk flushes slowly, or not at all. Needs a C compiler for a library to preload. */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { assertError, Rig } from '../api/rig.js';
import { FAST } from '../api/topologies.js';
import type { ApiAgent } from '../support/http.js';
import { tempDir } from '../support/temp-dir.js';
import { waitUntil } from '../support/wait.js';
import { observed, statuses } from './fault-matrix.js';
import { FlushShim } from './flush-shim.js';

interface Flushed {
  readonly rig: Rig;
  readonly agent: ApiAgent;
  readonly shim: FlushShim;
}

async function start(t: TestContext): Promise<Flushed | null> {
  const shim = FlushShim.compile(await tempDir(t));
  if (shim === null) {
    t.skip('no C compiler (cc) here: a failing fdatasync is tested on the simulated disk only');
    return null;
  }
  const rig = await Rig.start(t, { config: { ...FAST, topology: { gateways: 1, shards: 1 } }, env: shim.env });
  const agent = await rig.agent();
  assert.equal((await agent.write('kept', 'before')).status, 200);
  return { rig, agent, shim };
}

test('a failed fdatasync answers 503, is never tried again, and the shard comes back by itself', async (t) => {
  const started = await start(t);
  if (started === null) return;
  const { rig, agent, shim } = started;
  shim.flushesFail();
  const refused = [
    await agent.write('lost', 'x'),
    await agent.write('kept', 'after'),
    await agent.message(agent.address, 'x'),
  ];
  for (const answer of refused) assertError(answer, 'unavailable');
  assert.equal(await rig.server.metric('tabulum_shards_read_only'), 1, 'the metrics say so');
  const reads = [await agent.read('kept'), await agent.get('/v1/agents/me'), await agent.get('/v1/state')];
  assert.equal(reads[0]?.json().value, 'before');
  const failures = shim.notes().length;
  shim.flushesAreFine();
  await waitUntil(async () => (await rig.server.metric('tabulum_shards_read_only')) === 0, {
    timeoutMs: 20_000,
    what: 'the shard is opened again',
  });
  let wrote = await agent.write('kept', 'again');
  await waitUntil(
    async () => {
      if (wrote.status !== 200) wrote = await agent.write('kept', 'again');
      return wrote.status === 200;
    },
    { timeoutMs: 20_000, what: 'writes are taken again' },
  );
  assert.equal(await rig.server.metric('tabulum_shard_reopenings_total'), 1);
  assert.ok(rig.server.stderr().some((line) => line.includes('takes no more writes until it is reopened')));
  const isRetried = shim.notes().includes('again');
  assert.ok(failures > 0 && !isRetried, shim.notes().join(' '));
  observed('fdatasync of the log fails once', {
    writes: statuses(refused.map(({ status }) => status)),
    reads: statuses(reads.map(({ status }) => status)),
    after: `${isRetried ? '' : 'not '}retried; the shard is opened again and takes writes`,
  });
  await rig.server.kill9();
  await rig.server.restart();
  assert.equal((await agent.read('kept')).json().value, 'again');
});

test('a disk that never flushes again ends the process, after reads for as long as it lasts', async (t) => {
  const started = await start(t);
  if (started === null) return;
  const { rig, agent, shim } = started;
  shim.flushesFail();
  const refused = await agent.write('lost', 'x');
  const read = await agent.read('kept');
  const code = await rig.server.exitCode();
  assert.ok(!shim.notes().includes('again'), shim.notes().join(' '));
  observed('fdatasync of the log fails for good', {
    writes: statuses([refused.status]),
    reads: statuses([read.status]),
    after: `the process ends with code ${code}`,
  });
  shim.flushesAreFine();
  await rig.server.start();
  assert.equal((await agent.read('kept')).json().value, 'before');
});

test('while a flush is slow nobody sees the write, readers go on, and the answer comes after it', async (t) => {
  const started = await start(t);
  if (started === null) return;
  const { rig, agent, shim } = started;
  shim.flushesTake(700);
  // The first one comes as a surprise to a shard that has waited for a quick disk in place.
  assert.equal((await agent.write('another', 'x')).status, 200);
  const askedMs = performance.now();
  let answered = false;
  const writing = agent.write('kept', 'after').then((answer) => {
    answered = true;
    return answer;
  });
  const reads: number[] = [];
  const values = new Set<unknown>();
  while (!answered) {
    const read = await agent.read('kept');
    // An answer to the write that came meanwhile lets the read see either.
    if (answered) break;
    reads.push(read.status);
    values.add(read.json().value);
  }
  const wrote = await writing;
  assert.ok(performance.now() - askedMs >= 650, 'answered before the flush had ended');
  assert.ok(reads.length > 1, 'readers waited for the flush');
  assert.deepEqual([...values], ['before'], 'visible before it was durable');
  assert.equal((await agent.read('kept')).json().value, 'after');
  observed('fdatasync of the log is slow', {
    writes: `${wrote.status}, late`,
    reads: `${statuses(reads)}, the value before until the write is durable`,
    after: 'nothing',
  });
  shim.flushesAreFine();
  await rig.server.stop();
});
