/** Rules of stopping and starting again, by grace or by kill: what was answered is there, what was delivered is gone. */
import assert from 'node:assert/strict';
import type { AgentSummary } from '../../src/contract/engine.js';
import { waitUntil } from '../support/wait.js';
import {
  atOnce,
  byteOrder,
  type EngineCheck,
  EVERY_KIND_OF_TEXT,
  newChallenge,
  newCredential,
  nth,
  ok,
  type Reopening,
  range,
  refused,
} from './check.js';

/** The same rules for a graceful restart and for a kill. */
export function recoveryChecks(how: Reopening): readonly EngineCheck[] {
  return [
    {
      name: `${how}: operators, agents, tokens and the order of the registry are kept`,
      needs: how,
      async run(world) {
        const operatorCredential = newCredential('operator');
        const operator = { contactHash: 'c', credential: operatorCredential };
        const { operatorId } = ok(await world.engine.createOperator(operator));
        const credentials = range(10).map((i) => newCredential('agent', i % 2 === 0 ? 'bcrypt' : 'hmac'));
        const agents: AgentSummary[] = [];
        for (const credential of credentials) agents.push(await world.register(operatorId, credential));
        const reader = nth(agents, 0).address;
        const { nextCursor: cursor } = ok(await world.engine.listAgents(reader, { cursor: null, limit: 4 }));
        for (const _ of range(2)) {
          await world.reopen(how);
          const found = ok(await world.engine.findCredential(operatorCredential.lookup));
          assert.deepEqual(found, { ...operatorCredential, kind: 'operator', subject: operatorId });
          for (const [i, credential] of credentials.entries()) {
            const { address: subject } = nth(agents, i);
            const found = ok(await world.engine.findCredential(credential.lookup));
            assert.deepEqual(found, { ...credential, kind: 'agent', subject });
            assert.deepEqual(ok(await world.engine.findAgent(subject)), nth(agents, i));
          }
          assert.deepEqual(await world.allAgents(reader, 3), agents);
          const page = ok(await world.engine.listAgents(reader, { cursor, limit: 100 }));
          assert.deepEqual(page.agents, agents.slice(4), 'a cursor from before goes on');
          const again = { ...newCredential('agent'), lookup: nth(credentials, 0).lookup };
          refused(await world.engine.registerAgent({ operatorId, credential: again, webhook: null }), 'bad_request');
          agents.push(await world.register(operatorId));
        }
        assert.deepEqual(await world.allAgents(reader, 3), agents);
      },
    },
    {
      name: `${how}: every value is kept as last written, whatever its characters, and deleted keys stay deleted`,
      needs: how,
      async run(world) {
        const agents = await world.agents(2);
        const expected = new Map<string, unknown>();
        const texts = [...EVERY_KIND_OF_TEXT, 'x'.repeat(1024), '😀'.repeat(256)];
        for (const [i, key] of texts.entries()) {
          await world.write(nth(agents, 0), key, 'overwritten');
          const value = nth(texts, texts.length - 1 - i);
          const lastModifiedAtMs = await world.write(nth(agents, 1), key, value);
          expected.set(key, { key, value, lastModifiedBy: nth(agents, 1), lastModifiedAtMs });
        }
        const large = '<\u0000'.repeat(512 * 1024);
        const lastModifiedAtMs = await world.write(nth(agents, 0), 'large', large);
        expected.set('large', { key: 'large', value: large, lastModifiedBy: nth(agents, 0), lastModifiedAtMs });
        for (const key of texts.filter((_, i) => i % 4 === 0)) {
          ok(await world.engine.deleteState(nth(agents, 0), key));
          expected.delete(key);
        }
        for (const _ of range(2)) {
          await world.reopen(how);
          assert.deepEqual(await world.allKeys(), [...expected.keys()].toSorted(byteOrder));
          for (const [key, entry] of expected) {
            const found = ok(await world.engine.readState(nth(agents, 0), key));
            assert.ok(found.value.length < 10_000 || found.value === large, 'large value');
            if (key !== 'large') assert.deepEqual(found, entry);
          }
          await world.assertCapacityIsExact(nth(agents, 0));
        }
      },
    },
    {
      name: `${how}: undelivered messages are kept in order, and delivered ones do not come back`,
      needs: how,
      async run(world) {
        const agents = await world.agents(4);
        const [a, b] = [nth(agents, 0), nth(agents, 1)];
        const contents = range(30).map((i) => `${i} ${nth(EVERY_KIND_OF_TEXT, i)}`);
        for (const content of contents) for (const to of agents) await world.send(a, to, content);
        for (const [i, agent] of agents.entries()) {
          const batch = ok(await world.engine.receiveMessages(agent, 7 * i + 1, null));
          assert.equal(batch.remaining, 30 - (7 * i + 1));
        }
        await world.reopen(how);
        await world.send(b, a, 'later');
        const first = ok(await world.engine.receiveMessages(a, 2, null));
        assert.deepEqual(
          first.messages.map(({ content }) => content),
          contents.slice(1, 3),
        );
        await world.reopen(how);
        assert.deepEqual(await world.drainContents(a), [...contents.slice(3), 'later']);
        for (const [i, agent] of agents.entries()) {
          if (i > 0) assert.deepEqual(await world.drainContents(agent), contents.slice(7 * i + 1));
        }
        await world.reopen(how);
        for (const agent of agents) assert.deepEqual(await world.drain(agent), []);
      },
    },
    {
      name: `${how}: messages keep their ids, senders and times`,
      needs: how,
      async run(world) {
        const agents = await world.agents(3);
        const sent = [];
        for (const i of range(12)) {
          const message = { from: nth(agents, i % 3), to: nth(agents, 0), content: `m${i}` };
          sent.push({ ...message, ...ok(await world.engine.sendMessage(message)) });
        }
        await world.reopen(how);
        assert.deepEqual(await world.drain(nth(agents, 0), 5), sent);
      },
    },
    {
      name: `${how}: dropped messages do not come back, and a full queue is still full`,
      needs: how,
      limits: { maxQueuePerAgent: 3, overflow: 'drop_oldest' },
      async run(world) {
        const agent = await world.agent();
        for (const i of range(5)) await world.send(agent, agent, String(i));
        await world.reopen(how);
        await world.send(agent, agent, '5');
        assert.deepEqual(await world.drainContents(agent), ['3', '4', '5']);
      },
    },
    {
      name: `${how}: the bytes of queued messages are counted as before`,
      needs: how,
      limits: { maxQueuedBytes: 50_000, overflow: 'reject' },
      async run(world) {
        const agent = await world.agent();
        await world.send(agent, agent, 'delivered before'.padEnd(20_000));
        await world.send(agent, agent, 'é'.repeat(12_500));
        ok(await world.engine.receiveMessages(agent, 1, null));
        await world.reopen(how);
        refused(await world.engine.sendMessage({ from: agent, to: agent, content: 'x'.repeat(25_001) }), 'store_full');
        await world.send(agent, agent, 'x'.repeat(20_000));
      },
    },
    {
      name: `${how}: capacity counters equal what is stored, and are enforced to the byte`,
      needs: how,
      limits: { maxCapacityBytes: 1000 },
      async run(world) {
        const agent = await world.agent();
        for (const _ of range(3)) {
          await atOnce(range(60), async (i) => {
            const key = `key ${world.random(15)}`;
            if (i % 5 === 0) await world.engine.deleteState(agent, key);
            else await world.engine.writeState(agent, key, 'é'.repeat(world.random(60)));
          });
          const before = ok(await world.engine.capacity());
          await world.reopen(how);
          assert.deepEqual(ok(await world.engine.capacity()), before);
          const usedBytes = await world.assertCapacityIsExact(agent);
          if (usedBytes < 1000) await world.write(agent, 'f'.repeat(1000 - usedBytes), '');
          refused(await world.engine.writeState(agent, 'g', ''), 'store_full');
          if (usedBytes < 1000) ok(await world.engine.deleteState(agent, 'f'.repeat(1000 - usedBytes)));
        }
      },
    },
    {
      name: `${how}: a challenge that was used stays used`,
      needs: how,
      async run(world) {
        const challenge = newChallenge(await world.operator());
        ok(await world.engine.storeChallenge(challenge));
        ok(await world.engine.takeChallenge(challenge.challengeId));
        await world.reopen(how);
        refused(await world.engine.takeChallenge(challenge.challengeId), 'not_found');
      },
    },
    {
      name: `${how} in the middle of a burst: what was answered is there, what was not is whole or absent`,
      needs: how,
      async run(world) {
        const agents = await world.agents(3);
        const { engine } = world;
        const acknowledged = { keys: new Set<number>(), messages: new Set<string>(), received: new Set<string>() };
        const value = (i: number) => `${i} ${'v'.repeat(i)}`;
        for (const i of range(20)) await world.send(nth(agents, 0), nth(agents, 1), `early ${i}`);
        const burst = range(150).map(async (i) => {
          const written = await engine.writeState(nth(agents, 0), `key ${i}`, value(i));
          if (written.ok) acknowledged.keys.add(i);
          const sent = await engine.sendMessage({ from: nth(agents, 0), to: nth(agents, 2), content: `m${i}` });
          if (sent.ok) acknowledged.messages.add(sent.value.messageId);
          if (i % 10 !== 0) return;
          const received = await engine.receiveMessages(nth(agents, 1), 1, null);
          if (received.ok) for (const { content } of received.value.messages) acknowledged.received.add(content);
        });
        // What is still in flight when the engine goes may be refused or never answered: nobody waits for it.
        void Promise.allSettled(burst);
        await waitUntil(() => acknowledged.messages.size >= 40, { timeoutMs: 30_000 });
        await world.reopen(how);
        const keys = new Set(await world.allKeys('key '));
        for (const i of range(150)) {
          const stored = await world.read(nth(agents, 0), `key ${i}`);
          if (acknowledged.keys.has(i)) assert.equal(stored, value(i), `key ${i} was acknowledged`);
          assert.ok(stored === null || stored === value(i), `key ${i} is half written`);
          assert.equal(keys.has(`key ${i}`), stored !== null, `key ${i} listed as it reads`);
        }
        const queued = (await world.drain(nth(agents, 2))).map(({ messageId }) => messageId);
        assert.equal(new Set(queued).size, queued.length, 'no message twice');
        for (const id of acknowledged.messages) assert.ok(queued.includes(id), `message ${id} was acknowledged`);
        const left = await world.drainContents(nth(agents, 1));
        const sentEarly = range(20).map((i) => `early ${i}`);
        assert.deepEqual(left, left.length === 0 ? [] : sentEarly.slice(-left.length), 'in order, without holes');
        for (const content of acknowledged.received) assert.ok(!left.includes(content), `${content} came back`);
        await world.assertCapacityIsExact(nth(agents, 0));
      },
    },
  ];
}

/** Rules that join recovery with events: run only where both are offered. */
export const EVENT_RECOVERY_CHECKS: readonly EngineCheck[] = (['restart', 'crash'] as const).map((how) => ({
  name: `${how}: events are kept, and seq goes on rising`,
  needs: how,
  async run(world) {
    if (!world.rig.events) return;
    const agent = await world.agent();
    for (const i of range(10)) await world.write(agent, `key ${i}`, 'v');
    const before = await world.events();
    await world.reopen(how);
    assert.deepEqual((await world.events()).slice(0, before.length), before);
    await world.write(agent, 'last', 'v');
    const after = await world.events();
    assert.deepEqual(nth(after, -1).data, { key: 'last', value: 'v', value_length: 1, written_by: agent });
    for (const [i, { seq }] of after.entries()) assert.ok(seq > (after[i - 1]?.seq ?? 0), `seq ${seq} at ${i}`);
    assert.equal(after.filter(({ type }) => type === 'state_written').length, 11, 'each write is one event');
  },
}));
