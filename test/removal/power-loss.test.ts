/** Removals that a crash interrupts: done or not begun, never half, and in the transparency log exactly once. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Removals } from '../../src/admin/removals.js';
import { REDACTED_TEXT } from '../../src/contract/redaction.js';
import { contentHash, type RemovalTarget } from '../../src/shards/removal-scan.js';
import { OPS } from '../../src/shards/wire.js';
import { ShardRig } from '../shards/shard-rig.js';
import { DiskError } from '../support/faulty-disk.js';
import { seededRandom, seedFor } from '../support/seed.js';
import { assertNowhere, filesWith, openRemovals } from './rig.js';

const SECRET = 'S3CRET';
const AGENT = 'tab_00000000000000000001';
const TARGET: RemovalTarget = { kind: 'state', key: 'k' };
/** Small, so that the history of the key lies in several. */
const SETTINGS = { maxSegmentBytes: 1_500 };

async function withHistory(): Promise<ShardRig> {
  const rig = await ShardRig.open({ settings: SETTINGS });
  for (let version = 0; version < 6; version++) {
    await rig.write('k', `${SECRET} "${version}" \u0001 ${'x'.repeat(200)}`);
    await rig.write('other', `kept ${version}`);
    if (version === 2) await rig.call(OPS.deleteState, AGENT, 'k');
  }
  return rig;
}

/** What there must be whenever somebody can look: the removal is whole, or has not begun. */
async function assertWholeOrNotBegun(rig: ShardRig, removals: Removals): Promise<boolean> {
  assert.equal(rig.shard.recovery.damagedLines, 0);
  const events = await rig.events();
  assert.equal(await rig.value('other'), 'kept 5');
  const isRemoved = removals.entries.length > 0;
  if (isRemoved) {
    assert.equal(removals.entries.length, 1);
    assert.equal(removals.entries[0]?.content_hash, contentHash(`${SECRET} "5" \u0001 ${'x'.repeat(200)}`));
    assertNowhere(rig.disk, SECRET);
    assert.equal(await rig.value('k'), null);
    const written = events.filter(({ type, data }) => type === 'state_written' && 'key' in data && data.key === 'k');
    assert.deepEqual(
      written.map(({ redacted, data }) => [redacted, 'value' in data ? data.value : null]),
      written.map(() => [true, REDACTED_TEXT]),
    );
    assert.equal(written.length, 6);
  } else {
    assert.ok(filesWith(rig.disk, SECRET).length > 1);
    assert.match(String(await rig.value('k')), /^S3CRET "5"/);
  }
  return isRemoved;
}

test('power lost at any call of the disk leaves a removal that the next start makes whole, or one not begun', async (t) => {
  const random = seededRandom(seedFor(t));
  let removed = 0;
  let untouched = 0;
  for (let lostAt = 0; ; lostAt++) {
    let rig = await withHistory();
    try {
      const before = await openRemovals(rig);
      let calls = 0;
      let isLost = false;
      rig.disk.beforeCall = () => {
        if (calls++ !== lostAt) return;
        isLost = true;
        rig.disk.powerLoss((most) => random(most + 1));
      };
      let isOver = false;
      const asked = before
        .remove(TARGET, 'law')
        .catch((error: unknown) => error)
        .finally(() => {
          isOver = true;
        });
      // The shard may end with its disk; what the removal waits for then does not come back.
      await waitFor(() => isLost || isOver);
      rig.disk.beforeCall = null;
      const ended = before.close();
      const answer = isLost ? null : await asked;
      rig = await rig.powerLoss((most) => random(most + 1), SETTINGS);
      await Promise.all([asked, ended]);
      const after = await openRemovals(rig);
      const isRemoved = await assertWholeOrNotBegun(rig, after);
      if (isRemoved) removed += 1;
      else untouched += 1;
      await after.close();
      if (answer !== null) {
        assert.deepEqual([isRemoved, (answer as { ok: boolean }).ok], [true, true]);
        break;
      }
    } finally {
      await rig.end();
    }
  }
  t.diagnostic(`power lost ${removed + untouched} times: ${removed} removed, ${untouched} not begun`);
  assert.ok(removed > 5 && untouched > 5, `${removed} removed, ${untouched} not begun`);
});

test('what is written while the removal runs, or after it, stays; what was written before goes', async (t) => {
  const random = seededRandom(seedFor(t));
  for (let round = 0; round < 10; round++) {
    const rig = await withHistory();
    const removals = await openRemovals(rig);
    const asked = removals.remove(TARGET, 'law');
    let isOver = false;
    void asked.then(() => {
      isOver = true;
    });
    const values: string[] = [];
    for (let write = 0; !isOver || write < 3; write++) {
      values.push(`later ${write}`);
      await rig.write('k', `later ${write}`);
      for (let turns = random(4); turns > 0; turns--) await new Promise(setImmediate);
    }
    assert.equal((await asked).ok, true);
    assertNowhere(rig.disk, SECRET);
    const restarted = await rig.kill(SETTINGS);
    assert.equal(await restarted.value('k'), values.at(-1));
    assert.equal(restarted.shard.recovery.damagedLines, 0);
    const events = await restarted.events();
    const cut = events.findIndex(({ type }) => (type as string) === 'state_removed');
    events.forEach(({ type, data, redacted }, index) => {
      if (type !== 'state_written' || !('key' in data) || data.key !== 'k') return;
      assert.equal(redacted === true, index < cut, `event ${index} of ${events.length}, cut at ${cut}`);
    });
    await restarted.end();
  }
});

test('a crash between the record and the overwriting does not take what was written meanwhile', async (t) => {
  const rig = await withHistory();
  const removals = await openRemovals(rig);
  const asked = removals.remove(TARGET, 'law').catch((error: unknown) => error);
  // The record is logged: the key is gone for readers.
  await waitFor(async () => (await rig.value('k')) === null);
  rig.disk.beforeCall = (call, path) => {
    if (call !== 'write' || !path.endsWith('removal.json')) return;
    rig.disk.powerLoss((most) => most);
  };
  const ended = removals.close();
  const restarted = await rig.powerLoss(undefined, SETTINGS);
  t.after(() => restarted.end());
  await Promise.all([asked, ended]);
  await restarted.write('k', 'written after the record');
  const after = await openRemovals(restarted);
  assert.equal(await restarted.value('k'), 'written after the record');
  assert.equal(after.entries.length, 1);
  assertNowhere(restarted.disk, SECRET);
});

test('a pending message stays at its place and is delivered redacted, also after a restart', async (t) => {
  for (const crash of ['none', 'kill', 'restart'] as const) {
    let rig = await ShardRig.open({ settings: SETTINGS });
    t.after(() => rig.end());
    await rig.registerAgent(AGENT);
    const ids: string[] = [];
    for (const content of ['first', SECRET, 'last']) {
      ids.push((await rig.call(OPS.sendMessage, AGENT, AGENT, content)).x as string);
    }
    const removals = await openRemovals(rig);
    const target: RemovalTarget = { kind: 'message', messageId: ids[1] as string };
    const reply = await removals.remove(target, 'law');
    assert.ok(reply.ok);
    assert.equal(reply.value.entry.content_hash, contentHash(SECRET));
    assert.deepEqual(await removals.remove(target, 'law'), { ok: false, code: 'not_found' });
    assertNowhere(rig.disk, SECRET);
    if (crash === 'kill') rig = await rig.kill(SETTINGS);
    if (crash === 'restart') rig = await rig.restart(SETTINGS);
    assert.equal(rig.shard.recovery.damagedLines, 0);
    const { x } = await rig.call(OPS.receiveMessages, AGENT, 10);
    const flat = x as unknown[];
    const received = ids.map((_, index) => [flat[index * 5], flat[index * 5 + 3]]);
    assert.deepEqual(received, [
      [ids[0], 'first'],
      [ids[1], REDACTED_TEXT],
      [ids[2], 'last'],
    ]);
  }
});

test('a key deleted long ago is removed from history; what never was, and what is removed already, is not found', async (t) => {
  const rig = await withHistory();
  t.after(() => rig.end());
  const removals = await openRemovals(rig);
  await rig.call(OPS.deleteState, AGENT, 'k');
  assert.deepEqual(await removals.remove({ kind: 'state', key: 'never' }, 'law'), { ok: false, code: 'not_found' });
  assert.equal((await removals.remove(TARGET, 'law')).ok, true);
  assertNowhere(rig.disk, SECRET);
  assert.deepEqual(await removals.remove(TARGET, 'law'), { ok: false, code: 'not_found' });
  await rig.write('k', 'new');
  assert.equal((await removals.remove(TARGET, 'law')).ok, true);
  assert.equal(await rig.value('k'), null);
  assert.equal(removals.entries.length, 2);
});

test('a damaged line that holds the value loses it too, and goes on counting as damaged', async (t) => {
  let rig = await withHistory();
  t.after(() => rig.end());
  const path = filesWith(rig.disk, SECRET)[0] as string;
  rig.disk.flipBit(path, rig.disk.live(path).indexOf(SECRET) - 60, 0);
  const removals = await openRemovals(rig);
  assert.equal((await removals.remove(TARGET, 'law')).ok, true);
  assertNowhere(rig.disk, SECRET);
  rig = await rig.kill(SETTINGS);
  assert.equal(await rig.value('k'), null);
});

test('an answered removal survives power loss also where writes are answered before they are on the disk', async (t) => {
  for (const durability of ['interval', 'none'] as const) {
    let rig = await ShardRig.open({ settings: { ...SETTINGS, durability, flushIntervalMs: 60_000 } });
    t.after(() => rig.end());
    for (let version = 0; version < 6; version++) await rig.write('k', `${SECRET} ${version}`);
    const removals = await openRemovals(rig);
    assert.equal((await removals.remove(TARGET, 'law')).ok, true);
    rig = await rig.powerLoss(undefined, { ...SETTINGS, durability });
    assert.equal(await rig.value('k'), null);
    assert.equal(rig.shard.recovery.damagedLines, 0);
    assertNowhere(rig.disk, SECRET);
    assert.equal((await openRemovals(rig)).entries.length, 1);
  }
});

test('without room for the intent nothing begins', async (t) => {
  const rig = await withHistory();
  t.after(() => rig.end());
  const removals = await openRemovals(rig);
  rig.disk.failNext('write', 'ENOSPC');
  assert.deepEqual(await removals.remove(TARGET, 'law'), { ok: false, code: 'store_full' });
  assert.match(String(await rig.value('k')), /^S3CRET/);
  const again = await openRemovals(rig);
  assert.equal(again.entries.length, 0);
  assert.equal((await again.remove(TARGET, 'law')).ok, true);
});

test('a start on a full disk does not wait for ever for a removal that was begun, and finishes it when there is room', async (t) => {
  let rig = await withHistory();
  t.after(() => rig.end());
  const removals = await openRemovals(rig);
  rig.disk.beforeCall = (call, path) => {
    if (call === 'write' && path.endsWith('.ndjson')) rig.disk.powerLoss((most) => most);
  };
  const asked = removals.remove(TARGET, 'law').catch((error: unknown) => error);
  await waitFor(() => rig.shard.state === 'read-only');
  rig.disk.beforeCall = null;
  const ended = removals.close();
  rig = await rig.powerLoss((most) => most, SETTINGS);
  await Promise.all([asked, ended]);
  const { disk } = rig;
  disk.beforeCall = (call, path) => {
    if (call === 'write' && path.endsWith('.ndjson')) throw new DiskError('ENOSPC', call, path);
  };
  const waiting = await openRemovals(rig, 50);
  assert.deepEqual([waiting.isFinishing, waiting.entries.length], [true, 0]);
  disk.beforeCall = null;
  await waitFor(() => !waiting.isFinishing);
  assert.equal(waiting.entries.length, 1);
  assertNowhere(disk, SECRET);
});

async function waitFor(condition: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await condition())) await new Promise(setImmediate);
}
