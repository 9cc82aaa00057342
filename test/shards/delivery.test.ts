/** Leases, waits, pushes and idempotency keys in one shard: what clients that die and disks that fail do to them. */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import type { MessagePort } from 'node:worker_threads';
import type { ApiErrorCode } from '../../src/contract/errors.js';
import { MAX_WAITS_PER_SHARD } from '../../src/shards/receiving.js';
import { OPS, type Op, Outbox, STRIDE, type WireBatch } from '../../src/shards/wire.js';
import { waitUntil } from '../support/wait.js';
import { newAgent, type Reply, type RigOptions, ShardRig } from './shard-rig.js';

const A = `tab_${'a'.repeat(20)}`;
const B = `tab_${'b'.repeat(20)}`;
const LONG_MS = 60_000;

interface Rigged {
  /** The rig of now: another one after a kill. */
  now: ShardRig;
}

async function rigWith(t: TestContext, agents: readonly string[], options: RigOptions = {}): Promise<Rigged> {
  const rigged = { now: await ShardRig.open(options) };
  t.after(() => rigged.now.end());
  for (const agent of agents) await rigged.now.registerAgent(agent);
  return rigged;
}

/** Another gateway's line to the shard. */
class Client {
  readonly outbox: Outbox;
  readonly #waiting = new Map<number, (reply: Reply) => void>();
  readonly #rig: ShardRig;
  #lastId = 0;

  constructor(rig: ShardRig) {
    this.#rig = rig;
    const port = { postMessage: (batch: WireBatch) => this.#receive(batch) };
    this.outbox = new Outbox(port as unknown as MessagePort);
    rig.shard.attach(this.outbox);
  }

  call(op: Op, a: unknown, b: unknown = null, c: unknown = null): Promise<Reply> {
    this.#lastId += 1;
    const id = this.#lastId;
    const answer = new Promise<Reply>((resolve) => this.#waiting.set(id, resolve));
    this.#rig.shard.handle([op, id, a, b, c], this.outbox);
    return answer;
  }

  get unanswered(): number {
    return this.#waiting.size;
  }

  die(): void {
    this.#rig.shard.detach(this.outbox);
  }

  #receive(batch: WireBatch): void {
    for (let i = 0; i < batch.length; i += STRIDE) {
      const [id, code, x, y, z] = batch.slice(i, i + STRIDE);
      this.#waiting.get(id as number)?.({ code: code as ApiErrorCode | null, x, y, z });
      this.#waiting.delete(id as number);
    }
  }
}

/** Contents in an answer with messages of `stride` fields. */
function contentsIn({ code, x }: Reply, stride: number): unknown[] {
  assert.equal(code, null);
  return (x as unknown[]).filter((_, index) => index % stride === 3);
}

const received = (reply: Reply): unknown[] => contentsIn(reply, 5);
const leased = (reply: Reply): unknown[] => contentsIn(reply, 7);
const leaseIds = ({ x }: Reply): string[] => (x as unknown[]).filter((_, index) => index % 7 === 5) as string[];

async function send(rig: ShardRig, ...contents: readonly string[]): Promise<void> {
  for (const content of contents) assert.equal(await rig.code(OPS.sendMessage, B, A, content), null);
}

test('what a connection had on loan is back at its place when its client dies, and only that', async (t) => {
  const rig = (await rigWith(t, [A, B])).now;
  await send(rig, '0', '1', '2', '3');
  const dying = new Client(rig);
  assert.deepEqual(leased(await dying.call(OPS.leaseMessages, A, [2, LONG_MS, 'connection'])), ['0', '1']);
  assert.deepEqual(leased(await dying.call(OPS.leaseMessages, A, [1, LONG_MS, 'agent'])), ['2']);
  const waiting = rig.call(OPS.receiveMessages, A, 10, [LONG_MS, 1]);
  assert.deepEqual(received(await waiting), ['3']);
  const parked = rig.call(OPS.receiveMessages, A, 10, [LONG_MS, 2]);
  dying.die();
  assert.deepEqual(received(await parked), ['0', '1'], 'and they wake who waits');
});

test('a lease of a connection costs no line in the log, a durable one a single line without contents', async (t) => {
  const rig = (await rigWith(t, [A, B])).now;
  await send(rig, 'secret 0', 'secret 1');
  const before = (await rig.events()).length;
  const connection = leaseIds(await rig.call(OPS.leaseMessages, A, [2, LONG_MS, 'connection']));
  assert.equal(await rig.code(OPS.returnLeases, A, connection), null);
  assert.equal((await rig.events()).length, before);
  await rig.call(OPS.leaseMessages, A, [2, LONG_MS, 'agent']);
  const lines = (await rig.events()).slice(before);
  assert.deepEqual(
    lines.map(({ type }) => type),
    ['messages_leased'],
  );
  assert.ok(!JSON.stringify(lines).includes('secret'));
});

test('a wait of a client that died takes no message', async (t) => {
  const rig = (await rigWith(t, [A, B])).now;
  const dying = new Client(rig);
  void dying.call(OPS.receiveMessages, A, 10, [LONG_MS, 1]);
  const next = rig.call(OPS.receiveMessages, A, 10, [LONG_MS, 1]);
  dying.die();
  await send(rig, 'x');
  assert.deepEqual(received(await next), ['x']);
});

test('only so many may wait at one shard, and all of them are answered when it stops', async (t) => {
  const rig = (await rigWith(t, [A, B])).now;
  const client = new Client(rig);
  const waits = Array.from({ length: MAX_WAITS_PER_SHARD }, (_, i) =>
    client.call(OPS.receiveMessages, i % 2 === 0 ? A : B, 1, [LONG_MS, i + 1]),
  );
  assert.equal((await client.call(OPS.receiveMessages, A, 1, [LONG_MS, 0.5])).code, 'unavailable');
  assert.deepEqual(received(await client.call(OPS.receiveMessages, A, 1, null)), [], 'who does not wait is served');
  assert.equal(client.unanswered, MAX_WAITS_PER_SHARD);
  await rig.shard.close();
  for (const reply of await Promise.all(waits)) assert.deepEqual(received(reply), []);
});

test('when the disk fails all who wait hear it at once', async (t) => {
  const rig = (await rigWith(t, [A, B])).now;
  const waits = [1, 2, 3].map((waitId) => rig.call(OPS.receiveMessages, A, 1, [LONG_MS, waitId]));
  rig.disk.failNext('sync', 'EIO');
  assert.equal(await rig.code(OPS.sendMessage, B, A, 'x'), 'unavailable');
  for (const { code } of await Promise.all(waits)) assert.equal(code, 'unavailable');
});

test('on a full disk leases, returns and acknowledgements change nothing, and work again later', async (t) => {
  const rig = (await rigWith(t, [A, B])).now;
  await send(rig, '0', '1', '2');
  const [held] = leaseIds(await rig.call(OPS.leaseMessages, A, [1, LONG_MS, 'agent']));
  rig.disk.roomBytes = 0;
  assert.equal(await rig.code(OPS.leaseMessages, A, [10, LONG_MS, 'agent']), 'store_full');
  assert.equal(await rig.code(OPS.ackMessages, A, [held]), 'store_full');
  assert.equal(await rig.code(OPS.returnLeases, A, [held]), 'store_full');
  rig.disk.roomBytes = Number.POSITIVE_INFINITY;
  await waitUntil(async () => (await rig.code(OPS.writeState, A, 'room', 'v')) === null, { timeoutMs: 10_000 });
  assert.deepEqual((await rig.call(OPS.ackMessages, A, [held, held])).x, 1);
  assert.deepEqual(leased(await rig.call(OPS.leaseMessages, A, [10, LONG_MS, 'agent'])), ['1', '2']);
});

test('a lease that was not answered before the power went is not there afterwards, an answered one is', async (t) => {
  const rigged = await rigWith(t, [A, B]);
  await send(rigged.now, '0', '1', '2');
  const answered = leaseIds(await rigged.now.call(OPS.leaseMessages, A, [1, LONG_MS, 'agent']));
  rigged.now.disk.holdSyncs();
  void rigged.now.call(OPS.leaseMessages, A, [1, LONG_MS, 'agent']);
  await rigged.now.heldSync();
  rigged.now.disk.powerLoss(() => 0);
  rigged.now.disk.stopHolding();
  rigged.now = await rigged.now.powerLoss();
  assert.deepEqual(leased(await rigged.now.call(OPS.leaseMessages, A, [10, LONG_MS, 'connection'])), ['1', '2']);
  assert.deepEqual((await rigged.now.call(OPS.ackMessages, A, answered)).x, 1);
});

test('acknowledgements after a start read the ids from the log while receives and repeats come', async (t) => {
  const rigged = await rigWith(t, [A, B]);
  await send(rigged.now, '0', '1', '2');
  const ids = leaseIds(await rigged.now.call(OPS.leaseMessages, A, [3, LONG_MS, 'agent']));
  rigged.now = await rigged.now.kill();
  const replies = await Promise.all(
    rigged.now.batch([
      [OPS.ackMessages, A, ids.slice(0, 2)],
      [OPS.receiveMessages, A, 10],
      [OPS.ackMessages, A, ids],
      [OPS.returnLeases, A, ids],
      [OPS.leaseMessages, A, [10, LONG_MS, 'agent']],
    ]),
  );
  const [first, nothing, second] = replies as [Reply, Reply, Reply];
  assert.deepEqual([first.x, first.y], [2, []]);
  assert.deepEqual(received(nothing), []);
  assert.deepEqual([second.x, second.y], [1, ids.slice(0, 2)]);
  assert.deepEqual(received(await rigged.now.call(OPS.receiveMessages, A, 10)), []);
  const delivered = (await rigged.now.events()).filter(({ type }) => type === 'message_delivered');
  assert.equal(delivered.length, 3);
});

test('sends to a full queue and everything else at once on it come to an end', async (t) => {
  const rigged = await rigWith(t, [A, B], { settings: { maxQueuePerAgent: 2 } });
  await send(rigged.now, '0', '1');
  const ids = leaseIds(await rigged.now.call(OPS.leaseMessages, A, [2, LONG_MS, 'agent']));
  rigged.now = await rigged.now.kill({ maxQueuePerAgent: 2 });
  const codes = await Promise.all(
    rigged.now.batch([
      [OPS.sendMessage, B, A, 'refused: all is on loan'],
      [OPS.ackMessages, A, ids.slice(0, 1)],
      [OPS.sendMessage, B, A, '2'],
      [OPS.sendMessage, B, A, '3'],
      [OPS.sendOnce, B, A, ['4', 'id-4']],
      [OPS.sendOnce, B, A, ['4', 'id-4']],
      [OPS.receiveMessages, A, 1, [LONG_MS, 1]],
    ]),
  );
  assert.deepEqual(
    codes.map(({ code }) => code),
    ['store_full', null, null, null, null, null, null],
  );
  const sent = (await rigged.now.events()).filter(({ type }) => type === 'message_sent');
  assert.equal(sent.length, 5, 'the message that is sent once is there once');
});

test('a dispatcher that takes over gets all agents with messages to push, whatever the one before had', async (t) => {
  const rig = (await rigWith(t, [B])).now;
  const webhook = { url: 'https://example.org', secret: 'whsec_x' };
  await rig.call(OPS.registerAgent, { ...(newAgent(A) as object), webhook }, A);
  const before = new Client(rig);
  await send(rig, 'x');
  assert.equal(((await before.call(OPS.awaitPush, null)).x as unknown[]).length, 1);
  const asking = before.call(OPS.awaitPush, null);
  before.die();
  const after = new Client(rig);
  const [agent] = (await after.call(OPS.awaitPush, null)).x as { address: string }[];
  assert.equal(agent?.address, A);
  void asking.then(() => assert.fail('nobody listens there'));
  const peeked = (await after.call(OPS.peekPush, A)).x as unknown[];
  assert.equal(peeked[3], 'x');
  assert.deepEqual((await after.call(OPS.settlePush, A, [peeked[0], { kind: 'delivered' }])).x, null);
});

test('a damaged message does not block those behind it from being pushed', async (t) => {
  const rigged = await rigWith(t, [B]);
  const webhook = { url: 'https://example.org', secret: 'whsec_x' };
  await rigged.now.call(OPS.registerAgent, { ...(newAgent(A) as object), webhook }, A);
  await send(rigged.now, 'first', 'second');
  const path = rigged.now.logPath;
  rigged.now = await rigged.now.restart();
  rigged.now.disk.overwrite(path, (bytes) => Buffer.from(bytes.toString('latin1').replace('first', 'FIRST'), 'latin1'));
  const peeked = (await rigged.now.call(OPS.peekPush, A)).x as unknown[];
  assert.equal(peeked[3], 'second');
  await rigged.now.call(OPS.settlePush, A, [peeked[0], { kind: 'delivered' }]);
  assert.equal(await rigged.now.code(OPS.peekPush, A), 'not_found');
});

test('a client that dies in the middle of a send with a key leaves the key to the next, for the same message', async (t) => {
  const rig = (await rigWith(t, [A, B])).now;
  const dying = new Client(rig);
  const { x: messageId } = await dying.call(OPS.claimSend, B, 'key', 'digest');
  const same = rig.call(OPS.claimSend, B, 'key', 'digest');
  const other = rig.call(OPS.claimSend, B, 'key', 'other digest');
  assert.equal(rig.unanswered, 2, 'one attempt at a time');
  dying.die();
  const { x, y: attemptId } = await same;
  assert.equal(x, messageId);
  assert.equal(rig.unanswered, 1);
  await rig.call(OPS.finishSend, B, 'key', attemptId);
  assert.equal((await other).code, 'idempotency_conflict');
});

test('a client that dies before its claim is durable does not keep the key from others', async (t) => {
  const rig = (await rigWith(t, [A, B])).now;
  const dying = new Client(rig);
  rig.disk.holdSyncs();
  void dying.call(OPS.claimSend, B, 'key', 'digest');
  await rig.heldSync();
  const next = rig.call(OPS.claimSend, B, 'key', 'digest');
  dying.die();
  rig.disk.stopHolding();
  assert.equal((await next).code, null);
  const claims = (await rig.events()).filter(({ type }) => type === 'idempotency_claimed');
  assert.equal(claims.length, 1, 'the claim stands');
});

test('a claim that the disk has no room for is refused, and the next one goes on', async (t) => {
  const rig = (await rigWith(t, [A, B])).now;
  rig.disk.roomBytes = 0;
  const [first, second] = await Promise.all(
    rig.batch([
      [OPS.claimSend, B, 'key', 'digest'],
      [OPS.claimSend, B, 'key', 'digest'],
    ]),
  );
  assert.deepEqual([first?.code, second?.code], ['store_full', 'store_full']);
  rig.disk.roomBytes = Number.POSITIVE_INFINITY;
  await waitUntil(async () => (await rig.code(OPS.claimSend, B, 'key', 'digest')) === null, { timeoutMs: 10_000 });
});

test('only the attempt whose turn it is can free a key', async (t) => {
  const rig = (await rigWith(t, [A, B])).now;
  const first = await rig.call(OPS.claimSend, B, 'key', 'digest');
  await rig.call(OPS.finishSend, B, 'key', first.y);
  const second = await rig.call(OPS.claimSend, B, 'key', 'digest');
  assert.equal(second.x, first.x);
  for (const attemptId of [first.y, 'no attempt']) {
    assert.equal(await rig.code(OPS.releaseSend, B, 'key', attemptId), null);
    await rig.call(OPS.finishSend, B, 'key', attemptId);
  }
  const third = rig.call(OPS.claimSend, B, 'key', 'digest');
  assert.equal(rig.unanswered, 1);
  assert.equal(await rig.code(OPS.releaseSend, B, 'key', second.y), null);
  assert.notEqual((await third).x, first.x, 'the key stands for another message now');
});
