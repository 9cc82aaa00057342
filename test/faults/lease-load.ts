/**
 * Leases all the while: what is leased is given to nobody else as long as the lease runs, also after a crash; what is
 * acknowledged never comes again; and nothing that was sent gets lost.
 */
import assert from 'node:assert/strict';
import type { ApiAgent } from '../support/http.js';
import { type CrashClock, lane } from './crash-clock.js';

/** Outlasts every run, so that a lease ends by an acknowledgement only. */
const VISIBILITY_SECONDS = 43_200;
const LIMIT = 5;
/** Leases kept open, of which some live through the next crash. */
const KEPT_OPEN = 20;

interface Lease {
  readonly id: string;
  readonly content: string;
}

export class LeaseLoad {
  private readonly sent = new Set<string>();
  private readonly leased: Lease[] = [];
  private readonly acknowledged = new Set<string>();
  /** The answer to their acknowledgement was lost. */
  private readonly unsure = new Set<string>();
  private next = 0;

  constructor(
    private readonly clock: CrashClock,
    private readonly sender: ApiAgent,
    private readonly holder: ApiAgent,
  ) {}

  /** Whether the server knows leases at all; takes what is in the holder's queue. */
  async isOffered(): Promise<boolean> {
    assert.equal((await this.sender.message(this.holder.address, 'probe')).status, 202);
    const answer = await this.holder.get(`/v1/messages?limit=1&ack=manual&visibility=${VISIBILITY_SECONDS}`);
    const [message] = answer.json<{ messages: { lease_id?: string }[] }>().messages;
    if (message?.lease_id === undefined) return false;
    const acked = await this.holder.post('/v1/messages/ack', { lease_ids: [message.lease_id] });
    assert.deepEqual(acked.json(), { acked: 1, unknown: [] });
    return true;
  }

  async run(): Promise<void> {
    await Promise.all([lane(this.clock, () => this.send()), lane(this.clock, () => this.leaseAndAcknowledge())]);
  }

  /** Acknowledges all that is held, and takes all that is left. */
  async assertAll(): Promise<void> {
    while (this.leased.length > 0) await this.acknowledge();
    while ((await this.lease()) > 0) while (this.leased.length > 0) await this.acknowledge();
    const missing = [...this.sent].filter((content) => !this.acknowledged.has(content) && !this.unsure.has(content));
    // A lease whose answer was lost hides its messages from everybody until it ends: at most one answer for each crash.
    assert.ok(
      missing.length <= LIMIT * this.clock.crashes,
      `${missing.length} messages are gone: ${missing.join(' ')}`,
    );
  }

  get operations(): number {
    return this.sent.size + this.acknowledged.size;
  }

  private async send(): Promise<void> {
    const content = `l${this.next++}`;
    const answer = await this.sender.message(this.holder.address, content);
    if (answer.status === 503 && this.clock.isCrashing) return;
    assert.equal(answer.status, 202, answer.text);
    this.sent.add(content);
  }

  private async leaseAndAcknowledge(): Promise<void> {
    await this.lease();
    while (this.leased.length > KEPT_OPEN && !this.clock.isCrashing) await this.acknowledge();
  }

  private async lease(): Promise<number> {
    const answer = await this.holder.get(`/v1/messages?limit=${LIMIT}&ack=manual&visibility=${VISIBILITY_SECONDS}`);
    if (answer.status === 503 && this.clock.isCrashing) return 0;
    assert.equal(answer.status, 200, answer.text);
    const { messages } = answer.json<{ messages: { lease_id: string; content: string; delivery_count: number }[] }>();
    for (const { lease_id: id, content, delivery_count: count } of messages) {
      assert.ok(!this.acknowledged.has(content), `${content} was acknowledged and came again`);
      assert.ok(!this.leased.some((lease) => lease.content === content), `${content} is leased and came again`);
      assert.equal(count, 1, `${content} was never delivered before`);
      this.leased.push({ id, content });
    }
    return messages.length;
  }

  /** The oldest leases: in the first moments of a life these are from before the crash. */
  private async acknowledge(): Promise<void> {
    const leases = this.leased.splice(0, LIMIT);
    for (const { content } of leases) this.unsure.add(content);
    const answer = await this.holder.post('/v1/messages/ack', { lease_ids: leases.map(({ id }) => id) });
    if (answer.status === 503 && this.clock.isCrashing) return;
    assert.deepEqual(answer.json(), { acked: leases.length, unknown: [] }, 'a lease did not live through a crash');
    for (const { content } of leases) {
      this.unsure.delete(content);
      this.acknowledged.add(content);
    }
  }
}
