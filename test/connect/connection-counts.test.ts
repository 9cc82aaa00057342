/** The shared counts of connections: exact over threads, and whole again after a thread that ended in the middle. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type TestContext, test } from 'node:test';
import { Worker } from 'node:worker_threads';
import fc from 'fast-check';
import {
  ConnectionCounts,
  type ConnectionCountsMemory,
  type ConnectionLimits,
  createConnectionCounts,
} from '../../src/gateway/connect/connection-counts.js';
import { seedFor } from '../support/seed.js';
import type { CountsTask } from './counts-racer.js';

const GATEWAYS = 3;

function countsOf(memory: ConnectionCountsMemory, limits: ConnectionLimits): ConnectionCounts[] {
  return Array.from({ length: memory.gateways }, (_, gateway) => new ConnectionCounts(memory, gateway, limits));
}

/** Places the agent gets now; they are given back. */
function roomFor(agent: string, counts: ConnectionCounts): number {
  let taken = 0;
  while (counts.take(agent) === 'taken') taken++;
  for (let place = 0; place < taken; place++) counts.giveBack(agent);
  return taken;
}

type Work = Pick<CountsTask, 'memory' | 'limits' | 'agents' | 'mode' | 'attempts'>;

/** One thread for each of `gateways`, all released at the same instant. */
async function release(t: TestContext, gateways: readonly number[], work: Work): Promise<Worker[]> {
  const start = new SharedArrayBuffer(4);
  const workers = gateways.map((gateway) => {
    const workerData: CountsTask = { ...work, gateway, start };
    const worker = new Worker(new URL('./counts-racer.js', import.meta.url), { workerData });
    t.after(() => worker.terminate());
    return worker;
  });
  await Promise.all(workers.map((worker) => once(worker, 'message')));
  Atomics.store(new Int32Array(start), 0, 1);
  Atomics.notify(new Int32Array(start), 0);
  return workers;
}

test('in any order of opening, closing and deaths, the bounds hold for all gateways together', (t) => {
  const limits = { maxConnections: 6, maxConnectionsPerAgent: 3 };
  const agents = ['tab_a', 'tab_b', 'tab_c', 'tab_d'];
  const step = fc.record({
    what: fc.constantFrom('take', 'take', 'take', 'giveBack', 'giveBack', 'die'),
    gateway: fc.nat(GATEWAYS - 1),
    agent: fc.constantFrom(...agents),
  });
  const property = fc.property(fc.array(step, { maxLength: 80 }), (steps) => {
    const counts = countsOf(createConnectionCounts(GATEWAYS, limits), limits);
    let open: { gateway: number; agent: string }[] = [];
    for (const { what, gateway, agent } of steps) {
      const own = counts[gateway];
      assert.ok(own !== undefined);
      const place = open.findIndex((one) => one.gateway === gateway && one.agent === agent);
      if (what === 'take') {
        const ofAgent = open.filter((one) => one.agent === agent).length;
        const expected = ofAgent >= 3 ? 'agent-full' : open.length >= 6 ? 'all-full' : 'taken';
        assert.equal(own.take(agent), expected);
        if (expected === 'taken') open.push({ gateway, agent });
      } else if (what === 'giveBack') {
        if (place === -1) assert.throws(() => own.giveBack(agent), /never counted/);
        else {
          own.giveBack(agent);
          open.splice(place, 1);
        }
      } else {
        counts[(gateway + 1) % GATEWAYS]?.forgetGateway(gateway);
        open = open.filter((one) => one.gateway !== gateway);
      }
      assert.equal(own.total, open.length);
    }
  });
  fc.assert(property, { seed: seedFor(t), numRuns: 500 });
});

test('whoever has come and gone, there is room for as many as may connect, and each is counted apart', () => {
  const limits = { maxConnections: 50, maxConnectionsPerAgent: 2 };
  const counts = countsOf(createConnectionCounts(2, limits), limits);
  const [first, second] = counts;
  assert.ok(first !== undefined && second !== undefined);
  for (let round = 0; round < 100; round++) {
    const agents = Array.from({ length: 50 }, (_, index) => `tab_${round}_${index}`);
    for (const [index, agent] of agents.entries()) assert.equal(counts[index % 2]?.take(agent), 'taken');
    assert.equal(first.take('tab_late'), 'all-full');
    for (const [index, agent] of agents.entries()) counts[index % 2]?.giveBack(agent);
    assert.equal(second.total, 0);
  }
});

for (const { what, limits, agents, expected } of [
  { what: 'for one agent', limits: { maxConnections: 1e5, maxConnectionsPerAgent: 5_000 }, agents: 1, expected: 5_000 },
  { what: 'in all', limits: { maxConnections: 5_000, maxConnectionsPerAgent: 10_000 }, agents: 40, expected: 5_000 },
]) {
  test(`threads that take places at the same moment get exactly as many as there are, ${what}`, async (t) => {
    const memory = createConnectionCounts(GATEWAYS, limits);
    const names = Array.from({ length: agents }, (_, index) => `tab_${index}`);
    const workers = await release(t, [0, 1, 2], { memory, limits, agents: names, mode: 'fill', attempts: 4_000 });
    const taken = await Promise.all(workers.map(async (worker) => (await once(worker, 'message'))[0] as number));
    assert.equal(
      taken.reduce((sum, count) => sum + count, 0),
      expected,
      taken.join(),
    );
    assert.equal(new ConnectionCounts(memory, 0, limits).total, expected);
  });
}

test('a thread that is terminated at any instant keeps no place, and the others go on counting exactly', async (t) => {
  const limits = { maxConnections: 100, maxConnectionsPerAgent: 4 };
  const memory = createConnectionCounts(GATEWAYS, limits);
  const agents = Array.from({ length: 10 }, (_, index) => `tab_${index}`);
  const own = new ConnectionCounts(memory, 0, limits);
  for (const agent of agents) assert.equal(own.take(agent), 'taken');
  for (let death = 0; death < 5; death++) {
    const [victim, other] = await release(t, [1, 2], { memory, limits, agents, mode: 'churn', attempts: 0 });
    assert.ok(victim !== undefined && other !== undefined);
    await once(victim, 'message');
    await victim.terminate();
    own.forgetGateway(1);
    await once(other, 'message'); // it goes on
    await other.terminate();
    own.forgetGateway(2);
    assert.equal(own.total, agents.length, `after death ${death}`);
    for (const agent of agents) assert.equal(roomFor(agent, own), 3, `places for ${agent} after death ${death}`);
  }
});
