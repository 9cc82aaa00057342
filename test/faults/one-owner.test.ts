/** Two servers in two containers, as far as the kernel knows containers: each in a network namespace of its own. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { assertError, Rig } from '../api/rig.js';
import { FAST } from '../api/topologies.js';
import { anyPorts, SERVER_ENTRY } from '../support/server.js';

function whyNot(): string | false {
  const probe = spawnSync('unshare', ['--net', 'flock', '--version'], { encoding: 'utf8' });
  return probe.status === 0 ? false : 'needs root, unshare and flock (util-linux)';
}

test('a second server on the directory is refused from another network namespace too', {
  skip: whyNot(),
}, async (t) => {
  const rig = await Rig.start(t, { config: { ...FAST, topology: { gateways: 1, shards: 1 } } });
  const args = ['--net', process.execPath, SERVER_ENTRY, 'serve', '--data-dir', rig.server.dataDir, ...anyPorts()];
  const second = spawnSync('unshare', args, { encoding: 'utf8', timeout: 20_000, killSignal: 'SIGKILL' });
  assert.equal(second.status, 1, second.stderr);
  assert.match(second.stderr.trim().split('\n').at(-1) ?? '', /is in use by another running server/);
  assertError(await rig.client.get('/v1/agents/me', 'at_live_x'), 'unauthorized', 'the first goes on');
});
