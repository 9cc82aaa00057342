/** Real servers killed while they remove: after the next start the removal is whole, or has not begun. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { REDACTED_TEXT } from '../../src/contract/redaction.js';
import { Rig } from '../api/rig.js';
import { FAST, ONE_SHARD, THREE_SHARDS, topologySettings } from '../api/topologies.js';
import { killPoints, seededRandom, seedFor } from '../support/seed.js';
import { ADMIN_KEY, AdminClient, assertNowhere, filesWith, sha256 } from './admin-client.js';

/** Longer than a removal of some lines takes, so that some kills come too late. */
const LATEST_KILL_MS = 40;
const ROUNDS = killPoints(4);

for (const topology of [ONE_SHARD, THREE_SHARDS]) {
  test(`kill -9 at any moment leaves no removal half done, ${topology.name}`, async (t) => {
    const random = seededRandom(seedFor(t));
    const config = { ...FAST, ...topologySettings(topology), event_log: { max_file_size: 100_000 } };
    const rig = await Rig.start(t, { config, env: { TABULUM_ADMIN_KEY: ADMIN_KEY } });
    const admin = new AdminClient(rig.server);
    const { dataDir } = rig.server;
    const agent = await rig.agent();
    let entries = 0;
    let finished = 0;
    for (let round = 0; round < ROUNDS; round++) {
      const key = `key ${round}`;
      const secret = `S3CRET-${round}-value`;
      const content = `S3CRET-${round}-content`;
      for (let version = 0; version < 40; version++) {
        await agent.write(key, `${secret} ${version} ${'x'.repeat(1_000 + random(4_000))}`);
        await agent.write(`kept ${version}`, `${round}`);
      }
      const last = `${secret} last`;
      await agent.write(key, last);
      const ids: string[] = [];
      for (const text of ['first', content, 'last']) {
        ids.push((await agent.message(agent.address, text)).json<{ message_id: string }>().message_id);
      }
      const isMessage = random(2) === 0;
      const asked = (isMessage ? admin.removeMessage(ids[1] as string) : admin.removeKey(key)).catch(() => null);
      await sleep(random(LATEST_KILL_MS));
      await rig.server.kill9();
      const answer = await asked;
      await rig.server.start();

      const { removals } = await admin.removals();
      const isRemoved = removals.length > entries;
      assert.ok(removals.length <= entries + 1, 'one entry for one removal');
      if (answer?.status === 200) assert.ok(isRemoved, 'an answered removal is done');
      if (isRemoved) {
        finished += 1;
        await assertNowhere(dataDir, isMessage ? content : secret);
        assert.equal(removals.at(-1)?.content_hash, sha256(isMessage ? content : last));
      } else {
        assert.ok((await filesWith(dataDir, isMessage ? content : secret)).length > 0);
      }
      const expected = isMessage || !isRemoved ? [200, last] : [404, undefined];
      const read = await agent.read(key);
      assert.deepEqual([read.status, read.json().value], expected);
      const { messages } = await agent.receive();
      const shown = isMessage && isRemoved ? REDACTED_TEXT : content;
      assert.deepEqual(
        messages.map((message) => message.content),
        ['first', shown, 'last'],
      );
      assert.equal((await agent.read('kept 39')).json().value, `${round}`);

      // Whatever the crash left, both can be removed now.
      if (!(isMessage && isRemoved)) assert.equal((await admin.removeMessage(ids[1] as string)).status, 200);
      if (isMessage || !isRemoved) assert.equal((await admin.removeKey(key)).status, 200);
      await assertNowhere(dataDir, secret, content);
      entries = (await admin.removals()).total;
      assert.equal(entries, 2 * (round + 1));
    }
    t.diagnostic(`${finished} of ${ROUNDS} removals had begun when the kill came`);
    const damage = rig.server.stderr().filter((line) => /damaged line|"damagedLines":[1-9]/.test(line));
    assert.deepEqual(damage, []);
    admin.close();
    rig.client.close();
  });
}
