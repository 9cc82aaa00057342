/** Recovery: what a shard is after a crash, and what it makes of a log that a disk has damaged. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import fc from 'fast-check';
import { internalBody } from '../../src/shards/internal-records.js';
import { type EventBody, encodeLine, eventBody } from '../../src/shards/log-line.js';
import { type RecoveryReport, recover } from '../../src/shards/recovery.js';
import { segmentPath } from '../../src/shards/segments.js';
import { createCounterMemory, SharedCounters } from '../../src/shards/shared-counters.js';
import { Store } from '../../src/shards/store.js';
import { View } from '../../src/shards/view.js';
import { FaultyDisk } from '../support/faulty-disk.js';
import { seededRandom, seedFor } from '../support/seed.js';
import { makeTempDir, removeTempDir, tempDir } from '../support/temp-dir.js';
import { hostileKey, hostileText } from './hostile.js';
import { credentialFor, recordingLogger } from './shard-rig.js';

const LOG_DIR = '/shard/log';
const FIRST = segmentPath(LOG_DIR, 1);
const TS = '2026-03-18T05:30:00.123Z';
const A = `tab_${'a'.repeat(20)}`;

const written = (key: string, value: string): EventBody =>
  eventBody('state_written', A, { key, value, value_length: Buffer.byteLength(value), written_by: A });
const deleted = (key: string): EventBody => eventBody('state_deleted', A, { key, deleted_by: A });
const sent = (content: string): EventBody =>
  eventBody('message_sent', A, { message_id: content, from: A, to: A, content, content_length: 1 });
const delivered = (ref: number): EventBody =>
  `${eventBody('message_delivered', A, { message_id: 'm', to: A, delivery_method: 'pull' })},"ref":${ref}`;
const pushed = (ref: number): EventBody =>
  `${eventBody('message_delivered', A, { message_id: 'm', to: A, delivery_method: 'push' })},"ref":${ref}`;
const registered = eventBody('agent_registered', A, { address: A, operator_id: 'o', has_webhook: false });

/** Everything a reader can see of a view. */
function snapshot(view: View): unknown {
  const { store } = view;
  const all = { start: '', end: null, limit: Number.MAX_SAFE_INTEGER };
  const { replayFrom: _place, appliedSeq: _seq, ...sums } = view.meta;
  return {
    sums,
    state: store.state.keys(all).map((key) => [key, store.state.get(key)]),
    counted: ['', 'a', 'k'].map((prefix) => view.listKeys(prefix, null, 5)),
    queues: store.queues.keys(all).map((key) => [key, store.queues.get(key)]),
    agents: view.listAgents({ cursor: null, limit: 1_000 }),
    credentials: store.credentials.keys(all).map((key) => store.credentials.get(key)),
    pushes: store.pushAgents.keys(all).map((key) => [key, store.pushAgents.get(key)]),
    claims: store.sendClaims.keys(all).map((key) => [key, store.sendClaims.get(key)]),
    sentOnce: store.sentOnce.keys(all).map((key) => [key, store.sentOnce.get(key)]),
    expiries: store.expiries.keys(all),
  };
}

interface Recovered {
  readonly view: View;
  readonly report: RecoveryReport;
  readonly log: Record<string, unknown>[];
  /** Ends without another checkpoint, as a crash does. */
  crash(): Promise<void>;
}

async function open(disk: FaultyDisk, directory: string): Promise<Recovered> {
  const store = new Store(join(directory, 'store.mdb'));
  const view = new View(store, 0, new SharedCounters(createCounterMemory(1)));
  const { logger, lines } = recordingLogger();
  const { report } = await recover(disk, LOG_DIR, view, 1_000_000, logger);
  return { view, report, log: lines, crash: () => store.close() };
}

async function recoverOnce(t: TestContext, disk: FaultyDisk): Promise<Recovered> {
  const recovered = await open(disk, await tempDir(t));
  t.after(() => recovered.crash());
  return recovered;
}

/** A disk whose log holds these lines, each `[body, more]` or a body alone; seqs from 1. */
function diskWith(...lines: (EventBody | [EventBody, boolean])[]): FaultyDisk {
  const disk = new FaultyDisk();
  void disk.openFile(FIRST).close();
  const text = lines.map((line, index) => {
    const [body, more] = typeof line === 'string' ? [line, false] : line;
    return encodeLine(index + 1, TS, body, more);
  });
  disk.overwrite(FIRST, () => Buffer.from(text.join('')));
  return disk;
}

const valuesOf = ({ view }: Recovered): (string | undefined)[] =>
  ['a', 'b', 'c'].map((key) => view.stateRow(key)?.value);

test('a last line torn at any byte is cut off, with a warning, and everything before it is kept', async (t) => {
  const whole = diskWith(written('a', '1'), written('b', '2')).live(FIRST);
  const disk = diskWith(written('a', '1'), written('b', '2'), written('c', '3'));
  const size = disk.live(FIRST).length;
  const directory = await tempDir(t);
  for (let end = whole.length; end < size; end++) {
    const torn = disk.copy();
    torn.overwrite(FIRST, (bytes) => bytes.subarray(0, end));
    const recovered = await open(torn, directory);
    assert.deepEqual(valuesOf(recovered), ['1', '2', undefined]);
    assert.equal(recovered.report.cutBytes, end - whole.length);
    assert.equal(recovered.report.damagedLines, 0);
    assert.deepEqual(torn.durable(FIRST), whole, 'cut on the disk too');
    assert.deepEqual(
      recovered.log.map(({ segment, offsetBytes, bytes }) => ({ segment, offsetBytes, bytes })),
      end === whole.length ? [] : [{ segment: 1, offsetBytes: whole.length, bytes: end - whole.length }],
    );
    await recovered.crash();
  }
});

test('an operation whose last event is missing is cut off whole', async (t) => {
  const disk = diskWith(sent('x'), sent('y'), written('a', '1'), [delivered(1), true], [delivered(2), true]);
  const kept = diskWith(sent('x'), sent('y'), written('a', '1')).live(FIRST);
  const recovered = await recoverOnce(t, disk);
  assert.equal(recovered.view.meta.queuedMessages, 2);
  assert.deepEqual(disk.durable(FIRST), kept);
  assert.equal(recovered.report.lastSeq >= 3, true);
});

test('an operation of several events that is whole is applied whole', async (t) => {
  const recovered = await recoverOnce(t, diskWith(sent('x'), sent('y'), [delivered(1), true], delivered(2)));
  assert.equal(recovered.view.meta.queuedMessages, 0);
  assert.equal(recovered.report.cutBytes, 0);
});

test('a damaged line in the middle is skipped, counted, reported with its place, and left in the log', async (t) => {
  const disk = diskWith(written('a', '1'), written('b', '2'), written('c', '3'));
  const offsetBytes = diskWith(written('a', '1')).live(FIRST).length;
  const size = disk.live(FIRST).length;
  disk.flipBit(FIRST, offsetBytes + 20, 3);
  const recovered = await recoverOnce(t, disk);
  assert.deepEqual(valuesOf(recovered), ['1', undefined, '3']);
  assert.equal(recovered.report.damagedLines, 1);
  assert.equal(recovered.report.replayedEvents, 2);
  assert.equal(disk.live(FIRST).length, size);
  const [line] = recovered.log;
  assert.deepEqual([line?.logDir, line?.segment, line?.offsetBytes], [LOG_DIR, 1, offsetBytes]);
});

test('what a damaged line wrote or sent may be deleted or delivered later', async (t) => {
  const disk = diskWith(written('a', '1'), sent('x'), deleted('a'), delivered(2), written('b', '2'));
  disk.flipBit(FIRST, 5, 0);
  disk.flipBit(FIRST, diskWith(written('a', '1')).live(FIRST).length + 9, 0);
  const recovered = await recoverOnce(t, disk);
  assert.equal(recovered.report.damagedLines, 2);
  const { keys, stateBytes, queuedMessages, queuedBytes } = recovered.view.meta;
  assert.deepEqual(
    { keys, stateBytes, queuedMessages, queuedBytes },
    { keys: 1, stateBytes: 2, queuedMessages: 0, queuedBytes: 0 },
  );
});

test('recovering twice, with or without a checkpoint between, gives the same view', async (t) => {
  const directory = await tempDir(t);
  const disk = diskWith(
    written('a', '1'),
    sent('x'),
    written('a', '22'),
    deleted('a'),
    written('b', '2'),
    sent('y'),
    delivered(2),
  );
  const first = await open(disk, directory);
  const expected = snapshot(first.view);
  assert.equal(first.report.replayedEvents, 7);
  await first.crash();
  const second = await open(disk, directory);
  assert.deepEqual(snapshot(second.view), expected);
  assert.equal(second.report.replayedEvents, 7);
  await second.view.store.checkpoint(second.view.meta);
  await second.crash();
  const third = await open(disk, directory);
  assert.deepEqual(snapshot(third.view), expected);
  assert.equal(third.report.replayedEvents, 0, 'nothing lies behind the checkpoint');
  await third.crash();
});

test('a registration whose event is in the log is completed, and one without is removed', async (t) => {
  const directory = await tempDir(t);
  const store = new Store(join(directory, 'store.mdb'));
  for (const subject of [A, 'tab_unlogged']) {
    const credential = { ...credentialFor(subject), kind: 'agent', subject } as const;
    await store.putPending(subject, { credential, webhook: { url: 'https://x.example', secret: 's' } });
  }
  await store.close();
  const recovered = await open(diskWith(registered), directory);
  t.after(() => recovered.crash());
  assert.equal(recovered.view.agent(A)?.webhook?.url, 'https://x.example');
  assert.equal(recovered.view.store.credentials.get(credentialFor(A).lookup)?.subject, A);
  assert.equal(recovered.view.store.credentials.get(credentialFor('tab_unlogged').lookup), undefined);
  assert.deepEqual(recovered.view.store.pendingSubjects(), [A]);
});

test('a segment that was begun just before the crash and is empty or torn is used on', async (t) => {
  for (const begun of ['', '{"seq":2,"ts"']) {
    const disk = diskWith(written('a', '1'));
    await disk.openFile(segmentPath(LOG_DIR, 2)).close();
    disk.overwrite(segmentPath(LOG_DIR, 2), () => Buffer.from(begun));
    const before = disk.live(FIRST);
    const recovered = await recoverOnce(t, disk);
    assert.deepEqual(valuesOf(recovered), ['1', undefined, undefined]);
    assert.deepEqual(disk.live(FIRST), before);
    assert.equal(disk.live(segmentPath(LOG_DIR, 2)).length, 0);
  }
});

test('a missing last segment does not empty the one before it', async (t) => {
  const directory = await tempDir(t);
  const disk = diskWith(written('a', '1'));
  const second = segmentPath(LOG_DIR, 2);
  await disk.openFile(second).close();
  disk.overwrite(second, () => Buffer.from(encodeLine(2, TS, written('b', '2'), false)));
  const before = disk.live(FIRST);
  const first = await open(disk, directory);
  await first.view.store.checkpoint(first.view.meta);
  await first.crash();
  disk.files.delete(second);
  await open(disk, directory).then(
    (recovered) => recovered.crash(),
    () => undefined, // refusing to start is as good
  );
  assert.deepEqual(disk.live(FIRST), before);
});

/** One step of a history, as numbers that are made to fit what is there. */
type Step =
  | { readonly do: 'write'; readonly key: string; readonly value: string }
  | { readonly do: 'delete' | 'deliver'; readonly pick: number }
  | { readonly do: 'send'; readonly content: string }
  | { readonly do: 'lease' | 'give back' | 'retry' | 'give up' | 'push' | 'claim' | 'free'; readonly pick: number }
  | { readonly do: 'checkpoint' | 'crash' | 'torn crash' };

const someStep: fc.Arbitrary<Step> = fc.oneof(
  { weight: 5, arbitrary: fc.record({ do: fc.constant('write' as const), key: hostileKey(), value: hostileText() }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constantFrom('delete' as const, 'deliver' as const), pick: fc.nat() }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('send' as const), content: hostileText() }) },
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constantFrom(...(['lease', 'give back', 'retry', 'give up', 'push', 'claim', 'free'] as const)),
      pick: fc.nat(),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ do: fc.constantFrom('checkpoint' as const, 'crash' as const, 'torn crash' as const) }),
  },
);

/** Lives through a history on one disk; after each crash the view must be what it was. */
async function live(steps: readonly Step[], seed: number, directory: string): Promise<void> {
  const random = seededRandom(seed);
  const disk = diskWith();
  let recovered = await open(disk, directory);
  let seq = 0;
  const keys = new Set<string>();
  const queue: number[] = [];
  const toPush: number[] = [];
  const log = (bodies: EventBody[]): void => {
    const { view } = recovered;
    bodies.forEach((body, index) => {
      seq += 1;
      const line = encodeLine(seq, TS, body, index < bodies.length - 1);
      const at = view.meta.replayFrom;
      disk.overwrite(FIRST, (bytes) => Buffer.concat([bytes, Buffer.from(line)]));
      const event = JSON.parse(line) as Parameters<View['replay']>[0];
      view.replay(event, at, Buffer.byteLength(line));
    });
  };
  const crash = async (garbage: Buffer): Promise<void> => {
    const expected = snapshot(recovered.view);
    await recovered.crash();
    const whole = disk.live(FIRST);
    disk.overwrite(FIRST, (bytes) => Buffer.concat([bytes, garbage]));
    recovered = await open(disk, directory);
    assert.deepEqual(snapshot(recovered.view), expected);
    assert.deepEqual(disk.durable(FIRST), whole);
  };
  try {
    for (const step of steps) {
      if (step.do === 'write') {
        keys.add(step.key);
        log([written(step.key, step.value)]);
      } else if (step.do === 'delete' && keys.size > 0) {
        const key = [...keys][step.pick % keys.size] as string;
        keys.delete(key);
        log([deleted(key)]);
      } else if (step.do === 'send') {
        log([sent(step.content)]);
        queue.push(seq);
      } else if (step.do === 'push' && step.pick % 2 === 0) {
        log([`${sent('to push')},"push":true,"once":true`]);
        toPush.push(seq);
      } else if (step.do === 'push' && toPush.length > 0) {
        log([pushed(toPush.shift() as number)]);
      } else if (step.do === 'retry' && toPush.length > 0) {
        log([internalBody('push_retried', { to: A, attempts: step.pick % 4, next_attempt_at_ms: step.pick })]);
      } else if (step.do === 'give up' && toPush.length > 0) {
        const ref = toPush.shift() as number;
        // One in three opens the circuit for good.
        const circuit_open_until_ms = step.pick % 3 === 0 ? Date.parse(TS) + 1 : 0;
        log([internalBody('push_given_up', { to: A, ref, failed_in_row: step.pick % 9, circuit_open_until_ms })]);
        queue.push(ref);
        if (circuit_open_until_ms > 0) queue.push(...toPush.splice(0));
      } else if (step.do === 'lease' && queue.length > 0) {
        const refs = queue.slice(0, 1 + (step.pick % queue.length));
        const counts = refs.map((_, index) => index + 1);
        log([internalBody('messages_leased', { to: A, lease: 'token', until_ms: step.pick, refs, counts })]);
      } else if (step.do === 'give back' && queue.length > 0) {
        log([internalBody('leases_returned', { to: A, refs: queue.slice(step.pick % queue.length) })]);
      } else if (step.do === 'claim') {
        const key = `key ${step.pick % 5}`;
        log([internalBody('idempotency_claimed', { from: A, key, fingerprint: 'digest', message_id: `${step.pick}` })]);
      } else if (step.do === 'free') {
        log([internalBody('idempotency_released', { from: A, key: `key ${step.pick % 5}` })]);
      } else if (step.do === 'deliver' && queue.length > 0) {
        log(queue.splice(0, 1 + (step.pick % queue.length)).map(delivered));
      } else if (step.do === 'checkpoint') {
        await recovered.view.store.checkpoint(recovered.view.meta);
      } else if (step.do === 'crash') {
        await crash(Buffer.alloc(0));
      } else if (step.do === 'torn crash') {
        // An operation of two events, cut anywhere: none of it may show.
        const lines =
          encodeLine(seq + 1, TS, written('torn', 'x'), true) + encodeLine(seq + 2, TS, sent('torn'), false);
        await crash(Buffer.from(lines).subarray(0, random(lines.length)));
      }
    }
    await crash(Buffer.alloc(0));
  } finally {
    await recovered.crash();
  }
}

test('a view after recovery is the view before it, for any history, checkpoints and crashes anywhere', async (t) => {
  const seed = seedFor(t);
  await fc.assert(
    fc.asyncProperty(fc.array(someStep, { minLength: 5, maxLength: 40 }), fc.nat(), async (steps, inner) => {
      const directory = await makeTempDir();
      try {
        await live(steps, inner, directory);
      } finally {
        await removeTempDir(directory);
      }
    }),
    { seed, numRuns: 25, interruptAfterTimeLimit: 10_000 },
  );
});

test('records about messages whose own lines were damaged change nothing', async (t) => {
  const disk = diskWith(
    sent('x'),
    internalBody('messages_leased', { to: A, lease: 'token', until_ms: 5, refs: [1], counts: [1] }),
    internalBody('leases_returned', { to: A, refs: [1] }),
    internalBody('push_given_up', { to: A, ref: 1, failed_in_row: 2, circuit_open_until_ms: 0 }),
    delivered(1),
    written('a', '1'),
  );
  disk.flipBit(FIRST, 5, 0);
  const recovered = await recoverOnce(t, disk);
  assert.deepEqual(valuesOf(recovered), ['1', undefined, undefined]);
  const { queuedMessages, queuedBytes, pushMessages } = recovered.view.meta;
  assert.deepEqual([queuedMessages, queuedBytes, pushMessages], [0, 0, 0]);
});
