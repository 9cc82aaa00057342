/**
 * The life of one shard on a simulated disk, chosen by a seed: operations, checkpoints, and faults at any moment - also
 * while it recovers, and while it recovers from that. After each fault it is opened again and held to what it answered.
 *
 * What is checked after every reopening, and at the end:
 *   - an answered write or deletion is there, and of unanswered ones the last that is there is whole
 *   - keys and agents are what the events of the log, applied in order, make of them
 *   - what was refused with `store_full` did not happen
 *   - answered messages come once, in order; one that is missing was delivered in an answer that got lost, and is logged so
 *   - a registration is complete or absent, and complete if it was answered
 *   - every line of the log is whole, and every operation of several lines; `seq` rises
 *   - only the disk has broken the shard
 *   - nothing that was visible after a reopening is gone after the next
 */
import assert from 'node:assert/strict';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import pino from 'pino';
import type { KernelEvent } from '../../src/contract/events.js';
import { createVersionMemory, KeyVersions } from '../../src/shards/key-versions.js';
import { OPS } from '../../src/shards/wire.js';
import { type Call, newAgent, type Reply, ShardRig } from '../shards/shard-rig.js';
import { DiskError, FaultyDisk } from '../support/faulty-disk.js';
import { seededRandom } from '../support/seed.js';

const SEGMENT_BYTES = 3_000;
const KEYS = 6;
const AGENTS = 2;

/** What the shard says of its troubles is not asked for; writing it down would be a tenth of a life. */
const UNHEARD = pino({ level: 'silent' });

/** No gateway keeps what it has read here, so none needs to hear at each opening that all of it may have changed. */
class UnreadVersions extends KeyVersions {
  override allChanged(): void {}
}
const VERSIONS = new UnreadVersions(createVersionMemory(1));

type Outcome = 'pending' | 'done' | 'refused';

interface Write {
  readonly value: string | null;
  outcome: Outcome;
}

interface Sent {
  readonly content: string;
  outcome: Outcome;
}

/** How one kind of trouble begins; resolves when the shard is down and may be opened again. */
const FAULTS = [
  'power loss, suffix lost',
  'power loss, pages lost',
  'kill',
  'EIO in write',
  'EIO in sync',
  'EIO in sync, then power loss',
  'power loss at the n-th call',
  'no room',
  'graceful stop',
] as const;
export type LifeFault = (typeof FAULTS)[number];

/** How many reopenings in a row lose their power, before one may go on undisturbed. */
const ATTEMPTS = [0, 0, 1, 2] as const;

export class ShardLife {
  private readonly random: (below: number) => number;
  private rig!: ShardRig;
  private disk = new FaultyDisk();
  private readonly keys = new Map<string, Write[]>();
  private readonly sent = new Map<string, Sent[]>();
  private readonly received = new Map<string, string[]>();
  private readonly registrations: { readonly address: string; outcome: Outcome }[] = [];
  private nextValue = 0;
  /** How many reopenings were themselves cut off by a power loss. */
  crashesInRecovery = 0;
  readonly faultsMet: LifeFault[] = [];

  private constructor(
    seed: number,
    private readonly directory: string,
  ) {
    this.random = seededRandom(seed);
  }

  /**
   * Lives one life from its beginning to its end.
   * @param parent directory in which LMDB's file lies meanwhile; best in memory
   * @throws Error naming the seed when something was lost. About 10 ms of CPU.
   */
  static async live(seed: number, parent: string): Promise<ShardLife> {
    const directory = join(parent, `life-${seed}`);
    const life = new ShardLife(seed, directory);
    try {
      await life.run();
    } catch (error) {
      const what = error instanceof Error ? error.stack : String(error);
      throw new Error(`SEED=${seed} (met: ${life.faultsMet.join('; ')}): ${what}`, { cause: error });
    } finally {
      rmSync(directory, { recursive: true, force: true });
    }
    return life;
  }

  private async run(): Promise<void> {
    this.disk.canSyncAtOnce = this.random(2) === 0;
    this.rig = await this.open();
    try {
      const agents = Array.from({ length: AGENTS }, (_, index) => agentName(index));
      await Promise.all(agents.map((address) => this.rig.registerAgent(address)));
      const faults = 1 + this.random(4);
      for (let met = 0; met < faults; met++) {
        await this.live();
        await this.meet(FAULTS[this.random(FAULTS.length)] as LifeFault);
        this.failIfBrokenByItself();
        await this.check();
      }
      await this.checkQueues();
    } finally {
      await this.end();
    }
    assert.deepEqual(this.disk.misuses, []);
  }

  /** Nobody looks at what is left: a graceful stop would only take its time for a last checkpoint. */
  private async end(): Promise<void> {
    this.disk.beforeCall = null;
    if (this.rig.shard.state !== 'serving') {
      this.disk.stopHolding();
      this.disk.powerOn();
      return this.rig.shard.close();
    }
    this.losePower(false);
    await this.down();
  }

  private async open(): Promise<ShardRig> {
    const settings = { maxSegmentBytes: SEGMENT_BYTES };
    const { disk, directory } = this;
    return ShardRig.open({ disk, directory, settings, logger: UNHEARD, versions: VERSIONS });
  }

  /** Some turns of a gateway; what they leave unanswered is under way when the fault comes. */
  private async live(): Promise<void> {
    const { disk } = this;
    disk.canFill = this.random(2) === 0;
    disk.maxWriteBytes = this.random(3) === 0 ? 1 + this.random(300) : Number.POSITIVE_INFINITY;
    if (this.random(3) === 0) disk.holdSyncs();
    for (let turns = 1 + this.random(6); turns > 0; turns--) {
      for (let calls = 1 + this.random(5); calls > 0; calls--) this.operate();
      if (this.random(6) === 0) this.rig.checkpointSoon();
      if (this.random(3) > 0) await turn();
      if (this.random(2) === 0 && disk.heldSyncs > 0) disk.finishSync();
    }
    if (this.random(2) === 0) disk.stopHolding();
    if (this.random(3) === 0) for (let turns = this.random(8); turns > 0; turns--) await turn();
  }

  private operate(): void {
    const kind = this.random(20);
    if (kind < 10) this.writeSomething();
    else if (kind < 16) this.send();
    else if (kind < 19) this.receive();
    else this.register();
  }

  private writeSomething(): void {
    const value = `${this.nextValue++}:${'v'.repeat(this.random(4) === 0 ? 5_000 : 40)}`;
    this.write(`k${this.random(KEYS)}`, this.random(4) === 0 ? null : value);
  }

  private write(key: string, value: string | null): void {
    const write: Write = { value, outcome: 'pending' };
    listIn(this.keys, key).push(write);
    const [reply] = this.rig.batch([value === null ? [OPS.deleteState, 'w', key] : [OPS.writeState, 'w', key, value]]);
    settle(reply, write);
  }

  private send(): void {
    const to = agentName(this.random(AGENTS));
    const message: Sent = { content: `m${this.nextValue++}`, outcome: 'pending' };
    listIn(this.sent, to).push(message);
    const [reply] = this.rig.batch([[OPS.sendMessage, agentName(0), to, message.content]]);
    settle(reply, message);
  }

  private receive(): void {
    const agent = agentName(this.random(AGENTS));
    const [reply] = this.rig.batch([[OPS.receiveMessages, agent, 1 + this.random(5)]]);
    void reply?.then(({ code, x }) => {
      if (code === null) listIn(this.received, agent).push(...contentsOf(x));
    });
  }

  private register(): void {
    const address = agentName(AGENTS + this.registrations.length);
    const registration = { address, outcome: 'pending' as Outcome };
    this.registrations.push(registration);
    const [reply] = this.rig.batch([[OPS.registerAgent, newAgent(address), address]]);
    settle(reply, registration);
  }

  private async meet(fault: LifeFault): Promise<void> {
    const { disk } = this;
    this.faultsMet.push(fault);
    switch (fault) {
      case 'power loss, suffix lost':
      case 'power loss, pages lost':
        this.losePower(fault === 'power loss, pages lost');
        await this.down();
        break;
      case 'kill':
        await this.kill();
        break;
      case 'EIO in write':
      case 'EIO in sync':
      case 'EIO in sync, then power loss':
        disk.canFill = false;
        disk.failNext(fault === 'EIO in write' ? 'write' : 'sync', 'EIO', this.random(3));
        disk.stopHolding();
        await this.provokeUntilBroken(() => {
          // A filling ahead that was under way may have met it, without harm; it was meant for a batch.
          if (disk.faultsAhead === 0) disk.failNext(fault === 'EIO in write' ? 'write' : 'sync', 'EIO');
        });
        await this.rig.shard.close();
        break;
      case 'power loss at the n-th call': {
        this.losePowerAfter(this.random(12));
        disk.stopHolding();
        await this.provokeUntilBroken();
        disk.beforeCall = null;
        await this.rig.shard.close();
        break;
      }
      case 'no room':
        disk.canFill = false;
        disk.stopHolding();
        disk.roomBytes = liveBytes(disk) + this.random(400);
        await this.fillUp();
        disk.roomBytes = Number.POSITIVE_INFINITY;
        if (this.random(2) === 0) return;
        this.losePower(true);
        await this.down();
        break;
      case 'graceful stop':
        disk.stopHolding();
        await this.rig.shard.close();
        break;
    }
    disk.powerOn();
    await this.reopen();
    if (fault === 'EIO in sync, then power loss') {
      // Whatever the reopening shows must be on the disk, though the failed sync left it out.
      const before = await this.visible();
      this.losePower(true);
      await this.down();
      disk.powerOn();
      await this.reopen();
      assert.deepEqual(await this.visible(), before, 'visible after a reopening, and gone after a power loss');
    }
  }

  /** Opens it, now and then against a power loss at some call of the recovery. */
  private async reopen(): Promise<void> {
    const { disk } = this;
    this.failIfBrokenByItself();
    disk.stopHolding();
    disk.maxWriteBytes = Number.POSITIVE_INFINITY;
    for (let attempts = ATTEMPTS[this.random(ATTEMPTS.length)] as number; attempts > 0; attempts--) {
      this.losePowerAfter(this.random(14));
      try {
        this.rig = await this.open();
        disk.beforeCall = null;
        return;
      } catch (error) {
        if (!String(error).includes('EIO')) throw error;
        this.crashesInRecovery += 1;
        disk.beforeCall = null;
        disk.powerOn();
      }
    }
    this.rig = await this.open();
  }

  /**
   * What survives is chosen from numbers of its own: how many are asked for depends on how far LMDB's own thread has
   * come, which no seed decides, and must not change what comes after.
   */
  private losePower(pages: boolean, seed = this.random(2 ** 31)): void {
    const random = seededRandom(seed);
    this.disk.powerLoss((most) => random(most + 1), pages ? 'pages lost' : 'suffix lost');
  }

  private losePowerAfter(calls: number): void {
    const [pages, seed] = [this.random(2) === 0, this.random(2 ** 31)];
    let left = calls;
    this.disk.beforeCall = () => {
      if (left-- === 0) this.losePower(pages, seed);
    };
  }

  /** The process is gone: what it had handed to the system stays, what it had not is lost. */
  private async kill(): Promise<void> {
    const after = this.disk.copy();
    after.canSyncAtOnce = this.disk.canSyncAtOnce;
    this.losePower(false);
    await this.down();
    assert.deepEqual(this.disk.misuses, []);
    this.disk = after;
  }

  /** Lets the old shard see that its disk is dead, so that it lets go of LMDB without another checkpoint. */
  private async down(): Promise<void> {
    await this.provokeUntilBroken();
    await this.rig.shard.close();
  }

  private async provokeUntilBroken(again: () => void = () => {}): Promise<void> {
    for (let turns = 0; this.rig.shard.state !== 'read-only'; turns++) {
      assert.ok(turns < 100_000, 'the shard never meets the fault');
      if (turns % 64 === 63) again();
      if (turns % 8 === 0) this.write('provoked', `${this.nextValue++}`);
      await turn();
    }
  }

  private async fillUp(): Promise<void> {
    let refused = false;
    for (let tries = 0; tries < 200 && !refused; tries++) {
      const before = this.rig.replies.length;
      this.write('filling', `${this.nextValue++}`);
      for (let turns = 0; this.rig.unanswered > 0; turns++) {
        assert.ok(turns < 100_000, 'no answer on a full disk');
        await turn();
      }
      refused = this.rig.replies.slice(before).some(({ code }) => code === 'store_full');
    }
    assert.ok(refused, 'the disk was full and nobody was told');
    assert.equal(this.rig.shard.state, 'serving');
  }

  /** Nothing but its disk may break a shard. */
  private failIfBrokenByItself(): void {
    const error = this.rig.broken.find((each) => !(each instanceof DiskError));
    if (error !== undefined) throw new Error('the shard broke, and not by its disk', { cause: error });
  }

  /** Of a shard that meets no fault now: should it break all the same, some answers would never come. */
  private async answers(calls: readonly Call[]): Promise<Reply[]> {
    const replies = this.rig.batch(calls);
    while (this.rig.unanswered > 0) {
      const [error] = this.rig.broken;
      if (error !== undefined) throw new Error('the shard broke, and no fault was near', { cause: error });
      await turn();
    }
    return Promise.all(replies);
  }

  /** What readers see now, of every key and agent. */
  private async visible(): Promise<unknown[]> {
    const replies = await this.answers([
      ...[...this.keys.keys()].map((key) => [OPS.readState, 'tab_reader', key] as const),
      ...this.registrations.map(({ address }) => [OPS.findAgent, null, address] as const),
    ]);
    return replies.map(({ code, x }) => [code, x]);
  }

  private async check(): Promise<void> {
    assert.equal(this.rig.shard.state, 'serving');
    assert.equal(this.rig.shard.recovery.damagedLines, 0, 'a power cut is no damage');
    const keys = [...this.keys.keys()];
    const addresses = this.registrations.map(({ address }) => address);
    const replies = await this.answers([
      ...keys.map((key) => [OPS.readState, 'tab_reader', key] as const),
      ...addresses.map((address) => [OPS.findAgent, null, address] as const),
      ...addresses.map((address) => [OPS.findCredential, null, `lookup-${address}`] as const),
    ]);
    const logged = await this.loggedState();
    for (const [index, key] of keys.entries()) {
      const writes = listIn(this.keys, key);
      const found = valueIn(replies[index]);
      assert.equal(found, logged.values.get(key) ?? null, `${key} is not what the log says`);
      let last = writes.length - 1;
      while (last >= 0 && writes[last]?.outcome !== 'done') last--;
      const allowed: (string | null)[] = last < 0 ? [null] : [];
      for (const { value, outcome } of writes.slice(Math.max(0, last))) if (outcome !== 'refused') allowed.push(value);
      if (!allowed.includes(found)) assert.fail(`${key} is ${short(found)}; allowed: ${allowed.map(short).join(', ')}`);
      // From here on it is known, and may not change any more.
      this.keys.set(key, [{ value: found, outcome: 'done' }]);
    }
    for (const [index, registration] of this.registrations.entries()) {
      const { address, outcome } = registration;
      const agent = replies[keys.length + index]?.code;
      const credential = replies[keys.length + addresses.length + index]?.code;
      assert.equal(agent === null, logged.agents.has(address), `${address} is not what the log says`);
      assert.equal(agent, credential, `${address} is half registered`);
      if (outcome === 'done') assert.equal(agent, null, `${address} was answered and is gone`);
      if (outcome === 'refused') assert.equal(agent, 'not_found', `${address} was refused and is there`);
      registration.outcome = agent === null ? 'done' : 'refused';
    }
  }

  /**
   * What all events of the log, applied in order, make of keys and agents. Fails when `seq` does not rise, or an operation
   * of several lines is there in part: all lines of one have the same time.
   */
  private async loggedState(): Promise<{ values: Map<string, string>; agents: Set<string> }> {
    const values = new Map<string, string>();
    const agents = new Set<string>();
    let lastSeq = 0;
    let groupTs: string | null = null;
    for (const event of await this.rig.events()) {
      const { seq, ts, type, data } = event as unknown as KernelEvent;
      assert.ok(seq > lastSeq, `seq ${seq} after ${lastSeq}`);
      lastSeq = seq;
      if (groupTs !== null) assert.equal(ts, groupTs, `the operation before event ${seq} is there in part`);
      groupTs = event.more === true ? ts : null;
      if (type === 'state_written') values.set(data.key, data.value);
      else if (type === 'state_deleted') values.delete(data.key);
      else if (type === 'agent_registered') agents.add(data.address);
    }
    assert.equal(groupTs, null, 'the last operation is there in part');
    return { values, agents };
  }

  private async checkQueues(): Promise<void> {
    const events = (await this.rig.events()) as unknown as KernelEvent[];
    const contentOf = new Map<string, string>();
    const delivered = new Set<string>();
    for (const { type, data } of events) {
      if (type === 'message_sent') contentOf.set(data.message_id, data.content);
      else if (type === 'message_delivered') delivered.add(contentOf.get(data.message_id) ?? '');
    }
    for (let index = 0; index < AGENTS; index++) {
      const agent = agentName(index);
      const got = listIn(this.received, agent);
      for (;;) {
        const [reply] = await this.answers([[OPS.receiveMessages, agent, 100]]);
        assert.equal(reply?.code, null);
        const more = contentsOf(reply?.x);
        if (more.length === 0) break;
        got.push(...more);
      }
      const sent = listIn(this.sent, agent);
      const places = got.map((content) => sent.findIndex((message) => message.content === content));
      assert.ok(!places.includes(-1), 'a message that nobody sent');
      const isInOrder = places.every((place, n) => n === 0 || place > (places[n - 1] as number));
      if (!isInOrder) assert.fail(`${agent} got ${got.join(' ')}: twice, or out of order`);
      const there = new Set(got);
      for (const { content, outcome } of sent) {
        if (outcome === 'done') assert.ok(there.has(content) || delivered.has(content), `${content} vanished`);
        if (outcome === 'refused') assert.ok(!there.has(content), `${content} was refused and came`);
      }
    }
  }
}

function agentName(index: number): string {
  return `tab_${String(index).padStart(20, 'a')}`;
}

function listIn<Item>(lists: Map<string, Item[]>, name: string): Item[] {
  const known = lists.get(name);
  if (known !== undefined) return known;
  const made: Item[] = [];
  lists.set(name, made);
  return made;
}

/** `unavailable` says nothing about what happened; only an answer and `store_full` do. */
function settle(reply: Promise<Reply> | undefined, operation: { outcome: Outcome }): void {
  void reply?.then(({ code }) => {
    if (code === null || code === 'not_found') operation.outcome = 'done';
    else if (code === 'store_full' || code === 'bad_request') operation.outcome = 'refused';
    else assert.equal(code, 'unavailable');
  });
}

function valueIn(reply: Reply | undefined): string | null {
  assert.ok(reply?.code === null || reply?.code === 'not_found', `read: ${reply?.code}`);
  return reply.code === null ? (reply.x as string) : null;
}

function contentsOf(flat: unknown): string[] {
  const contents: string[] = [];
  for (let i = 0; i < (flat as unknown[]).length; i += 5) contents.push((flat as string[])[i + 3] as string);
  return contents;
}

function liveBytes(disk: FaultyDisk): number {
  let bytes = 0;
  for (const { live } of disk.files.values()) bytes += live.length;
  return bytes;
}

function short(value: string | null): string {
  return value === null ? 'none' : value.slice(0, 12);
}
