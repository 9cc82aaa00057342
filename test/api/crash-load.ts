/**
 * Concurrent writers, senders and one fetcher that note what the server acknowledged, so that it can be held to it after
 * a crash. Every writer owns its keys and counts up in each; every sender numbers its messages.
 */
import assert from 'node:assert/strict';
import type { ApiAgent, HttpAnswer } from '../support/http.js';
import type { TestServer } from '../support/server.js';
import { waitUntil } from '../support/wait.js';

const WRITERS = 4;
const KEYS_PER_WRITER = 5;
const SENDERS = 4;
const FETCH_LIMIT = 10;

export class CrashLoad {
  /** Version of each key that was acknowledged last, and the last one tried. */
  private readonly versions = new Map<string, { acknowledged: number; tried: number }>();
  /** Contents acknowledged, per inbox, in the order in which each sender sent them. */
  private readonly sent = { kept: [] as string[], fetched: [] as string[] };
  private readonly received: string[] = [];
  private nextMessage = 0;
  private crashes = 0;
  private crashing = false;
  private acknowledgements = 0;

  constructor(
    private readonly server: TestServer,
    private readonly agents: {
      readonly workers: readonly ApiAgent[];
      /** Its queue is left alone until the end. */
      readonly keeper: ApiAgent;
      /** Its queue is fetched from all the while. */
      readonly fetcher: ApiAgent;
    },
  ) {
    assert.ok(agents.workers.length >= Math.max(WRITERS, SENDERS));
  }

  /** Loads the server until `count` more requests are acknowledged, then ends it by `end` with requests under way. */
  async runUntil(count: number, end: () => Promise<void>): Promise<void> {
    this.crashing = false;
    const target = this.acknowledgements + count;
    const lanes = Promise.all([
      ...Array.from({ length: WRITERS }, (_, lane) => this.lane((turn) => this.write(lane, turn))),
      ...Array.from({ length: SENDERS }, (_, lane) => this.lane(() => this.send(lane))),
      this.lane(() => this.fetch()),
    ]);
    let failed: unknown;
    lanes.catch((error: unknown) => {
      failed = error;
    });
    await waitUntil(() => failed !== undefined || this.acknowledgements >= target, { timeoutMs: 30_000 });
    this.crashing = true;
    this.crashes++;
    await end();
    await lanes;
  }

  /**
   * Every acknowledged write is there, and at most the write under way beside it.
   * @param otherBytes what keys of others take
   */
  async assertState(otherBytes = 0): Promise<void> {
    const [reader] = this.agents.workers;
    assert.ok(reader !== undefined);
    let usedBytes = otherBytes;
    for (const [key, { acknowledged, tried }] of this.versions) {
      const answer = await reader.read(key);
      if (acknowledged === 0 && answer.status === 404) continue;
      assert.equal(answer.status, 200, `${key} was acknowledged and is gone`);
      const value = String(answer.json().value);
      const version = Number.parseInt(value, 10);
      assert.equal(value, valueOfVersion(version), `${key} is half done`);
      assert.ok(version >= acknowledged && version <= tried, `${key}: ${version}, acknowledged ${acknowledged}`);
      usedBytes += Buffer.byteLength(key) + Buffer.byteLength(value);
    }
    assert.equal((await reader.get('/v1/state/_capacity')).json().used_bytes, usedBytes);
  }

  /** Empties both queues: what was acknowledged came once and in order; what is missing was delivered in a lost answer. */
  async assertMessages(): Promise<void> {
    const kept: string[] = [];
    for (let remaining = 1; remaining > 0; ) {
      const batch = await this.agents.keeper.receive(100);
      kept.push(...batch.messages.map(({ content }) => content));
      remaining = batch.remaining;
    }
    assertOnceAndInOrder(kept);
    assert.deepEqual(missing(this.sent.kept, kept), [], 'acknowledged messages are gone');

    for (let remaining = 1; remaining > 0; ) {
      const batch = await this.agents.fetcher.receive(100);
      this.received.push(...batch.messages.map(({ content }) => content));
      remaining = batch.remaining;
    }
    assertOnceAndInOrder(this.received);
    const lost = missing(this.sent.fetched, this.received);
    assert.ok(
      lost.length <= FETCH_LIMIT * this.crashes,
      `${lost.length} messages missing after ${this.crashes} crashes`,
    );
    const events = await this.server.events();
    const idOf = new Map(
      events.flatMap(({ type, data }) => (type === 'message_sent' ? [[data.content, data.message_id] as const] : [])),
    );
    const delivered = new Set(
      events.flatMap(({ type, data }) => (type === 'message_delivered' ? [data.message_id] : [])),
    );
    for (const content of lost) assert.ok(delivered.has(idOf.get(content)), `"${content}" vanished`);
  }

  get acknowledged(): number {
    return this.acknowledgements;
  }

  /** Repeats `step` until the crash; only then may a request fail. */
  private async lane(step: (turn: number) => Promise<HttpAnswer>): Promise<void> {
    for (let turn = 0; ; turn++) {
      let answer: HttpAnswer;
      try {
        answer = await step(turn);
      } catch (error) {
        if (this.crashing) return;
        throw error;
      }
      if (answer.status === 503 && this.crashing) return;
      assert.ok(answer.status === 200 || answer.status === 202, `${answer.status} ${answer.text}`);
      this.acknowledgements++;
    }
  }

  private async write(lane: number, turn: number): Promise<HttpAnswer> {
    const key = `load/${lane}/${turn % KEYS_PER_WRITER}`;
    const versions = this.versions.get(key) ?? { acknowledged: 0, tried: 0 };
    this.versions.set(key, versions);
    const version = versions.tried + 1;
    versions.tried = version;
    const answer = await this.worker(lane).write(key, valueOfVersion(version));
    if (answer.status === 200) versions.acknowledged = version;
    return answer;
  }

  private async send(lane: number): Promise<HttpAnswer> {
    const inbox = this.nextMessage % 2 ? 'kept' : 'fetched';
    const content = `${lane} ${this.nextMessage++}`;
    const to = inbox === 'kept' ? this.agents.keeper : this.agents.fetcher;
    const answer = await this.worker(lane).message(to.address, content);
    if (answer.status === 202) this.sent[inbox].push(content);
    return answer;
  }

  private async fetch(): Promise<HttpAnswer> {
    const answer = await this.agents.fetcher.get(`/v1/messages?limit=${FETCH_LIMIT}`);
    if (answer.status === 200) {
      const { messages } = answer.json<{ messages: { content: string }[] }>();
      this.received.push(...messages.map(({ content }) => content));
    }
    return answer;
  }

  private worker(lane: number): ApiAgent {
    const worker = this.agents.workers[lane];
    assert.ok(worker !== undefined);
    return worker;
  }
}

/** Of a different length for each version, so that a mix of two would show. */
function valueOfVersion(version: number): string {
  return `${version}:${'v'.repeat((version * 37) % 500)}`;
}

function missing(expected: readonly string[], found: readonly string[]): string[] {
  const there = new Set(found);
  return expected.filter((content) => !there.has(content));
}

function assertOnceAndInOrder(contents: readonly string[]): void {
  assert.equal(new Set(contents).size, contents.length, 'a message came twice');
  const last = new Map<string, number>();
  for (const content of contents) {
    const [sender = '', number = ''] = content.split(' ');
    assert.ok(Number(number) > (last.get(sender) ?? -1), `"${content}" came out of order`);
    last.set(sender, Number(number));
  }
}
