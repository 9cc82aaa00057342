/** Removal and revocation after a backup was made and the shard count was changed. */
import assert from 'node:assert/strict';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { assertError, Rig } from '../api/rig.js';
import { FAST } from '../api/topologies.js';
import { runCommand, type TestServer } from '../support/server.js';
import { tempDir } from '../support/temp-dir.js';
import { ADMIN_KEY, AdminClient, filesWith, sha256 } from './admin-client.js';

async function tool(server: TestServer, ...args: string[]): Promise<void> {
  const result = await runCommand([...args, '--data-dir', server.dataDir]);
  assert.equal(result.code, 0, result.stdout + result.stderr);
}

test('after a change of the shard count everything is found wherever it lies; copies made before are named', async (t) => {
  // No topology in the settings: the directory's own count is taken.
  const rig = await Rig.start(t, { config: FAST, env: { TABULUM_ADMIN_KEY: ADMIN_KEY } });
  const admin = new AdminClient(rig.server);
  const { server } = rig;
  const agents = await Promise.all(Array.from({ length: 12 }, () => rig.agent()));
  const [writer, ...others] = agents;
  assert.ok(writer !== undefined);
  await writer.write('k', 'S3CRET old');
  const { message_id: id } = (await writer.message(writer.address, 'S3CRET message')).json<{ message_id: string }>();
  await server.stop();
  const backups = await tempDir(t);
  await tool(server, 'backup', backups);
  await tool(server, 'reshard', '--shards', '5');
  await server.start();
  await writer.write('k', 'S3CRET new');
  await writer.write('later', 'S3CRET later');

  const names = (await readdir(server.dataDir)).filter((name) => name.startsWith('shards-before-reshard-'));
  const original = join(server.dataDir, names[0] ?? '');
  const ofKey = (await admin.removeKey('k')).json<{ content_hash: string; backups: string[] }>();
  assert.equal(ofKey.content_hash, sha256('S3CRET new'));
  assert.equal(ofKey.backups.length, 2, ofKey.backups.join());
  assert.ok(ofKey.backups.includes(original));
  assert.ok(ofKey.backups.some((path) => path.startsWith(backups)));
  const ofMessage = (await admin.removeMessage(id)).json<{ content_hash: string; backups: string[] }>();
  assert.equal(ofMessage.content_hash, sha256('S3CRET message'));
  assert.deepEqual(ofMessage.backups, ofKey.backups);
  const later = (await admin.removeKey('later')).json<{ backups: string[] }>();
  assert.deepEqual(later.backups, [], 'what was written after they were made is not in them');
  const live = (await filesWith(server.dataDir, 'S3CRET')).filter((name) => !name.startsWith(names[0] ?? ''));
  assert.deepEqual(live, []);

  for (const agent of others) {
    assert.equal((await agent.get('/v1/agents/me')).status, 200);
    assert.equal((await admin.revokeAgent(agent.address)).status, 200);
    assertError(await agent.get('/v1/agents/me'), 'unauthorized');
    assertError(await writer.message(agent.address, 'x'), 'not_found');
  }
  assert.equal((await writer.get('/v1/agents/me')).status, 200);
  await server.restart();
  for (const agent of others) assertError(await agent.get('/v1/agents/me'), 'unauthorized');
  await server.stop();
  await tool(server, 'verify');
  admin.close();
  rig.client.close();
});
