/** A server that trusts the receivers under test, and agents with webhooks at them. */
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { verifyWebhook, type WebhookMessage } from '../../examples/webhook-receiver.js';
import { ApiAgent, type Challenge, HttpClient, registerAgent, registerOperator } from '../support/http.js';
import { selfSigned, type TlsIdentity } from '../support/self-signed.js';
import { startServer, type TestServer } from '../support/server.js';
import { type Cleanup, tempDir } from '../support/temp-dir.js';
import { waitUntil } from '../support/wait.js';
import { HookServer } from './hook-server.js';

const PLENTY = 1_000_000;
/** An operator has few open challenges at a time. */
const AGENTS_PER_OPERATOR = 8;

/** Settings of `webhook` and whether pace matters, as the YAML file has them. */
export interface WebhookRigOptions {
  readonly webhook?: Readonly<Record<string, unknown>>;
  readonly outboundPerMin?: number;
  readonly env?: Readonly<Record<string, string>>;
}

export class WebhookAgent {
  constructor(
    readonly api: ApiAgent,
    readonly path: string,
    readonly secret: string,
  ) {}

  get address(): string {
    return this.api.address;
  }

  /** What waits in the pull queue, taken out of it. */
  async pull(): Promise<string[]> {
    return (await this.api.receive(100)).messages.map(({ content }) => content);
  }
}

export class WebhookRig {
  private readonly operatorKeys: string[] = [];
  private registered = 0;

  private constructor(
    readonly server: TestServer,
    readonly hooks: HookServer,
    readonly identity: TlsIdentity,
    private readonly client: HttpClient,
    readonly sender: ApiAgent,
  ) {}

  static async start(t: Cleanup, options: WebhookRigOptions = {}): Promise<WebhookRig> {
    const identity = selfSigned(['127.0.0.1', 'localhost']);
    const hooks = await HookServer.start(t, identity);
    const certFile = join(await tempDir(t), 'trusted.pem');
    await writeFile(certFile, identity.cert);
    const perMin = (name: string): [string, number] => [`${name}_per_min`, PLENTY];
    const server = await startServer(t, {
      env: { NODE_EXTRA_CA_CERTS: certFile, ...options.env },
      config: {
        topology: { gateways: 1, shards: 1 },
        verification: { gate_type: 'stub' },
        auth: { scheme: 'hmac' },
        rate_limits: {
          ...Object.fromEntries(['message_send', 'message_read', 'state_read', 'state_write'].map(perMin)),
          operator_reg_per_hour_per_ip: PLENTY,
          webhook_outbound_per_min: options.outboundPerMin ?? PLENTY,
        },
        webhook: { allow_networks: ['127.0.0.0/8'], max_retries: 0, ...options.webhook },
      },
    });
    const client = new HttpClient(() => server.kernelPort);
    t.after(async () => client.close());
    const sender = await registerAgent(server, client, await registerOperator(server, client));
    return new WebhookRig(server, hooks, identity, client, sender);
  }

  /** An agent whose webhook is the receiver at this path. @param url of another receiver */
  async agent(path: string, url = this.hooks.url(path)): Promise<WebhookAgent> {
    const number = Math.floor(this.registered++ / AGENTS_PER_OPERATOR);
    this.operatorKeys[number] ??= await registerOperator(this.server, this.client);
    const key = this.operatorKeys[number];
    const challenge = (await this.client.get('/v1/agents/verification-challenge', key)).json<Challenge>();
    const body = {
      verification_response: { challenge_id: challenge.challenge_id, response: 'x' },
      webhook_url: url,
    };
    const answer = await this.client.post('/v1/agents', body, key);
    assert.equal(answer.status, 201, answer.text);
    const made = answer.json<{ agent_address: string; agent_token: string; webhook_secret: string }>();
    for (const secret of [made.agent_token, made.webhook_secret, path]) this.server.handedOut.add(secret);
    return new WebhookAgent(new ApiAgent(this.client, made.agent_address, made.agent_token), path, made.webhook_secret);
  }

  /** Sends messages in turn. */
  async send(to: WebhookAgent, ...contents: string[]): Promise<void> {
    for (const content of contents) {
      const answer = await this.sender.message(to.address, content);
      assert.equal(answer.status, 202, answer.text);
    }
  }

  /** What came to an agent, each post's signature checked with the agent's secret, repeats included. */
  verified(agent: WebhookAgent): WebhookMessage[] {
    return this.hooks.received
      .filter(({ path }) => path === agent.path)
      .map(({ headers, body, atMs }) => {
        const message = verifyWebhook(headers, Buffer.from(body), agent.secret, atMs);
        assert.equal(headers['webhook-id'], message.message_id);
        assert.equal(message.to, agent.address);
        return message;
      });
  }

  /** Waits until a figure of the webhook thread stands at `value`; it has none while the thread starts. */
  async untilMetric(name: string, value: number, timeoutMs = 20_000): Promise<void> {
    let found = Number.NaN;
    const read = async (): Promise<boolean> => {
      const metrics = await (await fetch(`http://127.0.0.1:${this.server.adminPort}/metrics`)).text();
      const lines = metrics.split('\n').filter((line) => line.startsWith(`${name} `) || line.startsWith(`${name}{`));
      const figures = lines.map((line) => Number(line.slice(line.lastIndexOf(' ') + 1)));
      found = figures.length === 0 ? Number.NaN : figures.reduce((sum, figure) => sum + figure, 0);
      return found === value;
    };
    await waitUntil(read, { timeoutMs, what: `${name} is ${value}` }).catch((error: unknown) => {
      throw new Error(`${name} is ${found}, not ${value}`, { cause: error });
    });
  }

  /** How messages to this agent were delivered, in the order of the log: the ids by method. */
  async deliveries(agent: WebhookAgent): Promise<{ push: string[]; pull: string[] }> {
    const found = { push: [] as string[], pull: [] as string[] };
    for (const { type, data } of await this.server.events()) {
      if (type !== 'message_delivered' || data.to !== agent.address) continue;
      found[data.delivery_method === 'push' ? 'push' : 'pull'].push(String(data.message_id));
    }
    return found;
  }
}
