/** The demo, small, as a user would run it: its own verdict is the assertion. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import type { LifeAccount } from '../../examples/demo/protocol.js';
import { type Summary, summarize } from '../../examples/demo/verdict.js';

const DEMO = fileURLToPath(new URL('../../examples/demo.js', import.meta.url));
const run = promisify(execFile);

test('twenty agents live together for three seconds and no acknowledged message is lost, doubled or changed', async (t) => {
  const seed = process.env.SEED ?? String(Math.floor(Math.random() * 1e6));
  t.diagnostic(`SEED=${seed}`);
  const tmp = mkdtempSync(join(tmpdir(), 'tabulum-demo-test-'));
  t.after(() => rmSync(tmp, { recursive: true, force: true }));
  const { stdout } = await run(
    process.execPath,
    ['--enable-source-maps', DEMO, '--agents', '20', '--seconds', '3', '--seed', seed, '--json'],
    { timeout: 120_000, env: { ...process.env, TMPDIR: tmp } },
  );
  const summary = JSON.parse(stdout) as Summary;
  assert.deepEqual(summary.faults, []);
  assert.equal(summary.agents, 20);
  assert.equal(summary.agentsListed, 20);
  assert.ok(summary.messages.acknowledged > 50, `only ${summary.messages.acknowledged} messages`);
  assert.equal(summary.messages.unacknowledged, 0);
  assert.equal(summary.messages.received + summary.messages.stillQueued, summary.messages.acknowledged);
  assert.ok(summary.state.writes > 50 && summary.state.reads > 50);
  assert.ok(summary.state.conflicts > 0, 'twenty agents on sixteen keys overwrite each other');
  const { rate_limited, not_found: _missingKeys, ...unexpected } = summary.refusals;
  assert.ok((rate_limited ?? 0) > 0, 'the hasty agent is refused');
  assert.deepEqual(unexpected, {});
  const operations = new Set(summary.latencies.map((latency) => latency.operation));
  for (const operation of [
    'agents.register',
    'agents.me',
    'registry.list',
    'messages.send',
    'messages.receive',
    'messages.lease',
    'messages.ack',
    'state.get',
    'state.put',
  ]) {
    assert.ok(operations.has(operation), `nobody did ${operation}`);
  }
  assert.deepEqual(readdirSync(tmp), [], 'the demo cleans up after itself');
});

test('the demo refuses a bad option with one line and exit code 2', async () => {
  await assert.rejects(run(process.execPath, [DEMO, '--agents', 'many']), (error: { code: number; stderr: string }) => {
    assert.equal(error.code, 2);
    assert.match(error.stderr, /^demo: --agents is "many"; expected a whole number from 2 to 200\n$/);
    return true;
  });
});

test('the verdict names a lost, a doubled, a changed, a misdelivered and an overtaken message', () => {
  const sent = (id: string, to: string) => ({ id, to, content: `content of ${id}` });
  const heard = (id: string, to: string, content = `content of ${id}`) => ({ id, from: 'ann', to, content });
  const good = [
    account('ann', { sent: [sent('1', 'bob'), sent('2', 'bob')] }),
    account('bob', { heard: [heard('1', 'bob')], stillQueued: 1 }),
  ];
  assert.deepEqual(summarize(good).faults, []);

  const faultsWith = (bob: Partial<LifeAccount>) =>
    summarize([account('ann', { sent: [sent('1', 'bob'), sent('2', 'bob')] }), account('bob', bob)]).faults;
  assert.match(faultsWith({ heard: [heard('1', 'bob')] }).join(), /1 acknowledged messages to bob are neither/);
  assert.match(faultsWith({ heard: [heard('1', 'bob'), heard('1', 'bob')], stillQueued: 1 }).join(), /received twice/);
  assert.match(faultsWith({ heard: [heard('1', 'bob', 'x')], stillQueued: 1 }).join(), /changed on its way/);
  assert.match(faultsWith({ heard: [heard('1', 'eve')], stillQueued: 1 }).join(), /received by bob/);
  assert.match(faultsWith({ heard: [heard('2', 'bob'), heard('1', 'bob')] }).join(), /overtook/);
  assert.match(faultsWith({ heard: [heard('3', 'bob')], stillQueued: 2 }).join(), /never sent/);
});

function account(address: string, seen: Partial<LifeAccount>): LifeAccount {
  const empty = {
    sent: [],
    unacknowledged: [],
    heard: [],
    stillQueued: 0,
    staleReads: [],
    refusals: {},
    latenciesMs: {},
  };
  const counts = { agentsListed: 2, stateWrites: 0, stateReads: 0, stateDeletes: 0, conflicts: 0 };
  return { address, ...empty, ...counts, ...seen };
}
