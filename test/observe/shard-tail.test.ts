import assert from 'node:assert/strict';
import { Buffer } from 'node:buffer';
import { test } from 'node:test';
import { createLogger } from '../../src/log.js';
import type { SegmentFiles } from '../../src/observe/segment-files.js';
import { ShardTail } from '../../src/observe/shard-tail.js';
import { encodeLine, stateReadBody } from '../../src/shards/log-line.js';
import { logPosition } from '../../src/shards/segments.js';

const TS = '2026-03-18T05:30:00.123Z';
const LINES = [1, 2, 3].map((seq) => encodeLine(seq, TS, stateReadBody('tab_a', `key-${seq}`, true), false));

/** A segment that reads as `views` say, one after the other; the last view stays. */
function segmentOf(views: readonly string[]): SegmentFiles {
  let reads = 0;
  return {
    logDir: 'log',
    read: async (_segment: number, offset: number, bytes: number) => {
      const view = views[Math.min(reads, views.length - 1)] ?? '';
      reads += 1;
      return Buffer.from(view, 'utf8').subarray(offset, offset + bytes);
    },
  } as unknown as SegmentFiles;
}

async function seqsOf(views: readonly string[]): Promise<{ seqs: number[]; damagedLines: number }> {
  const end = logPosition(1, Buffer.byteLength(LINES.join('')));
  const tail = new ShardTail(0, segmentOf(views), createLogger('test', 'fatal'), logPosition(1, 0), 0);
  const seqs: number[] = [];
  for (;;) {
    await tail.fill(end);
    const line = tail.take();
    if (line === null) return { seqs, damagedLines: tail.damagedLines };
    seqs.push(line.event.seq);
  }
}

const WHOLE = LINES.join('');
const HALF_OVERWRITTEN = WHOLE.replace('key-2', '*****');

test('a line that was being overwritten when it was read first is not lost', async () => {
  assert.deepEqual(await seqsOf([HALF_OVERWRITTEN, WHOLE]), { seqs: [1, 2, 3], damagedLines: 0 });
});

test('a line that reads as damaged twice is passed over once, and counted once', async () => {
  assert.deepEqual(await seqsOf([HALF_OVERWRITTEN]), { seqs: [1, 3], damagedLines: 1 });
});
