/** More wrong engines, as in mutant-engines.ts: one mistake each about leases, waits, pushes or idempotency keys. */
import { setImmediate as nextTurn } from 'node:timers/promises';
import type {
  AckReceipt,
  EngineReply,
  LeasedBatch,
  LeasedMessage,
  LeaseTerms,
  MessageReceipt,
  NewMessage,
  PushAgent,
  PushOutcome,
  ReceivedBatch,
  ReceivedMessage,
  Wait,
} from '../../src/contract/engine.js';
import type { EventData, EventType } from '../../src/contract/events.js';
import { MemoryEngine, type PushRecord } from './memory-engine.js';

export class LeasedCanBeReceived extends MemoryEngine {
  protected override free(queue: readonly ReceivedMessage[]): ReceivedMessage[] {
    return queue.filter((message) => !this.markOf(message).isToPush);
  }
}

export class AcknowledgedComesBack extends MemoryEngine {
  protected override remove(_agent: string, message: ReceivedMessage): void {
    this.markOf(message).lease = null;
  }
}

export class AnybodyMayAcknowledge extends MemoryEngine {
  override async ackMessages(agent: string, leaseIds: readonly string[]): Promise<EngineReply<AckReceipt>> {
    const [first = ''] = leaseIds;
    for (const owner of this.records.queues.keys()) {
      if (this.leasedAs(owner, first) !== undefined) return super.ackMessages(owner, leaseIds);
    }
    return super.ackMessages(agent, leaseIds);
  }
}

export class ReturnedGoesToTheEnd extends MemoryEngine {
  override async returnLeases(agent: string, leaseIds: readonly string[]): Promise<EngineReply<null>> {
    const queue = this.records.queues.get(agent) ?? [];
    const returned = leaseIds.flatMap((id) => this.leasedAs(agent, id) ?? []);
    for (const message of returned) queue.push(...queue.splice(queue.indexOf(message), 1));
    return super.returnLeases(agent, leaseIds);
  }
}

export class EveryDeliveryIsTheFirst extends MemoryEngine {
  protected override lease(message: ReceivedMessage, terms: LeaseTerms): LeasedMessage {
    return { ...super.lease(message, terms), deliveryCount: 1 };
  }
}

export class LeasesNeverRunOut extends MemoryEngine {
  protected override isOnLoan(message: ReceivedMessage): boolean {
    return this.markOf(message).lease !== null;
  }
}

export class AcknowledgesAfterTheLease extends MemoryEngine {
  protected override leasedAs(agent: string, leaseId: string): ReceivedMessage | undefined {
    return this.records.queues.get(agent)?.find((message) => this.markOf(message).lease?.id === leaseId);
  }
}

export class AcknowledgesTwiceWhenRaced extends MemoryEngine {
  override async ackMessages(agent: string, leaseIds: readonly string[]): Promise<EngineReply<AckReceipt>> {
    const known = leaseIds.filter((id) => this.leasedAs(agent, id) !== undefined);
    await nextTurn();
    const receipt = await super.ackMessages(agent, leaseIds);
    const unknown = leaseIds.filter((id) => !known.includes(id));
    return receipt.ok ? { ok: true, value: { acked: known.length, unknown } } : receipt;
  }
}

export class AnIdGivenTwiceCountsTwice extends MemoryEngine {
  override async ackMessages(agent: string, leaseIds: readonly string[]): Promise<EngineReply<AckReceipt>> {
    const known = leaseIds.filter((id) => this.leasedAs(agent, id) !== undefined);
    const receipt = await super.ackMessages(agent, leaseIds);
    const unknown = leaseIds.filter((id) => !known.includes(id));
    return receipt.ok ? { ok: true, value: { acked: known.length, unknown } } : receipt;
  }
}

export class DropsLeasedMessages extends MemoryEngine {
  protected override droppable(queue: readonly ReceivedMessage[]): ReceivedMessage[] {
    return [...queue];
  }
}

export class LeasedMessagesMakeRoom extends MemoryEngine {
  protected override occupied(queue: readonly ReceivedMessage[]): number {
    return queue.filter((message) => !this.isOnLoan(message)).length;
  }
}

export class ALeaseIsADelivery extends MemoryEngine {
  protected override lease(message: ReceivedMessage, terms: LeaseTerms): LeasedMessage {
    const { messageId, to } = message;
    this.record('message_delivered', { message_id: messageId, to, delivery_method: 'pull' }, to);
    return super.lease(message, terms);
  }
}

export class LosesLeasesOnRestart extends MemoryEngine {
  constructor(...[limits, records]: ConstructorParameters<typeof MemoryEngine>) {
    super(limits, records);
    for (const mark of this.records.marks.values()) mark.lease = null;
  }
}

export class ForgetsDeliveriesOnRestart extends MemoryEngine {
  constructor(...[limits, records]: ConstructorParameters<typeof MemoryEngine>) {
    super(limits, records);
    for (const mark of this.records.marks.values()) mark.deliveryCount = 0;
  }
}

export class ConnectionsOutliveARestart extends MemoryEngine {
  override leaseMessages(
    agent: string,
    limit: number,
    terms: LeaseTerms,
    wait: Wait | null,
  ): Promise<EngineReply<LeasedBatch>> {
    return super.leaseMessages(agent, limit, { ...terms, holder: 'agent' }, wait);
  }
}

export class WaitsNotAtAll extends MemoryEngine {
  override receiveMessages(agent: string, limit: number, _wait: Wait | null): Promise<EngineReply<ReceivedBatch>> {
    return super.receiveMessages(agent, limit, null);
  }
}

/** Looks, and parks a moment later without looking again. */
export class LosesWakeUps extends MemoryEngine {
  protected override async whenThereIsOne<Batch extends ReceivedBatch>(
    agent: string,
    wait: Wait | null,
    take: () => Batch,
  ): Promise<EngineReply<Batch>> {
    if (wait === null || this.free(this.records.queues.get(agent) ?? []).length > 0) {
      return super.whenThereIsOne(agent, null, take);
    }
    await nextTurn();
    const queue = this.records.queues.get(agent) ?? [];
    const unseen = queue.splice(0);
    const waiting = super.whenThereIsOne(agent, wait, take);
    queue.push(...unseen);
    return waiting;
  }
}

export class WakesEverybody extends MemoryEngine {
  protected override serveWaiters(agent: string): void {
    for (const waiter of this.waiters) if (waiter.agent === agent) waiter.serve();
  }
}

export class LastComeFirstServed extends MemoryEngine {
  protected override serveWaiters(agent: string): void {
    for (const waiter of [...this.waiters].reverse()) {
      if (this.free(this.records.queues.get(agent) ?? []).length === 0) return;
      if (waiter.agent === agent) waiter.serve();
    }
  }
}

export class TakesForWhoHasLeft extends MemoryEngine {
  override async receiveMessages(agent: string, limit: number, wait: Wait | null): Promise<EngineReply<ReceivedBatch>> {
    if (wait === null) return super.receiveMessages(agent, limit, null);
    const unnoticed = super.receiveMessages(agent, limit, { ...wait, signal: new AbortController().signal });
    const left = new Promise<void>((resolve) => wait.signal.addEventListener('abort', () => resolve(), { once: true }));
    return Promise.race([unnoticed, left.then(() => ({ ok: true, value: { messages: [], remaining: 0 } }) as const)]);
  }
}

export class CancelledBeforeItBeganTakes extends MemoryEngine {
  protected override whenThereIsOne<Batch extends ReceivedBatch>(
    agent: string,
    wait: Wait | null,
    take: () => Batch,
  ): Promise<EngineReply<Batch>> {
    return super.whenThereIsOne(agent, wait?.signal.aborted ? null : wait, take);
  }
}

export class ReturnedWakesNobody extends MemoryEngine {
  override async returnLeases(agent: string, leaseIds: readonly string[]): Promise<EngineReply<null>> {
    for (const id of leaseIds) {
      const message = this.leasedAs(agent, id);
      if (message !== undefined) this.markOf(message).lease = null;
    }
    return { ok: true, value: null };
  }
}

export class PushedMessagesCanBePulled extends MemoryEngine {
  protected override free(queue: readonly ReceivedMessage[]): ReceivedMessage[] {
    return queue.filter((message) => !this.isOnLoan(message));
  }
}

export class HandsAgentsOutTwice extends MemoryEngine {
  override async awaitPushAgents(signal: AbortSignal): Promise<EngineReply<readonly PushAgent[]>> {
    this.handedOut.clear();
    return super.awaitPushAgents(signal);
  }
}

export class NeverHandsOutAgain extends MemoryEngine {
  override async settlePush(agent: string, id: string, outcome: PushOutcome): Promise<EngineReply<PushAgent | null>> {
    const settled = await super.settlePush(agent, id, outcome);
    this.handedOut.add(agent);
    return settled;
  }
}

export class ForgetsAttempts extends MemoryEngine {
  protected override settleFirst(
    agent: string,
    first: ReceivedMessage,
    record: PushRecord,
    outcome: PushOutcome,
  ): void {
    super.settleFirst(agent, first, record, outcome);
    record.attempts = 0;
  }
}

export class UndeliverableGoesToTheEnd extends MemoryEngine {
  protected override settleFirst(
    agent: string,
    first: ReceivedMessage,
    record: PushRecord,
    outcome: PushOutcome,
  ): void {
    super.settleFirst(agent, first, record, outcome);
    const queue = this.records.queues.get(agent) ?? [];
    if (outcome.kind === 'undeliverable') queue.push(...queue.splice(queue.indexOf(first), 1));
  }
}

export class RemembersFailuresForEver extends MemoryEngine {
  protected override settleFirst(
    agent: string,
    first: ReceivedMessage,
    record: PushRecord,
    outcome: PushOutcome,
  ): void {
    const { failedInRow } = record;
    super.settleFirst(agent, first, record, outcome);
    record.failedInRow = Math.max(record.failedInRow, failedInRow);
  }
}

export class PushesThroughOpenCircuits extends MemoryEngine {
  protected override isPushed(agent: string): boolean {
    return this.records.pushes.has(agent);
  }
}

export class CircuitsStayOpen extends MemoryEngine {
  protected override isPushed(agent: string): boolean {
    return this.records.pushes.get(agent)?.circuitOpenUntilMs === 0;
  }
}

export class SettlesWhateverIsFirst extends MemoryEngine {
  override async settlePush(agent: string, _id: string, outcome: PushOutcome): Promise<EngineReply<PushAgent | null>> {
    return super.settlePush(agent, this.toPush(agent)[0]?.messageId ?? '', outcome);
  }
}

export class DropsWhatIsBeingPushed extends MemoryEngine {
  protected override droppable(queue: readonly ReceivedMessage[]): ReceivedMessage[] {
    return queue.filter((message) => !this.isOnLoan(message));
  }
}

export class PushedLooksPulled extends MemoryEngine {
  protected override record<Type extends EventType>(type: Type, data: EventData[Type], agent?: string): void {
    super.record(type, 'delivery_method' in data ? { ...data, delivery_method: 'pull' } : data, agent);
  }
}

export class LosesFailuresOnRestart extends MemoryEngine {
  constructor(...[limits, records]: ConstructorParameters<typeof MemoryEngine>) {
    super(limits, records);
    for (const record of this.records.pushes.values()) record.failedInRow = 0;
  }
}

export class ClosesCircuitsOnRestart extends MemoryEngine {
  constructor(...[limits, records]: ConstructorParameters<typeof MemoryEngine>) {
    super(limits, records);
    for (const [address, record] of this.records.pushes) {
      if (record.circuitOpenUntilMs === 0) continue;
      record.circuitOpenUntilMs = 0;
      for (const message of this.records.queues.get(address) ?? []) this.markOf(message).isToPush = true;
    }
  }
}

export class RepeatsAreSentAgain extends MemoryEngine {
  override async sendMessageOnce(message: NewMessage, _key: string): Promise<EngineReply<MessageReceipt>> {
    return super.sendMessage(message);
  }
}

export class SendersShareKeys extends MemoryEngine {
  protected override sendName(_from: string, idempotencyKey: string): string {
    return idempotencyKey;
  }
}

export class KeysAreTrimmed extends MemoryEngine {
  protected override sendName(from: string, idempotencyKey: string): string {
    return super.sendName(from, idempotencyKey.trim());
  }
}

export class AnyBodyIsARepeat extends MemoryEngine {
  protected override isSameSend(): boolean {
    return true;
  }
}

export class OnlyTheContentCounts extends MemoryEngine {
  protected override isSameSend(a: NewMessage, b: NewMessage): boolean {
    return a.content === b.content;
  }
}

export class SendsTwiceWhenRaced extends MemoryEngine {
  override async sendMessageOnce(message: NewMessage, key: string): Promise<EngineReply<MessageReceipt>> {
    const isKnown = this.records.sends.has(this.sendName(message.from, key));
    await nextTurn();
    if (!isKnown) this.records.sends.delete(this.sendName(message.from, key));
    return super.sendMessageOnce(message, key);
  }
}

export class RefusedSendsUseTheKeyUp extends MemoryEngine {
  override async sendMessageOnce(message: NewMessage, key: string): Promise<EngineReply<MessageReceipt>> {
    const reply = await super.sendMessageOnce(message, key);
    const receipt = { messageId: '00000000-0000-4000-8000-000000000000', sentAtMs: Date.now() };
    if (!reply.ok && reply.code !== 'idempotency_conflict') {
      this.records.sends.set(this.sendName(message.from, key), { message, receipt });
    }
    return reply;
  }
}

export class ForgetsKeysOnRestart extends MemoryEngine {
  constructor(...[limits, records]: ConstructorParameters<typeof MemoryEngine>) {
    super(limits, records);
    this.records.sends.clear();
  }
}
