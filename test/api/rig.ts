/** A running server with a client, an operator, and assertions on the forms that answers of the API have. */
import assert from 'node:assert/strict';
import {
  ApiAgent,
  type Challenge,
  type HttpAnswer,
  HttpClient,
  registerAgent,
  registerOperator,
} from '../support/http.js';
import { launchServer, type ServerOptions, startServer, type TestServer } from '../support/server.js';
import type { Cleanup } from '../support/temp-dir.js';

export const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;
export const ADDRESS = /^tab_[a-z0-9]{20}$/;
export const OPERATOR_KEY = /^sk_live_[0-9a-f]{64}$/;
export const AGENT_TOKEN = /^at_live_[0-9a-f]{64}$/;
export const TIMESTAMP = /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{3,9}Z$/;

const STATUS_OF = {
  bad_request: 400,
  unauthorized: 401,
  verification_failed: 403,
  not_found: 404,
  method_not_allowed: 405,
  idempotency_conflict: 409,
  value_too_large: 413,
  unsupported_media_type: 415,
  rate_limited: 429,
  unavailable: 503,
  too_many_connections: 503,
  store_full: 507,
} as const;
export type ErrorCode = keyof typeof STATUS_OF;

/** The answer is this error, in exactly the form every error has, and tells nothing of the server's insides. */
export function assertError(answer: HttpAnswer, code: ErrorCode, what = ''): void {
  assert.equal(answer.status, STATUS_OF[code], `${what} ${answer.text}`);
  assert.match(answer.headers['content-type'] ?? '', /^application\/json(?:;|$)/, what);
  const body = answer.json();
  assert.deepEqual(Object.keys(body).sort(), ['error', 'message'], `${what} ${answer.text}`);
  assert.equal(body.error, code, what);
  const { message } = body;
  assert.ok(typeof message === 'string' && message.length > 0, `${what}: the message says nothing`);
  assert.doesNotMatch(message, /\bat .*:\d+:\d+|node_modules|\.[jt]s\b|LMDB|worker/i, 'the message shows internals');
  if (answer.status === 429 || answer.status === 503) {
    assert.match(answer.headers['retry-after'] ?? '', /^[1-9]\d*$/, `${what}: Retry-After`);
  }
}

/** The answer has this status and exactly these fields; returns them. */
export function assertFields<Field extends string>(
  answer: HttpAnswer,
  status: number,
  fields: readonly Field[],
): Record<Field, unknown> {
  assert.equal(answer.status, status, answer.text);
  assert.match(answer.headers['content-type'] ?? '', /^application\/json(?:;|$)/);
  const body = answer.json<Record<Field, unknown>>();
  assert.deepEqual(Object.keys(body).sort(), [...fields].sort());
  return body;
}

/** An RFC 3339 UTC time with milliseconds or better, no further than a minute from now. */
export function assertRecent(timestamp: unknown): void {
  assert.ok(typeof timestamp === 'string');
  assert.match(timestamp, TIMESTAMP);
  assert.ok(Math.abs(Date.parse(timestamp) - Date.now()) < 60_000, `${timestamp} is not about now`);
}

export interface LimitFigures {
  readonly limit: number;
  readonly remaining: number;
  readonly resetEpochSeconds: number;
}

/** The three headers of a limited response, checked for form. */
export function limitFigures(answer: HttpAnswer): LimitFigures {
  const figure = (name: string): number => {
    const text = answer.headers[name];
    assert.ok(typeof text === 'string', `${name} is missing in a limited response (${answer.status})`);
    assert.match(text, /^\d+$/, name);
    return Number(text);
  };
  return {
    limit: figure('x-ratelimit-limit'),
    remaining: figure('x-ratelimit-remaining'),
    resetEpochSeconds: figure('x-ratelimit-reset'),
  };
}

/** Runs `work` for 0..count-1, at most `width` at a time; results in order. */
export async function inParallel<T>(count: number, width: number, work: (index: number) => Promise<T>): Promise<T[]> {
  const results: T[] = [];
  let next = 0;
  const lane = async (): Promise<void> => {
    while (next < count) {
      const index = next++;
      results[index] = await work(index);
    }
  };
  await Promise.all(Array.from({ length: Math.min(width, count) }, lane));
  return results;
}

export class Rig {
  private constructor(
    readonly server: TestServer,
    readonly client: HttpClient,
    readonly operatorKey: string,
    private readonly solve: ((challenge: Challenge) => string) | undefined,
  ) {}

  /** A server for one test, with one operator. @param solve needed unless the gate is `stub` */
  static async start(t: Cleanup, options: ServerOptions, solve?: (challenge: Challenge) => string): Promise<Rig> {
    const server = await startServer(t, options);
    return Rig.around(server, solve);
  }

  /** A server for a whole suite; `dispose` ends it. */
  static async launch(options: ServerOptions, solve?: (challenge: Challenge) => string): Promise<Rig> {
    const server = await launchServer(options);
    try {
      return await Rig.around(server, solve);
    } catch (error) {
      await server.dispose();
      throw error;
    }
  }

  private static async around(server: TestServer, solve?: (challenge: Challenge) => string): Promise<Rig> {
    const client = new HttpClient(() => server.kernelPort);
    return new Rig(server, client, await registerOperator(server, client), solve);
  }

  agent(operatorKey = this.operatorKey): Promise<ApiAgent> {
    return registerAgent(this.server, this.client, operatorKey, this.solve);
  }

  operator(): Promise<string> {
    return registerOperator(this.server, this.client);
  }

  /** Another agent's view with any token. */
  as(token: string): ApiAgent {
    return new ApiAgent(this.client, '', token);
  }

  async challenge(operatorKey = this.operatorKey): Promise<Challenge> {
    const answer = await this.client.get('/v1/agents/verification-challenge', operatorKey);
    assert.equal(answer.status, 200, answer.text);
    return answer.json<Challenge>();
  }

  async dispose(): Promise<void> {
    this.client.close();
    await this.server.dispose();
  }
}
