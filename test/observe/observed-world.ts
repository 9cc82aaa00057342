/**
 * A server under seeded traffic, its observer, and what the observer should show: computed from the log by brute force.
 * Never:     uses the server's own code to read the log.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import WebSocket from 'ws';
import { Rig } from '../api/rig.js';
import { type ApiAgent, type HttpAnswer, HttpClient } from '../support/http.js';
import { seededRandom } from '../support/seed.js';
import type { LoggedEvent, TestServer } from '../support/server.js';
import type { Cleanup } from '../support/temp-dir.js';
import { waitUntil } from '../support/wait.js';

export interface ShownEvent {
  readonly seq: number;
  readonly ts: string;
  readonly type: string;
  readonly agent?: string;
  readonly data: Readonly<Record<string, unknown>>;
}

export interface EventPage {
  readonly events: ShownEvent[];
  readonly next_cursor: number;
  readonly has_more: boolean;
}

export const PUBLIC_TYPES = [
  'operator_created',
  'agent_registered',
  'message_sent',
  'message_delivered',
  'message_dropped',
  'state_written',
  'state_deleted',
  'state_read',
  'registry_read',
];

const UNLIMITED = 1_000_000;

/** Settings under which traffic is not held up. */
export function worldConfig(shards: number, more: object = {}): object {
  return {
    topology: { shards, gateways: 1 },
    verification: { gate_type: 'stub' },
    auth: { bcrypt_cost: 4 },
    // Small, so that every longer test crosses segments.
    event_log: { max_file_size: 65_536 },
    rate_limits: {
      message_send_per_min: UNLIMITED,
      message_read_per_min: UNLIMITED,
      state_read_per_min: UNLIMITED,
      state_write_per_min: UNLIMITED,
      registry_read_per_min: UNLIMITED,
      operator_reg_per_hour_per_ip: UNLIMITED,
    },
    observe: { rate_limit: { requests_per_min_per_ip: UNLIMITED }, ...more },
  };
}

export class ObservedWorld {
  readonly agents: ApiAgent[] = [];
  readonly observer: HttpClient;

  private constructor(
    readonly rig: Rig,
    port: () => number,
  ) {
    this.observer = new HttpClient(port);
  }

  static async start(
    t: Cleanup,
    config: object,
    agents: number,
    env: Readonly<Record<string, string>> = {},
  ): Promise<ObservedWorld> {
    const rig = await Rig.start(t, { config, env });
    const world = new ObservedWorld(rig, () => rig.server.observePort);
    t.after(async () => {
      world.observer.close();
      rig.client.close();
    });
    for (let n = 0; n < agents; n++) world.agents.push(await rig.agent());
    return world;
  }

  get server(): TestServer {
    return this.rig.server;
  }

  agent(index: number): ApiAgent {
    const agent = this.agents[index % this.agents.length];
    assert.ok(agent !== undefined);
    return agent;
  }

  /** `count` operations of all kinds, `width` at a time; stops early when the server goes away. */
  async traffic(seed: number, count: number, width = 16): Promise<void> {
    const random = seededRandom(seed);
    let left = count;
    const lane = async (): Promise<void> => {
      while (left-- > 0) await this.operation(random);
    };
    await Promise.all(Array.from({ length: width }, lane));
  }

  /** The answer when all that was durable before is indexed: on a busy machine a request does not wait for that long. */
  async ask<T>(path: string): Promise<T> {
    await this.indexed();
    return this.askAtOnce<T>(path);
  }

  private async indexed(): Promise<void> {
    await waitUntil(
      async () => (await this.askAtOnce<{ indexing: { current: boolean } }>('/observe/overview')).indexing.current,
      { timeoutMs: 20_000, what: 'the index is current' },
    );
  }

  private async askAtOnce<T>(path: string): Promise<T> {
    const answer = await this.observer.get(path);
    assert.equal(answer.status, 200, `${path}: ${answer.text}`);
    return answer.json<T>();
  }

  page(query: string): Promise<EventPage> {
    return this.askAtOnce<EventPage>(`/observe/events?${query}`);
  }

  /** Reads on from `since` until there is no more. */
  async pages(query: string, since = 0): Promise<ShownEvent[]> {
    const events: ShownEvent[] = [];
    await this.indexed();
    for (let cursor = since; ; ) {
      const page = await this.page(`${query}&since=${cursor}`);
      events.push(...page.events);
      assert.equal(page.next_cursor, page.events.at(-1)?.seq ?? cursor);
      cursor = page.next_cursor;
      if (!page.has_more) return events;
      assert.ok(page.events.length > 0, 'a page that has more is not empty');
    }
  }

  /** What lies in the logs, as observers should see it. Quiet: nothing may be under way. */
  async logged(): Promise<ShownEvent[]> {
    return shownOf(await this.server.events());
  }

  watch(query = ''): Watcher {
    return new Watcher(`ws://127.0.0.1:${this.server.observePort}/observe/events/stream?${query}`);
  }

  private async operation(random: (below: number) => number): Promise<void> {
    const agent = this.agent(random(this.agents.length));
    const key = `${'abc'[random(3)]}/${random(40)}`;
    const kind = random(20);
    if (kind < 7) await agent.write(key, hostileText(random));
    else if (kind < 9) await agent.remove(key);
    else if (kind < 13) await agent.read(key);
    else if (kind < 17) await agent.message(this.agent(random(this.agents.length)).address, hostileText(random));
    else if (kind < 19) await agent.receive(1 + random(5));
    else await agent.get('/v1/registry?limit=2');
  }
}

export function shownOf(events: readonly LoggedEvent[]): ShownEvent[] {
  return events
    .filter(({ type }) => PUBLIC_TYPES.includes(type))
    .map(({ seq, ts, type, agent, data }) => ({ seq, ts, type, ...(agent === undefined ? {} : { agent }), data }));
}

const TEXTS = [
  '',
  'plain',
  '<script>alert(1)</script>',
  '"\\\n\u0000',
  '\u202Eabc\u200B',
  'ü€😀',
  '{"seq":1}\n{"seq":2}',
];

function hostileText(random: (below: number) => number): string {
  return `${TEXTS[random(TEXTS.length)]}${'x'.repeat(random(200))}!`;
}

/** A client of the live stream. */
export class Watcher {
  readonly events: ShownEvent[] = [];
  closeCode = 0;
  closeReason = '';
  refusedWith = 0;
  refusal = '';
  private readonly socket: WebSocket;

  constructor(readonly url: string) {
    this.socket = new WebSocket(url, { perMessageDeflate: false });
    this.socket.on('message', (text: Buffer) => this.events.push(JSON.parse(text.toString('utf8')) as ShownEvent));
    this.socket.on('close', (code, reason) => {
      this.closeCode = code;
      this.closeReason = reason.toString('utf8');
    });
    this.socket.on('unexpected-response', (_request, response) => {
      this.refusedWith = response.statusCode ?? 0;
      response.setEncoding('utf8').on('data', (text: string) => {
        this.refusal += text;
      });
      response.on('end', () => this.socket.terminate());
    });
    this.socket.on('error', () => {}); // shows as a close or a refusal, which tests look at
  }

  /** Resolves when the connection is open. */
  async opened(): Promise<this> {
    if (this.socket.readyState === WebSocket.CONNECTING) await once(this.socket, 'open');
    return this;
  }

  get isClosed(): boolean {
    return this.socket.readyState === WebSocket.CLOSED;
  }

  get lastSeq(): number {
    return this.events.at(-1)?.seq ?? 0;
  }

  /** Stops reading from the connection. */
  pause(): void {
    this.socket.pause();
  }

  resume(): void {
    this.socket.resume();
  }

  async until(condition: () => boolean, what: string): Promise<void> {
    await waitUntil(condition, {
      timeoutMs: 20_000,
      what: `${what}; ${this.events.length} events, last ${this.lastSeq}`,
    });
  }

  async close(): Promise<void> {
    if (this.isClosed) return;
    const closed = once(this.socket, 'close');
    this.socket.terminate();
    await closed;
  }
}

/** The answer is 400 and its message begins with the parameter's name. */
export function assertRefusesParameter(answer: HttpAnswer, name: string): void {
  assert.equal(answer.status, 400, answer.text);
  const { error, message } = answer.json<{ error: string; message: string }>();
  assert.equal(error, 'bad_request');
  assert.ok(message.startsWith(`${name}: `), message);
}
