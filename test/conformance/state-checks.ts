/** Rules of the state store's single keys: values, limits, last write wins, deletes, races. */
import assert from 'node:assert/strict';
import { assertIsNow, atOnce, type EngineCheck, EVERY_KIND_OF_TEXT, nth, ok, range, refused } from './check.js';

const MAX_KEY_BYTES = 1024;
const MIB = 1024 * 1024;
const ONE_TO_FOUR_BYTE_CHARACTERS = ['\u0000', 'x', '%', 'é', '\uffff', '😀'];

export const STATE_CHECKS: readonly EngineCheck[] = [
  {
    name: 'a key reads back as written, with its writer and the time of the answer',
    async run(world) {
      const agents = await world.agents(2);
      const writtenAtMs = await world.write(nth(agents, 0), 'key', 'value');
      assertIsNow(writtenAtMs, 'writtenAtMs');
      assert.deepEqual(ok(await world.engine.readState(nth(agents, 1), 'key')), {
        key: 'key',
        value: 'value',
        lastModifiedBy: nth(agents, 0),
        lastModifiedAtMs: writtenAtMs,
      });
    },
  },
  {
    name: 'the last write wins, with its writer and time',
    async run(world) {
      const agents = await world.agents(3);
      for (const i of range(9)) {
        const writer = nth(agents, i % 3);
        const lastModifiedAtMs = await world.write(writer, 'key', `v${i}`);
        const entry = ok(await world.engine.readState(nth(agents, 0), 'key'));
        assert.deepEqual(entry, { key: 'key', value: `v${i}`, lastModifiedBy: writer, lastModifiedAtMs });
      }
    },
  },
  {
    name: 'a key that is not there can be neither read nor deleted',
    async run(world) {
      const agent = await world.agent();
      refused(await world.engine.readState(agent, 'key'), 'not_found');
      refused(await world.engine.deleteState(agent, 'key'), 'not_found');
    },
  },
  {
    name: 'a deleted key is gone until it is written again',
    async run(world) {
      const [first, second] = await world.agents(2);
      assert.ok(first !== undefined && second !== undefined);
      await world.write(first, 'key', 'old');
      assertIsNow(ok(await world.engine.deleteState(second, 'key')).deletedAtMs, 'deletedAtMs');
      refused(await world.engine.readState(first, 'key'), 'not_found');
      refused(await world.engine.deleteState(first, 'key'), 'not_found', 'second delete');
      assert.deepEqual(await world.allKeys(), []);
      await world.write(second, 'key', 'new');
      assert.equal(await world.read(first, 'key'), 'new');
    },
  },
  {
    name: 'a delete touches no key with a similar name',
    async run(world) {
      const agent = await world.agent();
      const keys = ['a', 'a\u0000', 'a ', 'a/', 'a/b', 'A', 'ab', '/a', '%61', 'e\u0301', 'é'];
      for (const key of keys) await world.write(agent, key, `value of ${key}`);
      ok(await world.engine.deleteState(agent, 'a'));
      ok(await world.engine.deleteState(agent, 'é'));
      for (const key of keys) {
        const expected = key === 'a' || key === 'é' ? null : `value of ${key}`;
        assert.equal(await world.read(agent, key), expected, JSON.stringify(key));
      }
    },
  },
  {
    name: 'keys and values of every kind of character are kept apart and read back unchanged',
    async run(world) {
      const agent = await world.agent();
      const count = EVERY_KIND_OF_TEXT.length;
      for (const [i, key] of EVERY_KIND_OF_TEXT.entries()) {
        await world.write(agent, key, nth(EVERY_KIND_OF_TEXT, count - 1 - i));
      }
      for (const [i, key] of EVERY_KIND_OF_TEXT.entries()) {
        assert.equal(await world.read(agent, key), nth(EVERY_KIND_OF_TEXT, count - 1 - i), JSON.stringify(key));
      }
      assert.equal((await world.allKeys()).length, count);
      for (const key of EVERY_KIND_OF_TEXT) {
        ok(await world.engine.deleteState(agent, key));
        refused(await world.engine.readState(agent, key), 'not_found', JSON.stringify(key));
      }
      assert.deepEqual(await world.allKeys(), []);
    },
  },
  {
    name: 'keys of 1 to 1,024 bytes work, however long their common beginning',
    async run(world) {
      const agent = await world.agent();
      const keys = ONE_TO_FOUR_BYTE_CHARACTERS.flatMap((character) => {
        const bytes = Buffer.byteLength(character);
        const full = character.repeat(Math.floor(MAX_KEY_BYTES / bytes)) + 'y'.repeat(MAX_KEY_BYTES % bytes);
        const oneOff = `${'x'.repeat(MAX_KEY_BYTES - bytes)}${character}`;
        return [character, character.repeat(100), full, oneOff];
      });
      const distinct = [...new Set([...keys, 'x'.repeat(MAX_KEY_BYTES - 1)])];
      await atOnce(distinct, (key, i) => world.write(agent, key, `value ${i}`));
      for (const [i, key] of distinct.entries()) assert.equal(await world.read(agent, key), `value ${i}`);
      const listed = await world.allKeys('', 3);
      assert.deepEqual(new Set(listed), new Set(distinct));
      for (const key of distinct) ok(await world.engine.deleteState(agent, key));
      assert.deepEqual(await world.allKeys(), []);
    },
  },
  {
    name: 'values of 0 bytes to 1 MiB of any character read back unchanged',
    async run(world) {
      const agent = await world.agent();
      for (const character of ['', 'x', '<', '"', '\u0000', '\u2028', 'é', '😀']) {
        const bytes = Buffer.byteLength(character);
        const value = bytes === 0 ? '' : character.repeat(Math.floor(MIB / bytes)) + 'y'.repeat(MIB % bytes);
        await world.write(agent, 'key', value);
        assert.ok((await world.read(agent, 'key')) === value, `1 MiB of ${JSON.stringify(character)}`);
      }
    },
  },
  {
    name: 'names that JavaScript objects know are ordinary keys, and missing until written',
    async run(world) {
      const agent = await world.agent();
      const names = ['__proto__', 'constructor', 'toString', 'hasOwnProperty', 'length', 'undefined', 'NaN'];
      for (const key of names) refused(await world.engine.readState(agent, key), 'not_found', key);
      for (const key of names) await world.write(agent, key, key);
      for (const key of names) assert.equal(await world.read(agent, key), key);
    },
  },
  {
    name: 'an answered write is read by everyone from then on',
    async run(world) {
      const agents = await world.agents(3);
      await atOnce(range(60), async (k) => {
        for (const i of range(5)) {
          await world.write(nth(agents, i % 3), `key ${k}`, `${i}`);
          assert.equal(await world.read(nth(agents, (i + 1) % 3), `key ${k}`), `${i}`);
        }
        ok(await world.engine.deleteState(nth(agents, 0), `key ${k}`));
        assert.equal(await world.read(nth(agents, 1), `key ${k}`), null);
      });
    },
  },
  {
    name: 'of deletes at once of one key exactly one is accepted',
    async run(world) {
      const agent = await world.agent();
      for (const round of range(20)) {
        await world.write(agent, 'key', 'value');
        const replies = await atOnce(range(2 + (round % 3)), () => world.engine.deleteState(agent, 'key'));
        assert.equal(replies.filter((reply) => reply.ok).length, 1);
        for (const reply of replies.filter((each) => !each.ok)) refused(reply, 'not_found');
        assert.equal(await world.read(agent, 'key'), null);
      }
    },
  },
  {
    name: 'a write and a delete at once end in an order that explains both answers',
    async run(world) {
      const agent = await world.agent();
      for (const round of range(30)) {
        const existed = round % 2 === 0;
        if (existed) await world.write(agent, 'key', 'old');
        const write = () => world.engine.writeState(agent, 'key', 'new');
        const remove = () => world.engine.deleteState(agent, 'key');
        const deleteFirst = round % 4 < 2;
        const [a, b] = await Promise.all(deleteFirst ? [remove(), write()] : [write(), remove()]);
        assert.ok(deleteFirst ? b?.ok : a?.ok, 'the write is accepted');
        const deleted = deleteFirst ? a?.ok : b?.ok;
        const after = await world.read(agent, 'key');
        if (existed) assert.ok(deleted, 'there was something to delete in any order');
        else assert.equal(after, deleted ? null : 'new', 'deleted only if the write came first');
        assert.ok(after === null || after === 'new', `the old value is gone, not ${after}`);
        if (after !== null) ok(await world.engine.deleteState(agent, 'key'));
      }
      assert.equal(await world.assertCapacityIsExact(agent), 0);
    },
  },
  {
    name: 'of writes at once on one key one wins whole, and counts once',
    async run(world) {
      const agents = await world.agents(8);
      for (const round of range(10)) {
        const value = (writer: string) => `${round} ${writer} ${'x'.repeat(agents.indexOf(writer))}`;
        const times = await atOnce(agents, (writer) => world.write(writer, 'key', value(writer)));
        const entry = ok(await world.engine.readState(nth(agents, 0), 'key'));
        assert.equal(entry.value, value(entry.lastModifiedBy));
        assert.equal(entry.lastModifiedAtMs, times[agents.indexOf(entry.lastModifiedBy)]);
        await world.assertCapacityIsExact(nth(agents, 0));
      }
    },
  },
];
