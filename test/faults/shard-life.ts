/**
 * The life of one shard on a simulated disk, chosen by a seed: operations, checkpoints, and faults at any moment - also
 * while it recovers, and while it recovers from that. After each fault it is opened again and held to what it answered.
 *
 * What is checked after every reopening, and at the end:
 *   - an answered write or deletion is there, and of unanswered ones the last that is there is whole
 *   - what was refused with `store_full` did not happen
 *   - answered messages come once, in order; one that is missing was delivered in an answer that got lost, and is logged so
 *   - a registration is complete or absent, and complete if it was answered
 *   - every line of the log is whole, `seq` rises, and every answered mutation has its event
 *   - nothing that was visible after a reopening is gone after the next
 */
import assert from 'node:assert/strict';
import { setImmediate as turn } from 'node:timers/promises';
import type { KernelEvent } from '../../src/contract/events.js';
import { OPS } from '../../src/shards/wire.js';
import { newAgent, type Reply, ShardRig } from '../shards/shard-rig.js';
import { FaultyDisk } from '../support/faulty-disk.js';
import { seededRandom } from '../support/seed.js';

const SEGMENT_BYTES = 3_000;
const KEYS = 6;
const AGENTS = 2;

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

  /** @param directory of LMDB's file; a fresh one for each life */
  constructor(
    seed: number,
    private readonly directory: string,
  ) {
    this.random = seededRandom(seed);
  }

  async run(): Promise<void> {
    this.disk.canSyncAtOnce = this.random(2) === 0;
    this.rig = await this.open();
    try {
      for (let index = 0; index < AGENTS; index++) await this.rig.registerAgent(agentName(index));
      const lives = 2 + this.random(4);
      for (let life = 0; life < lives; life++) {
        await this.live();
        await this.meet(FAULTS[this.random(FAULTS.length)] as LifeFault);
        await this.check();
      }
      await this.checkQueues();
    } finally {
      this.disk.beforeCall = null;
      this.disk.stopHolding();
      this.disk.powerOn();
      await this.rig.shard.close();
    }
    assert.deepEqual(this.disk.misuses, []);
  }

  private async open(): Promise<ShardRig> {
    const settings = { maxSegmentBytes: SEGMENT_BYTES };
    return ShardRig.open({ disk: this.disk, directory: this.directory, settings });
  }

  /** Some turns of a gateway; what they leave unanswered is under way when the fault comes. */
  private async live(): Promise<void> {
    const { disk } = this;
    disk.canFill = this.random(2) === 0;
    disk.maxWriteBytes = this.random(3) === 0 ? 1 + this.random(300) : Number.POSITIVE_INFINITY;
    if (this.random(3) === 0) disk.holdSyncs();
    for (let turns = 1 + this.random(6); turns > 0; turns--) {
      for (let calls = 1 + this.random(5); calls > 0; calls--) this.operate();
      if (this.random(6) === 0) this.checkpointSoon();
      if (this.random(3) > 0) await turn();
      if (this.random(2) === 0 && disk.heldSyncs > 0) disk.finishSync();
    }
    if (this.random(2) === 0) disk.stopHolding();
    if (this.random(3) === 0) for (let turns = this.random(8); turns > 0; turns--) await turn();
  }

  private operate(): void {
    const kind = this.random(10);
    if (kind < 5) this.writeSomething();
    else if (kind < 8) this.send();
    else if (kind < 9) this.receive();
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

  private checkpointSoon(): void {
    (this.rig.shard as unknown as { checkpointSoon(): void }).checkpointSoon();
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
    disk.stopHolding();
    disk.maxWriteBytes = Number.POSITIVE_INFINITY;
    for (let attempts = this.random(3); attempts > 0; attempts--) {
      this.losePowerAfter(this.random(14));
      try {
        this.rig = await this.open();
        disk.beforeCall = null;
        return;
      } catch (error) {
        assert.match(String(error), /EIO/, String((error as Error).stack));
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

  /** What readers see now, of every key and agent. */
  private async visible(): Promise<unknown[]> {
    const values: unknown[] = [];
    for (const key of this.keys.keys()) values.push([key, await this.rig.value(key)]);
    for (const { address } of this.registrations)
      values.push([address, await this.rig.code(OPS.findAgent, null, address)]);
    return values;
  }

  private async check(): Promise<void> {
    assert.equal(this.rig.shard.state, 'serving');
    assert.equal(this.rig.shard.recovery.damagedLines, 0, 'a power cut is no damage');
    for (const [key, writes] of this.keys) {
      const found = (await this.rig.value(key)) as string | null;
      let last = writes.length - 1;
      while (last >= 0 && writes[last]?.outcome !== 'done') last--;
      const allowed: (string | null)[] = last < 0 ? [null] : [];
      for (const { value, outcome } of writes.slice(Math.max(0, last))) if (outcome !== 'refused') allowed.push(value);
      assert.ok(allowed.includes(found), `${key} is ${short(found)}; allowed: ${allowed.map(short).join(', ')}`);
      // From here on it is known, and may not change any more.
      this.keys.set(key, [{ value: found, outcome: 'done' }]);
    }
    for (const registration of this.registrations) {
      const { address, outcome } = registration;
      const agent = await this.rig.code(OPS.findAgent, null, address);
      const credential = await this.rig.code(OPS.findCredential, null, `lookup-${address}`);
      assert.equal(agent, credential, `${address} is half registered`);
      if (outcome === 'done') assert.equal(agent, null, `${address} was answered and is gone`);
      if (outcome === 'refused') assert.equal(agent, 'not_found', `${address} was refused and is there`);
      registration.outcome = agent === null ? 'done' : 'refused';
    }
    const events = await this.rig.events();
    let lastSeq = 0;
    for (const { seq } of events) {
      assert.ok(seq > lastSeq, `seq ${seq} after ${lastSeq}`);
      lastSeq = seq;
    }
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
        const { code, x } = await this.rig.call(OPS.receiveMessages, agent, 100);
        assert.equal(code, null);
        const more = contentsOf(x);
        if (more.length === 0) break;
        got.push(...more);
      }
      const sent = listIn(this.sent, agent);
      const places = got.map((content) => sent.findIndex((message) => message.content === content));
      assert.ok(!places.includes(-1), 'a message that nobody sent');
      places.forEach((place, n) => {
        assert.ok(
          n === 0 || place > (places[n - 1] as number),
          `${agent} got ${got.join(' ')}: twice, or out of order`,
        );
      });
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
