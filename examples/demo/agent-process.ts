/**
 * One agent of the demo, in a process of its own: arrives, lives among the others for a while, empties its queue and
 * tells what it saw. It knows nothing but the kernel API and the choices its seed makes.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import {
  type AnswerInfo,
  type LeasedMessage,
  type Message,
  type TabulumAgent,
  TabulumClient,
  TabulumError,
} from '../tabulum-client.js';
import { TabulumSocket } from '../tabulum-socket.js';
import type { HeardMessage, Instruction, LifeAccount, Report, SentMessage } from './protocol.js';
import { seededRandom } from './seeded-random.js';
import { StateWitness } from './state-witness.js';

const SHARED_KEYS = 16;
const SHARED_PREFIX = 'demo/board-';
/** Pause between two actions, at random from this range: agents think. */
const THINKING_MS = { min: 3, max: 20 };
const REGISTRATION_ATTEMPTS = 5;
/** Leases outlast the demo: an agent acknowledges late rather than never. */
const LEASE_SECONDS = 3600;
/** How an agent hears: by long polls, by leases, or over a WebSocket. */
type Ear = 'poll' | 'lease' | 'socket';
const EARS: readonly Ear[] = ['poll', 'lease', 'socket'];
/** Requests that empty the queue at the end, at most: what is left after them is reported as still queued. */
const MAX_DRAIN_REQUESTS = 200;
/** More listings at a run than the default limit allows: this agent meets a 429 for certain. */
const HASTY_LISTINGS = 40;

class DemoAgent {
  readonly #index: number;
  readonly #random: () => number;
  readonly #world: TabulumClient;
  readonly #stopWaiting = new AbortController();
  readonly #sent: SentMessage[] = [];
  readonly #unacknowledged: string[] = [];
  readonly #heard: HeardMessage[] = [];
  readonly #heardIds = new Set<string>();
  /** Leased and not acknowledged yet. */
  readonly #held: LeasedMessage[] = [];
  readonly #ear: Ear;
  readonly #baseUrl: string;
  #socket: TabulumSocket | null = null;
  readonly #refusals: Record<string, number> = {};
  readonly #latenciesMs: Record<string, number[]> = {};
  readonly #witness = new StateWitness();
  #agent: TabulumAgent | null = null;
  #address = '';
  #companions: readonly string[] = [];
  #agentsListed = 0;
  #messagesWritten = 0;
  #stateDeletes = 0;
  #stillQueued = 0;

  constructor(index: number, seed: number, baseUrl: string) {
    this.#index = index;
    this.#baseUrl = baseUrl;
    this.#ear = EARS[index % EARS.length] ?? 'poll';
    this.#random = seededRandom(seed * 1009 + index);
    this.#world = new TabulumClient({
      baseUrl,
      random: this.#random,
      stopWaiting: this.#stopWaiting.signal,
      retry: { maxAttempts: 10 },
      onAnswer: (answer) => this.#measure(answer),
    });
  }

  async arrive(apiKey: string): Promise<string> {
    for (let attempt = 1; ; attempt++) {
      try {
        const account = await this.#world.registerAgent(apiKey);
        this.#agent = this.#world.agent(account.agent_token);
        if (this.#ear === 'socket') this.#listen(account.agent_token);
        break;
      } catch (error) {
        // The machine hashes a whole crowd's tokens at once: a challenge may run out, or the pool be full.
        const worthIt = error instanceof TabulumError && (error.status === 403 || error.status === 503);
        if (!worthIt || attempt === REGISTRATION_ATTEMPTS) throw error;
        await sleep(1000 * (error.retryAfterSeconds ?? 1));
      }
    }
    this.#address = (await this.#agent.me()).address;
    return this.#address;
  }

  async live(durationMs: number, companions: readonly string[]): Promise<void> {
    const agent = this.#present();
    const listed = new Set<string>();
    for await (const { address } of agent.registry()) listed.add(address);
    const unlisted = companions.filter((address) => !listed.has(address));
    if (unlisted.length > 0) throw new Error(`the registry does not list ${unlisted.join(', ')}`);
    this.#agentsListed = listed.size;
    this.#companions = companions;

    const endMs = performance.now() + durationMs;
    const deadline = setTimeout(() => this.#stopWaiting.abort(), durationMs);
    if (this.#index === 0) await this.#listInHaste(agent, endMs);
    while (performance.now() < endMs) {
      await this.#act(agent);
      await sleep(THINKING_MS.min + this.#random() * (THINKING_MS.max - THINKING_MS.min));
    }
    clearTimeout(deadline);
    this.#stopWaiting.abort();
  }

  async drain(): Promise<LifeAccount> {
    // What its handler had not begun goes back to the queue, at its place.
    await this.#socket?.close();
    await this.#acknowledgeHeld();
    for (let request = 0; request < MAX_DRAIN_REQUESTS; request++) {
      try {
        await this.#receive(this.#present(), 100);
        if (this.#stillQueued === 0) break;
      } catch (error) {
        // Waits were ended with the life phase, so the one that is due here is made by hand.
        if (!(error instanceof TabulumError) || error.status !== 429) throw error;
        await sleep(1000 * (error.retryAfterSeconds ?? 1));
      }
    }
    return {
      address: this.#address,
      sent: this.#sent,
      unacknowledged: this.#unacknowledged,
      heard: this.#heard,
      stillQueued: this.#stillQueued,
      agentsListed: this.#agentsListed,
      stateWrites: this.#witness.writes,
      stateReads: this.#witness.reads,
      stateDeletes: this.#stateDeletes,
      conflicts: this.#witness.conflicts,
      staleReads: this.#witness.staleReads,
      refusals: this.#refusals,
      latenciesMs: this.#latenciesMs,
    };
  }

  async #act(agent: TabulumAgent): Promise<void> {
    const choice = this.#random();
    try {
      if (choice < 0.3) await this.#send(agent);
      else if (choice < 0.45) await this.#hear(agent);
      else if (choice < 0.65) await this.#write(agent);
      else if (choice < 0.9) await this.#read(agent);
      else if (choice < 0.93) await agent.registryPage(null, 50);
      else if (choice < 0.97) await agent.keyPage(SHARED_PREFIX);
      else if (choice < 0.99) await agent.capacity();
      else if ((await agent.deleteState(this.#someKey())) !== null) this.#stateDeletes++;
    } catch (error) {
      // Already counted. Everything else that goes wrong ends this agent, and with it the demo.
      if (!(error instanceof TabulumError) || (error.status !== 429 && error.status !== 503)) throw error;
    }
  }

  async #send(agent: TabulumAgent): Promise<void> {
    const to = this.#companions[Math.floor(this.#random() * this.#companions.length)] ?? this.#address;
    const content = `${this.#address} says no. ${this.#messagesWritten++}: grüß dich 👋 ${'·'.repeat(this.#random() * 200)}`;
    try {
      const receipt = await agent.send(to, content);
      this.#sent.push({ id: receipt.message_id, to, content });
    } catch (error) {
      if (!(error instanceof TabulumError && error.status === 429)) this.#unacknowledged.push(content);
      throw error;
    }
  }

  async #receive(agent: TabulumAgent, limit: number, waitSeconds = 0): Promise<void> {
    const batch = await agent.receive(limit, waitSeconds);
    for (const message of batch.messages) this.#note(message);
    this.#stillQueued = batch.remaining;
  }

  async #hear(agent: TabulumAgent): Promise<void> {
    if (this.#ear === 'poll') await this.#receive(agent, 20, 1);
    else if (this.#ear === 'lease') {
      // First what was acknowledged too late for the rate limit: order is kept.
      if (this.#held.length > 0) await this.#acknowledge(agent);
      this.#held.push(...(await agent.lease(20, 1, LEASE_SECONDS)).messages);
      if (this.#held.length > 0) await this.#acknowledge(agent);
    }
  }

  async #acknowledge(agent: TabulumAgent): Promise<void> {
    const { unknown } = await agent.ack(this.#held.map((message) => message.lease_id));
    if (unknown.length > 0) throw new Error(`leases ended long before their time: ${unknown.join(', ')}`);
    for (const message of this.#held.splice(0)) this.#note(message);
  }

  async #acknowledgeHeld(): Promise<void> {
    while (this.#held.length > 0) {
      try {
        await this.#acknowledge(this.#present());
      } catch (error) {
        if (!(error instanceof TabulumError) || error.status !== 429) throw error;
        await sleep(1000 * (error.retryAfterSeconds ?? 1));
      }
    }
  }

  #listen(agentToken: string): void {
    this.#socket = new TabulumSocket({ baseUrl: this.#baseUrl, agentToken });
    this.#socket.subscribe((message) => {
      // At least once: a message whose acknowledgement was lost comes again.
      if (!this.#heardIds.has(message.message_id)) this.#note(message);
    });
  }

  #note({ message_id: id, from, to, content }: Message): void {
    this.#heardIds.add(id);
    this.#heard.push({ id, from, to, content });
  }

  async #write(agent: TabulumAgent): Promise<void> {
    const key = this.#someKey();
    const value = this.#witness.nextValue(this.#address, key);
    await agent.putState(key, value);
    this.#witness.wrote(this.#address, key);
  }

  async #read(agent: TabulumAgent): Promise<void> {
    const key = this.#someKey();
    this.#witness.read(this.#address, key, await agent.getState(key));
  }

  async #listInHaste(agent: TabulumAgent, endMs: number): Promise<void> {
    try {
      for (let n = 0; n < HASTY_LISTINGS && performance.now() < endMs; n++) await agent.registryPage(null, 10);
    } catch (error) {
      if (!(error instanceof TabulumError && error.status === 429)) throw error;
    }
  }

  #someKey(): string {
    return SHARED_PREFIX + Math.floor(this.#random() * SHARED_KEYS);
  }

  #present(): TabulumAgent {
    if (this.#agent === null) throw new Error('not registered yet');
    return this.#agent;
  }

  #measure(answer: AnswerInfo): void {
    if (answer.code !== undefined) this.#refusals[answer.code] = (this.#refusals[answer.code] ?? 0) + 1;
    const latencies = this.#latenciesMs[answer.operation] ?? [];
    latencies.push(answer.durationMs);
    this.#latenciesMs[answer.operation] = latencies;
  }
}

let self: DemoAgent | null = null;

async function follow(instruction: Instruction): Promise<Report> {
  if (instruction.phase === 'arrive') {
    self = new DemoAgent(instruction.index, instruction.seed, instruction.baseUrl);
    return { phase: 'arrived', address: await self.arrive(instruction.apiKey) };
  }
  if (self === null) throw new Error(`told to ${instruction.phase} before arriving`);
  if (instruction.phase === 'live') {
    await self.live(instruction.durationMs, instruction.companions);
    return { phase: 'lived' };
  }
  return { phase: 'drained', account: await self.drain() };
}

let isDone = false;

// A failure is an unhandled rejection: it prints its stack and ends the process with 1, which the demo reports.
process.on('message', async (instruction: Instruction) => {
  const report = await follow(instruction);
  isDone = report.phase === 'drained';
  process.send?.(report);
});
// Without the demo there is nobody to report to. It leaves first: an end could overtake the last report.
process.once('disconnect', () => process.exit(isDone ? 0 : 1));
