/** Rules of leases: at least once, back at the old place, final when acknowledged. */
import assert from 'node:assert/strict';
import type { LeaseHolder } from '../../src/contract/engine.js';
import { waitUntil } from '../support/wait.js';
import {
  atOnce,
  contentsOf,
  type EngineCheck,
  nth,
  ODD_NAMES,
  ok,
  type Reopening,
  range,
  refused,
  type World,
} from './check.js';

/** The shortest lease there is. */
const SHORT_MS = 1_000;
const HOLDERS: readonly LeaseHolder[] = ['agent', 'connection'];

const idsOf = (messages: readonly { readonly leaseId: string }[]): string[] => messages.map(({ leaseId }) => leaseId);

/** Waits, without touching the queue, until every lease of `visibilityMs` granted before is over. */
async function untilOver(visibilityMs: number): Promise<void> {
  const overMs = Date.now() + visibilityMs + 50;
  await waitUntil(() => Date.now() > overMs, { timeoutMs: visibilityMs + 5_000, what: 'the lease to run out' });
}

export const LEASE_CHECKS: readonly EngineCheck[] = [
  {
    name: 'a leased message arrives as it was sent, with a lease of its own and its first delivery counted',
    async run(world) {
      const [from, to] = await world.twoAgents();
      for (const holder of HOLDERS) {
        const receipts = [];
        for (const content of ['é😀', '"\u0000"']) {
          receipts.push({ content, ...ok(await world.engine.sendMessage({ from, to, content })) });
        }
        const terms = { visibilityMs: 60_000, holder };
        const batch = ok(await world.engine.leaseMessages(to, 50, terms, null));
        const leaseIds = idsOf(batch.messages);
        const expected = receipts.map((receipt, i) => ({
          from,
          to,
          ...receipt,
          leaseId: nth(leaseIds, i),
          deliveryCount: 1,
        }));
        assert.deepEqual(batch, { messages: expected, remaining: 0 });
        assert.equal(new Set(leaseIds).size, 2);
        assert.deepEqual(ok(await world.engine.ackMessages(to, leaseIds)), { acked: 2, unknown: [] });
      }
    },
  },
  {
    name: 'a leased message is hidden from receives and leases, and the others are not',
    async run(world) {
      const [from, to] = await world.twoAgents();
      for (const holder of HOLDERS) {
        await world.sendNumbered(from, to, 6);
        const terms = { visibilityMs: 60_000, holder };
        const first = ok(await world.engine.leaseMessages(to, 2, terms, null));
        assert.deepEqual([contentsOf(first.messages), first.remaining], [['0', '1'], 4]);
        const second = ok(await world.engine.leaseMessages(to, 1, terms, null));
        assert.deepEqual([contentsOf(second.messages), second.remaining], [['2'], 3]);
        const received = ok(await world.engine.receiveMessages(to, 2, null));
        assert.deepEqual([contentsOf(received.messages), received.remaining], [['3', '4'], 1]);
        assert.deepEqual(await world.drainContents(to), ['5']);
        const nothing = ok(await world.engine.leaseMessages(to, 10, terms, null));
        assert.deepEqual(nothing, { messages: [], remaining: 0 });
        ok(await world.engine.ackMessages(to, idsOf([...first.messages, ...second.messages])));
      }
    },
  },
  {
    name: 'an acknowledged message is gone for good, and its lease means nothing any more',
    async run(world) {
      const [from, to] = await world.twoAgents();
      for (const holder of HOLDERS) {
        await world.sendNumbered(from, to, 4);
        const leases = idsOf(await world.lease(to, 3, 60_000, holder));
        const acked = [nth(leases, 1)];
        assert.deepEqual(ok(await world.engine.ackMessages(to, acked)), { acked: 1, unknown: [] });
        assert.deepEqual(ok(await world.engine.ackMessages(to, acked)), { acked: 0, unknown: acked });
        ok(await world.engine.returnLeases(to, leases));
        assert.deepEqual(await world.drainContents(to), ['0', '2', '3']);
        assert.deepEqual(ok(await world.engine.ackMessages(to, leases)), { acked: 0, unknown: leases });
      }
    },
  },
  {
    name: 'only the agent whose queue it is can end a lease',
    async run(world) {
      const [from, to] = await world.twoAgents();
      for (const holder of HOLDERS) {
        await world.sendNumbered(from, to, 2);
        await world.sendNumbered(to, from, 2);
        const leases = idsOf(await world.lease(to, 2, 60_000, holder));
        for (const other of [from, `tab_${'0'.repeat(20)}`]) {
          assert.deepEqual(ok(await world.engine.ackMessages(other, leases)), { acked: 0, unknown: leases });
          ok(await world.engine.returnLeases(other, leases));
        }
        assert.deepEqual(await world.receive(to, 10), [], 'still on loan');
        assert.deepEqual(ok(await world.engine.ackMessages(to, leases)).acked, 2);
        assert.equal((await world.drain(from)).length, 2);
      }
    },
  },
  {
    name: 'ids that are no leases are told back in the order asked, and an id given twice counts once',
    async run(world) {
      const [from, to] = await world.twoAgents();
      await world.sendNumbered(from, to, 3);
      const [a, b, c] = idsOf(await world.lease(to, 3)) as [string, string, string];
      const strange = [...ODD_NAMES, 'x', '-', '1-', '0-0', `${a} `, a.toUpperCase(), a.slice(0, -1), `${b}0`, '😀'];
      const asked = [strange[0] as string, a, ...strange.slice(1), a, b];
      const receipt = ok(await world.engine.ackMessages(to, asked));
      assert.deepEqual(receipt, { acked: 2, unknown: [...strange, a] });
      assert.deepEqual(ok(await world.engine.ackMessages(to, [])), { acked: 0, unknown: [] });
      ok(await world.engine.returnLeases(to, [...strange, b]));
      assert.deepEqual(ok(await world.engine.ackMessages(to, [c])), { acked: 1, unknown: [] });
    },
  },
  {
    name: 'returned messages are back at their old places, and delivery_count tells the deliveries',
    async run(world) {
      const [from, to] = await world.twoAgents();
      for (const holder of HOLDERS) {
        await world.sendNumbered(from, to, 6);
        const leases = idsOf(await world.lease(to, 5, 60_000, holder));
        ok(await world.engine.returnLeases(to, [nth(leases, 3), nth(leases, 1)]));
        const again = await world.lease(to, 2, 60_000, holder);
        assert.deepEqual(
          again.map(({ content, deliveryCount }) => [content, deliveryCount]),
          [
            ['1', 2],
            ['3', 2],
          ],
        );
        assert.ok(!idsOf(again).some((id) => leases.includes(id)), 'a new lease has a new id');
        ok(await world.engine.returnLeases(to, [...leases, ...idsOf(again)]));
        const third = await world.lease(to, 100, 60_000, holder);
        assert.deepEqual(
          third.map(({ content, deliveryCount }) => [content, deliveryCount]),
          [
            ['0', 2],
            ['1', 3],
            ['2', 2],
            ['3', 3],
            ['4', 2],
            ['5', 1],
          ],
        );
        ok(await world.engine.returnLeases(to, idsOf(third)));
        assert.deepEqual(await world.drainContents(to), range(6).map(String));
      }
    },
  },
  {
    name: 'a lease that runs out puts its message back at its old place, counted as delivered once more',
    async run(world) {
      const [from, to] = await world.twoAgents();
      const agents = [to, from];
      for (const [i, holder] of HOLDERS.entries()) {
        const agent = nth(agents, i);
        await world.sendNumbered(from, agent, 4);
        await world.lease(agent, 1, 60_000, holder);
        await world.lease(agent, 2, SHORT_MS, holder);
      }
      await untilOver(SHORT_MS);
      for (const agent of agents) {
        const again = await world.lease(agent, 100);
        assert.deepEqual(
          again.map(({ content, deliveryCount }) => [content, deliveryCount]),
          [
            ['1', 2],
            ['2', 2],
            ['3', 1],
          ],
        );
      }
    },
  },
  {
    name: 'a lease that has run out can not be acknowledged, whether or not its message was handed out again',
    async run(world) {
      const [from, to] = await world.twoAgents();
      for (const holder of HOLDERS) {
        await world.sendNumbered(from, to, 2);
        const leases = idsOf(await world.lease(to, 2, SHORT_MS, holder));
        await untilOver(SHORT_MS);
        assert.deepEqual(ok(await world.engine.ackMessages(to, leases)), { acked: 0, unknown: leases });
        const [again] = await world.lease(to, 1, 60_000, holder);
        assert.deepEqual(ok(await world.engine.ackMessages(to, leases)), { acked: 0, unknown: leases });
        assert.equal(ok(await world.engine.ackMessages(to, idsOf(again ? [again] : []))).acked, 1);
        assert.deepEqual(await world.drainContents(to), ['1']);
      }
    },
  },
  {
    name: 'of acknowledgements at once of one lease exactly one counts',
    async run(world) {
      const [from, to] = await world.twoAgents();
      await world.sendNumbered(from, to, 20);
      for (const { leaseId } of await world.lease(to, 20)) {
        const receipts = await atOnce(range(4), async () => ok(await world.engine.ackMessages(to, [leaseId])));
        assert.equal(
          receipts.reduce((sum, { acked }) => sum + acked, 0),
          1,
        );
        for (const { acked, unknown } of receipts) assert.deepEqual(unknown, acked === 1 ? [] : [leaseId]);
      }
      assert.deepEqual(await world.drain(to), []);
    },
  },
  {
    name: 'leases, receives, acknowledgements and returns at once lose no message and deliver none twice for good',
    async run(world) {
      const agents = await world.agents(3);
      const to = nth(agents, 0);
      const sent = await atOnce(range(120), (i) => world.send(nth(agents, i % 3), to, String(i)));
      const final: string[] = [];
      await atOnce(range(60), async (i) => {
        if (i % 4 === 0) {
          final.push(...(await world.receive(to, 2)).map(({ messageId }) => messageId));
          return;
        }
        const leased = await world.lease(to, 3, 60_000, nth(HOLDERS, i % 2));
        const kept = leased.filter(() => world.random(2) === 0);
        const { acked } = ok(await world.engine.ackMessages(to, idsOf(kept)));
        assert.equal(acked, kept.length);
        final.push(...kept.map(({ messageId }) => messageId));
        ok(await world.engine.returnLeases(to, idsOf(leased)));
      });
      const rest = await world.drain(to);
      assert.deepEqual([...final, ...rest.map(({ messageId }) => messageId)].toSorted(), sent.toSorted());
    },
  },
  {
    name: 'drop_oldest: a leased message is never dropped; with nothing else to drop a send is refused',
    limits: { maxQueuePerAgent: 4, overflow: 'drop_oldest' },
    async run(world) {
      const [from, to] = await world.twoAgents();
      for (const holder of HOLDERS) {
        await world.sendNumbered(from, to, 4);
        const first = await world.lease(to, 2, 60_000, holder);
        for (const content of ['4', '5', '6']) await world.send(from, to, content);
        const second = await world.lease(to, 10, 60_000, holder);
        assert.deepEqual(contentsOf([...first, ...second]), ['0', '1', '5', '6']);
        refused(await world.engine.sendMessage({ from, to, content: '7' }), 'store_full');
        const leases = idsOf([...first, ...second]);
        ok(await world.engine.ackMessages(to, leases.slice(0, 1)));
        await world.send(from, to, '8');
        ok(await world.engine.returnLeases(to, leases));
        await world.send(from, to, '9');
        assert.deepEqual(await world.drainContents(to), ['5', '6', '8', '9']);
      }
    },
  },
  {
    name: 'reject: leased messages count against the limit until they are acknowledged',
    limits: { maxQueuePerAgent: 3, overflow: 'reject' },
    async run(world) {
      const [from, to] = await world.twoAgents();
      for (const holder of HOLDERS) {
        await world.sendNumbered(from, to, 3);
        const leases = idsOf(await world.lease(to, 2, 60_000, holder));
        refused(await world.engine.sendMessage({ from, to, content: 'x' }), 'store_full');
        ok(await world.engine.returnLeases(to, leases.slice(0, 1)));
        refused(await world.engine.sendMessage({ from, to, content: 'x' }), 'store_full');
        ok(await world.engine.ackMessages(to, leases));
        await world.send(from, to, '3');
        refused(await world.engine.sendMessage({ from, to, content: 'x' }), 'store_full');
        assert.deepEqual(await world.drainContents(to), ['0', '2', '3']);
      }
    },
  },
  {
    name: 'a lease is no event, and an acknowledgement is the delivery',
    needs: 'events',
    async run(world) {
      const [from, to] = await world.twoAgents();
      for (const holder of HOLDERS) {
        await world.sendNumbered(from, to, 2);
        const before = (await world.events()).length;
        const [first] = await world.lease(to, 2, 60_000, holder);
        assert.ok(first);
        ok(await world.engine.returnLeases(to, [first.leaseId]));
        const [again] = await world.lease(to, 1, 60_000, holder);
        assert.ok(again);
        assert.equal((await world.events()).length, before);
        ok(await world.engine.ackMessages(to, [again.leaseId]));
        const happened = (await world.events()).slice(before);
        assert.deepEqual(
          happened.map(({ type, agent, data }) => ({ type, agent, data })),
          [
            {
              type: 'message_delivered',
              agent: to,
              data: { message_id: first.messageId, to, delivery_method: 'pull' },
            },
          ],
        );
      }
    },
  },
  ...(['restart', 'crash'] as const).flatMap(leaseRecoveryChecks),
];

function leaseRecoveryChecks(how: Reopening): readonly EngineCheck[] {
  return [
    {
      name: `${how}: durable leases hold, with their ids and counts; what was acknowledged does not come back`,
      needs: how,
      async run(world: World) {
        const [from, to] = await world.twoAgents();
        await world.sendNumbered(from, to, 8);
        const first = idsOf(await world.lease(to, 4));
        ok(await world.engine.ackMessages(to, first.slice(0, 1)));
        ok(await world.engine.returnLeases(to, first.slice(1, 2)));
        const connection = await world.lease(to, 2, 600_000, 'connection');
        assert.deepEqual(contentsOf(connection), ['1', '4']);
        for (const _ of range(2)) {
          await world.reopen(how);
          assert.deepEqual(contentsOf(await world.lease(to, 1, 600_000, 'connection')), ['1'], 'connections are gone');
        }
        const connections = idsOf(connection);
        await world.reopen(how);
        const ended = [nth(first, 0), nth(first, 1), ...connections];
        assert.deepEqual(ok(await world.engine.ackMessages(to, ended)), { acked: 0, unknown: ended });
        assert.deepEqual(ok(await world.engine.ackMessages(to, [nth(first, 2)])), { acked: 1, unknown: [] });
        await world.reopen(how);
        ok(await world.engine.returnLeases(to, first));
        const again = await world.lease(to, 10);
        assert.deepEqual(contentsOf(again), ['1', '3', '4', '5', '6', '7']);
        assert.equal(again[1]?.deliveryCount, 2, 'deliveries before are counted');
        assert.ok((again[0]?.deliveryCount ?? 0) >= 2);
        ok(await world.engine.ackMessages(to, idsOf(again)));
        await world.reopen(how);
        assert.deepEqual(await world.drain(to), []);
      },
    },
    {
      name: `${how}: the first to acknowledge afterwards, and all who receive, repeat and return meanwhile, are answered`,
      needs: how,
      async run(world: World) {
        const [from, to] = await world.twoAgents();
        const sent = await atOnce(range(12), (i) => world.send(from, to, String(i)));
        const leases = idsOf(await world.lease(to, 10));
        await world.reopen(how);
        const { engine } = world;
        const [first, batch, second] = await Promise.all([
          engine.ackMessages(to, leases.slice(0, 6)),
          engine.receiveMessages(to, 1, null),
          engine.ackMessages(to, leases.slice(0, 8)),
          engine.returnLeases(to, leases),
          engine.leaseMessages(to, 1, { visibilityMs: 600_000, holder: 'agent' }, null),
        ]);
        assert.deepEqual(ok(first), { acked: 6, unknown: [] });
        assert.deepEqual(ok(second), { acked: 2, unknown: leases.slice(0, 6) });
        const received = ok(batch).messages.length;
        assert.ok(received === 1, 'two were not on loan');
        const left = [...(await world.drain(to)), ...(await world.lease(to, 10))];
        assert.ok(left.length >= sent.length - 8 - received - 1 && left.length <= sent.length - 8 - received);
      },
    },
    {
      name: `${how}: a lease that ran out meanwhile has ended, and one that has not runs out later`,
      needs: how,
      async run(world: World) {
        const [from, to] = await world.twoAgents();
        await world.sendNumbered(from, to, 3);
        const short = idsOf(await world.lease(to, 1, SHORT_MS));
        await untilOver(SHORT_MS);
        const running = idsOf(await world.lease(to, 1, 600_000));
        ok(await world.engine.returnLeases(to, running));
        await world.lease(to, 2, 2 * SHORT_MS);
        await world.reopen(how);
        assert.deepEqual(ok(await world.engine.ackMessages(to, short)).acked, 0);
        await untilOver(2 * SHORT_MS);
        const again = await world.lease(to, 10);
        assert.deepEqual(
          again.map(({ content, deliveryCount }) => [content, deliveryCount]),
          [
            ['0', 4],
            ['1', 2],
            ['2', 1],
          ],
        );
      },
    },
    {
      name: `${how} in the middle of leases and acknowledgements: none that was answered is undone, no message is lost`,
      needs: how,
      async run(world: World) {
        const [from, to] = await world.twoAgents();
        const { engine } = world;
        const sent = await atOnce(range(60), (i) => world.send(from, to, String(i)));
        const acked = new Set<string>();
        const held = new Map<string, string>();
        const terms = { visibilityMs: 600_000, holder: 'agent' } as const;
        const burst = range(30).map(async (i) => {
          const reply = await engine.leaseMessages(to, 2, terms, null);
          if (!reply.ok) return;
          for (const { messageId, leaseId } of reply.value.messages) held.set(messageId, leaseId);
          if (i % 2 === 0) return;
          const ids = idsOf(reply.value.messages);
          const receipt = await engine.ackMessages(to, ids);
          if (receipt.ok) for (const { messageId } of reply.value.messages) acked.add(messageId);
        });
        // What is still in flight when the engine goes may be refused or never answered: nobody waits for it.
        void Promise.allSettled(burst);
        await waitUntil(() => acked.size >= 6, { timeoutMs: 30_000 });
        await world.reopen(how);
        const free = (await world.drain(to)).map(({ messageId }) => messageId);
        for (const id of free) assert.ok(!acked.has(id) && !held.has(id), `message ${id} was on loan or acknowledged`);
        let stillHeld = 0;
        for (const [messageId, leaseId] of held) {
          const receipt = ok(await world.engine.ackMessages(to, [leaseId]));
          if (acked.has(messageId)) assert.equal(receipt.acked, 0, 'acknowledged before');
          stillHeld += receipt.acked;
        }
        assert.ok(free.length + stillHeld + acked.size <= sent.length);
        const unanswered = 60 - free.length - held.size;
        assert.ok(unanswered >= 0 && unanswered <= 60, `${unanswered} messages went to leases nobody heard of`);
      },
    },
  ];
}
