/** What do a hundred slow webhooks cost those agents whose webhooks answer at once? */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type ServerProcess, startServer, stopProcess } from '../../examples/demo/server-process.js';
import { TabulumClient } from '../../examples/tabulum-client.js';
import { VALUE_BYTES } from '../dataset.js';
import { expectSuccess, onConnections } from '../load/http-connection.js';
import type { LoadRequest, LoadResult } from '../load/load.js';
import { compare, measureInTurn, type Side } from '../measure.js';
import type { ReceiversOrder, ReceiversReport } from '../reference/webhook-receivers.js';
import { type BenchContext, check, type Scenario } from '../scenario.js';
import { percentiles } from '../statistics.js';

export const webhookThroughput: Scenario = { name: 'webhook-throughput', run };

const RECEIVERS = fileURLToPath(new URL('../reference/webhook-receivers.js', import.meta.url));
const UNLIMITED_PER_MIN = 10_000_000;
/** Half of what `webhook.total_timeout` allows: delivered, after holding a slot for long. */
const SLOW_ANSWER_MS = 5_000;
/** Enough for every slow receiver to be busy as long as the scenario runs. */
const MESSAGES_PER_SLOW_AGENT = 100;
const SENDERS = 32;

interface World {
  readonly server: ServerProcess;
  readonly receivers: ChildProcess;
  readonly senderToken: string;
  readonly good: readonly string[];
}

async function run(context: BenchContext) {
  const goodAgents = context.smoke ? 20 : 400;
  const slowAgents = context.smoke ? 10 : 100;
  const flood = context.smoke ? 200 : context.seconds * 1_000;
  const calm = context.smoke ? 20 : context.seconds * 40;
  context.note('registering agents');
  const beside = await startWorld(context, 'beside-slow', goodAgents, slowAgents);
  const alone = await startWorld(context, 'alone', goodAgents, 0);

  const side = (name: string, world: World, messages: number, senders: number): Side => ({
    name,
    pid: world.server.pid,
    run: () => sendAndAwait(world, messages, senders),
  });
  const floods = {
    ours: side(`good webhooks beside ${slowAgents} slow ones`, beside, flood, SENDERS),
    reference: side('good webhooks alone', alone, flood, SENDERS),
  };
  const calms = {
    ours: side(`send to post, beside ${slowAgents} slow ones`, beside, calm, 1),
    reference: side('send to post, alone', alone, calm, 1),
  };
  if (!context.smoke) for (const one of [floods.ours, floods.reference]) await one.run();
  const flooded = await measureInTurn(floods.ours, floods.reference, context.rounds);
  const calmed = await measureInTurn(calms.ours, calms.reference, context.rounds);
  return {
    dataset: `messages of ${VALUE_BYTES} bytes to ${goodAgents} webhooks that answer at once, ${SENDERS} senders, then one; ${slowAgents} webhooks that answer after ${SLOW_ANSWER_MS} ms, each with more to come`,
    rows: [
      compare('webhook posts', 'rate', floods.ours, floods.reference, flooded, null),
      compare('send to webhook post, calm', 'p50', calms.ours, calms.reference, calmed, null),
      compare('send to webhook post, calm', 'p99', calms.ours, calms.reference, calmed, null),
    ],
    checks: [
      check(
        'every message was posted once',
        [...flooded.ours, ...flooded.reference].every((one) => one.completed === flood),
        flood,
      ),
    ],
  };
}

/** A server with agents whose webhooks are in a process beside it; the slow ones have got their messages. */
async function startWorld(context: BenchContext, name: string, good: number, slow: number): Promise<World> {
  const workDir = join(context.workDir, name);
  mkdirSync(workDir);
  const receivers = spawn(process.execPath, [RECEIVERS, String(SLOW_ANSWER_MS)], {
    stdio: ['ignore', 'pipe', 'inherit', 'ipc'],
  });
  context.onEnd(() => stopProcess(receivers));
  const [printed] = (await Promise.race([
    once(receivers.stdout ?? receivers, 'data'),
    once(receivers, 'exit').then(([code]) => Promise.reject(new Error(`the receivers ended with ${code}`))),
  ])) as [Buffer];
  const [port = '', ...certificate] = printed.toString().split('\n');
  const certFile = join(workDir, 'receivers.pem');
  writeFileSync(certFile, certificate.join('\n'));
  process.env.NODE_EXTRA_CA_CERTS = certFile; // read by the server when it starts
  const server = await startServer({ workDir, configYaml: CONFIG });
  delete process.env.NODE_EXTRA_CA_CERTS;
  context.onEnd(() => server.stop());

  const world = new TabulumClient({ baseUrl: server.kernelUrl });
  const register = async (count: number, kind: string): Promise<string[]> => {
    const addresses: string[] = [];
    let left = count;
    const lane = async (): Promise<void> => {
      const { api_key } = await world.createOperator('bench');
      while (left-- > 0) {
        const url = `https://127.0.0.1:${port}/${kind}/${left}`;
        addresses.push((await world.registerAgent(api_key, url)).agent_address);
      }
    };
    await Promise.all(Array.from({ length: 8 }, lane));
    return addresses;
  };
  const { api_key } = await world.createOperator('bench');
  const { agent_token: senderToken } = await world.registerAgent(api_key);
  const made = { server, receivers, senderToken, good: await register(good, 'good') };
  const slowAddresses = await register(slow, 'slow');
  await send({ ...made, good: slowAddresses }, slow * MESSAGES_PER_SLOW_AGENT, SENDERS);
  return made;
}

const CONFIG = [
  'rate_limits:',
  ...['message_send_per_min', 'webhook_outbound_per_min', 'operator_reg_per_hour_per_ip'].map(
    (limit) => `  ${limit}: ${UNLIMITED_PER_MIN}`,
  ),
  'verification: { gate_type: stub }',
  'auth: { scheme: hmac }',
  'webhook: { allow_networks: [127.0.0.0/8] }',
  'log: { level: warn }',
  '',
].join('\n');

/** From the first send to the last arrival. */
async function sendAndAwait(world: World, messages: number, senders: number): Promise<LoadResult> {
  world.receivers.send({ expect: messages } satisfies ReceiversOrder);
  const reported = once(world.receivers, 'message') as Promise<[ReceiversReport]>;
  const startedMs = Date.now();
  await send(world, messages, senders);
  const [{ latenciesMs, lastAtMs }] = await reported;
  return {
    completed: latenciesMs.length,
    failed: 0,
    ratePerSecond: (messages * 1000) / (lastAtMs - startedMs),
    ...percentiles([...latenciesMs]),
  };
}

/** To all in turn, each sender with one request in flight. */
async function send(world: World, messages: number, senders: number): Promise<void> {
  let next = 0;
  const padding = 'x'.repeat(VALUE_BYTES - 14);
  await onConnections(world.server.kernelUrl, senders, async (connection) => {
    while (next < messages) {
      const to = world.good[next++ % world.good.length];
      const body = JSON.stringify({ to, content: `${Date.now()} ${padding}` });
      const request: LoadRequest = { method: 'POST', path: '/v1/messages', token: world.senderToken, body };
      expectSuccess(request, await connection.send(request));
    }
  });
}
