/** The checker accepts what is linearizable, and finds every kind of wrong answer it is there for. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { seededRandom, seedFor } from '../support/seed.js';
import {
  checkLinearizable,
  type KeyInput,
  type KeyOutput,
  keyModel,
  type Operation,
  type QueueInput,
  type QueueOutput,
  queueModel,
} from './linearizability.js';

type KeyOp = Operation<KeyInput, KeyOutput>;
type QueueOp = Operation<QueueInput, QueueOutput>;

const put = (calledAt: number, returnedAt: number, value: string, known = true): KeyOp => ({
  calledAt,
  returnedAt,
  input: { do: 'put', value },
  output: known ? { value: null } : null,
});
const get = (calledAt: number, returnedAt: number, value: string | null): KeyOp => ({
  calledAt,
  returnedAt,
  input: { do: 'get' },
  output: { value },
});
const remove = (calledAt: number, returnedAt: number, found: boolean): KeyOp => ({
  calledAt,
  returnedAt,
  input: { do: 'delete' },
  output: { value: found ? '' : null },
});
const send = (calledAt: number, returnedAt: number, content: string, known = true): QueueOp => ({
  calledAt,
  returnedAt,
  input: { do: 'send', content },
  output: known ? { contents: [], remaining: 0 } : null,
});
const receive = (
  calledAt: number,
  returnedAt: number,
  limit: number,
  contents: string[] | null,
  remaining = 0,
): QueueOp => ({
  calledAt,
  returnedAt,
  input: { do: 'receive', limit },
  output: contents === null ? null : { contents, remaining },
});

const KEY_HISTORIES: readonly (readonly [what: string, isGood: boolean, history: KeyOp[]])[] = [
  ['one after the other', true, [put(0, 1, 'a'), get(2, 3, 'a'), remove(4, 5, true), get(6, 7, null)]],
  ['a read beside a write sees before or after', true, [put(0, 10, 'a'), get(1, 2, null), get(3, 4, 'a')]],
  ['a stale read', false, [put(0, 1, 'a'), put(2, 3, 'b'), get(4, 5, 'a')]],
  ['a value that comes and goes', false, [put(0, 10, 'a'), get(1, 2, 'a'), get(3, 4, null)]],
  ['a lost write', false, [put(0, 1, 'a'), get(2, 3, null)]],
  ['two deletes of one value', false, [put(0, 1, 'a'), remove(2, 9, true), remove(3, 8, true)]],
  ['a read of what nobody wrote', false, [get(0, 1, 'z')]],
  [
    'two readers that see two writes in two orders',
    false,
    [put(0, 9, 'a'), put(0, 9, 'b'), get(1, 2, 'a'), get(3, 4, 'b'), get(5, 6, 'a')],
  ],
  ['a lost answer: done', true, [put(0, 5, 'a', false), get(6, 7, 'a')]],
  ['a lost answer: not done', true, [put(0, 5, 'a', false), get(6, 7, null)]],
  ['a lost answer: seen, and then gone', false, [put(0, 5, 'a', false), get(6, 7, 'a'), get(8, 9, null)]],
  ['a lost answer: done after its process was dead', false, [put(0, 5, 'a', false), get(6, 7, null), get(8, 9, 'a')]],
];

const QUEUE_HISTORIES: readonly (readonly [what: string, isGood: boolean, history: QueueOp[]])[] = [
  [
    'first in, first out',
    true,
    [send(0, 1, 'a'), send(2, 3, 'b'), receive(4, 5, 1, ['a'], 1), receive(6, 7, 5, ['b'])],
  ],
  ['sent at once, in either order', true, [send(0, 5, 'a'), send(0, 5, 'b'), receive(6, 7, 2, ['b', 'a'])]],
  ['out of order', false, [send(0, 1, 'a'), send(2, 3, 'b'), receive(4, 5, 2, ['b', 'a'])]],
  ['twice', false, [send(0, 1, 'a'), receive(2, 9, 1, ['a']), receive(3, 8, 1, ['a'])]],
  ['lost', false, [send(0, 1, 'a'), receive(2, 3, 1, [])]],
  ['a wrong rest', false, [send(0, 1, 'a'), send(2, 3, 'b'), receive(4, 5, 1, ['a'], 0)]],
  ['a lost receive took it or not', true, [send(0, 1, 'a'), receive(2, 3, 1, null), receive(4, 5, 1, [])]],
  [
    'a lost receive took half',
    false,
    [send(0, 1, 'a'), send(0, 1, 'b'), receive(2, 3, 2, null), receive(4, 5, 2, ['b'], 0)],
  ],
  ['a lost send came between', true, [send(0, 5, 'a', false), send(1, 2, 'b'), receive(6, 7, 5, ['a', 'b'])]],
];

for (const [what, isGood, history] of KEY_HISTORIES) {
  test(`key: ${what} is ${isGood ? 'accepted' : 'found'}`, () => {
    assert.equal(checkLinearizable(keyModel, history) === null, isGood);
  });
}
for (const [what, isGood, history] of QUEUE_HISTORIES) {
  test(`queue: ${what} is ${isGood ? 'accepted' : 'found'}`, () => {
    assert.equal(checkLinearizable(queueModel, history) === null, isGood);
  });
}

test('long random histories of a true key are accepted, and one wrong answer in them is found', (t) => {
  const random = seededRandom(seedFor(t));
  for (let round = 0; round < 20; round++) {
    const history: KeyOp[] = [];
    let value: string | null = null;
    // Each operation happens at its own moment; its call and return lie up to four moments around it.
    for (let moment = 0; moment < 400; moment++) {
      const [calledAt, returnedAt] = [moment * 10 - random(40), moment * 10 + random(40)];
      const kind = random(3);
      if (kind === 0) {
        value = `${moment}`;
        history.push(put(calledAt, returnedAt, value, random(10) > 0));
      } else if (kind === 1) {
        history.push(remove(calledAt, returnedAt, value !== null));
        value = null;
      } else history.push(get(calledAt, returnedAt, value));
    }
    assert.equal(checkLinearizable(keyModel, history), null);
    const wrong = [...history, get(10_000, 10_001, 'never written')];
    assert.notEqual(checkLinearizable(keyModel, wrong), null);
  }
});
