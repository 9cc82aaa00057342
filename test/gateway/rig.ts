/** A gateway of one thread over the model engine, and a client that writes raw bytes. */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import type { PasswordHasher } from '../../src/auth-pool/password-hasher.js';
import type { Config } from '../../src/config/config.js';
import { loadConfig } from '../../src/config/load.js';
import type { Engine } from '../../src/contract/engine.js';
import { createCredential, newToken } from '../../src/gateway/auth/credential.js';
import { ConnectionCounts, createConnectionCounts } from '../../src/gateway/connect/connection-counts.js';
import { type Gateway, startGateway } from '../../src/gateway/gateway.js';
import { createLimiterMemory, kernelRates, SharedLimiter } from '../../src/gateway/limits/shared-limiter.js';
import { createLogger } from '../../src/log.js';
import { DEFAULT_LIMITS } from '../conformance/check.js';
import { MemoryEngine } from '../conformance/memory-engine.js';
import { waitUntil } from '../support/wait.js';

export const LOOPBACK = '127.0.0.1';

/** The default configuration with plentiful limits, cheap tokens and the gate that accepts anything. */
export function testConfig(server: Partial<Config['server']> = {}, flags: Record<string, string> = {}): Config {
  const loaded = loadConfig({
    env: {},
    flags: {
      'auth.scheme': 'hmac',
      'verification.gate_type': 'stub',
      'rate_limits.message_send_per_min': '100000',
      'rate_limits.message_read_per_min': '100000',
      'rate_limits.state_read_per_min': '100000',
      'rate_limits.state_write_per_min': '100000',
      'rate_limits.registry_read_per_min': '100000',
      ...flags,
    },
    cores: 2,
  });
  if (!loaded.ok) throw new Error(loaded.errors.join('\n'));
  // Past the loader, which refuses limits as short as tests want them.
  return { ...loaded.config, server: { ...loaded.config.server, ...server } };
}

/** Schemes other than bcrypt never ask it. */
const NO_HASHER: PasswordHasher = {
  hash: () => Promise.reject(new Error('no bcrypt in these tests')),
  verify: () => Promise.reject(new Error('no bcrypt in these tests')),
  stats: () => ({ running: 0, waiting: 0, completed: 0 }),
};

export interface Rig {
  readonly gateway: Gateway;
  readonly engine: MemoryEngine;
  readonly agentToken: string;
  readonly operatorKey: string;
  /** `Authorization` header line of the agent, with CRLF. */
  readonly bearer: string;
}

interface Cleanup {
  after(callback: () => void): void;
}

/** @param wrap replaces the engine the gateway sees; the rig's own stays behind it. */
export async function startRig(
  t: Cleanup,
  config: Config = testConfig(),
  wrap: (engine: MemoryEngine) => Engine = (engine) => engine,
): Promise<Rig> {
  const engine = new MemoryEngine(DEFAULT_LIMITS);
  const hmacServerKey = Buffer.alloc(32, 7);
  const gateway = await startGateway({
    config,
    engine: wrap(engine),
    hasher: NO_HASHER,
    hmacServerKey,
    limiter: new SharedLimiter(createLimiterMemory(1024), kernelRates(config.rateLimits)),
    connectionCounts: new ConnectionCounts(createConnectionCounts(1, config.connect), 0, config.connect),
    logger: createLogger('gateway-test', 'fatal'),
    listen: { host: LOOPBACK, port: 0, shared: false },
  });
  t.after(() => gateway.close());
  const credentialOf = async (token: string) => {
    const made = await createCredential(token, 'hmac', NO_HASHER, hmacServerKey);
    if (!made.ok) throw new Error(made.code);
    return made.value;
  };
  const operatorKey = newToken('operator');
  const operator = await engine.createOperator({ contactHash: 'x', credential: await credentialOf(operatorKey) });
  if (!operator.ok) throw new Error(operator.code);
  const agentToken = newToken('agent');
  const { operatorId } = operator.value;
  await engine.registerAgent({ operatorId, credential: await credentialOf(agentToken), webhook: null });
  return { gateway, engine, agentToken, operatorKey, bearer: `Authorization: Bearer ${agentToken}\r\n` };
}

export interface RawResponse {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

/** One connection; what it receives is parsed into responses by Content-Length. */
export class RawConnection {
  readonly responses: RawResponse[] = [];
  closed = false;
  /** Answers to come have no body. */
  expectsHead = false;
  private received = Buffer.alloc(0);
  private wake: () => void = () => {};

  private constructor(private readonly socket: Socket) {
    socket.setNoDelay(true);
    socket.on('data', (data) => {
      this.received = Buffer.concat([this.received, data]);
      while (this.takeResponse());
      this.wake();
    });
    socket.on('error', () => {}); // a reset is a close
    socket.on('close', () => {
      this.closed = true;
      this.wake();
    });
  }

  static async open(t: Cleanup, port: number): Promise<RawConnection> {
    const socket = connect(port, LOOPBACK);
    t.after(() => socket.destroy());
    await once(socket, 'connect');
    return new RawConnection(socket);
  }

  /** A string is sent as Latin-1: one byte a character. */
  send(...parts: (string | Uint8Array)[]): this {
    this.socket.write(
      Buffer.concat(parts.map((part) => (typeof part === 'string' ? Buffer.from(part, 'latin1') : part))),
    );
    return this;
  }

  async response(index = 0): Promise<RawResponse> {
    const signal = AbortSignal.timeout(5_000);
    while (this.responses.length <= index && !this.closed) {
      signal.throwIfAborted();
      await new Promise<void>((resolve, reject) => {
        this.wake = resolve;
        signal.onabort = () => reject(new Error('no answer within 5 s'));
      });
    }
    const response = this.responses[index];
    if (response === undefined) throw new Error(`closed after ${this.responses.length} answers: ${this.received}`);
    return response;
  }

  async end(): Promise<void> {
    await waitUntil(() => this.closed, { timeoutMs: 15_000, what: 'the server closes the connection' });
  }

  destroy(): void {
    this.socket.destroy();
  }

  private takeResponse(): boolean {
    const headEnd = this.received.indexOf('\r\n\r\n');
    if (headEnd === -1) return false;
    const [statusLine = '', ...lines] = this.received.subarray(0, headEnd).toString('latin1').split('\r\n');
    const headers: Record<string, string> = {};
    for (const line of lines)
      headers[line.slice(0, line.indexOf(':')).toLowerCase()] = line.slice(line.indexOf(':') + 1).trim();
    const status = Number(statusLine.split(' ')[1]);
    const bodyless = this.expectsHead || status < 200 || headers['content-length'] === undefined;
    const bodyBytes = bodyless ? 0 : Number(headers['content-length']);
    const end = headEnd + 4 + bodyBytes;
    if (this.received.length < end) return false;
    this.responses.push({ status, headers, body: this.received.subarray(headEnd + 4, end).toString('utf8') });
    this.received = this.received.subarray(end);
    return true;
  }
}

/** Sends one request on a connection of its own. */
export async function ask(t: Cleanup, port: number, ...parts: (string | Uint8Array)[]): Promise<RawResponse> {
  const connection = await RawConnection.open(t, port);
  const response = await connection.send(...parts).response();
  connection.destroy();
  return response;
}

export function errorCode(response: RawResponse): unknown {
  const body: unknown = JSON.parse(response.body);
  return typeof body === 'object' && body !== null && 'error' in body ? body.error : undefined;
}
