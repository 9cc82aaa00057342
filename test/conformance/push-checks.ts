/** Rules of messages for webhooks: pushed in order, kept until settled, pulled when they can't be pushed. */
import assert from 'node:assert/strict';
import type { PushOutcome } from '../../src/contract/engine.js';
import { waitUntil } from '../support/wait.js';
import { atOnce, contentsOf, type EngineCheck, nth, ok, range, refused, type World } from './check.js';

const HOOK = { url: 'https://example.org/hook', secret: 'whsec_c2VjcmV0' };
const DELIVERED: PushOutcome = { kind: 'delivered' };
/** For what must have happened already. */
const SOON_MS = 10_000;
/** For what must not happen. */
const MOMENT_MS = 150;

const undeliverable = (failedInRow: number, circuitOpenUntilMs = 0): PushOutcome => ({
  kind: 'undeliverable',
  failedInRow,
  circuitOpenUntilMs,
});

/** A sender, and an agent with a webhook. */
async function senderAndHooked(world: World): Promise<[string, string]> {
  return [await world.agent(), await world.hooked()];
}

async function settle(world: World, agent: string, messageId: string, outcome: PushOutcome) {
  return ok(await world.engine.settlePush(agent, messageId, outcome));
}

/** Pushes everything, one message after the other; what was pushed. */
async function pushAll(world: World, agent: string): Promise<string[]> {
  const pushed: string[] = [];
  for (;;) {
    const first = await world.engine.peekPush(agent);
    if (!first.ok) {
      refused(first, 'not_found');
      return pushed;
    }
    pushed.push(first.value.content);
    await settle(world, agent, first.value.messageId, DELIVERED);
  }
}

export const PUSH_CHECKS: readonly EngineCheck[] = [
  {
    name: 'a message to an agent with a webhook waits to be pushed, and can not be pulled meanwhile',
    async run(world) {
      const [from, to] = await senderAndHooked(world);
      const receipt = ok(await world.engine.sendMessage({ from, to, content: 'é😀' }));
      await world.send(from, to, 'second');
      assert.deepEqual(ok(await world.engine.receiveMessages(to, 10, null)), { messages: [], remaining: 0 });
      assert.deepEqual(await world.lease(to, 10), []);
      for (const _ of range(2)) {
        const first = ok(await world.engine.peekPush(to));
        assert.deepEqual(first, { from, to, content: 'é😀', ...receipt });
      }
      await world.send(to, from, 'to one without');
      refused(await world.engine.peekPush(from), 'not_found');
      assert.deepEqual(await world.drainContents(from), ['to one without']);
    },
  },
  {
    name: 'agents with messages to push are handed out once, with all that a dispatcher needs; others are not',
    async run(world) {
      const [from, to] = await senderAndHooked(world);
      const other = await world.hooked();
      await world.send(from, from, 'pull');
      await world.sendNumbered(from, to, 3);
      const fresh = { ...HOOK, attempts: 0, nextAttemptAtMs: 0, failedInRow: 0 };
      assert.deepEqual(await world.pushAgents(SOON_MS), [{ address: to, ...fresh }]);
      await world.send(from, to, 'more');
      assert.deepEqual(await world.pushAgents(MOMENT_MS), [], 'in hand already');
      const waiting = world.pushAgents(SOON_MS);
      await world.send(from, other, 'x');
      assert.deepEqual(await waiting, [{ address: other, ...fresh }]);
    },
  },
  {
    name: 'agents of many messages at once are all handed out, each once',
    async run(world) {
      const from = await world.agent();
      const agents = await atOnce(range(20), () => world.hooked());
      const handedOut: string[] = [];
      const dispatcher = (async () => {
        while (handedOut.length < 20) {
          const more = await world.pushAgents(SOON_MS);
          assert.ok(more.length > 0, `${handedOut.length} of 20 agents`);
          handedOut.push(...more.map(({ address }) => address));
        }
      })();
      await Promise.all([dispatcher, atOnce(range(100), (i) => world.send(from, nth(agents, i % 20), String(i)))]);
      assert.deepEqual(handedOut.toSorted(), agents.toSorted());
      for (const agent of agents) assert.equal((await pushAll(world, agent)).length, 5);
    },
  },
  {
    name: 'pushed messages are gone, first in first out, and what is next is told each time',
    async run(world) {
      const [from, to] = await senderAndHooked(world);
      await world.sendNumbered(from, to, 3);
      await world.pushAgents(SOON_MS);
      for (const i of range(3)) {
        const first = ok(await world.engine.peekPush(to));
        assert.equal(first.content, String(i));
        const next = await settle(world, to, first.messageId, DELIVERED);
        assert.deepEqual(next?.address, i < 2 ? to : undefined);
      }
      assert.deepEqual(await world.drain(to), []);
      await world.send(from, to, 'again');
      assert.deepEqual(
        (await world.pushAgents(SOON_MS)).map(({ address }) => address),
        [to],
        'after there was nothing, it is handed out anew',
      );
    },
  },
  {
    name: 'a failed post is told again with its attempts and time, until one succeeds',
    async run(world) {
      const [from, to] = await senderAndHooked(world);
      await world.sendNumbered(from, to, 2);
      const { messageId } = ok(await world.engine.peekPush(to));
      const nextAttemptAtMs = Date.now() + 1_000;
      const retried = await settle(world, to, messageId, { kind: 'retry', attempts: 2, nextAttemptAtMs });
      assert.deepEqual(retried, { address: to, ...HOOK, attempts: 2, nextAttemptAtMs, failedInRow: 0 });
      assert.equal(ok(await world.engine.peekPush(to)).messageId, messageId, 'it is still the first');
      const next = await settle(world, to, messageId, DELIVERED);
      assert.deepEqual(next, { address: to, ...HOOK, attempts: 0, nextAttemptAtMs: 0, failedInRow: 0 });
    },
  },
  {
    name: 'an undeliverable message joins the pull queue at its place, and failures in a row are remembered until a success',
    async run(world) {
      const [from, to] = await senderAndHooked(world);
      await world.sendNumbered(from, to, 5);
      for (const [i, failedInRow] of [1, 2].entries()) {
        const first = ok(await world.engine.peekPush(to));
        await settle(world, to, first.messageId, { kind: 'retry', attempts: 3, nextAttemptAtMs: Date.now() });
        const next = await settle(world, to, first.messageId, undeliverable(failedInRow));
        assert.deepEqual([next?.failedInRow, next?.attempts, next?.nextAttemptAtMs], [failedInRow, 0, 0]);
        if (i === 0) assert.deepEqual(contentsOf(await world.lease(to, 10)), ['0']);
      }
      assert.deepEqual(await world.drainContents(to), ['1']);
      const next = await settle(world, to, ok(await world.engine.peekPush(to)).messageId, DELIVERED);
      assert.equal(next?.failedInRow, 0);
      await settle(world, to, ok(await world.engine.peekPush(to)).messageId, undeliverable(1));
      assert.deepEqual(await world.drainContents(to), ['3']);
      assert.deepEqual(await pushAll(world, to), ['4']);
    },
  },
  {
    name: 'an undeliverable message wakes who waits for one',
    async run(world) {
      const [from, to] = await senderAndHooked(world);
      await world.send(from, to, 'x');
      const waiting = world.engine.receiveMessages(to, 1, { waitMs: SOON_MS, signal: new AbortController().signal });
      assert.deepEqual(await world.receive(to, 1), []);
      await settle(world, to, ok(await world.engine.peekPush(to)).messageId, undeliverable(1));
      assert.deepEqual(contentsOf(ok(await waiting).messages), ['x']);
    },
  },
  {
    name: 'while the circuit is open all that wait and all that are sent can be pulled, in order; then pushing goes on',
    async run(world) {
      const [from, to] = await senderAndHooked(world);
      await world.sendNumbered(from, to, 3);
      await world.pushAgents(SOON_MS);
      const untilMs = Date.now() + 1_000;
      const { messageId } = ok(await world.engine.peekPush(to));
      assert.equal(await settle(world, to, messageId, undeliverable(5, untilMs)), null);
      refused(await world.engine.peekPush(to), 'not_found');
      await world.send(from, to, '3');
      if (Date.now() < untilMs) assert.deepEqual(await world.drainContents(to), ['0', '1', '2', '3']);
      await waitUntil(() => Date.now() > untilMs + 10, { timeoutMs: SOON_MS });
      await world.send(from, to, 'half open');
      assert.deepEqual(await world.drain(to), []);
      const [agent] = await world.pushAgents(SOON_MS);
      assert.deepEqual([agent?.address, agent?.failedInRow], [to, 5]);
      assert.deepEqual(await pushAll(world, to), ['half open']);
    },
  },
  {
    name: 'a settlement of any but the first message to push changes nothing',
    async run(world) {
      const [from, to] = await senderAndHooked(world);
      await world.sendNumbered(from, to, 2);
      const second = await world.send(from, to, 'x');
      for (const id of [second, 'no id', '']) {
        for (const outcome of [DELIVERED, undeliverable(1, Date.now() + 60_000)]) {
          const next = await settle(world, to, id, outcome);
          assert.deepEqual([next?.address, next?.attempts, next?.failedInRow], [to, 0, 0]);
        }
      }
      const { messageId } = ok(await world.engine.peekPush(to));
      await settle(world, to, messageId, DELIVERED);
      await settle(world, to, messageId, DELIVERED);
      assert.equal(await settle(world, from, messageId, DELIVERED), null);
      assert.deepEqual(await pushAll(world, to), ['1', 'x']);
      assert.deepEqual(await world.drain(to), []);
    },
  },
  {
    name: 'drop_oldest: messages to push count against the limit, and all but the first may be dropped',
    limits: { maxQueuePerAgent: 3, overflow: 'drop_oldest' },
    async run(world) {
      const [from, to] = await senderAndHooked(world);
      await world.sendNumbered(from, to, 5);
      assert.deepEqual(await pushAll(world, to), ['0', '3', '4']);
    },
  },
  {
    name: 'a pushed message is an event, and nothing else about pushing is',
    needs: 'events',
    async run(world) {
      const [from, to] = await senderAndHooked(world);
      const sent = [await world.send(from, to, '0'), await world.send(from, to, '1')];
      const before = (await world.events()).length;
      await settle(world, to, nth(sent, 0), { kind: 'retry', attempts: 1, nextAttemptAtMs: 0 });
      await settle(world, to, nth(sent, 0), undeliverable(1));
      await settle(world, to, nth(sent, 1), DELIVERED);
      assert.deepEqual(
        (await world.events()).slice(before).map(({ type, agent, data }) => ({ type, agent, data })),
        [
          {
            type: 'message_delivered',
            agent: to,
            data: { message_id: nth(sent, 1), to, delivery_method: 'push' },
          },
        ],
      );
    },
  },
  ...(['restart', 'crash'] as const).map(
    (how): EngineCheck => ({
      name: `${how}: what is to be pushed, its attempts, failures and open circuits are kept`,
      needs: how,
      async run(world) {
        const [from, a] = await senderAndHooked(world);
        const b = await world.hooked();
        const c = await world.hooked();
        await world.sendNumbered(from, a, 4);
        await settle(world, a, ok(await world.engine.peekPush(a)).messageId, DELIVERED);
        await settle(world, a, ok(await world.engine.peekPush(a)).messageId, undeliverable(3));
        const nextAttemptAtMs = Date.now() + 5_000;
        const retry = { kind: 'retry', attempts: 2, nextAttemptAtMs } as const;
        await settle(world, a, ok(await world.engine.peekPush(a)).messageId, retry);
        await world.sendNumbered(from, b, 2);
        await settle(world, b, ok(await world.engine.peekPush(b)).messageId, undeliverable(5, Date.now() + 600_000));
        await world.send(from, b, 'while open');
        await world.send(from, c, 'x');
        for (const _ of range(2)) {
          await world.reopen(how);
          const agents: { address: string }[] = [];
          while (agents.length < 2) {
            const more = await world.pushAgents(SOON_MS);
            assert.ok(more.length > 0, 'two agents have messages to push');
            agents.push(...more);
          }
          assert.deepEqual(
            agents.toSorted((x, y) => (x.address === a ? -1 : y.address === a ? 1 : 0)),
            [
              { address: a, ...HOOK, attempts: 2, nextAttemptAtMs, failedInRow: 3 },
              { address: c, ...HOOK, attempts: 0, nextAttemptAtMs: 0, failedInRow: 0 },
            ],
          );
          assert.deepEqual(await world.pushAgents(MOMENT_MS), []);
        }
        assert.deepEqual(await pushAll(world, a), ['2', '3']);
        assert.deepEqual(await world.drainContents(a), ['1']);
        assert.deepEqual(await pushAll(world, b), []);
        assert.deepEqual(await world.drainContents(b), ['0', '1', 'while open']);
        assert.deepEqual(await pushAll(world, c), ['x']);
      },
    }),
  ),
];
