/** A queued message whose line the disk gives back changed: named, counted, and no obstacle to those behind it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { OPS } from '../../src/shards/wire.js';
import { ShardRig } from './shard-rig.js';

const SENDER = `tab_${'a'.repeat(20)}`;
/** Of each message in the answer, which is flat: how many fields, and which is the content. */
const FIELDS = 5;
const CONTENT = 3;
const RECIPIENT = `tab_${'b'.repeat(20)}`;

test('a queued message that is damaged in the log is reported with its place, counted and passed over', async (t) => {
  let rig = await ShardRig.open();
  t.after(() => rig.end());
  for (const agent of [SENDER, RECIPIENT]) await rig.registerAgent(agent);
  for (const content of ['first', 'second', 'third']) {
    assert.equal(await rig.code(OPS.sendMessage, SENDER, RECIPIENT, content), null);
  }
  // The next start has none of them in memory, and replays none of them.
  rig = await rig.restart();
  let lineOffset = 0;
  rig.disk.overwrite(rig.logPath, (bytes) => {
    const at = bytes.indexOf('"second"');
    lineOffset = bytes.lastIndexOf('\n', at) + 1;
    bytes[at + 1] = 'S'.charCodeAt(0);
    return bytes;
  });

  const { x: messages } = await rig.call(OPS.receiveMessages, RECIPIENT, 10, null);
  assert.deepEqual(
    (messages as unknown[]).filter((_, index) => index % FIELDS === CONTENT),
    ['first', 'third'],
  );
  const [line, ...others] = rig.log.filter(({ msg }) => /damaged line/.test(String(msg)));
  assert.deepEqual(others, []);
  assert.deepEqual([line?.segment, line?.offsetBytes, line?.to], [1, lineOffset, RECIPIENT]);
  assert.equal(rig.counters.read(0, 'damagedLines'), 1, 'for the metrics');
  assert.equal(rig.counters.read(0, 'queuedMessages'), 0);
});
