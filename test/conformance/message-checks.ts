/** Rules of message queues: first in first out, at most once, limits. */
import assert from 'node:assert/strict';
import {
  assertIsNow,
  atOnce,
  contentsOf,
  type EngineCheck,
  EVERY_KIND_OF_TEXT,
  nth,
  ODD_NAMES,
  ok,
  range,
  refused,
  UUID,
} from './check.js';

export const MESSAGE_CHECKS: readonly EngineCheck[] = [
  {
    name: 'a message arrives as it was sent, stamped with the id and time of its receipt',
    async run(world) {
      const [from, to] = await world.twoAgents();
      const receipt = ok(await world.engine.sendMessage({ from, to, content: 'hello' }));
      assert.match(receipt.messageId, UUID);
      assertIsNow(receipt.sentAtMs, 'sentAtMs');
      const batch = ok(await world.engine.receiveMessages(to, 50, null));
      const message = { messageId: receipt.messageId, from, to, content: 'hello', sentAtMs: receipt.sentAtMs };
      assert.deepEqual(batch, { messages: [message], remaining: 0 });
    },
  },
  {
    name: 'an empty queue gives nothing',
    async run(world) {
      const batch = ok(await world.engine.receiveMessages(await world.agent(), 50, null));
      assert.deepEqual(batch, { messages: [], remaining: 0 });
    },
  },
  {
    name: 'a queue is first in first out over all its senders',
    async run(world) {
      const agents = await world.agents(4);
      const to = nth(agents, 0);
      for (const i of range(40)) await world.send(nth(agents, world.random(4)), to, String(i));
      assert.deepEqual(await world.drainContents(to), range(40).map(String));
    },
  },
  {
    name: 'sends between receives join at the end',
    async run(world) {
      const [from, to] = await world.twoAgents();
      const received: string[] = [];
      for (const i of range(10)) {
        await world.send(from, to, `${i}a`);
        await world.send(from, to, `${i}b`);
        received.push(...contentsOf(ok(await world.engine.receiveMessages(to, 1, null)).messages));
      }
      received.push(...(await world.drainContents(to)));
      assert.deepEqual(
        received,
        range(10).flatMap((i) => [`${i}a`, `${i}b`]),
      );
    },
  },
  {
    name: 'a receive takes at most its limit and says how many remain',
    async run(world) {
      const [from, to] = await world.twoAgents();
      await world.sendNumbered(from, to, 10);
      for (const [limit, first, last, remaining] of [
        [1, 0, 0, 9],
        [2, 1, 2, 7],
        [7, 3, 9, 0],
      ] as const) {
        const batch = ok(await world.engine.receiveMessages(to, limit, null));
        assert.deepEqual(
          contentsOf(batch.messages),
          range(10)
            .slice(first, last + 1)
            .map(String),
        );
        assert.equal(batch.remaining, remaining);
      }
      await atOnce(range(101), (i) => world.send(from, to, String(i)));
      const batch = ok(await world.engine.receiveMessages(to, 100, null));
      assert.deepEqual([batch.messages.length, batch.remaining], [100, 1]);
    },
  },
  {
    name: 'message ids are distinct',
    async run(world) {
      const agents = await world.agents(6);
      const ids = await atOnce(range(300), (i) => world.send(nth(agents, 0), nth(agents, i % 6), 'same'));
      assert.equal(new Set(ids).size, 300);
    },
  },
  {
    name: 'a message to an unknown recipient is refused',
    async run(world) {
      const from = await world.agent();
      const unknown = [...ODD_NAMES, 'nobody', `tab_${'0'.repeat(20)}`, from.toUpperCase(), `${from} `, from.slice(4)];
      for (const to of unknown)
        refused(
          await world.engine.sendMessage({ from, to, content: 'x' }),
          'not_found',
          JSON.stringify(to.slice(0, 50)),
        );
      assert.deepEqual(await world.drainContents(from), []);
    },
  },
  {
    name: 'an agent may send to itself',
    async run(world) {
      const agent = await world.agent();
      await world.send(agent, agent, 'note');
      const [message] = await world.drain(agent);
      assert.deepEqual([message?.from, message?.to, message?.content], [agent, agent, 'note']);
    },
  },
  {
    name: 'queues are separate',
    async run(world) {
      const agents = await world.agents(5);
      await atOnce(range(100), (i) => world.send(nth(agents, 0), nth(agents, i % 5), String(i)));
      for (const [index, agent] of agents.entries()) {
        const contents = await world.drainContents(agent);
        assert.deepEqual(
          contents.map(Number).toSorted((a, b) => a - b),
          range(20).map((i) => i * 5 + index),
        );
      }
    },
  },
  {
    name: 'receives at once give no message twice and lose none',
    async run(world) {
      const [from, to] = await world.twoAgents();
      const ids = await atOnce(range(120), (i) => world.send(from, to, String(i)));
      const limits = range(60).map(() => 1 + world.random(4));
      const batches = await atOnce(
        limits,
        async (limit) => ok(await world.engine.receiveMessages(to, limit, null)).messages,
      );
      for (const [index, batch] of batches.entries()) assert.ok(batch.length <= nth(limits, index), 'within the limit');
      const received = [...batches.flat(), ...(await world.drain(to))].map(({ messageId }) => messageId);
      assert.deepEqual(received.toSorted(), ids.toSorted());
    },
  },
  {
    name: "sends and receives at once lose nothing, repeat nothing and keep each sender's order",
    async run(world) {
      const agents = await world.agents(5);
      const to = nth(agents, 0);
      const batches: string[][] = [];
      const senders = agents.slice(1).map(async (from) => {
        for (const i of range(25)) await world.send(from, to, `${from}:${i}`);
      });
      let sending = true;
      const receiver = async () => {
        while (sending) batches.push(contentsOf(ok(await world.engine.receiveMessages(to, 3, null)).messages));
      };
      const receivers = [receiver(), receiver(), receiver()];
      await Promise.all(senders);
      sending = false;
      await Promise.all(receivers);
      batches.push(await world.drainContents(to));
      const expected = agents.slice(1).flatMap((from) => range(25).map((i) => `${from}:${i}`));
      assert.deepEqual(batches.flat().toSorted(), expected.toSorted());
      for (const batch of batches) {
        for (const from of agents.slice(1)) {
          const numbers = batch
            .filter((text) => text.startsWith(from))
            .map((text) => Number(text.slice(from.length + 1)));
          assert.deepEqual(
            numbers,
            numbers.toSorted((a, b) => a - b),
            'order within a batch',
          );
        }
      }
    },
  },
  {
    name: 'contents of every kind of character arrive unchanged',
    async run(world) {
      const [from, to] = await world.twoAgents();
      for (const content of EVERY_KIND_OF_TEXT) await world.send(from, to, content);
      assert.deepEqual(await world.drainContents(to), EVERY_KIND_OF_TEXT);
    },
  },
  {
    name: 'contents of 1 to 65,536 bytes arrive unchanged',
    async run(world) {
      const [from, to] = await world.twoAgents();
      const contents = ['x', '<'.repeat(65_536), '\u0000'.repeat(65_536), '"'.repeat(65_536), '😀'.repeat(16_384)];
      for (const content of contents) await world.send(from, to, content);
      const received = await world.drainContents(to);
      assert.equal(received.length, contents.length);
      for (const [index, content] of contents.entries()) assert.ok(received[index] === content, `message ${index}`);
    },
  },
  {
    name: 'drop_oldest: a full queue keeps its newest messages',
    limits: { maxQueuePerAgent: 5, overflow: 'drop_oldest' },
    async run(world) {
      const [from, to] = await world.twoAgents();
      for (const [sent, kept] of [
        [4, 4],
        [5, 5],
        [6, 5],
        [13, 5],
      ] as const) {
        const contents = await world.sendNumbered(from, to, sent);
        assert.deepEqual(await world.drainContents(to), contents.slice(-kept), `after ${sent} messages`);
      }
    },
  },
  {
    name: 'reject: a full queue refuses, keeps what it has, and takes as many as were received',
    limits: { maxQueuePerAgent: 5, overflow: 'reject' },
    async run(world) {
      const [from, to] = await world.twoAgents();
      await world.sendNumbered(from, to, 5);
      const extra = { from, to, content: 'extra' };
      for (const _ of range(3)) refused(await world.engine.sendMessage(extra), 'store_full');
      const batch = ok(await world.engine.receiveMessages(to, 2, null));
      assert.deepEqual([contentsOf(batch.messages), batch.remaining], [['0', '1'], 3]);
      for (const _ of range(2)) ok(await world.engine.sendMessage(extra));
      refused(await world.engine.sendMessage(extra), 'store_full');
      assert.deepEqual(await world.drainContents(to), ['2', '3', '4', 'extra', 'extra']);
    },
  },
  {
    name: 'reject: a full queue does not stop other queues',
    limits: { maxQueuePerAgent: 2, overflow: 'reject' },
    async run(world) {
      const agents = await world.agents(4);
      const from = nth(agents, 0);
      for (const to of agents) await world.sendNumbered(from, to, 2);
      for (const to of agents) refused(await world.engine.sendMessage({ from, to, content: 'x' }), 'store_full');
    },
  },
  {
    name: 'reject: of sends at once a queue takes exactly as many as it has room for',
    limits: { maxQueuePerAgent: 10, overflow: 'reject' },
    async run(world) {
      const [from, to] = await world.twoAgents();
      const replies = await atOnce(range(40), (i) => world.engine.sendMessage({ from, to, content: String(i) }));
      for (const reply of replies.filter((each) => !each.ok)) refused(reply, 'store_full');
      const accepted = range(40).filter((i) => nth(replies, i).ok);
      assert.equal(accepted.length, 10);
      const contents = await world.drainContents(to);
      assert.deepEqual(
        contents.map(Number).toSorted((a, b) => a - b),
        accepted,
      );
    },
  },
  {
    name: 'drop_oldest: sends at once are all accepted and a full queue remains',
    limits: { maxQueuePerAgent: 10, overflow: 'drop_oldest' },
    async run(world) {
      const [from, to] = await world.twoAgents();
      const ids = await atOnce(range(40), (i) => world.send(from, to, String(i)));
      const kept = (await world.drain(to)).map(({ messageId }) => messageId);
      assert.equal(new Set(kept).size, 10);
      assert.ok(kept.every((id) => ids.includes(id)));
    },
  },
  {
    // An engine may count what a message costs it beside its body, up to 1 KiB each.
    name: 'reject: queued bodies together fill max_queued_bytes, in UTF-8 bytes, never exceed it, and give their room back',
    limits: { maxQueuedBytes: 64 * 1024, overflow: 'reject' },
    async run(world) {
      const [from, to] = await world.twoAgents();
      const content = '😀'.repeat(4 * 1024 - 256);
      for (const recipient of [to, from, to, from]) await world.send(from, recipient, content);
      refused(await world.engine.sendMessage({ from, to, content: 'é'.repeat(2049) }), 'store_full');
      refused(await world.engine.sendMessage({ from, to: from, content }), 'store_full', 'another queue');
      assert.equal(ok(await world.engine.receiveMessages(to, 1, null)).messages.length, 1);
      refused(await world.engine.sendMessage({ from, to: from, content: content + content }), 'store_full');
      await world.send(from, from, content);
      refused(await world.engine.sendMessage({ from, to, content }), 'store_full');
      assert.deepEqual([(await world.drain(to)).length, (await world.drain(from)).length], [1, 3]);
      for (const recipient of [to, from, to, to]) await world.send(from, recipient, content);
    },
  },
  {
    // Whether room is made or the message refused is the engine's choice; never exceeded, in order, without holes is not.
    name: 'drop_oldest: queued bodies together never exceed max_queued_bytes, and the newest accepted are kept',
    limits: { maxQueuedBytes: 20_000, overflow: 'drop_oldest' },
    async run(world) {
      const agents = await world.agents(2);
      const accepted = agents.map((): string[] => []);
      for (const i of range(30)) {
        const index = world.random(2);
        const content = `${i}${'é'.repeat(world.random(2_000))}`;
        const reply = await world.engine.sendMessage({ from: nth(agents, 0), to: nth(agents, index), content });
        if (reply.ok) nth(accepted, index).push(content);
        else refused(reply, 'store_full');
      }
      assert.ok(accepted.flat().length > 3);
      let keptBytes = 0;
      for (const [index, agent] of agents.entries()) {
        const kept = await world.drainContents(agent);
        assert.deepEqual(kept, kept.length === 0 ? [] : nth(accepted, index).slice(-kept.length));
        keptBytes += Buffer.byteLength(kept.join(''));
      }
      await world.send(nth(agents, 0), nth(agents, 1), 'room again');
      assert.ok(keptBytes > 0 && keptBytes <= 20_000, `${keptBytes} bytes kept`);
    },
  },
];
