/** Rules of the registry listing: one order over the whole server, pages, cursors, totals. */
import assert from 'node:assert/strict';
import type { AgentPage } from '../../src/contract/engine.js';
import { atOnce, type EngineCheck, nth, ok, range, refused } from './check.js';

/** Text that no engine hands out as a cursor; `AAAA` and `MTIz` are valid base64. */
export const NO_CURSORS: readonly string[] = [
  '',
  ' ',
  '0',
  '-1',
  '1',
  'AAAA',
  'MTIz',
  'nonsense',
  'null',
  '%',
  '🙂',
  'A'.repeat(4096),
];

export const REGISTRY_CHECKS: readonly EngineCheck[] = [
  {
    name: 'the empty registry is one empty last page',
    async run(world) {
      const page = ok(await world.engine.listAgents(`tab_${'0'.repeat(20)}`, { cursor: null, limit: 100 }));
      assert.deepEqual(page, { agents: [], nextCursor: null, total: 0 });
    },
  },
  {
    name: 'agents are listed in the order they registered in',
    async run(world) {
      const operators = [await world.operator(), await world.operator()];
      const agents = [];
      for (const i of range(40)) agents.push(await world.register(nth(operators, i % 2)));
      assert.deepEqual(await world.allAgents(nth(agents, 0).address), agents);
    },
  },
  {
    name: 'an agent is listed, counted and found as soon as its registration is answered',
    async run(world) {
      const operatorId = await world.operator();
      for (const count of range(20)) {
        const agent = await world.register(operatorId);
        const page = ok(await world.engine.listAgents(agent.address, { cursor: null, limit: 1000 }));
        assert.deepEqual(page.agents.at(-1), agent);
        assert.equal(page.total, count + 1);
        assert.deepEqual(ok(await world.engine.findAgent(agent.address)), agent);
      }
    },
  },
  {
    name: 'agents registered at once are each listed once, oldest first',
    async run(world) {
      const operatorId = await world.operator();
      const agents = await atOnce(range(150), () => world.register(operatorId));
      const listed = await world.allAgents(nth(agents, 0).address, 7);
      const times = listed.map(({ registeredAtMs }) => registeredAtMs);
      assert.deepEqual(
        times,
        times.toSorted((a, b) => a - b),
      );
      const byAddress = (a: { address: string }, b: { address: string }) => (a.address < b.address ? -1 : 1);
      assert.deepEqual(listed.toSorted(byAddress), agents.toSorted(byAddress));
    },
  },
  {
    name: 'pages of every size make up the same registry, and the last one has no cursor',
    async run(world) {
      const addresses = await world.agents(12);
      for (const limit of [...range(13).map((i) => i + 1), 999, 1000]) {
        const listed = await world.allAgents(nth(addresses, 0), limit);
        const inPages = listed.map(({ address }) => address);
        assert.deepEqual(inPages, addresses, `limit ${limit}`);
      }
    },
  },
  {
    name: 'a page of 1,000 agents is followed by the 1,001st',
    async run(world) {
      const operatorId = await world.operator();
      const agents = await atOnce(range(1001), () => world.register(operatorId));
      const reader = nth(agents, 0).address;
      const first = ok(await world.engine.listAgents(reader, { cursor: null, limit: 1000 }));
      const second = ok(await world.engine.listAgents(reader, { cursor: first.nextCursor, limit: 1000 }));
      assert.deepEqual([first.agents.length, first.total], [1000, 1001]);
      assert.deepEqual([second.agents.length, second.total, second.nextCursor], [1, 1001, null]);
      assert.equal(new Set([...first.agents, ...second.agents].map(({ address }) => address)).size, 1001);
    },
  },
  {
    name: 'a registry cursor survives new registrations and can be used again',
    async run(world) {
      const addresses = await world.agents(6);
      const reader = nth(addresses, 0);
      const { nextCursor: cursor } = ok(await world.engine.listAgents(reader, { cursor: null, limit: 4 }));
      addresses.push(...(await world.agents(3)));
      for (const limit of [5, 5, 100]) {
        const page = ok(await world.engine.listAgents(reader, { cursor, limit }));
        const listed = page.agents.map(({ address }) => address);
        assert.deepEqual(listed, addresses.slice(4));
        assert.deepEqual([page.nextCursor, page.total], [null, 9]);
      }
    },
  },
  {
    name: 'paging while others register misses and repeats nobody',
    async run(world) {
      const before = await world.agents(30);
      const operatorId = await world.operator();
      const others = atOnce(range(60), () => world.register(operatorId));
      const listed: string[] = [];
      for (let cursor: string | null = null; ; ) {
        const page: AgentPage = ok(await world.engine.listAgents(nth(before, 0), { cursor, limit: 4 }));
        listed.push(...page.agents.map(({ address }) => address));
        cursor = page.nextCursor;
        if (cursor === null) break;
      }
      await others;
      assert.equal(new Set(listed).size, listed.length, 'nobody twice');
      assert.deepEqual(listed.slice(0, before.length), before);
      const everybody = await world.allAgents(nth(before, 0));
      const beginning = everybody.slice(0, listed.length).map(({ address }) => address);
      assert.deepEqual(beginning, listed, 'nobody left out');
    },
  },
  {
    name: 'a registry cursor the engine did not make is refused',
    async run(world) {
      const reader = nth(await world.agents(5), 0);
      for (const key of ['a', 'b', 'c']) await world.write(reader, key, '');
      const { nextCursor: real } = ok(await world.engine.listAgents(reader, { cursor: null, limit: 2 }));
      const { nextCursor: keyCursor } = ok(await world.engine.listKeys('', { cursor: null, limit: 2 }));
      assert.ok(real !== null && keyCursor !== null);
      for (const cursor of [...NO_CURSORS, keyCursor, `${real}!`, `!${real}`, `${real}${real}`]) {
        refused(await world.engine.listAgents(reader, { cursor, limit: 2 }), 'bad_request', JSON.stringify(cursor));
      }
    },
  },
];
