/** Rules of operators, agents, credentials and challenges. */
import assert from 'node:assert/strict';
import { isAgentAddress } from '../../src/contract/tokens.js';
import { waitUntil } from '../support/wait.js';
import {
  assertIsNow,
  atOnce,
  type EngineCheck,
  newChallenge,
  newCredential,
  nth,
  ODD_NAMES,
  ok,
  range,
  refused,
  UUID,
} from './check.js';

/** More challenges than any engine should let one operator hold. */
const SURELY_TOO_MANY_CHALLENGES = 5_000;

export const IDENTITY_CHECKS: readonly EngineCheck[] = [
  {
    name: 'operators get distinct UUIDs, and their credentials are found exactly as given',
    async run(world) {
      const seen = new Set<string>();
      for (const scheme of ['bcrypt', 'hmac'] as const) {
        const credential = newCredential('operator', scheme);
        const { operatorId } = ok(await world.engine.createOperator({ contactHash: 'same', credential }));
        assert.match(operatorId, UUID);
        seen.add(operatorId);
        const found = ok(await world.engine.findCredential(credential.lookup));
        assert.deepEqual(found, { ...credential, kind: 'operator', subject: operatorId });
      }
      assert.equal(seen.size, 2);
    },
  },
  {
    name: 'agents get distinct addresses of the published form, and their credentials are found exactly as given',
    async run(world) {
      const operatorId = await world.operator();
      const seen = new Set<string>();
      for (const scheme of ['bcrypt', 'hmac'] as const) {
        const credential = newCredential('agent', scheme);
        const webhook = scheme === 'hmac' ? { url: 'https://example.org/hook', secret: 'whsec_x' } : null;
        const agent = ok(await world.engine.registerAgent({ operatorId, credential, webhook }));
        assert.ok(isAgentAddress(agent.address), agent.address);
        assertIsNow(agent.registeredAtMs, 'registeredAtMs');
        seen.add(agent.address);
        const found = ok(await world.engine.findCredential(credential.lookup));
        assert.deepEqual(found, { ...credential, kind: 'agent', subject: agent.address });
        assert.deepEqual(ok(await world.engine.findAgent(agent.address)), agent);
      }
      assert.equal(seen.size, 2);
    },
  },
  {
    name: 'addresses are distinct over many registrations at once, and each agent is found',
    async run(world) {
      const operatorId = await world.operator();
      const agents = await atOnce(range(300), () => world.register(operatorId));
      assert.equal(new Set(agents.map(({ address }) => address)).size, 300);
      for (const agent of agents) assert.deepEqual(ok(await world.engine.findAgent(agent.address)), agent);
    },
  },
  {
    name: 'a taken operator lookup is refused and the first credential stays',
    async run(world) {
      const first = newCredential('operator');
      const { operatorId } = ok(await world.engine.createOperator({ contactHash: 'a', credential: first }));
      const second = { ...newCredential('operator'), lookup: first.lookup };
      refused(await world.engine.createOperator({ contactHash: 'b', credential: second }), 'bad_request');
      const found = ok(await world.engine.findCredential(first.lookup));
      assert.deepEqual(found, { ...first, kind: 'operator', subject: operatorId });
    },
  },
  {
    name: 'a taken agent lookup is refused, registers nobody, and the first credential stays',
    async run(world) {
      const operatorId = await world.operator();
      const first = newCredential('agent');
      const agent = await world.register(operatorId, first);
      const second = { ...newCredential('agent'), lookup: first.lookup };
      refused(await world.engine.registerAgent({ operatorId, credential: second, webhook: null }), 'bad_request');
      const found = ok(await world.engine.findCredential(first.lookup));
      assert.deepEqual(found, { ...first, kind: 'agent', subject: agent.address });
      assert.deepEqual(await world.allAgents(agent.address), [agent]);
    },
  },
  {
    name: 'of registrations at once with one lookup exactly one is accepted',
    async run(world) {
      const operatorId = await world.operator();
      for (const round of range(5)) {
        const { lookup } = newCredential('agent');
        const replies = await atOnce(range(8), () => {
          const credential = { ...newCredential('agent'), lookup };
          return world.engine.registerAgent({ operatorId, credential, webhook: null });
        });
        for (const reply of replies.filter((each) => !each.ok)) refused(reply, 'bad_request');
        const accepted = replies.filter((each) => each.ok).map(ok);
        assert.equal(accepted.length, 1);
        const winner = nth(accepted, 0).address;
        assert.equal(ok(await world.engine.findCredential(lookup)).subject, winner);
        assert.equal((await world.allAgents(winner)).length, round + 1);
      }
    },
  },
  {
    name: 'of operators created at once with one lookup exactly one is accepted',
    async run(world) {
      const { lookup } = newCredential('operator');
      const replies = await atOnce(range(8), () =>
        world.engine.createOperator({ contactHash: 'x', credential: { ...newCredential('operator'), lookup } }),
      );
      for (const reply of replies.filter((each) => !each.ok)) refused(reply, 'bad_request');
      const accepted = replies.filter((each) => each.ok).map(ok);
      assert.equal(accepted.length, 1);
      assert.equal(ok(await world.engine.findCredential(lookup)).subject, nth(accepted, 0).operatorId);
    },
  },
  {
    name: 'unknown lookups and addresses are not found',
    async run(world) {
      const address = await world.agent();
      for (const kind of ['operator', 'agent'] as const) {
        refused(await world.engine.findCredential(newCredential(kind).lookup), 'not_found');
      }
      const unknown = [
        ...ODD_NAMES,
        'nobody',
        `tab_${'0'.repeat(20)}`,
        address.toUpperCase(),
        `${address}x`,
        address.slice(0, -1),
      ];
      for (const wrong of unknown)
        refused(await world.engine.findAgent(wrong), 'not_found', JSON.stringify(wrong.slice(0, 50)));
    },
  },
  {
    name: 'a challenge is handed out exactly as stored, and once',
    async run(world) {
      const challenge = newChallenge(await world.operator());
      assert.equal(ok(await world.engine.storeChallenge(challenge)), null);
      assert.deepEqual(ok(await world.engine.takeChallenge(challenge.challengeId)), challenge);
      refused(await world.engine.takeChallenge(challenge.challengeId), 'not_found', 'second take');
      refused(await world.engine.takeChallenge(newChallenge('').challengeId), 'not_found', 'never stored');
    },
  },
  {
    name: 'of takes at once of one challenge exactly one gets it',
    async run(world) {
      const challenge = newChallenge(await world.operator());
      ok(await world.engine.storeChallenge(challenge));
      const replies = await atOnce(range(10), () => world.engine.takeChallenge(challenge.challengeId));
      assert.equal(replies.filter((reply) => reply.ok).length, 1);
      for (const reply of replies.filter((each) => !each.ok)) refused(reply, 'not_found');
    },
  },
  {
    name: 'an expired challenge is not handed out',
    async run(world) {
      const operatorId = await world.operator();
      const late = newChallenge(operatorId, Date.now() - 1);
      const soon = newChallenge(operatorId, Date.now() + 30);
      ok(await world.engine.storeChallenge(late));
      ok(await world.engine.storeChallenge(soon));
      refused(await world.engine.takeChallenge(late.challengeId), 'not_found');
      await waitUntil(() => Date.now() > soon.expiresAtMs, { timeoutMs: 5_000 });
      refused(await world.engine.takeChallenge(soon.challengeId), 'not_found');
    },
  },
  {
    name: "an operator who hoards challenges loses his oldest, keeps his newest, and touches nobody else's",
    async run(world) {
      const other = newChallenge(await world.operator());
      ok(await world.engine.storeChallenge(other));
      const hoarder = await world.operator();
      const challenges = range(SURELY_TOO_MANY_CHALLENGES).map(() => newChallenge(hoarder));
      await atOnce(challenges, async (challenge) => ok(await world.engine.storeChallenge(challenge)));
      const newest = nth(challenges, -1);
      assert.deepEqual(ok(await world.engine.takeChallenge(newest.challengeId)), newest);
      const taken = await atOnce(challenges, ({ challengeId }) => world.engine.takeChallenge(challengeId));
      assert.ok(taken.filter((reply) => reply.ok).length < SURELY_TOO_MANY_CHALLENGES / 2, 'bounded per operator');
      refused(nth(taken, 0), 'not_found', 'the oldest of a hoard');
      assert.deepEqual(ok(await world.engine.takeChallenge(other.challengeId)), other);
    },
  },
];
