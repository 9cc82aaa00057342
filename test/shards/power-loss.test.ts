/** Whole shards under power loss at random moments: what was answered is there, what was not is there whole or not at all. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { OPS } from '../../src/shards/wire.js';
import { seededRandom, seedFor } from '../support/seed.js';
import { ShardRig } from './shard-rig.js';

test('every answered write survives power loss, whatever of the unanswered bytes the disk kept', async (t) => {
  const random = seededRandom(seedFor(t));
  let rig = await ShardRig.open({ settings: { maxSegmentBytes: 2_000 } });
  t.after(() => rig.end());
  /** What each key has been set to since the last power loss, null for deleted; entries before `answered` are gone. */
  let keys = new Map<string, { readonly values: (string | null)[]; answered: number }>();
  for (let round = 0; round < 15; round++) {
    rig.disk.canFill = random(2) === 0;
    for (let turns = random(6); turns >= 0; turns--) {
      const calls = Array.from({ length: 1 + random(5) }, () => {
        const key = `k${random(8)}`;
        const value = random(4) === 0 ? null : `${round}.${turns}.${random(1_000_000)}`;
        return { key, value };
      });
      const replies = rig.batch(
        calls.map(({ key, value }) =>
          value === null ? [OPS.deleteState, 'w', key] : [OPS.writeState, 'w', key, value],
        ),
      );
      calls.forEach(({ key, value }, index) => {
        const history = keys.get(key) ?? { values: [null], answered: 0 };
        keys.set(key, history);
        const place = history.values.push(value) - 1;
        void replies[index]?.then(({ code }) => {
          if (code === null || code === 'not_found') history.answered = Math.max(history.answered, place);
        });
      });
      if (random(3) > 0) await turn();
    }
    if (random(2) === 0) rig.disk.maxWriteBytes = 1 + random(100);
    rig = await rig.powerLoss((most) => random(most + 1), { maxSegmentBytes: 2_000 });
    assert.equal(rig.shard.recovery.damagedLines, 0);
    await rig.events();
    const found = new Map<string, { readonly values: (string | null)[]; answered: number }>();
    for (const [key, { values, answered }] of keys) {
      const value = (await rig.value(key)) as string | null;
      assert.ok(values.slice(answered).includes(value), `${key} is ${value}; sent: ${values}; answered: ${answered}`);
      found.set(key, { values: [value], answered: 0 });
    }
    keys = found;
  }
});
