/** A real server on a small file system of its own, which fills up. Needs root, to mount a tmpfs. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { closeSync, mkdirSync, openSync, rmSync, statfsSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout } from 'node:timers/promises';
import { assertError } from '../api/rig.js';
import { FAST } from '../api/topologies.js';
import { type ApiAgent, HttpClient, registerAgent, registerOperator } from '../support/http.js';
import { TestServer } from '../support/server.js';
import { waitUntil } from '../support/wait.js';
import { type Fault, observed, statuses } from './fault-matrix.js';

const SIZE_MIB = 96;
const VALUE = 'v'.repeat(20_000);

interface SmallDisk {
  readonly server: TestServer;
  readonly writer: ApiAgent;
  readonly inbox: ApiAgent;
  /** Takes all room but `bytes`. */
  leaveRoom(bytes: number): void;
  /** Gives back what `leaveRoom` took. */
  makeRoom(): void;
}

function whyNot(): string | false {
  return process.getuid?.() === 0 ? false : 'mounting a file system needs root';
}

async function startOnSmallDisk(t: TestContext): Promise<SmallDisk> {
  const server = await TestServer.create({ config: { ...FAST, topology: { gateways: 1, shards: 2 } } });
  const { dataDir } = server;
  mkdirSync(dataDir);
  execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${SIZE_MIB}m`, 'tmpfs', dataDir]);
  const client = new HttpClient(() => server.kernelPort);
  t.after(async () => {
    client.close();
    await server.kill9().catch(() => {});
    execFileSync('umount', ['-l', dataDir]);
    await server.dispose();
  });
  await server.start();
  const operatorKey = await registerOperator(server, client);
  const writer = await registerAgent(server, client, operatorKey);
  const inbox = await registerAgent(server, client, operatorKey);
  const filler = join(dataDir, 'filler');
  return {
    server,
    writer,
    inbox,
    leaveRoom: (bytes) => {
      const chunk = Buffer.alloc(64 * 1024, 'f');
      const file = openSync(filler, 'a');
      try {
        for (;;) {
          const { bavail, bsize } = statfsSync(dataDir);
          const length = Math.min(chunk.length, bavail * bsize - bytes);
          if (length <= 0) return;
          writeSync(file, chunk, 0, length);
        }
      } finally {
        closeSync(file);
      }
    },
    makeRoom: () => rmSync(filler),
  };
}

/** Writes until the server says that it is full; everything acknowledged is in `acknowledged`. */
async function writeUntilFull({ writer }: SmallDisk, acknowledged: Map<string, string>): Promise<number[]> {
  const seen: number[] = [];
  for (let n = 0; n < 10_000; n++) {
    const [key, value] = [`key ${n % 50}`, `${n} ${VALUE}`];
    const answer = await writer.write(key, value);
    if (answer.status === 503) {
      // The disk was full in the middle of a checkpoint: the shard is opened again, and this write is done or not.
      assertError(answer, 'unavailable');
      acknowledged.delete(key);
      await setTimeout(100);
      continue;
    }
    seen.push(answer.status);
    if (answer.status !== 200) {
      assertError(answer, 'store_full');
      return seen;
    }
    acknowledged.set(key, value);
  }
  throw new Error('the disk never was full');
}

async function assertHolds({ writer }: SmallDisk, acknowledged: ReadonlyMap<string, string>): Promise<number[]> {
  const seen: number[] = [];
  for (const [key, value] of acknowledged) {
    const answer = await writer.read(key);
    seen.push(answer.status);
    assert.equal(answer.json().value, value, key);
  }
  return seen;
}

async function assertComesBack(
  fault: Fault,
  disk: SmallDisk,
  acknowledged: Map<string, string>,
  writes: readonly number[],
): Promise<void> {
  const { server, writer, inbox } = disk;
  // Longer than checkpoints and reopenings take: the shard must neither break nor be opened again.
  const untilMs = performance.now() + 4_000;
  const reads: number[] = [];
  let shortOfSpace = 0;
  const refused: number[] = [...writes];
  while (performance.now() < untilMs) {
    // A checkpoint needs its room no more once it is made: now and then a write may fit after all, until none does.
    for (const key of ['key 0', 'key 1', 'key 2', 'key 3']) {
      const answer = await writer.write(key, VALUE);
      if (answer.status !== 200) refused.push(answer.status);
      else acknowledged.set(key, VALUE);
    }
    shortOfSpace = Math.max(shortOfSpace, await server.metric('tabulum_shards_out_of_space'));
    reads.push(...(await assertHolds(disk, acknowledged)));
    reads.push((await writer.get('/v1/state?limit=100')).status, (await inbox.get('/v1/registry')).status);
  }
  assert.ok(shortOfSpace > 0, 'the metrics say so');
  disk.makeRoom();
  const isBack = async (): Promise<boolean> => {
    for (const key of ['key 0', 'key 1', 'key 2', 'key 3']) {
      if ((await writer.write(key, 'after')).status !== 200) return false;
      acknowledged.set(key, 'after');
    }
    return true;
  };
  await waitUntil(isBack, { timeoutMs: 10_000, what: 'writes are taken again' });
  assert.equal((await writer.message(inbox.address, 'after')).status, 202);
  const reopened = await server.metric('tabulum_shard_reopenings_total');
  observed(fault, {
    writes: statuses(refused.filter((status) => status !== 200)),
    reads: statuses(reads),
    after: `writes are taken again when there is room; ${reopened === 0 ? 'nothing' : reopened} was reopened`,
  });
  await server.kill9();
  await server.start();
  await assertHolds(disk, acknowledged);
  assert.ok((await server.events()).length > 0, 'every line is whole');
}

test('a disk that fills up answers 507, goes on reading, and takes writes again when there is room', {
  skip: whyNot(),
}, async (t) => {
  const disk = await startOnSmallDisk(t);
  const acknowledged = new Map<string, string>();
  disk.leaveRoom(40 * 1024 * 1024);
  const writes = await writeUntilFull(disk, acknowledged);
  await assertComesBack('the disk fills up', disk, acknowledged, writes);
});

test('a disk that is full from one moment to the next loses nothing and is no reason to end', {
  skip: whyNot(),
}, async (t) => {
  const disk = await startOnSmallDisk(t);
  const acknowledged = new Map<string, string>();
  for (let n = 0; n < 30; n++) {
    const [key, value] = [`key ${n}`, `${n} ${VALUE}`];
    assert.equal((await disk.writer.write(key, value)).status, 200);
    acknowledged.set(key, value);
  }
  disk.leaveRoom(0);
  const writes = await writeUntilFull(disk, acknowledged);
  await assertComesBack('the disk is full from one moment to the next', disk, acknowledged, writes);
});

test('a server killed on a full disk starts on it, and reads', { skip: whyNot() }, async (t) => {
  const disk = await startOnSmallDisk(t);
  const acknowledged = new Map<string, string>();
  for (let n = 0; n < 30; n++) {
    const [key, value] = [`key ${n}`, `${n} ${VALUE}`];
    assert.equal((await disk.writer.write(key, value)).status, 200);
    acknowledged.set(key, value);
  }
  disk.leaveRoom(0);
  const writes = await writeUntilFull(disk, acknowledged);
  await disk.server.kill9();
  disk.leaveRoom(0);
  await disk.server.start();
  await assertHolds(disk, acknowledged);
  await assertComesBack('start on a full disk', disk, acknowledged, writes);
});
