import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { MessageQueue } from '../../src/shards/message-queue.js';
import { seedFor } from '../support/seed.js';

const someStep = fc.oneof(
  { weight: 4, arbitrary: fc.record({ do: fc.constant('push' as const), n: fc.integer({ min: 1, max: 40 }) }) },
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constantFrom('claim' as const, 'release' as const, 'remove' as const),
      n: fc.nat(60),
    }),
  },
);

test('a queue hands out what a plain list would, for any claims, releases and removals', (t) => {
  const seed = seedFor(t);
  fc.assert(
    fc.property(fc.array(someStep, { minLength: 20, maxLength: 200 }), (steps) => {
      const queue = new MessageQueue();
      /** Every message that is not removed, oldest first. */
      let model: { seq: number; claimed: boolean }[] = [];
      let seq = 0;
      for (const step of steps) {
        const claimed = model.filter((message) => message.claimed);
        if (step.do === 'push') {
          for (let i = 0; i < step.n; i++) {
            seq += 1 + (step.n % 3);
            queue.push({ seq, position: seq * 10, bytes: seq % 1_000 });
            model.push({ seq, claimed: false });
          }
        } else if (step.do === 'claim') {
          const expected = model.filter((message) => !message.claimed).slice(0, step.n);
          const got = queue.claim(step.n);
          assert.deepEqual(
            got,
            expected.map((message) => ({ seq: message.seq, position: message.seq * 10, bytes: message.seq % 1_000 })),
          );
          for (const message of expected) message.claimed = true;
        } else {
          // Each third of those claimed, from anywhere among them.
          for (const message of claimed.filter((_, index) => (index + step.n) % 3 === 0)) {
            if (step.do === 'release') {
              queue.release(message.seq);
              message.claimed = false;
            } else {
              queue.remove(message.seq);
              model = model.filter((each) => each !== message);
            }
          }
        }
        const ready = model.filter((message) => !message.claimed).length;
        assert.deepEqual([queue.ready, queue.occupied, queue.isIdle], [ready, ready, model.length === 0]);
      }
    }),
    { seed, numRuns: 200 },
  );
});

test('a message on its way in counts against the limit but can’t be claimed', () => {
  const queue = new MessageQueue();
  queue.incoming += 1;
  assert.deepEqual([queue.occupied, queue.ready, queue.isIdle], [1, 0, false]);
  assert.deepEqual(queue.claim(1), []);
});

test('only a claimed message can be released or removed, and seqs must rise', () => {
  const queue = new MessageQueue();
  queue.push({ seq: 5, position: 0, bytes: 1 });
  assert.throws(() => queue.release(5), /not claimed/);
  assert.throws(() => queue.remove(4), /not in the queue/);
  assert.throws(() => queue.remove(5), /not claimed/);
  assert.throws(() => queue.push({ seq: 5, position: 0, bytes: 1 }), /seq order/);
});
