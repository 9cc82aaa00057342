/**
 * The server under test: a process of its own, with rate limits out of the way and everything else as users get it.
 * Owns:  the server process and the tokens of the agents it registered.
 */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type ServerProcess, startServer } from '../examples/demo/server-process.js';
import { TabulumClient } from '../examples/tabulum-client.js';
import { expectSuccess, HttpConnection, onConnections } from './load/http-connection.js';
import type { LoadRequest } from './load/load.js';
import { processCpuMicros } from './process-cpu.js';
import type { BenchContext } from './scenario.js';

/** The most that settings allow: more than any load here reaches. */
const UNLIMITED_PER_MIN = 10_000_000;
/** Open ones at once; the server keeps few of one operator. */
const CHALLENGES_PER_OPERATOR = 32;

/** A server that uses less of a core than this has nothing left to do. */
const IDLE_SHARE = 0.05;
const IDLE_FOR_MS = 1_000;
const SETTLED_WITHIN_MS = 300_000;

export interface BenchAgent {
  readonly address: string;
  readonly token: string;
}

export interface SubjectOptions {
  /** Names its directory; one per server of a scenario. */
  readonly name: string;
  /** `hmac` makes registration cheap, for large registries; all else is measured with the default. */
  readonly authScheme?: 'bcrypt' | 'hmac';
  readonly agents: number;
  /** Connections that register at the same time. */
  readonly registrars?: number;
  readonly poolThreads?: number;
  /** Leaves the agents' sessions as they are after registration. */
  readonly coldSessions?: boolean;
  /** `auth.session_ttl`, such as `2s`. */
  readonly sessionTtl?: string;
}

export class Subject {
  readonly agents: BenchAgent[] = [];
  readonly #workDir: string;
  readonly #options: SubjectOptions;
  #server: ServerProcess;

  private constructor(workDir: string, options: SubjectOptions, server: ServerProcess) {
    this.#workDir = workDir;
    this.#options = options;
    this.#server = server;
  }

  /** Starts a server on an empty directory and registers the agents over HTTP. It stops when the scenario ends. */
  static async start(context: BenchContext, options: SubjectOptions): Promise<Subject> {
    const workDir = join(context.workDir, options.name);
    mkdirSync(workDir);
    const subject = new Subject(workDir, options, await startServer({ workDir, configYaml: configFor(options) }));
    context.onEnd(() => subject.stop());
    await subject.#register(options.agents, options.registrars ?? 8);
    if (options.coldSessions !== true) await subject.#warmSessions();
    return subject;
  }

  get url(): string {
    return this.#server.kernelUrl;
  }

  get pid(): number {
    return this.#server.pid;
  }

  get banner(): readonly string[] {
    return this.#server.banner;
  }

  /** The agent at this place, counted round and round. */
  agent(index: number): BenchAgent {
    const agent = this.agents[index % this.agents.length];
    if (agent === undefined) throw new Error('this subject has no agents');
    return agent;
  }

  /** Same data, new process: every session is cold, and `url` and `pid` are others. */
  async restart(): Promise<void> {
    await this.stop();
    this.#server = await startServer({ workDir: this.#workDir, configYaml: configFor(this.#options) });
  }

  /** kill -9, and a new process on the same data. Milliseconds from its start to its first 200 for `GET /v1/health`. */
  async killAndRestart(): Promise<number> {
    process.kill(this.#server.pid, 'SIGKILL');
    await this.#server.stop(); // resolves once it is gone
    const startedMs = performance.now();
    this.#server = await startServer({ workDir: this.#workDir, configYaml: configFor(this.#options) });
    const health = await fetch(`${this.url}/v1/health`);
    if (health.status !== 200) throw new Error(`health is ${health.status} after a start`);
    return performance.now() - startedMs;
  }

  /** @throws Error when the server does not end with 0. */
  async stop(): Promise<void> {
    const code = await this.#server.stop();
    if (code !== 0) throw new Error(`${this.#options.name}: the server ended with ${code ?? 'a signal'}`);
  }

  /** What the server itself counts, by the name on its metrics page; of one without labels. @throws Error for another. */
  async metric(name: string): Promise<number> {
    const answer = await fetch(`${this.#server.adminUrl}/metrics`);
    const value = new RegExp(`^${name} (\\S+)$`, 'm').exec(await answer.text())?.[1];
    if (value === undefined) throw new Error(`there is no metric ${name}`);
    return Number(value);
  }

  /**
   * Resolves when the server has done what it does after the answers: after a large fill, its observers' index is behind
   * for a while, and takes CPU time that would be counted as that of what is measured. On a busy machine that can be
   * long: after five minutes it says so, and resolves.
   */
  async settled(context: BenchContext): Promise<void> {
    const endMs = performance.now() + SETTLED_WITHIN_MS;
    while (performance.now() < endMs) {
      const beforeMicros = processCpuMicros(this.pid);
      await sleep(IDLE_FOR_MS);
      if (processCpuMicros(this.pid) - beforeMicros < IDLE_SHARE * IDLE_FOR_MS * 1000) return;
    }
    context.note(`${this.#options.name} is still at work on what came before, beside what is measured now`);
  }

  /** One request on a connection of its own; the parsed answer. @throws Error unless it is 2xx. */
  async ask(request: LoadRequest): Promise<unknown> {
    const connection = await HttpConnection.open(this.url);
    try {
      return JSON.parse(expectSuccess(request, await connection.send(request)).body);
    } finally {
      connection.close();
    }
  }

  /** Head and body of one answer, for a reference that returns the same bytes. */
  async sampleOf(request: LoadRequest): Promise<{ head: string; body: string }> {
    const connection = await HttpConnection.open(this.url);
    try {
      const { head, body } = expectSuccess(request, await connection.send(request));
      return { head, body };
    } finally {
      connection.close();
    }
  }

  async #register(count: number, registrars: number): Promise<void> {
    const world = new TabulumClient({ baseUrl: this.url });
    const operatorKeys: string[] = [];
    for (let n = 0; n * CHALLENGES_PER_OPERATOR < registrars; n++) {
      operatorKeys.push((await world.createOperator(`bench-${n}`)).api_key);
    }
    let left = count;
    await onConnections(this.url, Math.min(registrars, count), async (connection, index) => {
      const token = operatorKeys[index % operatorKeys.length] ?? '';
      const challengeRequest: LoadRequest = { method: 'GET', path: '/v1/agents/verification-challenge', token };
      while (left-- > 0) {
        const challenge = expectSuccess(challengeRequest, await connection.send(challengeRequest));
        const { challenge_id } = JSON.parse(challenge.body) as { challenge_id: string };
        const body = JSON.stringify({ verification_response: { challenge_id, response: 'bench' } });
        const request: LoadRequest = { method: 'POST', path: '/v1/agents', token, body };
        const answer = expectSuccess(request, await connection.send(request));
        const { agent_address, agent_token } = JSON.parse(answer.body) as {
          agent_address: string;
          agent_token: string;
        };
        this.agents.push({ address: agent_address, token: agent_token });
      }
    });
  }

  /** One request of each agent, so that no bcrypt is left to do. */
  async #warmSessions(): Promise<void> {
    let next = 0;
    await onConnections(this.url, Math.min(this.agents.length, 8), async (connection) => {
      while (next < this.agents.length) {
        const request: LoadRequest = { method: 'GET', path: '/v1/agents/me', token: this.agent(next++).token };
        expectSuccess(request, await connection.send(request));
      }
    });
  }
}

function configFor(options: SubjectOptions): string {
  const categories = ['message_send', 'message_read', 'state_read', 'state_write', 'registry_read'];
  return [
    'rate_limits:',
    ...categories.map((category) => `  ${category}_per_min: ${UNLIMITED_PER_MIN}`),
    `  operator_reg_per_hour_per_ip: ${UNLIMITED_PER_MIN}`,
    `observe: { rate_limit: { requests_per_min_per_ip: ${UNLIMITED_PER_MIN} } }`,
    'verification: { gate_type: stub }',
    `messaging: { max_queue_per_agent: 10000000, max_queued_bytes: ${16 * 2 ** 30} }`,
    'auth:',
    `  scheme: ${options.authScheme ?? 'bcrypt'}`,
    ...(options.poolThreads === undefined ? [] : [`  pool_threads: ${options.poolThreads}`]),
    ...(options.sessionTtl === undefined ? [] : [`  session_ttl: ${options.sessionTtl}`]),
    'log: { level: warn }',
    '',
  ].join('\n');
}
