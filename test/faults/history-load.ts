/**
 * Clients at once on few keys and few queues, who note when they asked and what they were told. The histories of all
 * lives, crashes included, must be linearizable, and every answered write must have its event.
 */
import assert from 'node:assert/strict';
import type { ApiAgent, HttpAnswer } from '../support/http.js';
import { seededRandom } from '../support/seed.js';
import type { LoggedEvent } from '../support/server.js';
import { type CrashClock, lane } from './crash-clock.js';
import {
  checkLinearizable,
  type KeyInput,
  type KeyOutput,
  keyModel,
  type Model,
  type Operation,
  type QueueInput,
  type QueueOutput,
  queueModel,
} from './linearizability.js';

const CLIENTS = 6;
const KEYS = 3;

interface Recorded<Input, Output> {
  readonly calledAt: number;
  returnedAt: number | null;
  readonly input: Input;
  output: Output | null;
}

export class HistoryLoad {
  private readonly keys = new Map<string, Recorded<KeyInput, KeyOutput>[]>();
  private readonly queues = new Map<string, Recorded<QueueInput, QueueOutput>[]>();
  private readonly random: (below: number) => number;
  private readonly writtenValues: string[] = [];
  private readonly sentContents: string[] = [];
  /** Of each key, at the end of the history before. */
  private readonly valuesBefore = new Map<string, string | null>();
  private checked = 0;
  private nextValue = 0;

  constructor(
    private readonly clock: CrashClock,
    private readonly clients: readonly ApiAgent[],
    private readonly inboxes: readonly ApiAgent[],
    seed: number,
  ) {
    this.random = seededRandom(seed);
  }

  /** Runs until the crash. */
  async run(): Promise<void> {
    await Promise.all(Array.from({ length: CLIENTS }, (_, index) => lane(this.clock, () => this.step(index))));
  }

  /** The process that had the open requests is dead: what it has not done by now, it never will. */
  settleOpen(): void {
    const at = this.clock.tick();
    for (const histories of [this.keys, this.queues]) {
      for (const history of histories.values()) {
        for (const operation of history) operation.returnedAt ??= at;
      }
    }
  }

  /**
   * Reads every key and empties every queue: the history of a life ends with what is there, and the next one begins so.
   * @returns the bytes that its keys and values take
   */
  async look(): Promise<number> {
    let usedBytes = 0;
    for (let index = 0; index < KEYS; index++) {
      const key = `raced/${index}`;
      await this.onKey(this.client(index), key, { do: 'get' });
      const value = this.keys.get(key)?.at(-1)?.output?.value ?? null;
      if (value !== null) usedBytes += key.length + value.length;
    }
    for (const inbox of this.inboxes) {
      do await this.onQueue(inbox, inbox, { do: 'receive', limit: 100 });
      while (this.queues.get(inbox.address)?.at(-1)?.output?.remaining !== 0);
    }
    return usedBytes;
  }

  /** Call after `look`: checks the histories since the last call, and begins new ones. */
  assertLinearizable(): void {
    for (const [key, history] of this.keys) {
      const initial = this.valuesBefore.get(key) ?? null;
      assertOne(`key ${key}`, { ...keyModel, initial }, history);
      this.valuesBefore.set(key, history.at(-1)?.output?.value ?? null);
      this.checked += history.length;
    }
    for (const [agent, history] of this.queues) {
      assertOne(`queue of ${agent}`, queueModel, history);
      this.checked += history.length;
    }
    this.keys.clear();
    this.queues.clear();
  }

  /** Operations whose answers fitted one order. */
  get checkedOperations(): number {
    return this.checked;
  }

  assertEvents(events: readonly LoggedEvent[]): void {
    const written = new Set(events.flatMap(({ type, data }) => (type === 'state_written' ? [data.value] : [])));
    const sent = new Set(events.flatMap(({ type, data }) => (type === 'message_sent' ? [data.content] : [])));
    for (const value of this.writtenValues) assert.ok(written.has(value), `the write of ${value} has no event`);
    for (const content of this.sentContents) assert.ok(sent.has(content), `the message ${content} has no event`);
  }

  private async step(index: number): Promise<void> {
    const kind = this.random(10);
    const client = this.client(index);
    const key = `raced/${this.random(KEYS)}`;
    const inbox = this.inboxes[this.random(this.inboxes.length)];
    assert.ok(inbox !== undefined);
    if (kind < 2) await this.onKey(client, key, { do: 'put', value: `v${this.nextValue++}` });
    else if (kind < 3) await this.onKey(client, key, { do: 'delete' });
    else if (kind < 5) await this.onKey(client, key, { do: 'get' });
    else if (kind < 8) await this.onQueue(client, inbox, { do: 'send', content: `c${this.nextValue++}` });
    else await this.onQueue(inbox, inbox, { do: 'receive', limit: 1 + this.random(4) });
  }

  private async onKey(client: ApiAgent, key: string, input: KeyInput): Promise<void> {
    const operation = record(this.keys, key, this.clock.tick(), input);
    const ask = (): Promise<HttpAnswer> => {
      if (input.do === 'put') return client.write(key, input.value);
      return input.do === 'get' ? client.read(key) : client.remove(key);
    };
    const answer = await this.answered(operation, ask, [200, 404]);
    if (answer === null) return;
    const found = answer.status === 200;
    operation.output = { value: found ? (input.do === 'get' ? String(answer.json().value) : '') : null };
    if (input.do === 'put') this.writtenValues.push(input.value);
  }

  private async onQueue(client: ApiAgent, inbox: ApiAgent, input: QueueInput): Promise<void> {
    const operation = record(this.queues, inbox.address, this.clock.tick(), input);
    const ask = (): Promise<HttpAnswer> =>
      input.do === 'send'
        ? client.message(inbox.address, input.content)
        : client.get(`/v1/messages?limit=${input.limit}`);
    const answer = await this.answered(operation, ask, [200, 202]);
    if (answer === null) return;
    if (input.do === 'send') {
      operation.output = { contents: [], remaining: 0 };
      this.sentContents.push(input.content);
      return;
    }
    const { messages, remaining } = answer.json<{ messages: { content: string }[]; remaining: number }>();
    operation.output = { contents: messages.map(({ content }) => content), remaining };
  }

  /** Null when the answer was lost in a crash, or says that it is unknown what was done. */
  private async answered(
    operation: Recorded<unknown, unknown>,
    ask: () => Promise<HttpAnswer>,
    expected: readonly number[],
  ): Promise<HttpAnswer | null> {
    const answer = await ask();
    if (answer.status === 503 && this.clock.isCrashing) return null;
    assert.ok(expected.includes(answer.status), `${answer.status} ${answer.text}`);
    operation.returnedAt = this.clock.tick();
    return answer;
  }

  private client(index: number): ApiAgent {
    const client = this.clients[index % this.clients.length];
    assert.ok(client !== undefined);
    return client;
  }
}

function record<Input, Output>(
  histories: Map<string, Recorded<Input, Output>[]>,
  name: string,
  calledAt: number,
  input: Input,
): Recorded<Input, Output> {
  const operation: Recorded<Input, Output> = { calledAt, returnedAt: null, input, output: null };
  const history = histories.get(name);
  if (history === undefined) histories.set(name, [operation]);
  else history.push(operation);
  return operation;
}

function assertOne<State, Input, Output>(
  name: string,
  model: Model<State, Input, Output>,
  recorded: readonly Recorded<Input, Output>[],
): void {
  const history: Operation<Input, Output>[] = recorded.map(({ calledAt, returnedAt, input, output }) => {
    assert.ok(returnedAt !== null, 'an operation was never settled');
    return { calledAt, returnedAt, input, output };
  });
  const violation = checkLinearizable(model, history);
  const open = violation?.stuckOn.join('\n  ') ?? '';
  assert.equal(
    violation,
    null,
    `${name}: no order explains more than ${violation?.explained} operations; open then:\n  ${open}`,
  );
}
