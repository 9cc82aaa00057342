/**
 * A server with a little of everything in its log, in many small segments, and what must be found again wherever its
 * directory is copied, restored or resharded to.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { cp, mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after } from 'node:test';
import { fileURLToPath } from 'node:url';
import { verifyJson } from '../../src/admin/commands/verify.js';
import { openManifest } from '../../src/shards/data-directory.js';
import { realDisk } from '../../src/shards/disk.js';
import { NO_PROGRESS } from '../../src/shards/tools/progress.js';
import { verifyDirectory } from '../../src/shards/tools/verify.js';
import { FAST } from '../api/topologies.js';
import { ApiAgent, HttpClient, registerAgent, registerOperator } from '../support/http.js';
import { type CommandResult, runCommand, SERVER_ENTRY, TestServer } from '../support/server.js';
import type { Cleanup } from '../support/temp-dir.js';

export const SEGMENT_BYTES = 16 * 1024;
const KEYS = 90;

export interface WorldOptions {
  readonly shards?: number;
  /** Repetitions of the same load. */
  readonly rounds?: number;
  readonly env?: Readonly<Record<string, string>>;
}

/** Worlds of this process that were loaded and stopped, by kind: tests that begin with a stopped one take copies. */
const templates = new Map<string, Promise<World>>();
const templateEnds: (() => Promise<void>)[] = [];

after(async () => {
  for (const end of templateEnds.reverse()) await end();
});

export class World {
  readonly client: HttpClient;
  readonly operatorKeys: string[] = [];
  readonly agents: ApiAgent[] = [];
  /** Contents that wait in each agent's queue, in order. */
  readonly queued = new Map<string, string[]>();
  private round = 0;
  /** What was visible when it was stopped, for a copy. */
  private whenStopped: unknown = null;

  private constructor(readonly server: TestServer) {
    this.client = new HttpClient(() => server.kernelPort);
  }

  static async start(t: Cleanup, { shards = 2, rounds = 2, env = {} }: WorldOptions = {}): Promise<World> {
    const world = await World.empty(t, env);
    const { server } = world;
    await mkdir(server.dataDir, { recursive: true });
    await openManifest(realDisk, server.dataDir, shards);
    await server.start();
    for (let i = 0; i < 2; i++) world.operatorKeys.push(await registerOperator(server, world.client, `contact ${i}`));
    for (let i = 0; i < 6; i++) world.agents.push(await world.register());
    for (let i = 0; i < rounds; i++) await world.live();
    return world;
  }

  /** As `start`, but stopped: a copy of one that was loaded and stopped once for all tests of this process. */
  static async stopped(t: Cleanup, { shards = 2, rounds = 2, env = {} }: WorldOptions = {}): Promise<World> {
    const kind = `${shards} ${rounds}`;
    const template = templates.get(kind) ?? World.template({ shards, rounds });
    templates.set(kind, template);
    const original = await template;
    const world = await World.empty(t, env);
    await cp(original.dataDir, world.dataDir, { recursive: true });
    world.operatorKeys.push(...original.operatorKeys);
    for (const { address, token } of original.agents) world.agents.push(new ApiAgent(world.client, address, token));
    for (const [address, contents] of original.queued) world.queued.set(address, [...contents]);
    world.round = original.round;
    world.whenStopped = original.whenStopped;
    return world;
  }

  private static async template(options: WorldOptions): Promise<World> {
    const world = await World.start({ after: (end) => void templateEnds.push(end) }, options);
    world.whenStopped = await world.visible();
    await world.server.stop();
    return world;
  }

  private static async empty(t: Cleanup, env: Readonly<Record<string, string>>): Promise<World> {
    // The count of a directory that exists is taken as it is, so that it may change under the same settings.
    const config = { ...FAST, topology: { gateways: 1 }, event_log: { max_file_size: SEGMENT_BYTES } };
    const server = await TestServer.create({ config, env });
    t.after(() => server.dispose());
    const world = new World(server);
    t.after(async () => world.client.close());
    return world;
  }

  /** What `visible` told before a world from `stopped` was stopped. */
  get visibleBefore(): unknown {
    assert.notEqual(this.whenStopped, null);
    return this.whenStopped;
  }

  get dataDir(): string {
    return this.server.dataDir;
  }

  /** Starts the stopped server, which must find so many shards. */
  async restartWith(shards: number): Promise<void> {
    assert.equal((await this.manifest()).shards, shards);
    await this.server.start();
    assert.match(this.server.banner.join('\n'), new RegExp(`\\b${shards} shards?\\b`));
  }

  async register(): Promise<ApiAgent> {
    const agent = await registerAgent(this.server, this.client, this.operatorKeys[0] as string);
    this.queued.set(agent.address, []);
    return agent;
  }

  /** Writes, deletes, reads, messages, deliveries, leases; some of everything stays undelivered. */
  async live(): Promise<void> {
    const round = ++this.round;
    const { agents } = this;
    await Promise.all(
      Array.from({ length: KEYS }, async (_, i) => {
        const agent = agents[i % agents.length] as ApiAgent;
        const written = await agent.write(`round ${round % 2}/${i}/é😀`, `value ${round} ${'x'.repeat(i * 7)}`);
        assert.equal(written.status, 200, written.text);
        if (i % 5 === 0) await agent.remove(`round ${round % 2}/${i}/é😀`);
        await agent.read(`round ${round % 2}/${(i * 7) % KEYS}/é😀`);
      }),
    );
    for (let i = 0; i < 30; i++) {
      const from = agents[i % agents.length] as ApiAgent;
      const to = agents[(i + 1) % agents.length] as ApiAgent;
      const content = `message ${round}.${i} ${'m'.repeat(i * 20)}`;
      assert.equal((await from.message(to.address, content)).status, 202);
      this.queued.get(to.address)?.push(content);
    }
    for (const agent of agents.slice(0, 3)) {
      for (const { content } of (await agent.receive(3)).messages) {
        assert.equal(this.queued.get(agent.address)?.shift(), content);
      }
    }
    await this.sendOnceAndLease(round);
    await agents[0]?.get('/v1/registry');
  }

  /** A message with an idempotency key, sent twice; a message taken on loan and acknowledged. */
  private async sendOnceAndLease(round: number): Promise<void> {
    const [sender, , , , to] = this.agents as [ApiAgent, ApiAgent, ApiAgent, ApiAgent, ApiAgent];
    const content = `once ${round}`;
    for (let repeat = 0; repeat < 2; repeat++) {
      const headers = { 'Idempotency-Key': `key-${round}` };
      const body = { to: to.address, content };
      const sent = await this.client.send('POST', '/v1/messages', { token: sender.token, headers, body });
      assert.equal(sent.status, 202, sent.text);
    }
    this.queued.get(to.address)?.push(content);
    const taken = await to.get('/v1/messages?limit=1&ack=manual&visibility=1');
    const { messages } = taken.json<{ messages: { lease_id: string; content: string }[] }>();
    const [leased] = messages;
    assert.ok(leased !== undefined);
    assert.equal(leased.content, this.queued.get(to.address)?.shift());
    const acked = await to.post('/v1/messages/ack', { lease_ids: [leased.lease_id] });
    assert.equal(acked.json().acked, 1, acked.text);
  }

  /** Everything a client can see and does not change by looking. */
  async visible(): Promise<unknown> {
    const [agent] = this.agents as [ApiAgent];
    const keys = (await agent.get('/v1/state?limit=1000')).json<{ keys: string[] }>();
    const state = await Promise.all(keys.keys.map(async (key) => (await agent.read(key)).json()));
    const capacity = (await agent.get('/v1/state/_capacity')).json();
    const registry = (await agent.get('/v1/registry')).json();
    return { keys, state, capacity, registry };
  }

  /** Tokens and keys work, and nobody else's does. */
  async assertTokens(): Promise<void> {
    for (const agent of this.agents) {
      const me = await agent.get('/v1/agents/me');
      assert.equal(me.status, 200, me.text);
      assert.equal(me.json().address, agent.address);
      const wrong = `${agent.token.slice(0, -2)}${agent.token.endsWith('00') ? '11' : '00'}`;
      assert.equal((await this.client.get('/v1/agents/me', wrong)).status, 401);
    }
    for (const key of this.operatorKeys) {
      assert.equal((await this.client.get('/v1/agents/verification-challenge', key)).status, 200);
    }
  }

  /** Every queue holds what it should, in order; empties them. */
  async assertQueues(): Promise<void> {
    for (const agent of this.agents) {
      const received: string[] = [];
      for (let remaining = 1; remaining > 0; ) {
        const batch = await agent.receive(100);
        received.push(...batch.messages.map(({ content }) => content));
        remaining = batch.remaining;
      }
      assert.deepEqual(received, this.queued.get(agent.address), agent.address);
      this.queued.set(agent.address, []);
    }
  }

  /** A copy of the directory as it is; the server must be stopped. */
  async copyTo(directory: string): Promise<string> {
    const copy = join(directory, 'copy');
    await cp(this.dataDir, copy, { recursive: true });
    return copy;
  }

  async manifest(): Promise<{ shards: number; id: string }> {
    return JSON.parse(await readFile(join(this.dataDir, 'manifest.json'), 'utf8')) as { shards: number; id: string };
  }
}

/** One finding of `verify --json`. */
export interface ShownFinding {
  readonly kind: string;
  readonly shard: number | null;
  readonly file: string;
  readonly offset_bytes: number | null;
  readonly detail: string;
}

export interface ShownVerification {
  readonly ok: boolean;
  readonly server_runs: boolean;
  readonly shards: number;
  readonly events: number;
  readonly last_seq: number;
  readonly findings: readonly ShownFinding[];
  readonly total_findings: number;
  readonly notes: readonly string[];
}

/** What the command `verify --json` reports, without the command's process. */
export async function verify(dataDir: string): Promise<ShownVerification> {
  const report = verifyJson(await verifyDirectory({ dataDir, progress: NO_PROGRESS }));
  return JSON.parse(JSON.stringify(report)) as ShownVerification;
}

/** Runs the command `verify`; the exit code must agree with the report. */
export async function verifyByCommand(dataDir: string): Promise<ShownVerification> {
  const { code, stdout, stderr } = await runCommand(['verify', '--json', '--data-dir', dataDir]);
  assert.equal(stderr, '');
  const report = JSON.parse(stdout) as ShownVerification;
  assert.equal(code, report.ok ? 0 : 1);
  return report;
}

export async function assertSound(dataDir: string, check = verify): Promise<ShownVerification> {
  const report = await check(dataDir);
  assert.deepEqual(report.findings, []);
  assert.equal(report.ok, true);
  return report;
}

/** Runs a command that must end with 0, and returns its `--json` report. */
export async function tool<Report>(...args: string[]): Promise<Report> {
  const { code, stdout, stderr } = await runCommand([...args, '--json']);
  assert.equal(code, 0, `${args.join(' ')}: ${stderr} ${stdout}`);
  return JSON.parse(stdout) as Report;
}

const CRASH_HOOK = fileURLToPath(new URL('./crash-hook.js', import.meta.url));

/**
 * Runs a command that kills itself (SIGKILL) before its `callNumber`-th change of the file system; 0 never does.
 * Returns whether it was killed, and how many changes it made.
 */
export async function crashing(
  callNumber: number,
  ...args: string[]
): Promise<{ readonly killed: boolean; readonly changes: number; readonly result: CommandResult }> {
  const child = spawnHooked(callNumber, args);
  let stdout = '';
  let stderr = '';
  child.stdout?.setEncoding('utf8').on('data', (text: string) => {
    stdout += text;
  });
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
  });
  const [code, signal] = (await once(child, 'close')) as [number | null, string | null];
  const changes = Number(/changes=(\d+)/.exec(stderr)?.[1] ?? 0);
  return { killed: signal === 'SIGKILL', changes, result: { code, stdout, stderr } };
}

function spawnHooked(callNumber: number, args: readonly string[]): ChildProcess {
  const env = Object.entries(process.env).filter(
    ([name]) => !name.startsWith('TABULUM_') && name !== 'NODE_TEST_CONTEXT',
  );
  const child = spawn(process.execPath, ['--import', CRASH_HOOK, SERVER_ENTRY, ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...Object.fromEntries(env), CRASH_BEFORE_CHANGE: String(callNumber) },
  });
  const killWithUs = (): void => void child.kill('SIGKILL');
  process.once('exit', killWithUs);
  child.once('exit', () => process.removeListener('exit', killWithUs));
  return child;
}
