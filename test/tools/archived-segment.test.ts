import assert from 'node:assert/strict';
import { Buffer } from 'node:buffer';
import { execFileSync } from 'node:child_process';
import { readFile, writeFile } from 'node:fs/promises';
import { test } from 'node:test';
import {
  ARCHIVE_BLOCK_BYTES,
  ArchiveDamagedError,
  compressBlock,
  placeArchive,
  rewriteArchivedSegment,
  writeArchiveDraft,
} from '../../src/shards/archived-segment.js';
import { realDisk } from '../../src/shards/disk.js';
import { encodeLine } from '../../src/shards/log-line.js';
import { LineReader, scanLog } from '../../src/shards/log-reader.js';
import { RecentLog } from '../../src/shards/recent-log.js';
import { openSegment } from '../../src/shards/segment-reader.js';
import { archivedSegmentPath, listSegments, logPosition, offsetOf, segmentPath } from '../../src/shards/segments.js';
import { seededRandom, seedFor } from '../support/seed.js';
import { tempDir } from '../support/temp-dir.js';

/** Lines of very different lengths, some longer than two blocks. */
function someLog(seed: number, lines: number): Buffer {
  const random = seededRandom(seed);
  const texts: string[] = [];
  for (let seq = 1; seq <= lines; seq++) {
    const length = random(20) === 0 ? random(3 * ARCHIVE_BLOCK_BYTES) : random(2_000);
    let value = '';
    while (value.length < length) value += `${random(1e9).toString(36)} `;
    texts.push(
      encodeLine(seq, '2026-03-18T05:30:00.123Z', `"type":"state_written","data":{"value":"${value}"}`, false),
    );
  }
  return Buffer.from(texts.join(''));
}

async function archive(logDir: string, segment: number, plain: Buffer): Promise<void> {
  async function* blocks() {
    for (let at = 0; at < plain.length; at += ARCHIVE_BLOCK_BYTES) {
      yield await compressBlock(plain.subarray(at, at + ARCHIVE_BLOCK_BYTES));
    }
  }
  await writeArchiveDraft(logDir, segment, blocks());
  await placeArchive(realDisk, logDir, segment);
}

test('gunzip turns an archive back into the plain segment, and any part of it reads the same', async (t) => {
  const seed = seedFor(t);
  const random = seededRandom(seed);
  const logDir = await tempDir(t);
  for (const plain of [
    someLog(seed, 150),
    Buffer.from('x\n'),
    Buffer.alloc(ARCHIVE_BLOCK_BYTES, 'y'),
    Buffer.alloc(2 * ARCHIVE_BLOCK_BYTES + 1, 'z'),
  ]) {
    await archive(logDir, 1, plain);
    const path = archivedSegmentPath(logDir, 1);
    execFileSync('gzip', ['-t', path]);
    assert.ok(execFileSync('gunzip', ['-c', path], { maxBuffer: 2 ** 28 }).equals(plain));

    const segment = await openSegment(realDisk, logDir, 1);
    assert.equal(segment.isArchived, true);
    assert.equal(segment.sizeBytes, plain.length);
    for (let i = 0; i < 50; i++) {
      const offset = random(plain.length + 10);
      const length = random(3) === 0 ? random(plain.length) : random(3_000);
      const read = await segment.read(offset, length);
      assert.ok(read.equals(plain.subarray(offset, offset + length)), `SEED=${seed} ${offset} ${length}`);
    }
    await segment.close();
  }
});

test('the plain segment counts while both are there, and each number is listed once', async (t) => {
  const logDir = await tempDir(t);
  await writeFile(segmentPath(logDir, 1), 'plain\n');
  await archive(logDir, 1, Buffer.from('archived\n'));
  await archive(logDir, 2, Buffer.from('only archived\n'));
  await writeFile(segmentPath(logDir, 3), 'last\n');
  assert.deepEqual(listSegments(realDisk, logDir), [1, 2, 3]);
  const contents: string[] = [];
  for (const number of [1, 2, 3]) {
    const segment = await openSegment(realDisk, logDir, number);
    contents.push((await segment.read(0, 100)).toString());
    await segment.close();
  }
  assert.deepEqual(contents, ['plain\n', 'only archived\n', 'last\n']);
});

test('opening a segment that is not there rejects and makes no file', async (t) => {
  const logDir = await tempDir(t);
  await assert.rejects(openSegment(realDisk, logDir, 1), { code: 'ENOENT' });
  assert.deepEqual(listSegments(realDisk, logDir), []);
});

test('scanning and reading single lines do not tell an archived segment from a plain one', async (t) => {
  const seed = seedFor(t);
  const plain = someLog(seed, 100);
  const plainDir = await tempDir(t);
  const archivedDir = await tempDir(t);
  await writeFile(segmentPath(plainDir, 1), plain);
  await archive(archivedDir, 1, plain);
  const scanned = async (logDir: string) => {
    const lines = [];
    for await (const line of scanLog(realDisk, logDir, logPosition(1, 0))) lines.push(line);
    return lines;
  };
  const lines = await scanned(plainDir);
  assert.equal(lines.length, 100);
  assert.deepEqual(await scanned(archivedDir), lines);

  const reader = new LineReader(realDisk, archivedDir, new RecentLog(1));
  await Promise.all(
    lines.map(async ({ position, bytes }, index) => {
      assert.equal((await reader.read(position, bytes))?.seq, index + 1);
    }),
  );
  await reader.close();
});

test('a damaged block loses its own lines and no others; a damaged index is named', async (t) => {
  const logDir = await tempDir(t);
  const plain = Buffer.from(
    Array.from({ length: 40_000 }, (_, i) =>
      encodeLine(i + 1, '2026-03-18T05:30:00.123Z', `"type":"registry_read"`, false),
    ).join(''),
  );
  await archive(logDir, 1, plain);
  const path = archivedSegmentPath(logDir, 1);
  const bytes = await readFile(path);
  const damaged = Buffer.from(bytes);
  damaged[Math.floor(bytes.length / 2)] = (damaged[Math.floor(bytes.length / 2)] as number) ^ 4;
  await writeFile(path, damaged);
  const seqs: number[] = [];
  let damagedLines = 0;
  for await (const line of scanLog(realDisk, logDir, logPosition(1, 0))) {
    if (line.kind === 'event') seqs.push(line.event.seq);
    else damagedLines += 1;
  }
  assert.ok(damagedLines >= 1 && damagedLines <= 2);
  assert.equal(seqs[0], 1);
  assert.equal(seqs.at(-1), 40_000);
  const linesPerBlock = ARCHIVE_BLOCK_BYTES / (plain.length / 40_000);
  assert.ok(40_000 - seqs.length <= linesPerBlock + 2, `${40_000 - seqs.length} lines lost`);

  for (const flip of [bytes.length - 12, bytes.length - 20, bytes.length - 36]) {
    const broken = Buffer.from(bytes);
    broken[flip] = (broken[flip] as number) ^ 1;
    await writeFile(path, broken);
    await assert.rejects(openSegment(realDisk, logDir, 1), ArchiveDamagedError);
  }
});

test('a rewrite is given every line once, whole and in order, and keeps every offset', async (t) => {
  const seed = seedFor(t);
  const random = seededRandom(seed);
  const plain = someLog(seed, 200);
  const logDir = await tempDir(t);
  await archive(logDir, 1, plain);
  const expected = Buffer.from(plain);
  const chosen = new Set(Array.from({ length: 3 }, () => random(200) + 1));
  let at = 0;
  for (let seq = 1; seq <= 200; seq++) {
    const end = plain.indexOf('\n', at);
    if (chosen.has(seq)) expected.fill('*', at + 1, end - 30);
    at = end + 1;
  }
  let nextOffset = 0;
  const changed = await rewriteArchivedSegment(realDisk, logDir, 1, (lines, offsetBytes) => {
    assert.equal(offsetBytes, nextOffset);
    assert.equal(lines.at(-1), 0x0a);
    nextOffset += lines.length;
    let hit = false;
    for (let start = 0; start < lines.length; ) {
      const end = lines.indexOf('\n', start);
      const { seq } = JSON.parse(lines.toString('utf8', start, end)) as { seq: number };
      if (chosen.has(seq)) {
        lines.fill('*', start + 1, end - 30);
        hit = true;
      }
      start = end + 1;
    }
    return hit;
  });
  assert.equal(changed, true);
  assert.equal(nextOffset, plain.length);
  const segment = await openSegment(realDisk, logDir, 1);
  assert.ok((await segment.read(0, plain.length)).equals(expected), `SEED=${seed}`);
  await segment.close();

  const before = await readFile(archivedSegmentPath(logDir, 1));
  assert.equal(await rewriteArchivedSegment(realDisk, logDir, 1, () => false), false);
  assert.ok((await readFile(archivedSegmentPath(logDir, 1))).equals(before));
  assert.deepEqual(realDisk.list(logDir), ['00000001.ndjson.gz']);
});

test('what is open stays readable when the segment becomes an archive', async (t) => {
  const logDir = await tempDir(t);
  const plain = someLog(1, 30);
  await writeFile(segmentPath(logDir, 1), plain);
  const reader = new LineReader(realDisk, logDir, new RecentLog(1));
  const places: { position: number; bytes: number }[] = [];
  for await (const { position, bytes } of scanLog(realDisk, logDir, logPosition(1, 0)))
    places.push({ position, bytes });
  const [first, second] = places as [(typeof places)[0], (typeof places)[0]];
  assert.equal((await reader.read(first.position, first.bytes))?.seq, 1);
  await archive(logDir, 1, plain);
  execFileSync('rm', [segmentPath(logDir, 1)]);
  assert.equal((await reader.read(second.position, second.bytes))?.seq, 2);
  reader.forget(1);
  const last = places.at(-1) as (typeof places)[0];
  assert.equal((await reader.read(last.position, last.bytes))?.seq, 30);
  assert.ok(offsetOf(last.position) > 0);
  await reader.close();
});
