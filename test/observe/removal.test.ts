/** What was removed by law is shown by no observer from the answer on: not from files, not live, not after a rebuild. */
import assert from 'node:assert/strict';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { REDACTED_TEXT } from '../../src/contract/redaction.js';
import { ADMIN_KEY, AdminClient } from '../removal/admin-client.js';
import { runCommand } from '../support/server.js';
import { waitUntil } from '../support/wait.js';
import { ObserveProcess } from './observe-process.js';
import { ObservedWorld, type ShownEvent, worldConfig } from './observed-world.js';

const SECRET = 'S3CRET-of-somebody';
const REASON = 'a court said so';

test('a removed value and a removed message are redacted at once, everywhere, and watchers are told', async (t) => {
  const world = await ObservedWorld.start(t, worldConfig(3), 2, { TABULUM_ADMIN_KEY: ADMIN_KEY });
  const admin = new AdminClient(world.server);
  t.after(async () => admin.close());
  const [writer, other] = [world.agent(0), world.agent(1)];
  const key = 'private/thing';
  await writer.write(key, `${SECRET} 1`);
  await writer.write(key, `${SECRET} 2`);
  await writer.write('public/thing', 'fine');
  const sent = await writer.message(other.address, `${SECRET} 3`);
  const { message_id: messageId } = sent.json<{ message_id: string }>();
  await writer.message(other.address, 'harmless');

  const process = await ObserveProcess.start(world.server.dataDir);
  t.after(async () => void (await process.signal('SIGKILL')));
  const told = await world.watch('notices=1').opened();
  const untold = await world.watch().opened();
  // Its files are open, and these lines read, before they change.
  const before = JSON.stringify(await world.pages('limit=1000'));
  assert.equal(before.split(SECRET).length - 1, 3);
  await waitUntil(async () => (await process.ask<{ events: ShownEvent[] }>('/observe/events')).events.length >= 8, {
    timeoutMs: 20_000,
  });

  const removedKey = await admin.removeKey(key, REASON);
  assert.equal(removedKey.status, 200, removedKey.text);
  assert.deepEqual(await world.ask(`/observe/state/${encodeURIComponent(key)}`), {
    key,
    value: REDACTED_TEXT,
    redacted: true,
    reason: REASON,
  });
  const removedMessage = await admin.removeMessage(messageId, REASON);
  assert.equal(removedMessage.status, 200, removedMessage.text);

  const assertShown = async (ask: (path: string) => Promise<unknown>): Promise<void> => {
    const { events } = (await ask('/observe/events?limit=1000')) as { events: ShownEvent[] };
    const history = (await ask(`/observe/state-history?key=${encodeURIComponent(key)}`)) as { versions: ShownEvent[] };
    assert.doesNotMatch(JSON.stringify([events, history]), /S3CRET/);
    const redacted = events.filter(({ data }) => data.redacted === true);
    assert.deepEqual(
      redacted.map(({ type, data }) => [type, data.value ?? data.content, data.redacted_reason]),
      [
        ['state_written', REDACTED_TEXT, REASON],
        ['state_written', REDACTED_TEXT, REASON],
        ['message_sent', REDACTED_TEXT, REASON],
      ],
    );
    assert.ok(
      events.every(({ type }) => type !== 'state_removed'),
      'the server’s own records are not shown',
    );
    assert.ok(events.some(({ data }) => data.content === 'harmless'));
    const { keys, total } = (await ask('/observe/state')) as { keys: { key: string }[]; total: number };
    assert.deepEqual([keys.map((row) => row.key), total], [['public/thing'], 1]);
    const { removals } = (await ask('/observe/transparency')) as { removals: Record<string, string>[] };
    assert.deepEqual(
      removals.map(({ action, key: of, message_id, reason }) => [action, of ?? message_id, reason]),
      [
        ['state_key_removed', key, REASON],
        ['message_redacted', messageId, REASON],
      ],
    );
    const overview = (await ask('/observe/overview')) as { state: { key_count: number; used_bytes: number } };
    assert.equal(overview.state.key_count, 1);
    assert.equal(overview.state.used_bytes, 'public/thingfine'.length);
  };
  await assertShown((path) => world.ask(path));
  await waitUntil(
    async () => (await process.ask<{ state: { key_count: number } }>('/observe/overview')).state.key_count === 1,
    {
      timeoutMs: 20_000,
    },
  );
  await assertShown((path) => process.ask(path));

  await told.until(() => told.events.filter(({ type }) => type === 'redaction').length === 2, 'both notices');
  assert.equal((told.events.at(-1) as unknown as { message_id: string }).message_id, messageId);
  const replayed = await world.watch('since=0').opened();
  await replayed.until(() => replayed.events.length >= 8, 'the history');
  assert.doesNotMatch(JSON.stringify(replayed.events), /S3CRET/);
  await world.agent(1).write('public/thing', 'after');
  await untold.until(() => untold.events.some(({ data }) => data.value === 'after'), 'the next event');
  assert.ok(
    untold.events.every(({ type }) => type !== 'redaction'),
    'who did not ask for notices gets events only',
  );
  await world.agent(1).write('public/thing', 'fine');
  await Promise.all([told.close(), untold.close(), replayed.close()]);

  await world.server.stop();
  rmSync(join(world.server.dataDir, 'observe'), { recursive: true });
  await runCommand(['archive', '--data-dir', world.server.dataDir]);
  await world.server.start();
  await assertShown((path) => world.ask(path));
});

test('a key that was removed by law may be written and deleted again like any other', async (t) => {
  const world = await ObservedWorld.start(t, worldConfig(2), 1, { TABULUM_ADMIN_KEY: ADMIN_KEY });
  const admin = new AdminClient(world.server);
  t.after(async () => admin.close());
  const agent = world.agent(0);
  await agent.write('k', SECRET);
  assert.equal((await admin.removeKey('k', REASON)).status, 200);
  await agent.write('k', 'new');
  assert.equal((await world.ask<{ value: string }>('/observe/state/k')).value, 'new');
  await agent.remove('k');
  assert.equal((await world.observer.get('/observe/state/k')).status, 404);
  const { versions } = await world.ask<{ versions: ShownEvent[] }>('/observe/state-history?key=k');
  assert.deepEqual(
    versions.map(({ type, data }) => [type, data.value]),
    [
      ['state_deleted', undefined],
      ['state_written', 'new'],
      ['state_written', REDACTED_TEXT],
    ],
  );
});
