/**
 * A real server process for black-box tests, on a directory and ports of its own.
 * Owns:  the process (ended by its own pid, never by name) and its directory.
 * Never: reaches into the server; what it knows comes from the banner, the logs and the files on disk.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { type Cleanup, makeTempDir, removeTempDir } from './temp-dir.js';

/** The server under test: the build, unless TEST_SERVER_ENTRY names another entry file. */
export const SERVER_ENTRY = resolve(
  process.env.TEST_SERVER_ENTRY ?? fileURLToPath(new URL('../../../dist/main.js', import.meta.url)),
);

const READY_WITHIN_MS = 30_000;
/** What the contract gives SIGTERM. */
const STOP_WITHIN_MS = 10_000;

export interface ServerOptions {
  /** Settings by section, as in the YAML file. */
  readonly config?: object;
  /** Added to this process's environment, of which every TABULUM_ variable is left out. */
  readonly env?: Readonly<Record<string, string>>;
  /** Added to the command line. */
  readonly args?: readonly string[];
}

/** One event of the log, without what is the log's own. */
export interface LoggedEvent {
  readonly seq: number;
  readonly ts: string;
  readonly type: string;
  readonly agent?: string;
  readonly data: Readonly<Record<string, unknown>>;
}

/** Starts a server for one test; it and its directory are gone after the test. */
export async function startServer(t: Cleanup, options: ServerOptions = {}): Promise<TestServer> {
  const server = await TestServer.create(options);
  t.after(() => server.dispose());
  await server.start();
  return server;
}

/** Starts a server for a whole suite; call `dispose` when the suite is over. */
export async function launchServer(options: ServerOptions = {}): Promise<TestServer> {
  const server = await TestServer.create(options);
  try {
    await server.start();
  } catch (error) {
    await server.dispose();
    throw error;
  }
  return server;
}

export class TestServer {
  kernelPort = 0;
  observePort = 0;
  adminPort = 0;
  /** Lines of standard output of the present process. */
  banner: string[] = [];
  /** Time from spawn to `ready` of the last start. */
  startMs = 0;
  /** Every token and secret it gave out, as far as the test told: none may ever be logged. */
  readonly handedOut = new Set<string>();
  private readonly stderrLines: string[] = [];
  private child: ChildProcess | null = null;
  private lastExitCode: number | string | null = null;

  private constructor(
    readonly directory: string,
    private readonly options: ServerOptions,
  ) {}

  static async create(options: ServerOptions): Promise<TestServer> {
    return new TestServer(await makeTempDir(), options);
  }

  get dataDir(): string {
    return join(this.directory, 'data');
  }

  get pid(): number {
    const pid = this.child?.pid;
    assert.ok(pid !== undefined, 'the server does not run');
    return pid;
  }

  /** Resolves when the banner says `ready`; rejects with the end of the log when the process ends instead. */
  async start(): Promise<void> {
    assert.equal(this.child, null, 'the server runs already');
    const configFile = join(this.directory, 'tabulum.yaml');
    await writeFile(configFile, JSON.stringify(this.options.config ?? {}, null, 2)); // JSON is YAML
    const startedMs = performance.now();
    const args = [
      'serve',
      '--config',
      configFile,
      '--data-dir',
      this.dataDir,
      ...anyPorts(),
      ...(this.options.args ?? []),
    ];
    const child = spawnServer(args, this.options.env);
    this.child = child;
    this.banner = [];
    child.once('exit', (code, signal) => {
      this.lastExitCode = code ?? signal;
      if (this.child === child) this.child = null;
    });
    const { stdout, stderr } = child;
    assert.ok(stdout !== null && stderr !== null);
    createInterface({ input: stderr }).on('line', (line) => this.stderrLines.push(line));
    await new Promise<void>((ready, failed) => {
      const timer = setTimeout(() => failed(new Error(`not ready within ${READY_WITHIN_MS} ms`)), READY_WITHIN_MS);
      createInterface({ input: stdout }).on('line', (line) => {
        this.banner.push(line);
        if (line.trim() !== 'ready') return;
        clearTimeout(timer);
        ready();
      });
      child.once('exit', (code, signal) => {
        clearTimeout(timer);
        failed(new Error(`the server ended with ${code ?? signal}:\n${this.stderrLines.slice(-10).join('\n')}`));
      });
    });
    this.startMs = performance.now() - startedMs;
    this.kernelPort = this.portOf('kernel API');
    this.observePort = this.portOf('observation');
    this.adminPort = this.portOf('admin');
  }

  /** SIGTERM; fails unless the process ends by itself with code 0 within 10 s. */
  async stop(): Promise<void> {
    const { code, tookMs } = await this.signal('SIGTERM');
    assert.equal(code, 0, `exit code after SIGTERM; the log ends with\n${this.stderrLines.slice(-10).join('\n')}`);
    assert.ok(tookMs < STOP_WITHIN_MS, `the stop took ${Math.round(tookMs)} ms`);
  }

  /** SIGKILL: no line of the server's code runs any more. */
  async kill9(): Promise<void> {
    await this.signal('SIGKILL');
  }

  /** Waits until the process ends by itself; its exit code, or the signal that ended it. */
  async exitCode(): Promise<number | string | null> {
    const { child } = this;
    if (child === null) return this.lastExitCode;
    const [code, signal] = (await once(child, 'exit', { signal: AbortSignal.timeout(READY_WITHIN_MS) })) as [
      number | null,
      string | null,
    ];
    return code ?? signal;
  }

  /** Sends a signal and waits for the end, by force once the contract's time is over twice. */
  async signal(name: 'SIGTERM' | 'SIGINT' | 'SIGKILL'): Promise<{ code: number | null; tookMs: number }> {
    const child = this.child;
    assert.ok(child !== null, 'the server does not run');
    const sentMs = performance.now();
    const exit = once(child, 'exit');
    child.kill(name);
    const timer = setTimeout(() => child.kill('SIGKILL'), 2 * STOP_WITHIN_MS);
    const [code] = (await exit) as [number | null];
    clearTimeout(timer);
    return { code, tookMs: performance.now() - sentMs };
  }

  /** Stops it politely if it runs, and starts it again on the same directory. Ports change. */
  async restart(): Promise<void> {
    if (this.child !== null) await this.stop();
    await this.start();
  }

  /** Log lines of all processes on this directory so far. */
  stderr(): readonly string[] {
    return this.stderrLines;
  }

  /** Every event on disk, of all shards, by `seq`. An incomplete last line is still being written: left out. */
  async events(): Promise<LoggedEvent[]> {
    const events: LoggedEvent[] = [];
    for (const text of await this.logFiles()) {
      for (const line of text.slice(0, text.lastIndexOf('\n') + 1).split('\n')) {
        if (line !== '') events.push(JSON.parse(line) as LoggedEvent);
      }
    }
    return events.sort((a, b) => a.seq - b.seq);
  }

  /** Text of every segment of every shard. */
  async logFiles(): Promise<string[]> {
    const names = await readdir(this.dataDir, { recursive: true });
    const segments = names.filter((name) => /^shard-\d+\/log\/[^/]+\.ndjson$/.test(name)).sort();
    return Promise.all(segments.map((name) => readFile(join(this.dataDir, name), 'utf8')));
  }

  /** The value of one metric, over all its labels. */
  async metric(name: string): Promise<number> {
    const response = await fetch(`http://127.0.0.1:${this.adminPort}/metrics`);
    assert.equal(response.status, 200);
    const lines = (await response.text())
      .split('\n')
      .filter((line) => line.startsWith(`${name} `) || line.startsWith(`${name}{`));
    assert.ok(lines.length > 0, `there is no metric ${name}`);
    return lines.reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(' ') + 1)), 0);
  }

  /** Fails when a token or secret it gave out stands in a log line, the banner or an event. */
  async assertNoSecretLogged(): Promise<void> {
    assert.ok(this.handedOut.size > 0, 'no secret was handed out: nothing is tested');
    const texts = [this.stderrLines.join('\n'), this.banner.join('\n'), ...(await this.logFiles())];
    for (const secret of this.handedOut) {
      for (const text of texts) assert.ok(!text.includes(secret), `a secret is logged: ${secret.slice(0, 12)}...`);
    }
    for (const text of texts) assert.doesNotMatch(text, /(?:sk|at)_live_[0-9a-f]{16}/);
  }

  /** Ends the process, however it is, and removes its directory. */
  async dispose(): Promise<void> {
    if (this.child !== null) await this.signal('SIGKILL');
    await removeTempDir(this.directory);
  }

  private portOf(label: string): number {
    const line = this.banner.find((text) => text.trim().startsWith(label));
    const port = Number(/:(\d+)$/.exec(line?.trim() ?? '')?.[1]);
    assert.ok(port > 0, `the banner names no port for ${label}:\n${this.banner.join('\n')}`);
    return port;
  }
}

/** What a command printed and how it ended. */
export interface CommandResult {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs the server's command line to its end; one that does not end is killed and fails the test. */
export async function runCommand(
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<CommandResult> {
  const child = spawnServer(args, env);
  const { stdout, stderr } = child;
  assert.ok(stdout !== null && stderr !== null);
  let out = '';
  let err = '';
  stdout.setEncoding('utf8').on('data', (text: string) => {
    out += text;
  });
  stderr.setEncoding('utf8').on('data', (text: string) => {
    err += text;
  });
  const timer = setTimeout(() => child.kill('SIGKILL'), READY_WITHIN_MS);
  const [code] = (await once(child, 'close')) as [number | null];
  clearTimeout(timer);
  assert.notEqual(code, null, `${args.join(' ')} did not end by itself:\n${out}\n${err}`);
  return { code, stdout: out, stderr: err };
}

/** Options that let the system choose every port. */
export function anyPorts(): string[] {
  return ['--listen', '--observe-listen', '--admin-listen'].flatMap((option) => [option, '127.0.0.1:0']);
}

function spawnServer(args: readonly string[], env: Readonly<Record<string, string>> = {}): ChildProcess {
  const inherited = Object.entries(process.env).filter(
    ([name]) => !name.startsWith('TABULUM_') && name !== 'NODE_TEST_CONTEXT',
  );
  // Without source maps, whose reading is a tenth of a start: NODE_OPTIONS=--enable-source-maps gives them back.
  const child = spawn(process.execPath, [SERVER_ENTRY, ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...Object.fromEntries(inherited), ...env },
  });
  // A test process that dies early takes its servers along.
  const killWithUs = (): void => void child.kill('SIGKILL');
  process.once('exit', killWithUs);
  child.once('exit', () => process.removeListener('exit', killWithUs));
  return child;
}
