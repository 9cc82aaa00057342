/** A kernel in which something happens: agents that talk, write and read over HTTP, the same for the same seed. */
import assert from 'node:assert/strict';
import { type ApiAgent, HttpClient, registerAgent, registerOperator } from '../support/http.js';
import { seededRandom } from '../support/seed.js';
import { launchServer, type ServerOptions, type TestServer } from '../support/server.js';

export const ADMIN_KEY = 'page-test-admin-key-0123456789abcdef';

/** Limits out of the way, no bcrypt: the page is under test, not the kernel. */
export const OPEN_CONFIG = {
  verification: { gate_type: 'stub' },
  auth: { scheme: 'hmac' },
  rate_limits: {
    message_send_per_min: 1_000_000,
    message_read_per_min: 1_000_000,
    state_read_per_min: 1_000_000,
    state_write_per_min: 1_000_000,
    registry_read_per_min: 1_000_000,
    operator_reg_per_hour_per_ip: 1_000,
  },
  observe: { rate_limit: { requests_per_min_per_ip: 100_000 } },
};

export class World {
  readonly agents: ApiAgent[] = [];

  private constructor(
    readonly server: TestServer,
    readonly client: HttpClient,
    private readonly operatorKey: string,
  ) {}

  static async launch(options: ServerOptions = {}): Promise<World> {
    const server = await launchServer({ config: OPEN_CONFIG, env: { TABULUM_ADMIN_KEY: ADMIN_KEY }, ...options });
    const client = new HttpClient(() => server.kernelPort);
    try {
      return new World(server, client, await registerOperator(server, client));
    } catch (error) {
      client.close();
      await server.dispose();
      throw error;
    }
  }

  async dispose(): Promise<void> {
    this.client.close();
    await this.server.dispose();
  }

  get url(): string {
    return `http://127.0.0.1:${this.server.observePort}/`;
  }

  agent(index: number): ApiAgent {
    const agent = this.agents[index];
    assert.ok(agent !== undefined, `there is no agent ${index}`);
    return agent;
  }

  async arrive(): Promise<ApiAgent> {
    const agent = await registerAgent(this.server, this.client, this.operatorKey);
    this.agents.push(agent);
    return agent;
  }

  async arriveMany(count: number): Promise<void> {
    let wanted = count - this.agents.length;
    const lanes = Array.from({ length: 8 }, async () => {
      while (wanted-- > 0) await this.arrive();
    });
    await Promise.all(lanes);
  }

  /** Sends a message and gives back its id. */
  async say(from: number, to: number, content: string): Promise<string> {
    const answer = await this.agent(from).message(this.agent(to).address, content);
    assert.equal(answer.status, 202, answer.text);
    return answer.json<{ message_id: string }>().message_id;
  }

  async write(by: number, key: string, value: string): Promise<void> {
    const answer = await this.agent(by).write(key, value);
    assert.equal(answer.status, 200, answer.text);
  }

  /** `rounds` of mixed work; a few agents do most of it, as among people. */
  async live(seed: number, rounds: number): Promise<void> {
    const random = seededRandom(seed);
    const someone = (): number => Math.min(random(this.agents.length), random(this.agents.length));
    for (let round = 0; round < rounds; round++) {
      const actor = someone();
      switch (random(8)) {
        case 0:
        case 1:
        case 2:
          await this.say(actor, random(this.agents.length), SAYINGS[random(SAYINGS.length)] ?? '');
          break;
        case 3:
          await this.agent(actor).receive(10);
          break;
        case 4:
        case 5:
          await this.write(actor, KEYS[random(KEYS.length)] ?? 'key', someValue(random));
          break;
        case 6:
          await this.agent(actor).read(KEYS[random(KEYS.length)] ?? 'key');
          break;
        default:
          await this.agent(actor).get('/v1/registry?limit=5');
      }
    }
  }

  async newestSeq(): Promise<number> {
    const answer = await fetch(`${this.url}observe/overview`);
    return ((await answer.json()) as { last_seq: number }).last_seq;
  }
}

const SAYINGS = [
  'Has anyone seen the survey of the northern grid? I need it before the next round.',
  'Taking task 14. Will report under jobs/14/report.',
  'Agreed. Price is 12 units, delivery on confirmation.',
  '{"intent":"offer","item":"translation","unit_price":0.4,"expires":"2026-12-01T00:00:00Z"}',
  'Merci, bien reçu. Je transmets la suite à la prochaine équipe.',
  '了解しました。次の報告を待っています。',
  'Proposal rejected: the checksum does not match what is under plans.v2:hash',
  'ping',
];

const KEYS = [
  'plans/picnic',
  'plans/survey/north',
  'plans/survey/south',
  'plans.v2:hash',
  'jobs/14/report',
  'jobs/14/status',
  'jobs/15/status',
  'jobs/16/status',
  'market:offers:translation',
  'market:offers:maps',
  'market:prices',
  'directory.translators.fr',
  'directory.translators.ja',
  'notes',
];

function someValue(random: (below: number) => number): string {
  switch (random(3)) {
    case 0:
      return ['open', 'taken', 'done', 'failed'][random(4)] ?? '';
    case 1:
      return JSON.stringify({ round: random(50), units: random(900), open: random(2) === 0, by: `team-${random(5)}` });
    default:
      return `Line one of ${random(9)}\nstatus ${random(3)}\nlast line`;
  }
}
