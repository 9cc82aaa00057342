/**
 * Queues that fill and empty on LMDB, for a while: the counts must be exact after reopening, and LMDB must use its own
 * free pages, so that the file stays as large as what it once held at most.
 */
import assert from 'node:assert/strict';
import { statSync } from 'node:fs';
import { join } from 'node:path';
import type { LogPosition } from '../../src/shards/segments.js';
import { logPosition } from '../../src/shards/segments.js';
import { createCounterMemory, SharedCounters } from '../../src/shards/shared-counters.js';
import { Store } from '../../src/shards/store.js';
import { queueKey } from '../../src/shards/store-keys.js';
import { View } from '../../src/shards/view.js';
import { seededRandom } from '../support/seed.js';
import { makeTempDir, removeTempDir } from '../support/temp-dir.js';

const AGENTS = 50;
/** Messages that wait at most, over all queues. */
const MOST_WAITING = 20_000;
/** A row and its key, with what LMDB adds, and its trees half empty. */
const BYTES_PER_ROW = 256;
/** What LMDB keeps aside: the pages of the last two checkpoints, and its own book-keeping. */
const SPARE_BYTES = 24 * 1024 * 1024;
const CHANGES_PER_CHECKPOINT = 4_000;
const CHECKPOINTS_PER_LIFE = 12;

export interface SoakResult {
  readonly changes: number;
  readonly reopenings: number;
  readonly fileBytes: number;
}

export async function soakStore({ seconds, seed }: { seconds: number; seed: number }): Promise<SoakResult> {
  const random = seededRandom(seed);
  const directory = await makeTempDir();
  const path = join(directory, 'store.mdb');
  /** What waits: by agent, in order. */
  const queues = Array.from({ length: AGENTS }, () => [] as { seq: number; bytes: number }[]);
  let waiting = 0;
  let waitingBytes = 0;
  let seq = 0;
  let changes = 0;
  let reopenings = 0;
  let position: LogPosition = logPosition(1, 0);
  const endMs = performance.now() + seconds * 1_000;
  try {
    while (performance.now() < endMs) {
      const store = new Store(path);
      const view = new View(store, 0, new SharedCounters(createCounterMemory(1)));
      const { queuedMessages, queuedBytes, appliedSeq } = view.meta;
      assert.deepEqual(
        { queuedMessages, queuedBytes, appliedSeq },
        { queuedMessages: waiting, queuedBytes: waitingBytes, appliedSeq: seq },
      );
      for (const [agent, queue] of queues.entries()) assertRows(store, agentName(agent), queue);
      for (let checkpoint = 0; checkpoint < CHECKPOINTS_PER_LIFE; checkpoint++) {
        // Now the queues grow, now they are emptied.
        const isGrowing = waiting < MOST_WAITING && random(4) > 0;
        for (let change = 0; change < CHANGES_PER_CHECKPOINT; change++) {
          const agent = random(AGENTS);
          const queue = queues[agent] as { seq: number; bytes: number }[];
          const isSend = waiting < MOST_WAITING && random(10) < (isGrowing ? 8 : 3);
          if (isSend) {
            seq += 1;
            const bytes = 100 + random(1_000);
            view.addMessage(agentName(agent), seq, { position, bytes });
            queue.push({ seq, bytes });
            position += bytes;
            waiting += 1;
            waitingBytes += bytes;
          } else {
            const oldest = queue.shift();
            if (oldest === undefined) continue;
            view.removeMessage(agentName(agent), oldest.seq, oldest.bytes, false);
            waiting -= 1;
            waitingBytes -= oldest.bytes;
          }
          changes += 1;
        }
        view.advance(seq, position);
        await store.checkpoint(view.meta);
      }
      await store.close();
      reopenings += 1;
      const { size } = statSync(path);
      const mostBytes = MOST_WAITING * BYTES_PER_ROW + SPARE_BYTES;
      assert.ok(size <= mostBytes, `the file has ${size} bytes for at most ${MOST_WAITING} rows, SEED=${seed}`);
    }
    return { changes, reopenings, fileBytes: statSync(path).size };
  } finally {
    await removeTempDir(directory);
  }
}

function assertRows(store: Store, agent: string, expected: readonly { readonly seq: number }[]): void {
  const keys = store.queues.keys({ start: `${agent}:`, end: `${agent};`, limit: Number.MAX_SAFE_INTEGER });
  assert.deepEqual(
    keys,
    expected.map(({ seq }) => queueKey(agent, seq)),
    `the queue of ${agent}`,
  );
}

function agentName(index: number): string {
  return `tab_${String(index).padStart(20, '0')}`;
}
