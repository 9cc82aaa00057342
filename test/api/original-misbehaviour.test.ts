/** One test for each way in which the original kernel was seen to misbehave. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { after, before, describe, test } from 'node:test';
import { type Challenge, type HttpAnswer, statePath } from '../support/http.js';
import type { ServerOptions, TestServer } from '../support/server.js';
import { waitUntil } from '../support/wait.js';
import { assertError, inParallel, limitFigures, Rig } from './rig.js';
import { solvePipeline } from './solve-pipeline.js';
import { FAST, ONE_SHARD, PLENTIFUL_LIMITS, TWO_GATEWAYS, topologySettings } from './topologies.js';

const SHAPE = topologySettings(TWO_GATEWAYS);
/** Where threads do not matter. */
const SMALL = topologySettings(ONE_SHARD);
const FAST_SERVER = { config: { ...FAST, ...SHAPE } };
/** Everything by default, but for limits. */
const BCRYPT_SERVER = { config: { ...SHAPE, rate_limits: PLENTIFUL_LIMITS } };
const MEBIBYTE = 1_048_576;

const bcrypts = (rig: Rig): Promise<number> => rig.server.metric('tabulum_bcrypts_total');

/** Memory that is the process's own, not mapped from files. */
async function anonymousBytes(server: TestServer): Promise<number> {
  const kilobytes = /^RssAnon:\s+(\d+) kB$/m.exec(await readFile(`/proc/${server.pid}/status`, 'utf8'))?.[1];
  assert.ok(kilobytes !== undefined, 'this system does not tell RssAnon');
  return Number(kilobytes) * 1024;
}

/** Events that the last start read back from the log. */
function replayedEvents(log: readonly string[]): number {
  const recovered = log.findLast((line) => line.includes('"msg":"shards recovered"'));
  assert.ok(recovered !== undefined, 'the log does not tell of the recovery');
  return (JSON.parse(recovered) as { replayedEvents: number }).replayedEvents;
}

/** One server for all tests of a `describe`. */
function sharedRig(options: ServerOptions, solve?: (challenge: Challenge) => string): () => Rig {
  let rig: Rig | undefined;
  before(async () => {
    rig = await Rig.launch(options, solve);
  });
  after(() => rig?.dispose());
  return () => {
    assert.ok(rig !== undefined, 'the server did not start');
    return rig;
  };
}

describe('tokens', () => {
  const bcryptRig = sharedRig(BCRYPT_SERVER, solvePipeline);

  test('a token with bytes appended is 401, although bcrypt would stop at 72 bytes', async () => {
    const rig = bcryptRig();
    const { token } = await rig.agent();
    for (const appended of ['0', 'f', ' x', '0'.repeat(64), token, '%00']) {
      assertError(await rig.client.get('/v1/agents/me', token + appended), 'unauthorized', appended);
      assertError(
        await rig.client.get('/v1/agents/verification-challenge', rig.operatorKey + appended),
        'unauthorized',
        appended,
      );
    }
    assert.equal((await rig.client.get('/v1/agents/me', token)).status, 200);
  });

  test('an unknown token runs no bcrypt, also when its client leaves without waiting', async () => {
    const rig = bcryptRig();
    const agents = await inParallel(4, 4, () => rig.agent());
    const before = await bcrypts(rig);
    const unknown = (): string => `at_live_${randomBytes(32).toString('hex')}`;
    for (const answer of await inParallel(200, 16, () => rig.client.get('/v1/agents/me', unknown()))) {
      assertError(answer, 'unauthorized');
    }
    for (const token of ['nonsense', 'xx_live_0', `zz_live_${'0'.repeat(64)}`]) {
      assertError(await rig.client.get('/v1/agents/me', token), 'unauthorized');
    }
    for (let left = 0; left < 20; left++) {
      const socket = connect(rig.server.kernelPort, '127.0.0.1');
      socket.write(`GET /v1/agents/me HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer ${unknown()}\r\n\r\n`);
      await new Promise<void>((flushed) => socket.end(flushed));
      socket.destroy();
    }
    const idle = async (): Promise<boolean> => (await rig.server.metric('tabulum_http_requests_in_hand')) === 0;
    await waitUntil(idle, { timeoutMs: 5_000 });
    assert.equal(await rig.server.metric('tabulum_bcrypt_waiting'), 0);
    assert.equal(await bcrypts(rig), before);
    assert.equal((await agents[0]?.get('/v1/agents/me'))?.status, 200);
  });

  test('a token costs one bcrypt for each gateway thread, not one for each request', async () => {
    const rig = bcryptRig();
    const agent = await rig.agent();
    const before = await bcrypts(rig);
    const answers = await inParallel(400, 16, () => agent.read('none'));
    for (const answer of answers) assertError(answer, 'not_found');
    const cost = (await bcrypts(rig)) - before;
    assert.ok(cost >= 1 && cost <= TWO_GATEWAYS.gateways, `400 requests ran ${cost} bcrypts`);
  });
});

test('10,000 queued messages of 10 KB cost less memory than their contents, and a restart reads none of them', async (t) => {
  const count = 10_000;
  const messaging = { max_queue_per_agent: count };
  const rig = await Rig.start(t, { config: { ...FAST, ...SHAPE, messaging } });
  const [sender, recipient] = [await rig.agent(), await rig.agent()];
  const padding = 'x'.repeat(10_000);
  const send = async (index: number): Promise<void> => {
    const answer = await sender.message(recipient.address, `${String(index).padStart(6, '0')} ${padding}`);
    assert.equal(answer.status, 202, answer.text);
  };
  // What a busy server needs anyway is no cost of queued messages: warm up, and empty the queue again.
  await inParallel(2_000, 64, send);
  while ((await recipient.receive(100)).remaining > 0);
  const before = await anonymousBytes(rig.server);
  await inParallel(count, 64, send);
  assert.equal(await rig.server.metric('tabulum_queued_messages'), count);
  const grownBytes = (await anonymousBytes(rig.server)) - before;
  t.diagnostic(`anonymous memory grew by ${Math.round(grownBytes / 1e6)} MB`);
  // What a server keeps at hand, whatever the number of messages, is half of this.
  assert.ok(grownBytes < count * padding.length, `anonymous memory grew by ${Math.round(grownBytes / 1e6)} MB`);

  for (const end of ['graceful', 'kill -9'] as const) {
    if (end === 'kill -9') await rig.server.kill9();
    await rig.server.restart();
    t.diagnostic(`start after ${end}: ${Math.round(rig.server.startMs)} ms`);
    const replayed = replayedEvents(rig.server.stderr());
    assert.ok(replayed < count / 4, `the start after ${end} read ${replayed} events again`);
  }
  const contents: string[] = [];
  for (let left = count; left > 0; ) {
    const { messages, remaining } = await recipient.receive(100);
    contents.push(...messages.map(({ content }) => content));
    assert.equal(remaining, count - contents.length);
    left = remaining;
  }
  assert.equal(new Set(contents).size, count, 'every message comes once');
  assert.ok(contents.every((content) => content.length === 10_007));
});

describe('requests', () => {
  const shared = sharedRig(FAST_SERVER);

  test('HEAD of the messages is 405 and consumes none', async () => {
    const agent = await shared().agent();
    await agent.message(agent.address, 'kept');
    for (let time = 0; time < 3; time++) {
      const answer = await shared().client.send('HEAD', '/v1/messages', { token: agent.token });
      assert.deepEqual([answer.status, answer.text], [405, '']);
      assert.deepEqual((answer.headers.allow ?? '').split(', ').sort(), ['GET', 'POST']);
    }
    assert.equal((await agent.receive()).messages[0]?.content, 'kept');
  });

  test('keys are decoded once; "/" and "a//b" are keys like any other; deleting an over-long key is 400', async () => {
    const agent = await shared().agent();
    await agent.write('A', 'the letter');
    for (const [path, key] of [
      ['%2541', '%41'],
      ['%252541', '%2541'],
      ['/', '/'],
      ['%2F', '/'],
      ['a//b', 'a//b'],
      ['a/./b', 'a/./b'],
      ['a/../b', 'a/../b'],
    ] as const) {
      assert.equal((await agent.put(`/v1/state/${path}`, { value: path })).json().key, key);
      const read = await agent.get(`/v1/state/${path}`);
      assert.deepEqual([read.status, read.json().key, read.json().value], [200, key, path]);
      const { keys } = (await agent.get(`/v1/state?prefix=${encodeURIComponent(key)}`)).json<{ keys: string[] }>();
      assert.ok(keys.includes(key));
      assert.equal((await agent.delete(`/v1/state/${path}`)).json().key, key);
    }
    assert.equal((await agent.read('A')).json().value, 'the letter');
    for (const length of [1025, 2000, 10_000]) {
      const path = statePath('k'.repeat(length));
      const answers: HttpAnswer[] = [
        await agent.delete(path),
        await agent.get(path),
        await agent.put(path, { value: '' }),
      ];
      for (const answer of answers) assertError(answer, 'bad_request', `${length} bytes`);
    }
  });

  test('malformed UTF-8 and lone surrogates are 400, never replaced', async () => {
    const agent = await shared().agent();
    await agent.write('kept', 'old');
    const broken = [Buffer.from([0xff]), Buffer.from([0xed, 0xa0, 0x80]), Buffer.from('\\ud800')];
    for (const bytes of broken) {
      const quoted = (before: string): Buffer => Buffer.concat([Buffer.from(before), bytes, Buffer.from('"}')]);
      assertError(await agent.put('/v1/state/kept', quoted('{"value":"')), 'bad_request');
      const message = quoted(`{"to":"${agent.address}","content":"`);
      assertError(await agent.post('/v1/messages', message), 'bad_request');
      const operator = quoted('{"accept_terms":true,"contact_hash":"');
      assertError(await shared().client.post('/v1/operators', operator), 'bad_request');
    }
    assertError(await agent.get('/v1/state/%ED%A0%80'), 'bad_request');
    assert.equal((await agent.read('kept')).json().value, 'old');
    assert.equal((await agent.receive()).messages.length, 0);
  });

  test('{} and null as a value are 400 and store nothing', async () => {
    const agent = await shared().agent();
    await agent.write('kept', 'old');
    for (const body of ['{}', 'null', '{"value":null}', '{"value":{}}', '[]', '']) {
      assertError(await agent.put('/v1/state/kept', body), 'bad_request', body);
      assertError(await agent.put('/v1/state/new', body), 'bad_request', body);
    }
    assert.equal((await agent.read('kept')).json().value, 'old');
    assertError(await agent.read('new'), 'not_found');
  });

  test('an unknown registry cursor is 400 instead of the first page again', async () => {
    const agent = await shared().agent();
    for (const cursor of ['unknown', agent.address, `tab_${'0'.repeat(20)}`, '1', 'bm9uc2Vuc2U']) {
      assertError(await agent.get(`/v1/registry?cursor=${cursor}`), 'bad_request', cursor);
    }
  });
});

// Servers start mostly on one core: two tests at a time use both.
describe('restarts and settings', { concurrency: 2 }, () => {
  test('values of any legal size and content survive any restart: 1 MiB, and 180 KB of <', async (t) => {
    const rig = await Rig.start(t, FAST_SERVER);
    const agent = await rig.agent();
    const values = new Map([
      ['mebibyte', 'x'.repeat(MEBIBYTE)],
      ['mebibyte of emoji', '😀'.repeat(MEBIBYTE / 4)],
      ['less-than', '<'.repeat(180_000)],
      ['less-than, a mebibyte', '<'.repeat(MEBIBYTE)],
      ['quotes', '"\\'.repeat(250_000)],
      ['controls', '\0\u0001\u001f'.repeat(100_000)],
      ['separators', '\u2028\u2029&<>'.repeat(50_000)],
      ['empty', ''],
    ]);
    for (const [key, value] of values) assert.equal((await agent.write(key, value)).status, 200, key);
    for (const end of ['graceful', 'kill -9'] as const) {
      if (end === 'kill -9') await rig.server.kill9();
      await rig.server.restart();
      for (const [key, value] of values) {
        assert.ok((await agent.read(key)).json().value === value, `${key} after ${end}`);
      }
    }
  });

  test('after log rotation and restarts delivered messages do not come back, and order is kept', async (t) => {
    const rig = await Rig.start(t, { config: { ...FAST, ...SHAPE, event_log: { max_file_size: 4096 } } });
    const [sender, recipient, other] = [await rig.agent(), await rig.agent(), await rig.agent()];
    const sent = Array.from({ length: 120 }, (_, index) => `${index} ${'x'.repeat(index % 7 === 0 ? 5_000 : 100)}`);
    const received: string[] = [];
    const take = async (limit: number): Promise<void> => {
      received.push(...(await recipient.receive(limit)).messages.map(({ content }) => content));
    };
    for (const [index, content] of sent.entries()) {
      assert.equal((await sender.message(recipient.address, content)).status, 202);
      assert.equal((await sender.message(other.address, content)).status, 202);
      if (index % 10 === 9) await take(6);
    }
    assert.ok((await rig.server.logFiles()).length > 10, 'the log was not rotated');
    for (let round = 0; received.length < sent.length; round++) {
      assert.ok(round < 20, `${sent.length - received.length} messages are lost`);
      if (round % 2) await rig.server.kill9();
      await rig.server.restart();
      await take(24);
    }
    assert.deepEqual(received, sent);
    await rig.server.restart();
    assert.deepEqual(await recipient.receive(), { messages: [], remaining: 0 });
    const untouched = await inParallel(2, 1, () => other.receive(100));
    assert.deepEqual(
      untouched.flatMap(({ messages }) => messages.map(({ content }) => content)),
      sent,
    );
  });

  const limits = { message_send_per_min: 2, message_read_per_min: 3, operator_reg_per_hour_per_ip: 3 };
  const limited = sharedRig({ config: { ...FAST, ...SMALL, rate_limits: { ...PLENTIFUL_LIMITS, ...limits } } });

  test('a forged X-Forwarded-For does not escape the limit of its address', async () => {
    const rig = limited();
    const statuses: number[] = [];
    for (let time = 0; time < 5; time++) {
      const headers = { 'X-Forwarded-For': `203.0.113.${time}`, Forwarded: `for=203.0.113.${time}` };
      const body = { contact_hash: 'forger', accept_terms: true };
      statuses.push((await rig.client.send('POST', '/v1/operators', { body, headers })).status);
    }
    assert.deepEqual(statuses, [201, 201, 429, 429, 429], "the rig's own operator was the first");
  });

  test('sending and fetching messages have a limit each', async () => {
    const agent = await limited().agent();
    const sends = [await agent.message(agent.address, '1'), await agent.message(agent.address, '2')];
    assert.deepEqual(
      sends.map((answer) => limitFigures(answer)).map(({ limit, remaining }) => [limit, remaining]),
      [
        [2, 1],
        [2, 0],
      ],
    );
    assertError(await agent.message(agent.address, '3'), 'rate_limited');
    const fetched = await agent.get('/v1/messages');
    assert.deepEqual([fetched.status, limitFigures(fetched).limit, limitFigures(fetched).remaining], [200, 3, 2]);
    assert.equal(fetched.json<{ messages: unknown[] }>().messages.length, 2);
  });

  test('a full queue drops its oldest message not in silence but logged and counted, or refuses the sender', async (t) => {
    for (const overflow of ['drop_oldest', 'reject'] as const) {
      const messaging = { max_queue_per_agent: 2, overflow };
      const rig = await Rig.start(t, { config: { ...FAST, ...SMALL, messaging } });
      const agent = await rig.agent();
      const first = await agent.message(agent.address, '1');
      await agent.message(agent.address, '2');
      const third = await agent.message(agent.address, '3');
      const dropped = (await rig.server.events()).filter(({ type }) => type === 'message_dropped');
      const counted = await rig.server.metric('tabulum_messages_dropped_total');
      const contents = (await agent.receive()).messages.map(({ content }) => content);
      if (overflow === 'reject') {
        assertError(third, 'store_full');
        assert.deepEqual([dropped.length, counted, contents], [0, 0, ['1', '2']]);
      } else {
        const { message_id } = first.json();
        assert.equal(third.status, 202);
        assert.deepEqual(
          dropped.map(({ data }) => data),
          [{ message_id, to: agent.address, reason: 'queue_full' }],
        );
        assert.deepEqual([counted, contents], [1, ['2', '3']]);
      }
    }
  });
});
