/** Removal by law over HTTP: gone from the store, the queues, every file and every observer, and nothing else touched. */
import assert from 'node:assert/strict';
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { REDACTED_TEXT } from '../../src/contract/redaction.js';
import { assertError, Rig } from '../api/rig.js';
import { FAST, ONE_SHARD, THREE_SHARDS, type Topology, topologySettings } from '../api/topologies.js';
import { type ApiAgent, HttpClient, type ReceivedMessage } from '../support/http.js';
import { runCommand } from '../support/server.js';
import { waitUntil } from '../support/wait.js';
import {
  ADMIN_KEY,
  AdminClient,
  assertNowhere,
  filesOf,
  filesWith,
  sha256,
  type TransparencyAnswer,
} from './admin-client.js';

const MEBIBYTE = 1024 * 1024;
const TIMESTAMP = /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{3}Z$/;

/** Every character that JSON escapes or UTF-8 writes in one to four bytes, some of them as the log's own text. */
const EVERY_KIND =
  Array.from({ length: 0x180 }, (_, code) => String.fromCharCode(code)).join('') +
  '\u2028\u2029\ufeff\ufffd\u{10ffff}😀","value":"x"},"crc":"00000000"}';

function optionsOf(topology: Topology): { config: object; env: Record<string, string> } {
  const config = { ...FAST, ...topologySettings(topology), event_log: { max_file_size: 500_000 } };
  return { config, env: { TABULUM_ADMIN_KEY: ADMIN_KEY } };
}

for (const topology of [ONE_SHARD, THREE_SHARDS]) {
  describe(`removal, ${topology.name}`, () => {
    let rig: Rig;
    let admin: AdminClient;
    let agent: ApiAgent;
    before(async () => {
      rig = await Rig.launch(optionsOf(topology));
      admin = new AdminClient(rig.server);
      agent = await rig.agent();
    });
    after(async () => {
      admin.close();
      await rig.dispose();
    });

    async function written(key: string, value: string): Promise<void> {
      const answer = await agent.write(key, value);
      assert.equal(answer.status, 200, answer.text);
    }

    async function sent(to: string, content: string): Promise<string> {
      const answer = await agent.message(to, content);
      assert.equal(answer.status, 202, answer.text);
      return answer.json<{ message_id: string }>().message_id;
    }

    const values: readonly (readonly [what: string, key: string, value: string])[] = [
      ['an empty value', 'limits/empty', ''],
      ['a value of 1 MiB', 'limits/long', `S3CRET-long ${'é'.repeat((MEBIBYTE - 12) / 2)}`],
      ['a value of every kind of character', 'limits/every kind', `S3CRET-kinds ${EVERY_KIND}`],
      ['a key of every kind of character', `limits/${EVERY_KIND.slice(0, 300)}`, 'S3CRET-key'],
    ];
    for (const [what, key, value] of values) {
      test(`${what} is removed, with its hash in the transparency log`, async () => {
        await written(key, value);
        const used = (await agent.get('/v1/state/_capacity')).json<{ used_bytes: number }>().used_bytes;
        const answer = await admin.removeKey(key, 'because "law"');
        assert.equal(answer.status, 200, answer.text);
        const { action, content_hash } = answer.json<Record<string, string>>();
        assert.deepEqual(answer.json(), {
          status: 'removed',
          action: 'state_key_removed',
          key,
          reason: 'because "law"',
          content_hash: sha256(value),
          backups: [],
        });
        const last = (await admin.removals()).removals.at(-1);
        assert.match(last?.ts ?? '', TIMESTAMP);
        const expected = { ts: last?.ts, action, key, reason: 'because "law"', performed_by: 'admin', content_hash };
        assert.deepEqual(last, expected);
        assertError(await agent.read(key), 'not_found');
        const { used_bytes } = (await agent.get('/v1/state/_capacity')).json<{ used_bytes: number }>();
        assert.equal(used - used_bytes, Buffer.byteLength(key) + Buffer.byteLength(value));
        if (value !== '') await assertNowhere(rig.server.dataDir, value.slice(0, 12), value.slice(-40));
        assertError(await admin.removeKey(key), 'not_found');
      });
    }

    test('every version of a key goes, its neighbours stay, and no line moves', async () => {
      for (let version = 0; version < 20; version++) {
        await written('history', `S3CRET-version ${version}`);
        await written(`history/${version}`, `kept ${version}`);
        if (version % 7 === 0) await agent.remove('history');
      }
      const before = await rig.server.events();
      const sizes = new Map<string, number>();
      for await (const { name, bytes } of filesOf(rig.server.dataDir)) {
        if (name.endsWith('.ndjson')) sizes.set(name, bytes.length);
      }
      assert.equal((await admin.removeKey('history')).status, 200);
      await assertNowhere(rig.server.dataDir, 'S3CRET-version');
      const now = new Map((await rig.server.events()).map((event) => [event.seq, event]));
      for (const event of before) {
        const after = now.get(event.seq);
        if (event.type === 'state_written' && event.data.key === 'history') {
          assert.match(String(after?.data.value), /^\*+$/);
          assert.equal(after?.data.value_length, event.data.value_length);
        } else if (after?.data.content === undefined || after.data.content === event.data.content) {
          assert.deepEqual(after?.data, event.data);
        }
      }
      for (const [name, bytes] of sizes) {
        assert.ok((await stat(join(rig.server.dataDir, name))).size >= bytes, name);
      }
      for (let version = 0; version < 20; version++) {
        assert.equal((await agent.read(`history/${version}`)).json().value, `kept ${version}`);
      }
      await written('history', 'a new value');
      assert.equal((await agent.read('history')).json().value, 'a new value');
    });

    test('a pending message is delivered redacted at its place, also after a restart and by a lease', async () => {
      const to = await rig.agent();
      const ids: string[] = [];
      for (let message = 0; message < 9; message++) ids.push(await sent(to.address, `S3CRET-message ${message} "\\ é`));
      for (const index of [1, 4, 8]) {
        const answer = await admin.removeMessage(ids[index] as string, 'court order');
        assert.deepEqual(answer.json(), {
          status: 'removed',
          action: 'message_redacted',
          message_id: ids[index],
          reason: 'court order',
          content_hash: sha256(`S3CRET-message ${index} "\\ é`),
          backups: [],
        });
        assertError(await admin.removeMessage(ids[index] as string), 'not_found');
      }
      const expected = ids.map((id, index) => [
        id,
        [1, 4, 8].includes(index) ? REDACTED_TEXT : `S3CRET-message ${index} "\\ é`,
      ]);
      const of = (messages: readonly ReceivedMessage[]): unknown =>
        messages.map((each) => [each.message_id, each.content]);
      const first = await to.receive(2);
      assert.deepEqual(of(first.messages), expected.slice(0, 2));
      const leased = await to.get('/v1/messages?limit=1&ack=manual&visibility=1');
      assert.deepEqual(of(leased.json<{ messages: ReceivedMessage[] }>().messages), expected.slice(2, 3));
      await rig.server.restart();
      const rest: ReceivedMessage[] = [];
      await waitUntil(
        async () => {
          const { messages } = await to.receive(50);
          rest.push(...messages);
          return rest.length === 7;
        },
        { timeoutMs: 10_000 },
      );
      rest.sort((a, b) => ids.indexOf(a.message_id) - ids.indexOf(b.message_id));
      assert.deepEqual(of(rest), expected.slice(2));
      for (const index of [1, 4, 8]) await assertNowhere(rig.server.dataDir, `S3CRET-message ${index}`);
    });

    test('a delivered message is removed from history, also while agents go on', async () => {
      const to = await rig.agent();
      const removed = await sent(to.address, 'S3CRET-delivered');
      await to.receive();
      let isOver = false;
      const traffic = [0, 1, 2].map(async (lane) => {
        for (let count = 0; !isOver; count++) {
          await written(`busy/${lane}`, `${count}`);
          await sent(to.address, `busy ${lane} ${count}`);
          await to.receive(3);
        }
      });
      assert.equal((await admin.removeMessage(removed)).status, 200);
      isOver = true;
      await Promise.all(traffic);
      await assertNowhere(rig.server.dataDir, 'S3CRET-delivered');
    });

    test('observers see the removal, and what was removed nowhere', async () => {
      const observer = new HttpClient(() => rig.server.observePort);
      const to = await rig.agent();
      const messageId = await sent(to.address, 'S3CRET-observed message');
      await written('observed', 'S3CRET-observed value');
      await waitUntil(async () => (await observer.get('/observe/state/observed')).status === 200, {
        timeoutMs: 10_000,
      });
      assert.equal((await admin.removeMessage(messageId, 'order 1')).status, 200);
      assert.equal((await admin.removeKey('observed', 'order 2')).status, 200);
      const transparency = (await observer.get('/observe/transparency')).json<TransparencyAnswer>();
      assert.deepEqual(transparency, await admin.removals());
      await waitUntil(async () => (await observer.get('/observe/state/observed')).json().value === REDACTED_TEXT, {
        timeoutMs: 10_000,
        what: 'the observer shows the removed key redacted',
      });
      const events = await observer.get(`/observe/events?agent=${agent.address}&limit=1000`);
      assert.ok(!events.text.includes('S3CRET-observed'));
      assert.ok(events.text.includes('order 1') && events.text.includes('order 2'));
      observer.close();
    });

    test('what a stopped server has archived is removed from the archive', async () => {
      for (let filler = 0; filler < 3; filler++) await written('archived/filler', `${'f'.repeat(300_000)}${filler}`);
      await written('archived', 'S3CRET-archived');
      for (let shard = 0; shard < 40; shard++) await written(`archived/${shard}`, 'x'.repeat(60_000));
      await rig.server.stop();
      const archived = await runCommand(['archive', '--data-dir', rig.server.dataDir]);
      assert.equal(archived.code, 0, archived.stderr);
      await rig.server.start();
      const holding = await filesWith(rig.server.dataDir, 'S3CRET-archived');
      assert.ok(
        holding.some((name) => name.endsWith('.gz')),
        holding.join(),
      );
      assert.equal((await admin.removeKey('archived')).status, 200);
      await assertNowhere(rig.server.dataDir, 'S3CRET-archived');
    });

    test('the log is sound after all of it, and a start finds no damage', async () => {
      await rig.server.stop();
      const verified = await runCommand(['verify', '--data-dir', rig.server.dataDir]);
      assert.equal(verified.code, 0, verified.stdout + verified.stderr);
      await rig.server.start();
      assert.deepEqual(
        rig.server.stderr().filter((line) => /damaged line|"damagedLines":[1-9]/.test(line)),
        [],
      );
      assert.ok((await admin.removals()).total > 8);
    });

    test('wrong requests are refused by name, and without the key nothing is shown', async () => {
      const post = (body: object | string): ReturnType<HttpClient['post']> => {
        return admin.client.post('/admin/remove', body, ADMIN_KEY);
      };
      const wrong: readonly (readonly [object, RegExp])[] = [
        [{}, /^type: is required/],
        [{ type: 'agent', key: 'k', reason: 'r' }, /^type: must be "state" or "message"/],
        [{ type: 'state', reason: 'r' }, /^key: is required/],
        [{ type: 'state', key: '', reason: 'r' }, /^key: must be a non-empty string/],
        [{ type: 'state', key: 'k' }, /^reason: is required/],
        [{ type: 'state', key: 'k', reason: '' }, /^reason: must be a string of 1 to 1024 bytes/],
        [{ type: 'state', key: 'k', reason: 'é'.repeat(513) }, /^reason: must be a string of 1 to 1024 bytes/],
        [{ type: 'message', message_id: 5, reason: 'r' }, /^message_id: must be/],
      ];
      for (const [body, message] of wrong) {
        const answer = await post(body);
        assertError(answer, 'bad_request');
        assert.match(String(answer.json().message), message);
      }
      assertError(await post('no json'), 'bad_request');
      assertError(await admin.removeMessage('no id'), 'not_found');
      assertError(await admin.removeMessage('00000000-0000-4000-8000-000000000000'), 'not_found');
      assertError(await admin.client.get('/admin/remove', ADMIN_KEY), 'method_not_allowed');
      assertError(await admin.client.get('/admin/removals', 'a wrong key'), 'unauthorized');
      assertError(await admin.client.get('/admin/removals'), 'unauthorized');
      const plain = { token: ADMIN_KEY, body: '{}', headers: { 'Content-Type': 'text/plain' } };
      assertError(await admin.client.send('POST', '/admin/remove', plain), 'unsupported_media_type');
    });
  });
}

test('without a key the admin API is not there', async (t) => {
  const rig = await Rig.start(t, { config: { ...FAST, ...topologySettings(ONE_SHARD) } });
  const client = new HttpClient(() => rig.server.adminPort);
  for (const path of ['/admin/remove', '/admin/removals', '/admin/revoke', '/admin']) {
    assertError(await client.post(path, {}, ADMIN_KEY), 'not_found');
  }
  client.close();
  rig.client.close();
});
