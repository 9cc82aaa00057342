/** A gateway's line to one shard: what may be under way on it, and what becomes of that when the shard goes away. */
import assert from 'node:assert/strict';
import { EventEmitter } from 'node:events';
import { test } from 'node:test';
import type { MessagePort } from 'node:worker_threads';
import type { EngineReply } from '../../src/contract/engine.js';
import { MAX_IN_FLIGHT_PER_SHARD, ShardClient } from '../../src/shards/shard-client.js';
import { OPS, STRIDE, type WireBatch } from '../../src/shards/wire.js';
import { waitUntil } from '../support/wait.js';

const UNAVAILABLE = { ok: false, code: 'unavailable' };
const soon = { timeoutMs: 5_000 };

/** A shard that answers when told to. */
class Port extends EventEmitter {
  /** Ids of requests that came in. */
  readonly asked: number[] = [];
  told = 0;

  postMessage(batch: WireBatch): void {
    for (let i = 0; i < batch.length; i += STRIDE) {
      const id = batch[i + 1] as number;
      if (id < 0) this.told += 1;
      else this.asked.push(id);
    }
  }

  answer(id: number): void {
    this.emit('message', [id, null, id, null, null]);
  }

  close(): void {}
}

function connected(): { client: ShardClient; port: Port } {
  const client = new ShardClient();
  const port = new Port();
  client.connect(port as unknown as MessagePort);
  return { client, port };
}

function call(client: ShardClient): Promise<EngineReply<unknown>> {
  return client.call(OPS.findAgent, null, 'tab_a', null, (x) => x);
}

test('past so many requests in flight the next is unavailable at once, and an answer makes room', async () => {
  const { client, port } = connected();
  const accepted = Array.from({ length: MAX_IN_FLIGHT_PER_SHARD }, () => call(client));
  assert.deepEqual(await call(client), UNAVAILABLE);
  await waitUntil(() => port.asked.length === MAX_IN_FLIGHT_PER_SHARD, soon);
  port.answer(port.asked[0] as number);
  assert.ok((await (accepted[0] as Promise<EngineReply<unknown>>)).ok);
  const next = call(client);
  await waitUntil(() => port.asked.length === MAX_IN_FLIGHT_PER_SHARD + 1, soon);
  assert.deepEqual(await call(client), UNAVAILABLE);
  client.disconnect();
  for (const reply of await Promise.all([...accepted.slice(1), next])) assert.deepEqual(reply, UNAVAILABLE);
  assert.equal(client.inFlight, 0);
});

test('what needs no answer is no longer told to a shard that answers nothing, until it does', async () => {
  const { client, port } = connected();
  let told = 0;
  while (told < 100_000 && client.tell(OPS.logRead, 'tab_a', 'k')) told += 1;
  assert.ok(told >= 1_000 && told < 100_000, `${told} were told`);
  const answer = call(client);
  await waitUntil(() => port.asked.length === 1, soon);
  assert.equal(port.told, told);
  port.answer(port.asked[0] as number);
  assert.ok((await answer).ok);
  assert.equal(client.tell(OPS.logRead, 'tab_a', 'k'), true);
});
