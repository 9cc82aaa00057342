/** Registrations all the while: after each crash every one that was answered works, and none is half there. */
import assert from 'node:assert/strict';
import { type ApiAgent, type HttpClient, registerAgent, registerOperator } from '../support/http.js';
import type { LoggedEvent, TestServer } from '../support/server.js';
import { type CrashClock, lane } from './crash-clock.js';

/** Old ones that are looked at after each crash, beside all new ones. */
const OLD_ONES = 20;

export class RegistrationLoad {
  private readonly operatorKeys: string[] = [];
  private readonly agents: ApiAgent[] = [];
  private checked = { operators: 0, agents: 0 };

  constructor(
    private readonly clock: CrashClock,
    private readonly server: TestServer,
    private readonly client: HttpClient,
  ) {}

  get answered(): number {
    return this.operatorKeys.length + this.agents.length;
  }

  async run(): Promise<void> {
    await lane(this.clock, async () => {
      const operatorKey = await registerOperator(this.server, this.client, 'crash');
      this.operatorKeys.push(operatorKey);
      for (let n = 0; n < 3; n++) this.agents.push(await registerAgent(this.server, this.client, operatorKey));
    });
  }

  async assertAll(): Promise<void> {
    for (const agent of fromPlace(this.agents, this.checked.agents)) {
      const answer = await agent.get('/v1/agents/me');
      assert.equal(answer.status, 200, `${agent.address} was registered, and its token gets ${answer.status}`);
      assert.equal(answer.json().address, agent.address);
    }
    for (const operatorKey of fromPlace(this.operatorKeys, this.checked.operators)) {
      const answer = await this.client.get('/v1/agents/verification-challenge', operatorKey);
      // Several challenges of one operator may still be open: that is a limit, not a loss.
      assert.ok(answer.status === 200 || answer.status === 503, `an operator's key gets ${answer.status}`);
    }
    this.checked = { operators: this.operatorKeys.length, agents: this.agents.length };
  }

  /** Everybody answered is in the log, once; and whoever is in the log is in the registry. */
  assertEvents(events: readonly LoggedEvent[], registry: ReadonlySet<string>): void {
    const logged = events.flatMap(({ type, data }) => (type === 'agent_registered' ? [String(data.address)] : []));
    assert.equal(new Set(logged).size, logged.length, 'an agent was registered twice');
    for (const address of logged) assert.ok(registry.has(address), `${address} is logged and not in the registry`);
    assert.equal(registry.size, logged.length);
    for (const { address } of this.agents) assert.ok(registry.has(address), `${address} is gone`);
  }
}

function fromPlace<Item>(items: readonly Item[], place: number): readonly Item[] {
  return items.slice(Math.max(0, place - OLD_ONES));
}
