/** `connect.max_connections` and `connect.max_connections_per_agent` over real sockets, on two gateway threads. */
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { assertError, inParallel, Rig } from '../api/rig.js';
import { FAST, TWO_GATEWAYS, topologySettings } from '../api/topologies.js';
import type { KillCommand } from '../faults/thread-killer.js';
import type { ApiAgent, HttpAnswer } from '../support/http.js';
import { RpcClient } from '../support/rpc-client.js';
import { makeTempDir, removeTempDir } from '../support/temp-dir.js';
import { waitUntil } from '../support/wait.js';

const PER_AGENT = 6;
const IN_ALL = 9;
/** At once: unlikely to fall all on one of two threads, and more than both would take if each counted for itself. */
const RACED = 40;
/** Sockets that are not all on one thread, but once in eight million times. */
const MANY = 24;
const TIMEOUT_MS = 15_000;
const KILLER = new URL('../faults/thread-killer.js', import.meta.url).href;
const UPGRADE = {
  Connection: 'Upgrade',
  Upgrade: 'websocket',
  'Sec-WebSocket-Version': '13',
  'Sec-WebSocket-Key': 'dGhlIHNhbXBsZSBub25jZQ==',
};

interface Bounded {
  readonly rig: Rig;
  /** Ends the further gateway thread by a mistake of its own; resolves when the server has noticed. */
  killGateway(): Promise<void>;
}

async function startBounded(t: TestContext, connect: object): Promise<Bounded> {
  const directory = await makeTempDir();
  t.after(() => removeTempDir(directory));
  const commandFile = join(directory, 'command.json');
  const rig = await Rig.start(t, {
    config: { ...FAST, ...topologySettings(TWO_GATEWAYS), connect },
    env: { NODE_OPTIONS: `--import ${KILLER}`, FAULTS_COMMAND: commandFile },
  });
  return {
    rig,
    killGateway: async () => {
      await writeFile(commandFile, JSON.stringify({ thread: 'gateway-1', how: 'throw' } satisfies KillCommand));
      process.kill(rig.server.pid, 'SIGUSR2');
      const isDead = (): boolean => rig.server.stderr().some((line) => line.includes('"thread died"'));
      await waitUntil(isDead, { timeoutMs: TIMEOUT_MS, what: 'the death of the thread' });
    },
  };
}

/** Those of the attempts, all made at once, that got through; the others must have been answered 503. */
async function race(t: TestContext, rig: Rig, agents: readonly ApiAgent[], attempts = RACED): Promise<RpcClient[]> {
  const opened: RpcClient[] = [];
  await inParallel(attempts, attempts, async (index) => {
    try {
      opened.push(await RpcClient.connect(t, rig.server.kernelPort, agents[index % agents.length]?.token ?? ''));
    } catch (error) {
      assert.match(String(error), /Unexpected server response: 503/);
    }
  });
  return opened;
}

function refused(rig: Rig, { token }: ApiAgent): Promise<HttpAnswer> {
  return rig.client.send('GET', '/v1/connect', { token, headers: UPGRADE });
}

/** The agent gets exactly `missing` connections more, once the server has noticed the closing of as many. */
async function refill(t: TestContext, rig: Rig, agent: ApiAgent, missing: number): Promise<void> {
  const opened: RpcClient[] = [];
  await waitUntil(
    async () => {
      opened.push(...(await race(t, rig, [agent], missing - opened.length)));
      return opened.length === missing;
    },
    { timeoutMs: TIMEOUT_MS, what: `${missing} places to be free again` },
  );
  assert.deepEqual(await race(t, rig, [agent]), [], 'and not one more');
}

async function closeAll(clients: readonly RpcClient[]): Promise<void> {
  for (const { socket } of clients) socket.close();
  for (const client of clients) await client.closed();
}

test('connections raced on two gateway threads: exactly as many as one agent may have, and as all may have', async (t) => {
  const { rig } = await startBounded(t, { max_connections_per_agent: PER_AGENT, max_connections: IN_ALL });
  const [agent, other, third] = await inParallel(3, 1, () => rig.agent());
  assert.ok(agent !== undefined && other !== undefined && third !== undefined);

  const own = await race(t, rig, [agent]);
  assert.equal(own.length, PER_AGENT);
  const agentFull = await refused(rig, agent);
  assertError(agentFull, 'too_many_connections');
  assert.match(String(agentFull.json().message), /^This agent has 6 connections open/);

  const others = await race(t, rig, [other, third]);
  assert.equal(others.length, IN_ALL - PER_AGENT);
  const allFull = await refused(rig, third);
  assertError(allFull, 'too_many_connections');
  assert.match(String(allFull.json().message), /^Too many open connections/);
  const plain = await rig.client.get('/v1/connect', third.token);
  assertError(plain, 'bad_request', 'one that asks for no WebSocket is told so, full or not');

  await closeAll(others);
  const [first, second, last] = own;
  assert.ok(first !== undefined && second !== undefined && last !== undefined);
  first.socket.close();
  second.socket.terminate();
  last.socket.send(Buffer.from('binary'));
  assert.equal(await last.closed(), 1003, 'closed by the server');
  await refill(t, rig, agent, 3);
  for (const client of own.slice(3)) await client.call('agent.me');
});

test('a gateway thread that dies gives back the places of its connections, and of no others', async (t) => {
  const { rig, killGateway } = await startBounded(t, { max_connections_per_agent: MANY, max_connections: MANY });
  const agent = await rig.agent();
  const clients = await race(t, rig, [agent], MANY);
  assert.equal(clients.length, MANY);
  await killGateway();
  await Promise.all(clients.map((client) => client.ask('agent.me').catch(() => client.closed())));
  const lost = clients.filter(({ closeCode }) => closeCode !== null).length;
  assert.ok(lost > 0 && lost < MANY, `${lost} of ${MANY} were on the thread that died`);
  await refill(t, rig, agent, lost);
  await rig.server.stop();
});

test('a stop while a gateway thread is being restarted is an orderly one', async (t) => {
  const { rig, killGateway } = await startBounded(t, {});
  await killGateway();
  await rig.server.stop();
});
