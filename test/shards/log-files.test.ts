/** Log writer and log reader together, on a disk that fails on demand. */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import fc from 'fast-check';
import { encodeLine, eventBody } from '../../src/shards/log-line.js';
import { LineReader, type ScannedLine, scanLog } from '../../src/shards/log-reader.js';
import { DiskFullError, LogWriter } from '../../src/shards/log-writer.js';
import { RecentLog } from '../../src/shards/recent-log.js';
import { type LogPosition, logPosition, offsetOf, segmentOf, segmentPath } from '../../src/shards/segments.js';
import { FaultyDisk } from '../support/faulty-disk.js';
import { seedFor } from '../support/seed.js';
import { waitUntil } from '../support/wait.js';
import { hostileText } from './hostile.js';
import { recordingLogger } from './shard-rig.js';

const LOG_DIR = '/shard/log';
const FIRST = segmentPath(LOG_DIR, 1);
const { logger } = recordingLogger();
const TS = '2026-03-18T05:30:00.123Z';

function lineWith(seq: number, value: string): string {
  const data = { key: 'k', value, value_length: Buffer.byteLength(value), written_by: 'tab_a' };
  return encodeLine(seq, TS, eventBody('state_written', 'tab_a', data), false);
}

function openWriter(disk: FaultyDisk, maxSegmentBytes = 1_000_000): Promise<LogWriter> {
  return LogWriter.open(disk, LOG_DIR, maxSegmentBytes, 1, 0, logger);
}

async function scan(disk: FaultyDisk, from: LogPosition = logPosition(1, 0)): Promise<ScannedLine[]> {
  const lines: ScannedLine[] = [];
  for await (const line of scanLog(disk, LOG_DIR, from)) lines.push(line);
  return lines;
}

test('append returns the places where scanning and single reads find the lines, over several segments', async (t) => {
  const seed = seedFor(t);
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.array(hostileText(20), { maxLength: 6 }), { minLength: 1, maxLength: 12 }),
      fc.integer({ min: 1, max: 2_000 }),
      fc.integer({ min: 1, max: 5_000 }),
      async (batches, maxSegmentBytes, maxWriteBytes) => {
        const disk = new FaultyDisk();
        disk.maxWriteBytes = maxWriteBytes;
        const writer = await openWriter(disk, maxSegmentBytes);
        const expected: { seq: number; position: LogPosition; bytes: number }[] = [];
        let seq = 0;
        for (const batch of batches) {
          if (writer.isSegmentFull) await writer.rotate();
          for (const value of batch) {
            const line = lineWith(++seq, value);
            const position = writer.append(line);
            expected.push({ seq, position, bytes: writer.lastLineBytes });
            assert.equal(writer.lastLineBytes, Buffer.byteLength(line));
          }
          await writer.write();
          await writer.sync();
        }
        const reader = new LineReader(disk, LOG_DIR, new RecentLog(0));
        const found = await scan(disk);
        assert.deepEqual(
          found.map((line) => line.kind === 'event' && [line.event.seq, line.position, line.bytes]),
          expected.map((line) => [line.seq, line.position, line.bytes]),
        );
        for (const { seq, position, bytes } of expected) {
          assert.equal((await reader.read(position, bytes))?.seq, seq);
          const tail = await scan(disk, position);
          assert.equal(tail.length, expected.length - seq + 1, 'scanning from a line gives it and all after it');
        }
        const lastSegment = Math.max(1, ...expected.map((line) => segmentOf(line.position)));
        assert.ok(disk.paths.length >= lastSegment);
        await reader.close();
        await writer.close();
        assert.deepEqual(disk.misuses, []);
      },
    ),
    { seed, numRuns: 60 },
  );
});

test('a segment that has reached its size is followed by a new one, named durably before it holds anything', async () => {
  const disk = new FaultyDisk();
  const writer = await openWriter(disk, 200);
  assert.equal(writer.isSegmentFull, false);
  writer.append(lineWith(1, 'x'.repeat(200)));
  await writer.write();
  await writer.sync();
  assert.equal(writer.isSegmentFull, true);
  await writer.rotate();
  assert.equal(writer.isSegmentFull, false);
  assert.equal(disk.files.get(segmentPath(LOG_DIR, 2))?.nameIsDurable, true);
  assert.deepEqual([segmentOf(writer.position), offsetOf(writer.position)], [2, 0]);
});

test('a line of 3 MiB and more is found whole, across the reader’s chunks', async () => {
  const disk = new FaultyDisk();
  const writer = await openWriter(disk);
  const values = ['a', '界'.repeat(1_100_000), 'b', '😀'.repeat(300_000), 'c'];
  const places = values.map((value, index) => writer.append(lineWith(index + 1, value)));
  await writer.write();
  const found = await scan(disk);
  assert.deepEqual(
    found.map((line) => line.position),
    places,
  );
  const read = found.map(
    (line) => line.kind === 'event' && (line.event.data as { value: string }).value === values[line.event.seq - 1],
  );
  assert.deepEqual(read, [true, true, true, true, true]);
});

async function writerWithOneLine(): Promise<{ disk: FaultyDisk; writer: LogWriter; before: Buffer }> {
  const disk = new FaultyDisk();
  const writer = await openWriter(disk);
  writer.append(lineWith(1, 'kept'));
  await writer.write();
  await writer.sync();
  return { disk, writer, before: disk.live(FIRST) };
}

test('a disk that fills up after any number of bytes of a batch leaves the log as it was, and the next write works', async () => {
  const next = lineWith(2, 'does not fit');
  for (let roomBytes = 0; roomBytes < next.length; roomBytes++) {
    const { disk, writer, before } = await writerWithOneLine();
    disk.roomBytes = before.length + roomBytes;
    writer.append(next);
    await assert.rejects(async () => writer.write(), DiskFullError);
    assert.deepEqual(disk.live(FIRST), before);
    assert.equal(offsetOf(writer.position), before.length);
    assert.equal(writer.bufferedBytes, 0);
    disk.roomBytes = Number.POSITIVE_INFINITY;
    writer.append(next);
    await writer.write();
    assert.equal(disk.live(FIRST).toString(), before.toString() + next);
  }
});

test('a quota counts as a full disk', async () => {
  const { disk, writer } = await writerWithOneLine();
  disk.failNext('write', 'EDQUOT');
  writer.append(lineWith(2, 'x'));
  await assert.rejects(async () => writer.write(), DiskFullError);
});

test('an I/O error in the middle of a batch surfaces as it is and leaves the log as it was', async () => {
  const { disk, writer, before } = await writerWithOneLine();
  disk.maxWriteBytes = 10;
  disk.failNext('write', 'EIO', 3);
  writer.append(lineWith(2, 'x'.repeat(100)));
  await assert.rejects(async () => writer.write(), { code: 'EIO' });
  assert.deepEqual(disk.live(FIRST), before);
  assert.equal(offsetOf(writer.position), before.length);
});

test('the thread itself waits for a quick disk, and for no other flush once one was slow', async () => {
  const disk = new FaultyDisk();
  disk.canSyncAtOnce = true;
  const writer = await openWriter(disk);
  let seq = 0;
  /** True when the flush was over before anything else could happen. */
  const waitsInPlace = async (): Promise<boolean> => {
    writer.append(lineWith(++seq, 'x'));
    await writer.write();
    let otherTurns = 0;
    const turn = setImmediate(() => {
      otherTurns += 1;
    });
    await writer.sync();
    clearImmediate(turn);
    return otherTurns === 0;
  };
  assert.equal(await waitsInPlace(), false, 'nothing is known of the disk');
  await waitUntil(waitsInPlace, { timeoutMs: 5_000, what: 'a quick flush, after which it waits in place' });
  disk.syncAtOnceMs = 80;
  assert.equal(await waitsInPlace(), true, 'it can not be known before');
  disk.syncAtOnceMs = 0;
  disk.holdSyncs();
  const held = waitsInPlace();
  await waitUntil(() => disk.heldSyncs > 0, { timeoutMs: 5_000, what: 'a flush that other things can happen beside' });
  disk.stopHolding();
  assert.equal(await held, false);
  await waitUntil(waitsInPlace, { timeoutMs: 5_000, what: 'the disk to be trusted again' });
});

test('a batch that is discarded is never written', async () => {
  const { disk, writer, before } = await writerWithOneLine();
  writer.append(lineWith(2, 'forgotten'));
  writer.discard();
  assert.equal(offsetOf(writer.position), before.length);
  writer.append(lineWith(3, 'written'));
  await writer.write();
  assert.equal(disk.live(FIRST).toString(), before.toString() + lineWith(3, 'written'));
});

test('a failed sync rejects', async () => {
  const { disk, writer } = await writerWithOneLine();
  disk.failNext('sync', 'EIO');
  await assert.rejects(writer.sync(), { code: 'EIO' });
});

test('opening at a size cuts off what lies beyond, durably', async () => {
  const { disk, before } = await writerWithOneLine();
  disk.overwrite(FIRST, (bytes) => Buffer.concat([bytes, Buffer.from('{"seq":2,"ts":"20')]));
  await LogWriter.open(disk, LOG_DIR, 1_000, 1, before.length, logger);
  assert.deepEqual(disk.durable(FIRST), before);
});

async function damagedLog(t: TestContext): Promise<{ disk: FaultyDisk; places: LogPosition[] }> {
  const disk = new FaultyDisk();
  const writer = await openWriter(disk);
  const places = ['a', 'b', 'c'].map((value, index) => writer.append(lineWith(index + 1, value)));
  await writer.write();
  t.after(() => assert.deepEqual(disk.misuses, []));
  return { disk, places };
}

test('any flipped bit of a line is handed out as damage in its place, and the lines around it are whole', async (t) => {
  const { disk, places } = await damagedLog(t);
  const [, from = 0, to = 0] = places.map(offsetOf);
  // The line less its checksum (see log-line.test.ts for that) and its newline.
  for (let offset = from; offset < to - 11; offset++) {
    for (let bit = 0; bit < 8; bit++) {
      const copy = disk.copy();
      copy.flipBit(FIRST, offset, bit);
      const lines = await scan(copy);
      assert.deepEqual(
        lines.filter((line) => line.kind === 'event').map((line) => line.position),
        [places[0], places[2]],
      );
      // A flip that makes a newline leaves two damaged lines.
      const damaged = lines.filter((line) => line.kind === 'damaged');
      assert.equal(damaged[0]?.position, places[1]);
      assert.equal(
        damaged.reduce((sum, line) => sum + line.bytes, 0),
        to - from,
      );
      const reader = new LineReader(copy, LOG_DIR, new RecentLog(0));
      assert.equal(await reader.read(places[1] as number, to - from), null);
    }
  }
});

test('a file that ends within a line hands out the rest as torn, with its place and size', async (t) => {
  const { disk, places } = await damagedLog(t);
  const last = offsetOf(places[2] as number);
  const size = disk.live(FIRST).length;
  for (let end = last + 1; end < size; end++) {
    const copy = disk.copy();
    copy.overwrite(FIRST, (bytes) => bytes.subarray(0, end));
    const lines = await scan(copy);
    assert.deepEqual(lines.at(-1), { kind: 'torn', position: places[2], bytes: end - last });
    assert.equal(lines.length, 3);
  }
});

test('a single read that does not meet a line’s end is refused, and an I/O error rejects', async (t) => {
  const { disk, places } = await damagedLog(t);
  const reader = new LineReader(disk, LOG_DIR, new RecentLog(0));
  const bytes = offsetOf(places[1] as number);
  assert.notEqual(await reader.read(places[0] as number, bytes), null);
  assert.equal(await reader.read(places[0] as number, bytes - 1), null);
  assert.equal(await reader.read(places[0] as number, bytes + 1), null);
  assert.equal(await reader.read((places[0] as number) + 1, bytes), null);
  assert.equal(await reader.read(places[2] as number, 1_000_000), null);
  disk.failNext('read', 'EIO');
  await assert.rejects(reader.read(places[0] as number, bytes), { code: 'EIO' });
});

test('lines of more segments than are kept open can all be read', async () => {
  const disk = new FaultyDisk();
  const writer = await openWriter(disk, 1);
  const places: [LogPosition, number][] = [];
  for (let seq = 1; seq <= 80; seq++) {
    places.push([writer.append(lineWith(seq, String(seq))), writer.lastLineBytes]);
    await writer.write();
    await writer.sync();
    await writer.rotate();
  }
  const reader = new LineReader(disk, LOG_DIR, new RecentLog(0));
  for (const round of [1, 2]) {
    const found = await Promise.all(places.map(([position, bytes]) => reader.read(position, bytes)));
    assert.deepEqual(
      found.map((event) => event?.seq),
      places.map((_, index) => index + 1),
      `round ${round}`,
    );
  }
  assert.deepEqual(disk.misuses, [], 'no read of a segment that was closed to make room');
  await reader.close();
});
