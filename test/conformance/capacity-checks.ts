/** Rules of the store's capacity: counted exactly, enforced exactly, over the whole server. */
import assert from 'node:assert/strict';
import { atOnce, type EngineCheck, nth, ok, range, refused, type World } from './check.js';

async function assertUsed(world: World, usedBytes: number, keyCount: number): Promise<void> {
  const { usedBytes: used, keyCount: count } = ok(await world.engine.capacity());
  assert.deepEqual([used, count], [usedBytes, keyCount]);
}

export const CAPACITY_CHECKS: readonly EngineCheck[] = [
  {
    name: 'the empty store uses nothing of its configured capacity',
    limits: { maxCapacityBytes: 12_345 },
    async run(world) {
      assert.deepEqual(ok(await world.engine.capacity()), { usedBytes: 0, totalBytes: 12_345, keyCount: 0 });
    },
  },
  {
    name: 'used bytes are the UTF-8 bytes of keys and values, followed through writes, replacements and deletes',
    async run(world) {
      const agent = await world.agent();
      await world.write(agent, 'é', '😀');
      await assertUsed(world, 6, 1);
      await world.write(agent, 'empty', '');
      await assertUsed(world, 11, 2);
      await world.write(agent, 'é', '');
      await assertUsed(world, 7, 2);
      await world.write(agent, 'é', '\u0000"\u2028');
      await assertUsed(world, 12, 2);
      ok(await world.engine.deleteState(agent, 'empty'));
      refused(await world.engine.deleteState(agent, 'empty'), 'not_found');
      await assertUsed(world, 7, 1);
      ok(await world.engine.deleteState(agent, 'é'));
      await assertUsed(world, 0, 0);
    },
  },
  {
    name: 'the store may be filled to its capacity and not one byte more',
    limits: { maxCapacityBytes: 100 },
    async run(world) {
      const agent = await world.agent();
      await world.write(agent, 'a', 'x'.repeat(49));
      refused(await world.engine.writeState(agent, 'b', 'x'.repeat(50)), 'store_full', 'one byte too much');
      refused(await world.engine.writeState(agent, 'é', 'x'.repeat(49)), 'store_full', 'a key of two bytes');
      refused(await world.engine.writeState(agent, 'b', 'é'.repeat(25)), 'store_full', 'a value of two-byte letters');
      await assertUsed(world, 50, 1);
      await world.write(agent, 'b', 'x'.repeat(49));
      await assertUsed(world, 100, 2);
      refused(await world.engine.writeState(agent, 'c', ''), 'store_full', 'an empty value still has a key');
      assert.deepEqual(await world.allKeys(), ['a', 'b']);
    },
  },
  {
    name: 'an entry larger than the whole store is refused, one exactly as large is not',
    limits: { maxCapacityBytes: 20 },
    async run(world) {
      const agent = await world.agent();
      refused(await world.engine.writeState(agent, 'key', 'x'.repeat(18)), 'store_full');
      await world.write(agent, 'key', 'x'.repeat(17));
      await assertUsed(world, 20, 1);
    },
  },
  {
    name: 'a refused write leaves the old value, its writer and the listing as they were',
    limits: { maxCapacityBytes: 50 },
    async run(world) {
      const agents = await world.agents(2);
      await world.write(nth(agents, 0), 'key', 'old');
      const before = ok(await world.engine.readState(nth(agents, 0), 'key'));
      refused(await world.engine.writeState(nth(agents, 1), 'key', 'x'.repeat(48)), 'store_full');
      refused(await world.engine.writeState(nth(agents, 1), 'new', 'x'.repeat(48)), 'store_full');
      assert.deepEqual(ok(await world.engine.readState(nth(agents, 0), 'key')), before);
      refused(await world.engine.readState(nth(agents, 0), 'new'), 'not_found');
      assert.deepEqual(await world.allKeys(), ['key']);
      await assertUsed(world, 6, 1);
    },
  },
  {
    name: 'a full store takes replacements that do not grow it, and the room they and deletes give back',
    limits: { maxCapacityBytes: 60 },
    async run(world) {
      const agent = await world.agent();
      await world.write(agent, 'a', 'x'.repeat(29));
      await world.write(agent, 'b', 'x'.repeat(29));
      await world.write(agent, 'a', 'y'.repeat(29));
      refused(await world.engine.writeState(agent, 'a', 'z'.repeat(30)), 'store_full');
      await world.write(agent, 'a', 'y'.repeat(9));
      await world.write(agent, 'c', 'x'.repeat(19));
      refused(await world.engine.writeState(agent, 'd', ''), 'store_full');
      ok(await world.engine.deleteState(agent, 'b'));
      refused(await world.engine.writeState(agent, 'd', 'x'.repeat(30)), 'store_full');
      await world.write(agent, 'd', 'x'.repeat(29));
      assert.equal(await world.assertCapacityIsExact(agent), 60);
    },
  },
  {
    name: 'of equal writes at once exactly as many are accepted as fit',
    limits: { maxCapacityBytes: 1050 },
    async run(world) {
      const agent = await world.agent();
      for (const round of range(5)) {
        const keys = range(60).map((i) => `key ${round} ${String(i).padStart(2, '0')}`);
        const value = 'x'.repeat(100 - 8);
        const replies = await atOnce(keys, (key) => world.engine.writeState(agent, key, value));
        for (const reply of replies.filter((each) => !each.ok)) refused(reply, 'store_full');
        const accepted = keys.filter((_, i) => nth(replies, i).ok);
        assert.equal(accepted.length, 10);
        assert.deepEqual(await world.allKeys(), accepted);
        assert.equal(await world.assertCapacityIsExact(agent), 1000);
        await atOnce(accepted, async (key) => ok(await world.engine.deleteState(agent, key)));
        await assertUsed(world, 0, 0);
      }
    },
  },
  {
    name: 'writes of any size at once never exceed the capacity, lose nothing accepted, and leave it fillable to the last byte',
    limits: { maxCapacityBytes: 2000 },
    async run(world) {
      const agent = await world.agent();
      const entries = range(150).map((i) => [`key ${i}`, 'é'.repeat(world.random(40))] as const);
      const replies = await atOnce(entries, ([key, value]) => world.engine.writeState(agent, key, value));
      for (const [i, [key, value]] of entries.entries()) {
        const reply = nth(replies, i);
        if (!reply.ok) refused(reply, 'store_full');
        assert.equal(await world.read(agent, key), reply.ok ? value : null);
      }
      const usedBytes = await world.assertCapacityIsExact(agent);
      assert.ok(usedBytes <= 2000, `${usedBytes} of 2000 bytes used`);
      if (usedBytes < 2000) await world.write(agent, 'x'.repeat(2000 - usedBytes), '');
      refused(await world.engine.writeState(agent, 'y', ''), 'store_full');
      await world.assertCapacityIsExact(agent);
    },
  },
  {
    name: 'growing, shrinking and deleting one set of keys at once keeps the count exact and within the capacity',
    limits: { maxCapacityBytes: 600 },
    async run(world) {
      const agent = await world.agent();
      for (const _ of range(8)) {
        await atOnce(range(80), async () => {
          const key = `key ${world.random(12)}`;
          const reply =
            world.random(4) === 0
              ? await world.engine.deleteState(agent, key)
              : await world.engine.writeState(agent, key, 'x'.repeat(world.random(100)));
          if (!reply.ok) assert.ok(reply.code === 'store_full' || reply.code === 'not_found', reply.code);
        });
        const usedBytes = await world.assertCapacityIsExact(agent);
        assert.ok(usedBytes <= 600, `${usedBytes} of 600 bytes used`);
      }
    },
  },
];
