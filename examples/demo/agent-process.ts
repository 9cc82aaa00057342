/**
 * One agent of the demo, in a process of its own: arrives, lives among the others for a while, empties its queue and
 * tells what it saw. It knows nothing but the kernel API and the choices its seed makes.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { type AnswerInfo, type TabulumAgent, TabulumClient, TabulumError } from '../tabulum-client.js';
import type { HeardMessage, Instruction, LifeAccount, Report, SentMessage } from './protocol.js';
import { seededRandom } from './seeded-random.js';
import { StateWitness } from './state-witness.js';

const SHARED_KEYS = 16;
const SHARED_PREFIX = 'demo/board-';
/** Pause between two actions, at random from this range: agents think. */
const THINKING_MS = { min: 3, max: 20 };
const REGISTRATION_ATTEMPTS = 5;
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
    this.#random = seededRandom(seed * 1009 + index);
    this.#world = new TabulumClient({
      baseUrl,
      random: this.#random,
      stopWaiting: this.#stopWaiting.signal,
      retry: { maxAttempts: 10 },
      onAnswer: (answer) => this.#note(answer),
    });
  }

  async arrive(apiKey: string): Promise<string> {
    for (let attempt = 1; ; attempt++) {
      try {
        const account = await this.#world.registerAgent(apiKey);
        this.#agent = this.#world.agent(account.agent_token);
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
      else if (choice < 0.45) await this.#receive(agent, 20);
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

  async #receive(agent: TabulumAgent, limit: number): Promise<void> {
    const batch = await agent.receive(limit);
    for (const { message_id: id, from, to, content } of batch.messages) this.#heard.push({ id, from, to, content });
    this.#stillQueued = batch.remaining;
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

  #note(answer: AnswerInfo): void {
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

// A failure is an unhandled rejection: it prints its stack and ends the process with 1, which the demo reports.
process.on('message', async (instruction: Instruction) => {
  const report = await follow(instruction);
  process.send?.(report, undefined, undefined, () => {
    if (report.phase === 'drained') process.exit(0);
  });
});
// Without the demo there is nobody to report to.
process.once('disconnect', () => process.exit(1));
