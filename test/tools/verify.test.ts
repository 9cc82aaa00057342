/** The command `verify`: it finds what is damaged, says where, and finds nothing in a sound directory. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { open, readdir, readFile, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { open as openLmdb } from 'lmdb';
import { encodeLine } from '../../src/shards/log-line.js';
import { runCommand, SERVER_ENTRY } from '../support/server.js';
import { type Cleanup, makeTempDir, removeTempDir, tempDir } from '../support/temp-dir.js';
import { waitUntil } from '../support/wait.js';
import { assertSound, type ShownFinding, tool, verify, verifyByCommand, World } from './world.js';

/** A line of a log: where it lies, and its event. */
interface Line {
  readonly file: string;
  readonly offset: number;
  readonly bytes: number;
  readonly event: { seq: number; type: string; ts: string; data: Record<string, unknown> };
}

async function linesOf(dataDir: string): Promise<Line[]> {
  const lines: Line[] = [];
  for (const shard of (await readdir(dataDir)).filter((name) => name.startsWith('shard-')).sort()) {
    for (const name of (await readdir(join(dataDir, shard, 'log'))).filter((each) => each.endsWith('.ndjson')).sort()) {
      const file = join(shard, 'log', name);
      const bytes = await readFile(join(dataDir, file));
      for (let offset = 0; offset < bytes.length; ) {
        const end = bytes.indexOf('\n', offset);
        if (end < 0) break;
        lines.push({ file, offset, bytes: end + 1 - offset, event: JSON.parse(bytes.toString('utf8', offset, end)) });
        offset = end + 1;
      }
    }
  }
  return lines;
}

function find(lines: readonly Line[], where: (line: Line) => boolean): Line {
  const found = lines.find(where);
  assert.ok(found !== undefined);
  return found;
}

function isAt(line: Line): (finding: ShownFinding) => boolean {
  return ({ file, offset_bytes }) => file === line.file && offset_bytes === line.offset;
}

async function edit(path: string, change: (bytes: Buffer) => Buffer): Promise<void> {
  await writeFile(path, change(await readFile(path)));
}

async function changeRow(
  storePath: string,
  table: string,
  change: (key: Buffer, value: Buffer) => Buffer | null | undefined,
): Promise<string> {
  const env = openLmdb<Buffer, Buffer>({
    path: storePath,
    noSubdir: true,
    maxDbs: 16,
    encoding: 'binary',
    keyEncoding: 'binary',
    overlappingSync: false,
  });
  const db = env.openDB<Buffer, Buffer>(table, { encoding: 'binary', keyEncoding: 'binary' });
  try {
    for (const { key, value } of db.getRange({})) {
      const changed = change(key, Buffer.from(value));
      if (changed === undefined) continue;
      if (changed === null) await db.remove(key);
      else await db.put(key, changed);
      return key.toString('utf8');
    }
    assert.fail(`no row of ${table} to change`);
  } finally {
    await env.close();
  }
}

/** As `changeRow`, in the first shard that has such a row: which one that is depends on the names given out. */
async function changeRowOfAny(
  dataDir: string,
  table: string,
  change: Parameters<typeof changeRow>[2],
): Promise<string> {
  const first = join(dataDir, 'shard-00', 'store.mdb');
  try {
    return await changeRow(first, table, change);
  } catch (error) {
    if (!(error instanceof assert.AssertionError)) throw error;
    return changeRow(join(dataDir, 'shard-01', 'store.mdb'), table, change);
  }
}

let world: World;
const ends: (() => Promise<void>)[] = [];

test.before(async () => {
  world = await World.stopped({ after: (end) => void ends.push(end) }, { shards: 3 });
});
test.after(async () => {
  for (const end of ends.reverse()) await end();
});

async function copied(t: { after(callback: () => Promise<void>): void }): Promise<string> {
  const parent = await makeTempDir();
  t.after(() => removeTempDir(parent));
  return world.copyTo(parent);
}

test('a stopped directory is sound, and verifying changes no file', async (t) => {
  const dataDir = await copied(t);
  const before = await linesOf(dataDir);
  const report = await assertSound(dataDir, verifyByCommand);
  assert.equal(report.server_runs, false);
  assert.equal(report.shards, 3);
  assert.equal(report.events, before.length);
  assert.equal(report.last_seq, Math.max(...before.map(({ event }) => event.seq)));
  assert.deepEqual(await linesOf(dataDir), before);
  assert.deepEqual(await assertSound(dataDir), report);
});

test('a flipped bit in any kind of line is found at its file and offset', async (t) => {
  const dataDir = await copied(t);
  const lines = await linesOf(dataDir);
  for (const type of ['state_written', 'message_sent', 'state_read', 'agent_registered', 'message_delivered']) {
    const line = find(lines, ({ event }) => event.type === type);
    const flip = (bytes: Buffer): Buffer => {
      const at = line.offset + Math.floor(line.bytes / 2);
      bytes[at] = (bytes[at] as number) ^ 1;
      return bytes;
    };
    await edit(join(dataDir, line.file), flip);
    const report = await verify(dataDir);
    assert.equal(report.ok, false);
    assert.ok(
      report.findings.some((finding) => finding.kind === 'log' && isAt(line)(finding)),
      type,
    );
    await edit(join(dataDir, line.file), flip);
  }
  await assertSound(dataDir);
});

test('a line that was cut out is found: what it said is missing, and the place of the gap is told', async (t) => {
  const dataDir = await copied(t);
  const lines = await linesOf(dataDir);
  // The last segment of some shard, with lines behind the one that goes.
  const lastFiles = ['shard-00', 'shard-01', 'shard-02'].map(
    (shard) => lines.filter(({ file }) => file.startsWith(shard)).at(-1)?.file,
  );
  const line = find(
    lines,
    ({ file }) => lastFiles.includes(file) && lines.filter((each) => each.file === file).length > 2,
  );
  await edit(join(dataDir, line.file), (bytes) =>
    Buffer.concat([bytes.subarray(0, line.offset), bytes.subarray(line.offset + line.bytes)]),
  );
  const report = await verify(dataDir);
  assert.equal(report.ok, false, 'the log ends before the checkpoint');
  const note = report.notes.find((text) => text.includes(`seq ${line.event.seq} is in no log`));
  assert.ok(note !== undefined, report.notes.join('\n'));
  assert.ok(report.findings.some(({ file }) => file === line.file));
});

test('a message cut out of an old segment is found by its queue and its delivery', async (t) => {
  const dataDir = await copied(t);
  const lines = await linesOf(dataDir);
  const delivered = new Set(
    lines.filter(({ event }) => event.type === 'message_delivered').map(({ event }) => event.data.message_id),
  );
  for (const isDelivered of [true, false]) {
    const line = find(
      lines,
      ({ event, file }) =>
        event.type === 'message_sent' &&
        delivered.has(event.data.message_id) === isDelivered &&
        file !== lines.at(-1)?.file,
    );
    const path = join(dataDir, line.file);
    const original = await readFile(path);
    await edit(path, (bytes) =>
      Buffer.concat([bytes.subarray(0, line.offset), bytes.subarray(line.offset + line.bytes)]),
    );
    const report = await verify(dataDir);
    assert.ok(
      report.findings.some(({ detail }) =>
        isDelivered
          ? detail.includes(`message seq ${line.event.seq}`)
          : detail.includes('the store has a row that the log does not make'),
      ),
      JSON.stringify(report.findings),
    );
    await writeFile(path, original);
  }
  await assertSound(dataDir);
});

test('lines in two logs, in the wrong log or out of order are found where they lie', async (t) => {
  const dataDir = await copied(t);
  const lines = await linesOf(dataDir);
  const isOfShard = (shard: number) => (line: Line) => line.file.startsWith(`shard-0${shard}`);
  const first = find(lines, isOfShard(0));
  const lastOfOther = lines.filter(isOfShard(1)).at(-1) as Line;
  const copy = (await readFile(join(dataDir, first.file))).subarray(first.offset, first.offset + first.bytes);
  await edit(join(dataDir, lastOfOther.file), (bytes) => Buffer.concat([bytes, copy]));
  const stray: Line = { ...first, file: lastOfOther.file, offset: lastOfOther.offset + lastOfOther.bytes };
  const report = await verify(dataDir);
  assert.ok(report.findings.some((finding) => finding.kind === 'log' && isAt(stray)(finding)));

  await edit(join(dataDir, lastOfOther.file), (bytes) => bytes.subarray(0, stray.offset));
  const strayKey = encodeLine(
    99_999,
    '2026-03-18T05:30:00.123Z',
    first.event.type === 'state_read'
      ? `"type":"state_read","data":${JSON.stringify(first.event.data)}`
      : `"type":"state_read","data":{"key":"${keyOfShard(lines, 0)}","read_by":"x","found":true}`,
    false,
  );
  await edit(join(dataDir, lastOfOther.file), (bytes) => Buffer.concat([bytes, Buffer.from(strayKey)]));
  const second = await verify(dataDir);
  assert.ok(second.findings.some(({ detail }) => /event of shard 0 in the log of shard 1/.test(detail)));
});

function keyOfShard(lines: readonly Line[], shard: number): string {
  const line = find(lines, ({ event, file }) => event.type === 'state_written' && file.startsWith(`shard-0${shard}`));
  return String(line.event.data.key);
}

test('a deleted, a changed and an invented row are found, with the line of the log that says otherwise', async (t) => {
  const dataDir = await copied(t);
  const lines = await linesOf(dataDir);
  const store = join('shard-01', 'store.mdb');
  const key = await changeRow(join(dataDir, store), 'state', () => null);
  const written = lines.filter(({ event, file }) => file.startsWith('shard-01') && event.data.key === key);
  const lastWrite = written.filter(({ event }) => event.type === 'state_written').at(-1) as Line;
  const report = await verifyByCommand(dataDir);
  assert.ok(
    report.findings.some(
      (finding) => finding.kind === 'view' && finding.detail.includes(JSON.stringify(key)) && isAt(lastWrite)(finding),
    ),
    JSON.stringify(report.findings),
  );
  assert.ok(report.findings.some(({ detail }) => detail.startsWith('key_counts')));
});

test('a changed value, a queue row that points elsewhere, and a wrong total are found', async (t) => {
  const dataDir = await copied(t);
  const changedKey = await changeRowOfAny(dataDir, 'state', (_key, value) => {
    value[value.length - 1] = (value.at(-1) as number) ^ 1;
    return value;
  });
  const queueKey = await changeRowOfAny(dataDir, 'queues', (_key, value) => {
    value.writeDoubleLE(value.readDoubleLE(0) + 1, 0);
    return value;
  });
  await changeRowOfAny(dataDir, 'meta', (_key, value) => {
    const meta = JSON.parse(value.toString()) as { stateBytes: number };
    return Buffer.from(JSON.stringify({ ...meta, stateBytes: meta.stateBytes + 5 }));
  });
  const details = (await verify(dataDir)).findings.map(({ detail }) => detail);
  for (const expected of [changedKey, queueKey]) {
    assert.ok(
      details.some((detail) => detail.includes(JSON.stringify(expected))),
      details.join('\n'),
    );
  }
  assert.ok(details.some((detail) => detail.includes('stateBytes')));
});

test('a registration without its credential, and a credential without its registration, are found', async (t) => {
  const dataDir = await copied(t);
  const lookup = await changeRowOfAny(dataDir, 'credentials', () => null);
  assert.ok(lookup.length > 0);
  const without = await verify(dataDir);
  assert.ok(without.findings.some(({ kind, detail }) => kind === 'registration' && /has no credential/.test(detail)));

  const other = await copied(t);
  const address = await changeRowOfAny(other, 'agents', () => null);
  const gone = await verify(other);
  assert.ok(
    gone.findings.some(
      ({ kind, file, offset_bytes, detail }) =>
        kind === 'registration' && detail.includes(address) && file.endsWith('.ndjson') && offset_bytes !== null,
    ),
    JSON.stringify(gone.findings),
  );
});

test('a missing segment, a cut segment, a cut store and a missing store are found', async (t) => {
  for (const [what, damage, expected] of [
    ['segment', (dir: string) => removeTempDir(join(dir, 'shard-00', 'log', '00000001.ndjson')), /is missing/],
    ['cut segment', (dir: string) => cut(join(dir, 'shard-00', 'log', '00000001.ndjson')), /are no line/],
    ['cut store', (dir: string) => truncate(join(dir, 'shard-00', 'store.mdb'), 16_384), /is cut off/],
    ['store', (dir: string) => removeTempDir(join(dir, 'shard-00', 'store.mdb')), /is missing/],
  ] as const) {
    const dataDir = await copied(t);
    await damage(dataDir);
    const { findings } = await verify(dataDir);
    assert.ok(
      findings.some(({ file, detail }) => file.startsWith('shard-00') && expected.test(detail)),
      `${what}: ${JSON.stringify(findings)}`,
    );
  }
});

async function cut(path: string): Promise<void> {
  const file = await open(path, 'r+');
  const { size } = await file.stat();
  await file.truncate(size - 40);
  await file.close();
}

test('a damaged block of an archive is found in the archive, with the lines in it', async (t) => {
  const dataDir = await copied(t);
  const { archived } = await tool<{ archived: { shard: number; segment: number }[] }>('archive', '--data-dir', dataDir);
  const [first] = archived;
  assert.ok(first !== undefined, 'something was archived');
  await assertSound(dataDir);
  const file = join(`shard-0${first.shard}`, 'log', `${String(first.segment).padStart(8, '0')}.ndjson.gz`);
  await edit(join(dataDir, file), (bytes) => {
    bytes[200] = (bytes[200] as number) ^ 1;
    return bytes;
  });
  const { findings } = await verify(dataDir);
  assert.ok(findings.some((finding) => finding.file === file && finding.offset_bytes === 0 && finding.kind === 'file'));
});

test('after kill -9 an incomplete last line is told, and is no damage', async (t) => {
  const dataDir = await copied(t);
  const lines = await linesOf(dataDir);
  const last = lines.filter(({ file }) => file.startsWith('shard-00')).at(-1) as Line;
  await edit(join(dataDir, last.file), (bytes) => Buffer.concat([bytes, Buffer.from('{"seq":999999,"ts":"20')]));
  const report = await assertSound(dataDir);
  assert.ok(report.notes.some((note) => note.includes('incomplete last line')));
});

test('it works beside a running server under load, and after its death', async (t) => {
  const running = await World.stopped(t, { shards: 3 });
  await running.server.start();
  let stop = false;
  t.after(async () => {
    stop = true;
  });
  const load = (async () => {
    for (let turns = 0; turns < 4 && !stop; turns++) await running.live();
  })();
  for (let i = 0; i < 2; i++) {
    const report = await assertSound(running.dataDir, verifyByCommand);
    assert.equal(report.server_runs, true);
    assert.ok(report.events > 0);
  }
  stop = true;
  await load;
  await running.server.kill9();
  const report = await assertSound(running.dataDir);
  assert.equal(report.server_runs, false);
  assert.equal(report.events, (await running.server.events()).length);
});

test('a check that is interrupted, whenever it is, ends at once and leaves nothing behind', async (t) => {
  const dataDir = await copied(t);
  // The store is written by another thread meanwhile, which must not be waited for: each time a little later.
  for (let delayMs = 0; delayMs < 100; delayMs += 12) await interruptVerify(t, dataDir, delayMs);
});

async function interruptVerify(t: Cleanup, dataDir: string, delayMs: number): Promise<void> {
  const tempRoot = await tempDir(t);
  const child = spawn(process.execPath, [SERVER_ENTRY, 'verify', '--data-dir', dataDir, '--temp-dir', tempRoot], {
    stdio: 'ignore',
  });
  const gone = once(child, 'exit', { signal: AbortSignal.timeout(30_000) });
  await waitUntil(async () => (await readdir(tempRoot)).length > 0, { timeoutMs: 30_000 });
  await sleep(delayMs); // a moment for the signal to fall into, not a condition
  child.kill('SIGTERM');
  const [code, signal] = (await gone) as [number | null, string | null];
  assert.ok(signal === 'SIGTERM' || code === 0, `exit code ${code}`);
  assert.deepEqual(await readdir(tempRoot), []);
}

test('what is no data directory is refused in one line', async (t) => {
  const empty = await tempDir(t);
  const none = await runCommand(['verify', '--data-dir', empty]);
  assert.equal(none.code, 1);
  assert.match(none.stderr, /^tabulum verify: .*is not a data directory.*\n$/);
  const wrong = await runCommand(['verify', '--nonsense']);
  assert.equal(wrong.code, 2);
  const help = await runCommand(['verify', '--help']);
  assert.equal(help.code, 0);
  assert.match(help.stdout, /--json/);
});
