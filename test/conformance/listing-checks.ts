/** Rules of key listings: byte order, prefixes, pages, cursors, totals. */
import assert from 'node:assert/strict';
import type { KeyPage } from '../../src/contract/engine.js';
import {
  atOnce,
  byteOrder,
  type EngineCheck,
  EVERY_KIND_OF_TEXT,
  nth,
  ok,
  range,
  refused,
  type World,
} from './check.js';
import { NO_CURSORS } from './registry-checks.js';

/** Where orders differ: UTF-16 puts a surrogate pair before U+E000..U+FFFF, UTF-8 after; C strings end at NUL. */
const ORDER_TRAPS: readonly string[] = [
  '\u0000',
  'a',
  'a\u0000',
  'a\u0000b',
  'a\u0001',
  'a ',
  'a/',
  'a/b',
  'aa',
  'A',
  'b',
  '~',
  '\u007f',
  '\u0080',
  'é',
  'e\u0301',
  '\u07ff',
  '\u0800',
  '\ud7ff',
  '\ue000',
  '\ufeff',
  '\ufffd',
  '\uffff',
  '\uffff\u{10000}',
  '\u{10000}',
  '\u{10000}\uffff',
  '😀',
  '😀a',
  '\u{10ffff}',
  '9',
  '10',
  '-1',
  'Ä',
];

/** Characters that fuzzy keys are made of, so that many share beginnings. */
const FUZZY_CHARACTERS = ['a', 'b', '/', '\u0000', '%', '_', 'é', '\ue000', '\uffff', '😀', '\u{10ffff}'];

async function writeAll(world: World, keys: readonly string[]): Promise<void> {
  const agent = await world.agent();
  await atOnce(keys, (key) => world.write(agent, key, 'v'));
}

function fuzzyKeys(world: World, count: number): string[] {
  const keys = new Set<string>();
  while (keys.size < count) {
    keys.add(
      range(1 + world.random(5))
        .map(() => nth(FUZZY_CHARACTERS, world.random(FUZZY_CHARACTERS.length)))
        .join(''),
    );
  }
  return [...keys];
}

export const LISTING_CHECKS: readonly EngineCheck[] = [
  {
    name: 'the empty store is one empty last page for any prefix',
    async run(world) {
      for (const prefix of ['', 'a', '\uffff', '😀', 'x'.repeat(1024)]) {
        const page = ok(await world.engine.listKeys(prefix, { cursor: null, limit: 100 }));
        assert.deepEqual(page, { keys: [], nextCursor: null, total: 0 });
      }
    },
  },
  {
    name: 'keys are listed in the byte order of their UTF-8 form',
    async run(world) {
      await writeAll(world, ORDER_TRAPS);
      assert.deepEqual(await world.allKeys(), ORDER_TRAPS.toSorted(byteOrder));
    },
  },
  {
    name: 'keys of every kind of character are listed in byte order, in pages of every size',
    async run(world) {
      await writeAll(world, EVERY_KIND_OF_TEXT);
      const sorted = EVERY_KIND_OF_TEXT.toSorted(byteOrder);
      for (const limit of [...range(sorted.length + 1).map((i) => i + 1), 999, 1000]) {
        assert.deepEqual(await world.allKeys('', limit), sorted, `limit ${limit}`);
      }
    },
  },
  {
    name: 'a prefix selects exactly the keys that begin with it, and total counts them',
    async run(world) {
      const keys = fuzzyKeys(world, 150);
      await writeAll(world, keys);
      const beginnings = keys.slice(0, 20).flatMap((key) => [[...key].slice(0, 2).join(''), key]);
      const absent = ['zz', 'a'.repeat(1024), 'aa\u{10ffff}\u{10ffff}', '*', '%a%', '[a]', '.'];
      for (const prefix of new Set(['', ...FUZZY_CHARACTERS, ...beginnings, ...absent])) {
        const expected = keys.filter((key) => key.startsWith(prefix)).toSorted(byteOrder);
        assert.deepEqual(await world.allKeys(prefix), expected, JSON.stringify(prefix));
        assert.deepEqual(await world.allKeys(prefix, 3), expected, `${JSON.stringify(prefix)} in pages`);
      }
    },
  },
  {
    name: 'every page tells the total of its prefix',
    async run(world) {
      await writeAll(world, ['a/1', 'a/2', 'a/3', 'a', 'b/1']);
      for (const [prefix, total] of [
        ['', 5],
        ['a', 4],
        ['a/', 3],
        ['a/1', 1],
        ['c', 0],
      ] as const) {
        let cursor: string | null = null;
        do {
          const page: KeyPage = ok(await world.engine.listKeys(prefix, { cursor, limit: 1 }));
          assert.equal(page.total, total, prefix);
          cursor = page.nextCursor;
        } while (cursor !== null);
      }
    },
  },
  {
    name: 'a page of 1,000 keys is followed by the 1,001st',
    async run(world) {
      const keys = range(1001).map((i) => `key/${i}`);
      await writeAll(world, keys);
      const first = ok(await world.engine.listKeys('key/', { cursor: null, limit: 1000 }));
      const second = ok(await world.engine.listKeys('key/', { cursor: first.nextCursor, limit: 1000 }));
      assert.deepEqual([...first.keys, ...second.keys], keys.toSorted(byteOrder));
      assert.deepEqual([first.keys.length, first.total], [1000, 1001]);
      assert.deepEqual([second.total, second.nextCursor], [1001, null]);
    },
  },
  {
    name: 'deleted keys are neither listed nor counted, and overwritten ones once',
    async run(world) {
      const keys = range(30).map((i) => `k${i}`);
      await writeAll(world, keys);
      await writeAll(world, keys);
      const agent = await world.agent();
      for (const key of keys.filter((_, i) => i % 3 === 0)) ok(await world.engine.deleteState(agent, key));
      const left = keys.filter((_, i) => i % 3 !== 0).toSorted(byteOrder);
      assert.deepEqual(await world.allKeys(), left);
      assert.deepEqual(
        await world.allKeys('k1', 2),
        left.filter((key) => key.startsWith('k1')),
      );
    },
  },
  {
    name: 'a key cursor stands right after the last key of its page, whatever is written or deleted meanwhile',
    async run(world) {
      await writeAll(world, ['b', 'd', 'f', 'h', 'j']);
      const agent = await world.agent();
      const { nextCursor: cursor } = ok(await world.engine.listKeys('', { cursor: null, limit: 2 }));
      await world.write(agent, 'a', '');
      await world.write(agent, 'c', '');
      await world.write(agent, 'e', '');
      ok(await world.engine.deleteState(agent, 'd'));
      ok(await world.engine.deleteState(agent, 'f'));
      for (const _ of range(2)) {
        const page = ok(await world.engine.listKeys('', { cursor, limit: 100 }));
        assert.deepEqual(page, { keys: ['e', 'h', 'j'], nextCursor: null, total: 6 });
      }
    },
  },
  {
    name: 'paging while others write and delete misses and repeats no key that stays',
    async run(world) {
      const agent = await world.agent();
      const stay = range(60).map((i) => `${String(i).padStart(3, '0')}/stays`);
      await atOnce(stay, (key) => world.write(agent, key, ''));
      const churn = atOnce(range(60), async (i) => {
        const key = `${String(i).padStart(3, '0')}/comes and goes`;
        await world.write(agent, key, '');
        ok(await world.engine.deleteState(agent, key));
      });
      const listed: string[] = [];
      for (let cursor: string | null = null; ; ) {
        const page: KeyPage = ok(await world.engine.listKeys('', { cursor, limit: 5 }));
        listed.push(...page.keys);
        cursor = page.nextCursor;
        if (cursor === null) break;
      }
      await churn;
      assert.deepEqual(listed, [...new Set(listed)].toSorted(byteOrder), 'in order, nothing twice');
      assert.deepEqual(
        listed.filter((key) => key.endsWith('/stays')),
        stay,
      );
      assert.deepEqual(await world.allKeys(), stay);
    },
  },
  {
    name: 'a key cursor the engine did not make is refused',
    async run(world) {
      const reader = nth(await world.agents(3), 0);
      await writeAll(world, ['a', 'b', 'c']);
      const { nextCursor: real } = ok(await world.engine.listKeys('', { cursor: null, limit: 2 }));
      const { nextCursor: agentCursor } = ok(await world.engine.listAgents(reader, { cursor: null, limit: 2 }));
      assert.ok(real !== null && agentCursor !== null);
      for (const cursor of [...NO_CURSORS, agentCursor, `${real}!`, `!${real}`]) {
        refused(await world.engine.listKeys('', { cursor, limit: 2 }), 'bad_request', JSON.stringify(cursor));
      }
    },
  },
  {
    name: "another prefix's cursor is refused or keeps to the prefix asked for",
    async run(world) {
      await writeAll(world, ['a/1', 'a/2', 'm/1', 'm/2', 'z/1', 'z/2']);
      for (const [made, used] of [
        ['a/', 'm/'],
        ['z/', 'm/'],
        ['', 'm/'],
        ['m/', ''],
      ] as const) {
        const { nextCursor: cursor } = ok(await world.engine.listKeys(made, { cursor: null, limit: 1 }));
        assert.ok(cursor !== null);
        const reply = await world.engine.listKeys(used, { cursor, limit: 10 });
        if (reply.ok)
          assert.ok(
            reply.value.keys.every((key) => key.startsWith(used)),
            `${made} then ${used}`,
          );
        else refused(reply, 'bad_request');
      }
    },
  },
];
