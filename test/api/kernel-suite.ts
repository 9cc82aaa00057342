/** The whole kernel API, checked over HTTP on servers of one topology. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import type { ServerOptions } from '../support/server.js';
import { authenticationChecks } from './checks/authentication.js';
import { connectChecks } from './checks/connect.js';
import { deliveryChecks } from './checks/delivery.js';
import { eventChecks } from './checks/events.js';
import { PROOF_OF_WORK, pipelineChecks, proofOfWorkChecks } from './checks/gates.js';
import { limitChecks } from './checks/limits.js';
import { listingChecks } from './checks/listings.js';
import { messageChecks } from './checks/messages.js';
import { proxyChecks } from './checks/proxies.js';
import { registrationChecks } from './checks/registration.js';
import { routingChecks } from './checks/routing.js';
import { REJECTING_QUEUES, rejectingQueueChecks, SMALL_STORE, smallStoreChecks } from './checks/small-stores.js';
import { stateChecks } from './checks/state.js';
import { Rig } from './rig.js';
import { solvePipeline } from './solve-pipeline.js';
import { FAST, type Topology, topologySettings } from './topologies.js';

type RigOptions = ServerOptions & { readonly solves?: 'pipeline' };

/** One server for all checks of a `describe`; whatever it handed out is searched for in its logs at the end. */
function onServer(name: string, options: RigOptions, checks: (rig: () => Rig) => void): void {
  // One test at a time: they share the server.
  describe(name, { concurrency: 1 }, () => {
    let shared: Rig | undefined;
    const rig = (): Rig => {
      assert.ok(shared !== undefined, 'the server did not start');
      return shared;
    };
    before(async () => {
      shared = await Rig.launch(options, options.solves === 'pipeline' ? solvePipeline : undefined);
    });
    after(() => shared?.dispose());
    checks(rig);
    test('no token or secret handed out so far stands in any log; nothing went wrong inside; it stops with code 0', async () => {
      await rig().server.assertNoSecretLogged();
      const troubles = rig()
        .server.stderr()
        .filter((line) => /"level":(?:50|60)/.test(line) || !/^(?:\{|Warning: uWS)/.test(line));
      assert.deepEqual(troubles, []);
      rig().client.close();
      await rig().server.stop();
    });
  });
}

export function kernelSuite(topology: Topology): void {
  const shape = topologySettings(topology);
  // Servers start mostly on one core: two suites at a time use both.
  describe(`kernel API on ${topology.name}`, { concurrency: 2 }, () => {
    const fast = { ...FAST, ...shape, webhook: { allow_networks: ['127.0.0.0/8'] }, log: { level: 'trace' } };
    onServer('with plentiful limits', { config: fast }, (rig) => {
      describe('routing', () => routingChecks(rig));
      describe('authentication', () => authenticationChecks(rig));
      describe('registration', () => registrationChecks(rig));
      describe('messages', () => messageChecks(rig));
      describe('state', () => stateChecks(rig));
      describe('listings', () => listingChecks(rig));
      describe('events', () => eventChecks(rig));
    });
    onServer('with plentiful limits, for delivery', { config: fast }, (rig) => {
      describe('delivery', () => deliveryChecks(rig));
      describe('connect', () => connectChecks(rig));
    });
    onServer('with the default limits, bcrypt and pipeline', { config: shape, solves: 'pipeline' }, limitChecks);
    onServer('with a small store', { config: { ...FAST, ...shape, ...SMALL_STORE } }, smallStoreChecks);
    onServer('with queues that refuse', { config: { ...FAST, ...shape, ...REJECTING_QUEUES } }, rejectingQueueChecks);
    describe('behind a trusted proxy', () => proxyChecks(topology));
    const { auth, rate_limits } = FAST;
    const pipeline = { auth, rate_limits, ...shape };
    onServer('with the pipeline gate', { config: pipeline, solves: 'pipeline' }, pipelineChecks);
    onServer('with proof of work', { config: { ...FAST, ...shape, ...PROOF_OF_WORK } }, proofOfWorkChecks);
  });
}
