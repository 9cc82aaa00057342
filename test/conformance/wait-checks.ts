/** Rules of waiting for messages: no wake-up is lost, no message is taken for somebody who has left. */
import assert from 'node:assert/strict';
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { ReceivedMessage, Wait } from '../../src/contract/engine.js';
import { atOnce, contentsOf, type EngineCheck, nth, ok, range, type World } from './check.js';

/** Longer than any check takes: a wait that ends by itself has missed its message. */
const LONG_MS = 30_000;
const NEVER = new AbortController().signal;

const waitOf = (waitMs: number, signal: AbortSignal = NEVER): Wait => ({ waitMs, signal });

async function await_(world: World, agent: string, limit: number, wait: Wait): Promise<ReceivedMessage[]> {
  return [...ok(await world.engine.receiveMessages(agent, limit, wait)).messages];
}

/** Starts waits that are parked when this resolves: each is known to have looked by an answer that came after it. */
async function park<T>(world: World, agent: string, start: () => Promise<T>): Promise<{ readonly answer: Promise<T> }> {
  const answer = start();
  assert.deepEqual(await world.receive(agent, 1), [], 'nothing is there yet');
  return { answer };
}

async function within<T>(promise: Promise<T>, what: string, timeoutMs = 10_000): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(
      () => reject(new assert.AssertionError({ message: `${what}: not within ${timeoutMs} ms` })),
      timeoutMs,
    );
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

export const WAIT_CHECKS: readonly EngineCheck[] = [
  {
    name: 'a wait ends with the first message, and finds those that are there already',
    async run(world) {
      const [from, to] = await world.twoAgents();
      const { answer } = await park(world, to, () => await_(world, to, 10, waitOf(LONG_MS)));
      await world.send(from, to, 'first');
      assert.deepEqual(contentsOf(await within(answer, 'the wait')), ['first']);
      await world.sendNumbered(from, to, 3);
      const batch = ok(await within(world.engine.receiveMessages(to, 2, waitOf(LONG_MS)), 'no wait'));
      assert.deepEqual([contentsOf(batch.messages), batch.remaining], [['0', '1'], 1]);
    },
  },
  {
    name: 'a wait without a message ends empty when its time is over, not before',
    async run(world) {
      const agent = await world.agent();
      const startMs = performance.now();
      const batch = ok(await within(world.engine.receiveMessages(agent, 10, waitOf(200)), 'the wait'));
      assert.deepEqual(batch, { messages: [], remaining: 0 });
      assert.ok(performance.now() - startMs >= 190, 'it waited');
      const lease = { visibilityMs: 60_000, holder: 'agent' } as const;
      assert.deepEqual(ok(await within(world.engine.leaseMessages(agent, 10, lease, waitOf(1)), 'the wait')), batch);
    },
  },
  {
    name: 'a cancelled wait is answered empty at once and takes no message',
    async run(world) {
      const [from, to] = await world.twoAgents();
      for (const round of range(20)) {
        const leaving = new AbortController();
        const { answer } = await park(world, to, () => await_(world, to, 10, waitOf(LONG_MS, leaving.signal)));
        leaving.abort();
        assert.deepEqual(await within(answer, 'the cancelled wait'), []);
        await world.send(from, to, String(round));
        assert.deepEqual(await world.drainContents(to), [String(round)]);
      }
    },
  },
  {
    name: 'a wait that was cancelled before it began takes nothing',
    async run(world) {
      const [from, to] = await world.twoAgents();
      await world.send(from, to, 'x');
      const wait = waitOf(LONG_MS, AbortSignal.abort());
      assert.deepEqual(await within(await_(world, to, 10, wait), 'the wait'), []);
      const lease = { visibilityMs: 60_000, holder: 'agent' } as const;
      assert.deepEqual(ok(await world.engine.leaseMessages(to, 10, lease, wait)).messages, []);
      assert.deepEqual(await world.drainContents(to), ['x']);
    },
  },
  {
    name: 'messages go to those who wait first come first served, one wait for each',
    async run(world) {
      const [from, to] = await world.twoAgents();
      const answers: Promise<ReceivedMessage[]>[] = [];
      for (const _ of range(5)) {
        answers.push((await park(world, to, () => await_(world, to, 1, waitOf(LONG_MS)))).answer);
      }
      const served: number[] = [];
      for (const [i, answer] of answers.entries()) void answer.then(() => served.push(i));
      for (const i of range(5)) {
        await world.send(from, to, String(i));
        assert.deepEqual(contentsOf(await within(nth(answers, i), `wait ${i}`)), [String(i)]);
        assert.deepEqual(served, range(i + 1), 'nobody else was woken');
      }
    },
  },
  {
    name: 'no wake-up is lost when waits and sends come at once',
    async run(world) {
      const agents = await world.agents(8);
      for (const round of range(25)) {
        const sends: Promise<string>[] = [];
        const waits: Promise<ReceivedMessage[]>[] = [];
        for (const agent of agents) {
          const steps = [
            () => sends.push(world.send(nth(agents, 0), agent, `${round}`)),
            () => waits.push(await_(world, agent, 10, waitOf(LONG_MS))),
          ];
          if (world.random(2) === 0) steps.reverse();
          for (const step of steps) {
            step();
            if (world.random(3) === 0) await nextTurn();
          }
        }
        await Promise.all(sends);
        const received = await within(Promise.all(waits), `round ${round}`);
        for (const messages of received) assert.deepEqual(contentsOf(messages), [`${round}`]);
      }
    },
  },
  {
    name: 'of many who wait for one queue each gets its message, and none gets one twice',
    async run(world) {
      const [from, to] = await world.twoAgents();
      const waits = range(150).map(() => await_(world, to, 1, waitOf(LONG_MS)));
      const ids = await atOnce(range(150), (i) => world.send(from, to, String(i)));
      const received = await within(Promise.all(waits), 'all waits', 25_000);
      assert.ok(received.every((messages) => messages.length === 1));
      assert.deepEqual(received.map(([message]) => message?.messageId).toSorted(), ids.toSorted());
    },
  },
  {
    name: 'waits that are cancelled while messages come lose none: each message is in an answer or still there',
    async run(world) {
      const [from, to] = await world.twoAgents();
      const controllers = range(100).map(() => new AbortController());
      const waits = controllers.map(({ signal }) => await_(world, to, 1, waitOf(LONG_MS, signal)));
      const sends = atOnce(range(40), (i) => world.send(from, to, String(i)));
      for (const controller of controllers) {
        if (world.random(4) === 0) await nextTurn();
        controller.abort();
      }
      const ids = await sends;
      const received = (await within(Promise.all(waits), 'all waits')).flat();
      const left = await world.drain(to);
      assert.deepEqual([...received, ...left].map(({ messageId }) => messageId).toSorted(), ids.toSorted());
    },
  },
  {
    name: 'a message that is returned, or whose lease runs out, wakes who waits for it',
    async run(world) {
      const [from, to] = await world.twoAgents();
      await world.send(from, to, 'x');
      for (const holder of ['agent', 'connection'] as const) {
        const [leased] = await world.lease(to, 1, 60_000, holder);
        const { answer } = await park(world, to, () => {
          return world.engine.leaseMessages(to, 1, { visibilityMs: 1_000, holder }, waitOf(LONG_MS));
        });
        ok(await world.engine.returnLeases(to, [leased?.leaseId ?? '']));
        assert.deepEqual(contentsOf(ok(await within(answer, 'the returned message')).messages), ['x']);
        const wait = waitOf(LONG_MS);
        const expired = ok(
          await within(world.engine.leaseMessages(to, 1, { visibilityMs: 60_000, holder }, wait), 'expiry'),
        );
        assert.deepEqual(contentsOf(expired.messages), ['x']);
        ok(
          await world.engine.returnLeases(
            to,
            expired.messages.map(({ leaseId }) => leaseId),
          ),
        );
      }
      assert.deepEqual(await world.drainContents(to), ['x']);
    },
  },
  {
    name: 'a wait may lease, and counts the delivery',
    async run(world) {
      const [from, to] = await world.twoAgents();
      const { answer } = await park(world, to, () => {
        return world.engine.leaseMessages(to, 5, { visibilityMs: 60_000, holder: 'agent' }, waitOf(LONG_MS));
      });
      await world.send(from, to, 'x');
      const [leased] = ok(await within(answer, 'the wait')).messages;
      assert.deepEqual([leased?.content, leased?.deliveryCount], ['x', 1]);
      assert.deepEqual(ok(await world.engine.ackMessages(to, [leased?.leaseId ?? ''])).acked, 1);
    },
  },
  ...(['restart', 'crash'] as const).map(
    (how): EngineCheck => ({
      name: `${how}: waits end, and take no message with them`,
      needs: how,
      async run(world) {
        const [from, to] = await world.twoAgents();
        const waits = range(10).map(() => world.engine.receiveMessages(to, 5, waitOf(LONG_MS)));
        assert.deepEqual(await world.receive(to, 1), []);
        await world.reopen(how);
        for (const reply of await within(Promise.all(waits), 'all waits')) {
          if (reply.ok) assert.deepEqual(reply.value.messages, []);
          else assert.equal(reply.code, 'unavailable');
        }
        await world.send(from, to, 'after');
        assert.deepEqual(await world.drainContents(to), ['after']);
      },
    }),
  ),
];
