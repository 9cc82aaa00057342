/**
 * The demo: a world with some dozens of agents in it, each a process of its own, for a bounded time; then an account of
 * what happened, and a check that no acknowledged message was lost, doubled or changed. See README.md in this folder.
 * Exit codes: 0 all is well, 1 a promise was broken or something failed, 2 bad options.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import type { Instruction, LifeAccount, Report } from './demo/protocol.js';
import { type ServerProcess, startServer, stopProcess } from './demo/server-process.js';
import { type Summary, summarize } from './demo/verdict.js';
import { TabulumClient } from './tabulum-client.js';

const AGENT_PROCESS = fileURLToPath(new URL('./demo/agent-process.js', import.meta.url));
/** Within the five an hour that the kernel allows from one address by default. */
const OPERATORS = 4;
const MAX_AGENTS = 200;
const MAX_SECONDS = 600;
const SHOWN_FAULTS = 20;

interface Options {
  readonly agents: number;
  readonly seconds: number;
  readonly seed: number;
  readonly serverUrl: string | null;
  readonly json: boolean;
}

async function main(): Promise<void> {
  const options = readOptions();
  const workDir = mkdtempSync(join(tmpdir(), 'tabulum-demo-'));
  const agents: ChildProcess[] = [];
  let server: ServerProcess | null = null;
  const interrupted = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => interrupted.abort());
  try {
    if (options.serverUrl === null) server = await startServer({ workDir });
    const baseUrl = options.serverUrl ?? server?.kernelUrl ?? '';
    if (!options.json)
      console.log(`${options.agents} agents at ${baseUrl} for ${options.seconds} s, seed ${options.seed}`);
    const accounts = await Promise.race([runAgents(options, baseUrl, agents), rejectOn(interrupted.signal)]);
    const summary = summarize(accounts);
    console.log(options.json ? JSON.stringify({ options, ...summary }) : describe(summary));
    if (summary.faults.length > 0) process.exitCode = 1;
  } finally {
    await Promise.all(agents.map(stopProcess));
    const exitCode = await server?.stop();
    rmSync(workDir, { recursive: true, force: true });
    if (server !== null && exitCode !== 0) {
      console.error(`the server ended with ${exitCode ?? 'a signal'} instead of 0`);
      process.exitCode = 1;
    }
  }
}

/** Starts the agents as `agents` and leads them through the phases. */
async function runAgents(options: Options, baseUrl: string, agents: ChildProcess[]): Promise<LifeAccount[]> {
  const world = new TabulumClient({ baseUrl });
  const keys: string[] = [];
  for (let n = 0; n < OPERATORS; n++) keys.push((await world.createOperator(`demo-operator-${n}`)).api_key);

  for (let n = 0; n < options.agents; n++) agents.push(fork(AGENT_PROCESS, { stdio: 'inherit' }));
  const arrivals = await Promise.all(
    agents.map((agent, index) => {
      const apiKey = keys[index % keys.length] ?? '';
      return instruct(agent, { phase: 'arrive', index, seed: options.seed, baseUrl, apiKey });
    }),
  );
  const companions = arrivals.map((report) => (report.phase === 'arrived' ? report.address : ''));

  await instructAll(agents, { phase: 'live', durationMs: options.seconds * 1000, companions });
  const reports = await instructAll(agents, { phase: 'drain' });
  for (const agent of agents) if (agent.connected) agent.disconnect();
  return reports.flatMap((report) => (report.phase === 'drained' ? [report.account] : []));
}

function instructAll(agents: readonly ChildProcess[], instruction: Instruction): Promise<Report[]> {
  return Promise.all(agents.map((agent) => instruct(agent, instruction)));
}

/** Resolves with the agent's next report. @throws Error when the agent ends instead. */
function instruct(agent: ChildProcess, instruction: Instruction): Promise<Report> {
  return new Promise((resolve, reject) => {
    const ended = (code: number | null, signal: string | null): void => {
      reject(new Error(`agent ${agent.pid} ended with ${code ?? signal} when told to ${instruction.phase}`));
    };
    if (agent.exitCode !== null || agent.signalCode !== null) return ended(agent.exitCode, agent.signalCode);
    agent.once('exit', ended);
    agent.once('message', (report: Report) => {
      agent.off('exit', ended);
      resolve(report);
    });
    agent.send(instruction);
  });
}

function rejectOn(signal: AbortSignal): Promise<never> {
  if (signal.aborted) return Promise.reject(new Error('interrupted'));
  return new Promise((_resolve, reject) => {
    signal.addEventListener('abort', () => reject(new Error('interrupted')), { once: true });
  });
}

function describe(summary: Summary): string {
  const { messages, state } = summary;
  const ms = (value: number): string => value.toFixed(1).padStart(9);
  const lines = [
    `${summary.agents} agents arrived and found each other among ${summary.agentsListed} in the registry`,
    `messages   ${messages.acknowledged} acknowledged, ${messages.received} received, ${messages.stillQueued} still queued, ${messages.unacknowledged} without an answer`,
    `state      ${state.writes} writes, ${state.reads} reads, ${state.deletes} deletes, ${state.conflicts} own writes found overwritten (last write wins)`,
    `refusals   ${
      Object.entries(summary.refusals)
        .map(([code, count]) => `${count} ${code}`)
        .join(', ') || 'none'
    }`,
    '',
    `${'operation'.padEnd(20)} ${'answers'.padStart(8)} ${'p50 ms'.padStart(9)} ${'p99 ms'.padStart(9)} ${'max ms'.padStart(9)}`,
  ];
  for (const { operation, count, p50Ms, p99Ms, maxMs } of summary.latencies) {
    lines.push(`${operation.padEnd(20)} ${String(count).padStart(8)} ${ms(p50Ms)} ${ms(p99Ms)} ${ms(maxMs)}`);
  }
  lines.push('');
  if (summary.faults.length === 0) {
    lines.push('every acknowledged message was received exactly once or is still queued; no read was stale');
  } else {
    lines.push(
      `${summary.faults.length} FAULTS`,
      ...summary.faults.slice(0, SHOWN_FAULTS).map((fault) => `  ${fault}`),
    );
  }
  return lines.join('\n');
}

function readOptions(): Options {
  try {
    const { values } = parseArgs({
      options: {
        agents: { type: 'string', default: '24' },
        seconds: { type: 'string', default: '10' },
        seed: { type: 'string', default: String(Math.floor(Math.random() * 1e6)) },
        server: { type: 'string' },
        json: { type: 'boolean', default: false },
      },
    });
    return {
      agents: wholeNumber('--agents', values.agents, 2, MAX_AGENTS),
      seconds: wholeNumber('--seconds', values.seconds, 1, MAX_SECONDS),
      seed: wholeNumber('--seed', values.seed, 0, 2 ** 31),
      serverUrl: values.server ?? null,
      json: values.json,
    };
  } catch (error) {
    console.error(`demo: ${error instanceof Error ? error.message : String(error)}`);
    process.exit(2);
  }
}

function wholeNumber(name: string, text: string, min: number, max: number): number {
  const value = Number(text);
  if (Number.isInteger(value) && value >= min && value <= max) return value;
  throw new Error(`${name} is "${text}"; expected a whole number from ${min} to ${max}`);
}

try {
  await main();
} catch (error) {
  console.error(error instanceof Error ? `demo: ${error.message}` : error);
  process.exitCode = 1;
}
