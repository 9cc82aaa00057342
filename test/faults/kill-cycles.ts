/**
 * kill -9 under load, again and again, on one data directory: state, queues in order, leases, registrations, events, and
 * the histories of all keys and queues that clients raced for.
 */
import assert from 'node:assert/strict';
import { CrashLoad } from '../api/crash-load.js';
import { inParallel, Rig } from '../api/rig.js';
import { FAST, type Topology, topologySettings } from '../api/topologies.js';
import { seededRandom } from '../support/seed.js';
import type { Cleanup } from '../support/temp-dir.js';
import { CrashClock } from './crash-clock.js';
import { HistoryLoad } from './history-load.js';
import { LeaseLoad } from './lease-load.js';
import { RegistrationLoad } from './registration-load.js';

export interface KillCycleOptions {
  readonly cycles: number;
  readonly topology: Topology;
  readonly seed: number;
  /** Of the main load, before each kill: at least this many, at most twice as many. */
  readonly requestsPerCycle: number;
  /** One line after each cycle. */
  progress(line: string): void;
}

export interface KillCycleResult {
  readonly cycles: number;
  readonly acknowledged: number;
  readonly registrations: number;
  readonly checkedOperations: number;
  readonly events: number;
  /** null when the server has no leases. */
  readonly leaseOperations: number | null;
  readonly longestStartMs: number;
}

/** Small segments, so that kills fall into rotations too. */
const SEGMENT_BYTES = 1024 * 1024;

export async function runKillCycles(t: Cleanup, options: KillCycleOptions): Promise<KillCycleResult> {
  const random = seededRandom(options.seed);
  const config = { ...FAST, ...topologySettings(options.topology), event_log: { max_file_size: SEGMENT_BYTES } };
  const rig = await Rig.start(t, { config });
  const { server } = rig;
  const clock = new CrashClock();
  const [keeper, fetcher, sender, holder] = await inParallel(4, 1, () => rig.agent());
  assert.ok(keeper !== undefined && fetcher !== undefined && sender !== undefined && holder !== undefined);
  const load = new CrashLoad(server, { workers: await inParallel(4, 4, () => rig.agent()), keeper, fetcher });
  const clients = await inParallel(3, 3, () => rig.agent());
  const inboxes = await inParallel(2, 2, () => rig.agent());
  const histories = new HistoryLoad(clock, clients, inboxes, options.seed);
  const registrations = new RegistrationLoad(clock, server, rig.client);
  const leases = new LeaseLoad(clock, sender, holder);
  const hasLeases = await leases.isOffered();
  let longestStartMs = 0;

  for (let cycle = 1; cycle <= options.cycles; cycle++) {
    const others = Promise.all([histories.run(), registrations.run(), hasLeases ? leases.run() : null]);
    others.catch(() => {});
    await load.runUntil(options.requestsPerCycle + random(options.requestsPerCycle), async () => {
      clock.crash();
      await server.kill9();
    });
    await others;
    histories.settleOpen();
    await server.restart();
    clock.restarted();
    longestStartMs = Math.max(longestStartMs, server.startMs);
    await load.assertState(await histories.look());
    histories.assertLinearizable();
    await registrations.assertAll();
    options.progress(
      `cycle ${cycle}: ${load.acknowledged} requests acknowledged, started in ${Math.round(server.startMs)} ms`,
    );
  }

  await load.assertMessages();
  if (hasLeases) await leases.assertAll();
  const events = await server.events();
  assert.equal(new Set(events.map(({ seq }) => seq)).size, events.length, 'a seq was given out twice');
  histories.assertEvents(events);
  registrations.assertEvents(events, await wholeRegistry(keeper));
  await server.stop();
  return {
    cycles: options.cycles,
    acknowledged: load.acknowledged,
    registrations: registrations.answered,
    checkedOperations: histories.checkedOperations,
    events: events.length,
    leaseOperations: hasLeases ? leases.operations : null,
    longestStartMs: Math.round(longestStartMs),
  };
}

async function wholeRegistry(reader: { get(path: string): Promise<{ json<T>(): T }> }): Promise<Set<string>> {
  const addresses = new Set<string>();
  for (let cursor: string | null = ''; cursor !== null; ) {
    const after: string = cursor === '' ? '' : `&cursor=${encodeURIComponent(cursor)}`;
    const page: { agents: { address: string }[]; next_cursor: string | null } = (
      await reader.get(`/v1/registry?limit=1000${after}`)
    ).json();
    for (const { address } of page.agents) addresses.add(address);
    cursor = page.next_cursor;
  }
  return addresses;
}
