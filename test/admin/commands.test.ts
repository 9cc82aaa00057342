/** The commands `remove` and `revoke`, against a running server and on a stopped one's directory. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { assertError, Rig } from '../api/rig.js';
import { FAST, THREE_SHARDS, topologySettings } from '../api/topologies.js';
import { ADMIN_KEY, AdminClient, assertNowhere, sha256 } from '../removal/admin-client.js';
import type { ApiAgent } from '../support/http.js';
import { type CommandResult, runCommand } from '../support/server.js';
import { tempDir } from '../support/temp-dir.js';

const env = { TABULUM_ADMIN_KEY: ADMIN_KEY };

describe('remove and revoke', () => {
  let rig: Rig;
  let admin: AdminClient;
  let agent: ApiAgent;
  before(async () => {
    rig = await Rig.launch({ config: { ...FAST, ...topologySettings(THREE_SHARDS) }, env });
    admin = new AdminClient(rig.server);
    agent = await rig.agent();
  });
  after(async () => {
    admin.close();
    await rig.dispose();
  });

  /** Against the running server. */
  function online(command: string, ...args: string[]): Promise<CommandResult> {
    return runCommand([command, '--admin-url', `http://127.0.0.1:${rig.server.adminPort}`, ...args], env);
  }

  /** On its directory, while it is stopped. */
  async function offline(command: string, ...args: string[]): Promise<CommandResult> {
    await rig.server.stop();
    const result = await runCommand([command, '--data-dir', rig.server.dataDir, ...args]);
    await rig.server.start();
    return result;
  }

  for (const [where, run] of [
    ['a running server', online],
    ['a stopped directory', offline],
  ] as const) {
    test(`remove on ${where} takes a key's value and a message's content away`, async () => {
      await agent.write('-key with "quotes"', 'S3CRET value');
      const sent = await agent.message(agent.address, 'S3CRET content');
      const { message_id: id } = sent.json<{ message_id: string }>();
      const ofKey = await run('remove', 'state', '--reason', 'law', '--yes', '--json', '--', '-key with "quotes"');
      assert.equal(ofKey.code, 0, ofKey.stderr);
      assert.deepEqual(JSON.parse(ofKey.stdout), {
        status: 'removed',
        action: 'state_key_removed',
        key: '-key with "quotes"',
        reason: 'law',
        content_hash: sha256('S3CRET value'),
        backups: [],
      });
      const ofMessage = await run('remove', 'message', id, '--reason', 'law', '--yes');
      assert.equal(ofMessage.code, 0, ofMessage.stderr);
      assert.match(ofMessage.stdout, new RegExp(`^removed message ${id}; .*${sha256('S3CRET content')}\n$`));
      await assertNowhere(rig.server.dataDir, 'S3CRET');
      const again = await run('remove', 'message', id, '--reason', 'law', '--yes');
      assert.deepEqual([again.code, again.stdout], [1, '']);
      assert.match(again.stderr, /^tabulum remove: .*removed already\.?\n$/i);
      assert.equal((await admin.removals()).removals.at(-1)?.message_id, id);
      await agent.receive();
    });

    test(`revoke on ${where} takes a token away`, async () => {
      const revoked = await rig.agent();
      const key = await rig.operator();
      const result = await run('revoke', 'agent', revoked.address, '--yes', '--json');
      assert.equal(result.code, 0, result.stderr);
      assert.deepEqual(JSON.parse(result.stdout), { status: 'revoked', type: 'agent', address: revoked.address });
      assertError(await revoked.get('/v1/agents/me'), 'unauthorized');
      assert.equal((await rig.client.get('/v1/agents/verification-challenge', key)).status, 200);
      const unknown = await run('revoke', 'operator', '00000000-0000-4000-8000-000000000000', '--yes');
      assert.equal(unknown.code, 1);
      assert.match(unknown.stderr, /^tabulum revoke: there is no such operator\.?\n$/i);
    });
  }

  test('a directory in use is refused in one line, and so is one that is none', async (t) => {
    const inUse = await runCommand([
      'remove',
      'state',
      'k',
      '--reason',
      'r',
      '--yes',
      '--data-dir',
      rig.server.dataDir,
    ]);
    assert.equal(inUse.code, 1);
    assert.match(inUse.stderr, /^tabulum remove: .*in use.*\n$/);
    const empty = await tempDir(t);
    const none = await runCommand(['revoke', 'agent', 'tab_00000000000000000000', '--yes', '--data-dir', empty]);
    assert.equal(none.code, 1);
    assert.match(none.stderr, /^tabulum revoke: .*is not a data directory.*\n$/);
  });

  test('wrong usage ends with code 2 and does nothing', async () => {
    const url = ['--admin-url', `http://127.0.0.1:${rig.server.adminPort}`];
    await agent.write('kept', 'kept');
    const wrong: readonly (readonly [readonly string[], RegExp])[] = [
      [['remove', 'state', 'kept', '--yes', ...url], /--reason/],
      [['remove', 'state', 'kept', '--reason', '', '--yes', ...url], /1 to 1024 bytes/],
      [['remove', 'state', 'kept', '--reason', '   ', '--yes', ...url], /not only spaces/],
      [['observe', '--listen', 'nowhere'], /^--listen: /],
      [['remove', 'thing', 'kept', '--reason', 'r', '--yes', ...url], /state, message/],
      [['remove', 'state', '--reason', 'r', '--yes', ...url], /missing required argument/],
      [['remove', 'state', 'kept', '--reason', 'r', ...url], /--yes/],
      [['remove', 'state', 'kept', '--reason', 'r', '--yes', '--admin-url', 'nowhere'], /--admin-url/],
      [['revoke', 'agent', agent.address, '--yes', '--sure', ...url], /unknown option/],
    ];
    for (const [args, message] of wrong) {
      const result = await runCommand(args, env);
      assert.equal(result.code, 2, `${args.join(' ')}: ${result.stderr}`);
      assert.match(result.stderr, message);
      assert.equal(result.stderr.trim().split('\n').length, 1, result.stderr);
    }
    assertError(await admin.removeKey('kept', ' \n'), 'bad_request', 'a reason of white space');
    const withoutKey = await runCommand(['remove', 'state', 'kept', '--reason', 'r', '--yes', ...url]);
    assert.equal(withoutKey.code, 2);
    assert.match(withoutKey.stderr, /TABULUM_ADMIN_KEY/);
    const wrongKey = await runCommand(['remove', 'state', 'kept', '--reason', 'r', '--yes', ...url], {
      TABULUM_ADMIN_KEY: 'another',
    });
    assert.equal(wrongKey.code, 1);
    assert.equal((await agent.read('kept')).json().value, 'kept');
  });

  test('where no server answers, the command says so', async () => {
    const result = await runCommand(
      ['revoke', 'agent', agent.address, '--yes', '--admin-url', 'http://127.0.0.1:9'],
      env,
    );
    assert.equal(result.code, 1);
    assert.match(result.stderr, /^tabulum revoke: no server answers at http:\/\/127\.0\.0\.1:9; .*\n$/);
  });
});
