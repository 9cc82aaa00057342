/** Rules of idempotency keys: same key, same answer, one message. */
import assert from 'node:assert/strict';
import type { NewMessage } from '../../src/contract/engine.js';
import { waitUntil } from '../support/wait.js';
import { atOnce, contentsOf, type EngineCheck, EVERY_KIND_OF_TEXT, nth, ok, range, refused } from './check.js';

/** Every kind of text that is a key of at most 128 bytes. */
const KEYS = [...EVERY_KIND_OF_TEXT, 'a ', ' a', 'k'.repeat(128), 'é'.repeat(64)].filter(
  (text) => Buffer.byteLength(text) <= 128,
);

export const IDEMPOTENCY_CHECKS: readonly EngineCheck[] = [
  {
    name: 'a repeat with the same key gets the first receipt and sends nothing, also when the message is long gone',
    async run(world) {
      const [from, to] = await world.twoAgents();
      const message = { from, to, content: 'é😀' };
      const receipt = ok(await world.engine.sendMessageOnce(message, 'key'));
      for (const _ of range(2)) assert.deepEqual(ok(await world.engine.sendMessageOnce(message, 'key')), receipt);
      assert.deepEqual(await world.drain(to), [{ ...message, ...receipt }]);
      assert.deepEqual(ok(await world.engine.sendMessageOnce(message, 'key')), receipt);
      assert.deepEqual(await world.drain(to), []);
    },
  },
  {
    name: 'every key is another key, and every sender has its own',
    async run(world) {
      const agents = await world.agents(3);
      const to = nth(agents, 0);
      const ids = new Set<string>();
      for (const from of agents) {
        for (const key of KEYS) {
          const receipt = ok(await world.engine.sendMessageOnce({ from, to, content: 'same' }, key));
          ids.add(receipt.messageId);
        }
      }
      assert.equal(ids.size, KEYS.length * 3);
      assert.equal((await world.drain(to)).length, KEYS.length * 3);
      for (const [i, key] of KEYS.entries()) {
        const repeated = ok(await world.engine.sendMessageOnce({ from: nth(agents, i % 3), to, content: 'same' }, key));
        assert.ok(ids.has(repeated.messageId), JSON.stringify(key));
      }
      await world.send(nth(agents, 0), to, 'without a key');
      assert.deepEqual(await world.drainContents(to), ['without a key']);
    },
  },
  {
    name: 'the same key with another recipient or content is a conflict, and sends nothing',
    async run(world) {
      const [from, to] = await world.twoAgents();
      const receipt = ok(await world.engine.sendMessageOnce({ from, to, content: 'first' }, 'key'));
      const others: readonly NewMessage[] = [
        { from, to, content: 'first ' },
        { from, to: from, content: 'first' },
        { from, to: `tab_${'0'.repeat(20)}`, content: 'first' },
      ];
      for (const other of others) {
        refused(await world.engine.sendMessageOnce(other, 'key'), 'idempotency_conflict');
      }
      assert.deepEqual(ok(await world.engine.sendMessageOnce({ from, to, content: 'first' }, 'key')), receipt);
      assert.deepEqual([await world.drainContents(to), await world.drainContents(from)], [['first'], []]);
    },
  },
  {
    name: 'repeats at once all get one receipt, and send one message',
    async run(world) {
      const [from, to] = await world.twoAgents();
      for (const key of ['a', 'b', 'c']) {
        const message = { from, to, content: key };
        const receipts = await atOnce(range(20), async () => ok(await world.engine.sendMessageOnce(message, key)));
        for (const receipt of receipts) assert.deepEqual(receipt, receipts[0]);
      }
      assert.deepEqual(await world.drainContents(to), ['a', 'b', 'c']);
    },
  },
  {
    name: 'of different messages at once under one key exactly one is sent, and its repeats are not conflicts',
    async run(world) {
      const agents = await world.agents(4);
      const from = nth(agents, 0);
      for (const round of range(5)) {
        const messages = range(12).map((i) => ({ from, to: nth(agents, i % 4), content: `${round} ${i % 6}` }));
        const replies = await atOnce(messages, (message) => world.engine.sendMessageOnce(message, `key ${round}`));
        const received = (await Promise.all(agents.map((agent) => world.drain(agent)))).flat();
        assert.equal(received.length, 1);
        const [sent] = received;
        for (const [i, reply] of replies.entries()) {
          const { to, content } = nth(messages, i);
          if (to === sent?.to && content === sent.content) assert.equal(ok(reply).messageId, sent.messageId);
          else refused(reply, 'idempotency_conflict');
        }
      }
    },
  },
  {
    name: 'a refused send does not use its key up',
    limits: { maxQueuePerAgent: 1, overflow: 'reject' },
    async run(world) {
      const [from, to] = await world.twoAgents();
      const nobody = `tab_${'0'.repeat(20)}`;
      refused(await world.engine.sendMessageOnce({ from, to: nobody, content: 'x' }, 'key'), 'not_found');
      await world.send(from, to, 'fills the queue');
      for (const _ of range(2)) {
        refused(await world.engine.sendMessageOnce({ from, to, content: 'y' }, 'key'), 'store_full');
      }
      const message = { from, to: from, content: 'z' };
      const receipt = ok(await world.engine.sendMessageOnce(message, 'key'));
      assert.deepEqual(ok(await world.engine.sendMessageOnce(message, 'key')), receipt, 'its own queue is full now');
      refused(await world.engine.sendMessageOnce({ from, to, content: 'y' }, 'key'), 'idempotency_conflict');
      assert.deepEqual([await world.drainContents(to), await world.drainContents(from)], [['fills the queue'], ['z']]);
    },
  },
  {
    name: 'a message with a key may be pushed, leased and acknowledged as any other',
    async run(world) {
      const from = await world.agent();
      const to = await world.hooked();
      const message = { from, to, content: 'x' };
      const receipt = ok(await world.engine.sendMessageOnce(message, 'key'));
      assert.equal(ok(await world.engine.peekPush(to)).messageId, receipt.messageId);
      const outcome = { kind: 'undeliverable', failedInRow: 1, circuitOpenUntilMs: 0 } as const;
      ok(await world.engine.settlePush(to, receipt.messageId, outcome));
      const [leased] = await world.lease(to, 1);
      assert.deepEqual(ok(await world.engine.sendMessageOnce(message, 'key')), receipt);
      assert.equal(ok(await world.engine.ackMessages(to, [leased?.leaseId ?? ''])).acked, 1);
      assert.deepEqual(ok(await world.engine.sendMessageOnce(message, 'key')), receipt);
      refused(await world.engine.peekPush(to), 'not_found');
      assert.deepEqual(await world.drain(to), []);
    },
  },
  {
    name: 'a send with a key is one event, and no event holds the key',
    needs: 'events',
    async run(world) {
      const [from, to] = await world.twoAgents();
      const key = 'a key to remember';
      const before = (await world.events()).length;
      const message = { from, to, content: 'x' };
      const { messageId } = ok(await world.engine.sendMessageOnce(message, key));
      ok(await world.engine.sendMessageOnce(message, key));
      refused(await world.engine.sendMessageOnce({ ...message, content: 'y' }, key), 'idempotency_conflict');
      const happened = (await world.events()).slice(before);
      assert.deepEqual(
        happened.map(({ type, data }) => ({ type, data })),
        [{ type: 'message_sent', data: { message_id: messageId, from, to, content: 'x', content_length: 1 } }],
      );
      assert.ok(!JSON.stringify(happened).includes(key));
    },
  },
  ...(['restart', 'crash'] as const).flatMap((how): readonly EngineCheck[] => [
    {
      name: `${how}: keys in use stay in use, with their receipts, and free ones are free`,
      needs: how,
      limits: { maxQueuePerAgent: 2, overflow: 'reject' },
      async run(world) {
        const [from, to] = await world.twoAgents();
        const message = { from, to, content: 'x' };
        const receipt = ok(await world.engine.sendMessageOnce(message, 'used'));
        await world.send(from, to, 'fills the queue');
        refused(await world.engine.sendMessageOnce({ from, to, content: 'y' }, 'free'), 'store_full');
        for (const _ of range(2)) {
          await world.reopen(how);
          assert.deepEqual(ok(await world.engine.sendMessageOnce(message, 'used')), receipt);
          const other = { from, to, content: 'y' };
          refused(await world.engine.sendMessageOnce(other, 'used'), 'idempotency_conflict');
        }
        ok(await world.engine.sendMessageOnce({ from, to: from, content: 'z' }, 'free'));
        assert.deepEqual(await world.drainContents(to), ['x', 'fills the queue']);
      },
    },
    {
      name: `${how} in the middle of sends with keys: repeated until answered, each is one message`,
      needs: how,
      async run(world) {
        const agents = await world.agents(3);
        const { engine } = world;
        const messages = range(80).map((i) => ({ from: nth(agents, i % 3), to: nth(agents, i % 2), content: `m${i}` }));
        const receipts = new Map<number, string>();
        const burst = messages.map(async (message, i) => {
          const reply = await engine.sendMessageOnce(message, `key ${i}`);
          if (reply.ok) receipts.set(i, reply.value.messageId);
        });
        // What is still in flight when the engine goes may be refused or never answered: nobody waits for it.
        void Promise.allSettled(burst);
        await waitUntil(() => receipts.size >= 20, { timeoutMs: 30_000 });
        await world.reopen(how);
        for (const [i, message] of messages.entries()) {
          const { messageId } = ok(await world.engine.sendMessageOnce(message, `key ${i}`));
          assert.equal(messageId, receipts.get(i) ?? messageId, `${message.content} was answered before`);
        }
        const received = (await Promise.all(agents.map((agent) => world.drain(agent)))).flat();
        assert.deepEqual(contentsOf(received).toSorted(), contentsOf(messages).toSorted());
      },
    },
  ]),
];
