/**
 * The model with one mistake each, of the kind engines really make. Never used but by mutants.test.ts, which shows that
 * the suite catches them.
 */
import { setImmediate as nextTurn } from 'node:timers/promises';
import type {
  AgentPage,
  AgentSummary,
  Capacity,
  Credential,
  EngineReply,
  KeyPage,
  MessageReceipt,
  NewAgent,
  NewMessage,
  NewOperator,
  PageRequest,
  ReceivedBatch,
  ReceivedMessage,
  StateEntry,
  StoredChallenge,
  Wait,
} from '../../src/contract/engine.js';
import type { EventData, EventType } from '../../src/contract/events.js';
import { MemoryEngine } from './memory-engine.js';

type Written = EngineReply<{ readonly writtenAtMs: number }>;
type Deleted = EngineReply<{ readonly deletedAtMs: number }>;

export class LastInFirstOut extends MemoryEngine {
  protected override takeForDelivery(queue: ReceivedMessage[], limit: number): ReceivedMessage[] {
    return queue.splice(Math.max(0, queue.length - limit)).reverse();
  }
}

export class DeliversTwiceWhenRaced extends MemoryEngine {
  override async receiveMessages(agent: string, limit: number, wait: Wait | null): Promise<EngineReply<ReceivedBatch>> {
    const messages = this.records.queues.get(agent)?.slice(0, limit) ?? [];
    await nextTurn();
    const received = await super.receiveMessages(agent, limit, wait);
    return received.ok ? { ok: true, value: { ...received.value, messages } } : received;
  }
}

export class RemainingCountsTheReturned extends MemoryEngine {
  override async receiveMessages(agent: string, limit: number, wait: Wait | null): Promise<EngineReply<ReceivedBatch>> {
    const remaining = this.records.queues.get(agent)?.length ?? 0;
    const received = await super.receiveMessages(agent, limit, wait);
    return received.ok ? { ok: true, value: { ...received.value, remaining } } : received;
  }
}

export class DropsTheNewest extends MemoryEngine {
  protected override takeForDrop(queue: ReceivedMessage[]): ReceivedMessage | undefined {
    return queue.pop();
  }
}

export class QueuesForUnknownRecipients extends MemoryEngine {
  override async sendMessage(message: NewMessage): Promise<EngineReply<MessageReceipt>> {
    if (!this.records.queues.has(message.to)) this.records.queues.set(message.to, []);
    return super.sendMessage(message);
  }
}

export class Utf16Order extends MemoryEngine {
  protected override compareKeys(a: string, b: string): number {
    return a < b ? -1 : a > b ? 1 : 0;
  }
}

export class LocaleOrder extends MemoryEngine {
  protected override compareKeys(a: string, b: string): number {
    return a.localeCompare(b, 'en');
  }
}

export class PrefixIsALikePattern extends MemoryEngine {
  protected override hasPrefix(key: string, prefix: string): boolean {
    const escaped = prefix.replace(/[.*+?^${}()|[\]\\/]/g, '\\$&');
    return new RegExp(`^${escaped.replaceAll('%', '.*').replaceAll('_', '.')}`, 'su').test(key);
  }
}

export class KeyCursorIsAPosition extends MemoryEngine {
  override async listKeys(prefix: string, page: PageRequest): Promise<EngineReply<KeyPage>> {
    const first = page.cursor === null ? 0 : Number(page.cursor);
    const all = await super.listKeys(prefix, { cursor: null, limit: Number.MAX_SAFE_INTEGER });
    if (!all.ok) return all;
    const keys = all.value.keys.slice(first, first + page.limit);
    const end = first + keys.length;
    return {
      ok: true,
      value: { keys, nextCursor: end < all.value.total ? String(end) : null, total: all.value.total },
    };
  }
}

export class LastFullPageHasACursor extends MemoryEngine {
  override async listKeys(prefix: string, page: PageRequest): Promise<EngineReply<KeyPage>> {
    const listed = await super.listKeys(prefix, page);
    const last = listed.ok && listed.value.keys.length === page.limit ? listed.value.keys.at(-1) : undefined;
    return listed.ok && last !== undefined
      ? { ok: true, value: { ...listed.value, nextCursor: this.keyCursor(last) } }
      : listed;
  }
}

export class TotalOfAllKeys extends MemoryEngine {
  override async listKeys(prefix: string, page: PageRequest): Promise<EngineReply<KeyPage>> {
    const listed = await super.listKeys(prefix, page);
    return listed.ok ? { ok: true, value: { ...listed.value, total: this.records.entries.size } } : listed;
  }
}

export class OneByteTooMany extends MemoryEngine {
  protected override fits(usedBytes: number): boolean {
    return usedBytes <= this.limits.maxCapacityBytes + 1;
  }
}

export class OneByteTooFew extends MemoryEngine {
  protected override fits(usedBytes: number): boolean {
    return usedBytes < this.limits.maxCapacityBytes;
  }
}

export class CountsUtf16Units extends MemoryEngine {
  protected override sizeBytes(text: string): number {
    return text.length;
  }
}

export class ForgetsKeyBytes extends MemoryEngine {
  protected override entryBytes(_key: string, value: string): number {
    return this.sizeBytes(value);
  }
}

export class ReplacedValuesKeepTheirRoom extends MemoryEngine {
  override async writeState(writer: string, key: string, value: string): Promise<Written> {
    if (!this.fits(this.usedBytes() + this.entryBytes(key, value))) return { ok: false, code: 'store_full' };
    return super.writeState(writer, key, value);
  }
}

export class ChecksCapacityTooEarly extends MemoryEngine {
  #checked = false;
  override async writeState(writer: string, key: string, value: string): Promise<Written> {
    if (!this.fits(this.usedBytes() + this.entryBytes(key, value))) return { ok: false, code: 'store_full' };
    await nextTurn();
    this.#checked = true;
    const written = super.writeState(writer, key, value);
    this.#checked = false;
    return written;
  }
  protected override fits(usedBytes: number): boolean {
    return this.#checked || super.fits(usedBytes);
  }
}

export class RefusedWriteStillStores extends MemoryEngine {
  override async writeState(writer: string, key: string, value: string): Promise<Written> {
    const written = await super.writeState(writer, key, value);
    const entry = { key, value, lastModifiedBy: writer, lastModifiedAtMs: Date.now() };
    if (!written.ok) this.records.entries.set(key, entry);
    return written;
  }
}

export class FirstWriteWins extends MemoryEngine {
  override async writeState(writer: string, key: string, value: string): Promise<Written> {
    return super.writeState(writer, key, this.records.entries.get(key)?.value ?? value);
  }
}

export class AnswersBeforeItIsVisible extends MemoryEngine {
  override async writeState(writer: string, key: string, value: string): Promise<Written> {
    void nextTurn().then(() => super.writeState(writer, key, value));
    return { ok: true, value: { writtenAtMs: Date.now() } };
  }
}

export class KeysEndAtNul extends MemoryEngine {
  override async writeState(writer: string, key: string, value: string): Promise<Written> {
    return super.writeState(writer, key.split('\u0000')[0] ?? '', value);
  }
}

export class KeysAreNormalized extends MemoryEngine {
  override async writeState(writer: string, key: string, value: string): Promise<Written> {
    return super.writeState(writer, key.normalize(), value);
  }
  override async readState(reader: string, key: string): Promise<EngineReply<StateEntry>> {
    return super.readState(reader, key.normalize());
  }
}

export class SameValueKeepsItsWriter extends MemoryEngine {
  override async writeState(writer: string, key: string, value: string): Promise<Written> {
    const old = this.records.entries.get(key);
    return super.writeState(old?.value === value ? old.lastModifiedBy : writer, key, value);
  }
}

export class DeleteAlwaysSucceeds extends MemoryEngine {
  override async deleteState(deleter: string, key: string): Promise<Deleted> {
    await super.deleteState(deleter, key);
    return { ok: true, value: { deletedAtMs: Date.now() } };
  }
}

export class DeletesTwiceWhenRaced extends MemoryEngine {
  override async deleteState(deleter: string, key: string): Promise<Deleted> {
    if (!this.records.entries.has(key)) return { ok: false, code: 'not_found' };
    await nextTurn();
    await super.deleteState(deleter, key);
    return { ok: true, value: { deletedAtMs: Date.now() } };
  }
}

export class TakenLookupIsOverwritten extends MemoryEngine {
  override async registerAgent(agent: NewAgent): Promise<EngineReply<AgentSummary>> {
    this.records.credentials.delete(agent.credential.lookup);
    return super.registerAgent(agent);
  }
}

export class RegistryIsSortedByAddress extends MemoryEngine {
  override async registerAgent(agent: NewAgent): Promise<EngineReply<AgentSummary>> {
    const registered = await super.registerAgent(agent);
    this.records.agents.sort((a, b) => (a.address < b.address ? -1 : 1));
    return registered;
  }
}

export class UnknownCursorStartsAgain extends MemoryEngine {
  override async listAgents(reader: string, page: PageRequest): Promise<EngineReply<AgentPage>> {
    const listed = await super.listAgents(reader, page);
    return listed.ok ? listed : super.listAgents(reader, { ...page, cursor: null });
  }
}

export class ChallengesAreReusable extends MemoryEngine {
  override async takeChallenge(challengeId: string): Promise<EngineReply<StoredChallenge>> {
    const taken = await super.takeChallenge(challengeId);
    if (taken.ok) this.challenges.set(challengeId, taken.value);
    return taken;
  }
}

export class ChallengesNeverExpire extends MemoryEngine {
  override async storeChallenge(challenge: StoredChallenge): Promise<EngineReply<null>> {
    return super.storeChallenge({ ...challenge, expiresAtMs: Number.MAX_SAFE_INTEGER });
  }
}

export class ChallengesAreUnbounded extends MemoryEngine {
  override async storeChallenge(challenge: StoredChallenge): Promise<EngineReply<null>> {
    this.challenges.set(challenge.challengeId, challenge);
    return { ok: true, value: null };
  }
}

export class HoarderPushesOutOthers extends MemoryEngine {
  override async storeChallenge(challenge: StoredChallenge): Promise<EngineReply<null>> {
    const [oldest] = this.challenges.keys();
    if (this.challenges.size >= 100 && oldest !== undefined) this.challenges.delete(oldest);
    this.challenges.set(challenge.challengeId, challenge);
    return { ok: true, value: null };
  }
}

/** Recovers queues from what was sent, forgetting what was delivered. */
export class DeliveredComesBackAfterRestart extends MemoryEngine {
  constructor(...[limits, records]: ConstructorParameters<typeof MemoryEngine>) {
    super(limits, records);
    for (const queue of this.records.queues.values()) queue.length = 0;
    for (const { type, data, ts } of this.records.events) {
      if (type !== 'message_sent') continue;
      const { message_id: messageId, from, to, content } = data;
      this.records.queues.get(to)?.push({ messageId, from, to, content, sentAtMs: Date.parse(ts) });
    }
  }
}

export class LosesTokensOnRestart extends MemoryEngine {
  constructor(...[limits, records]: ConstructorParameters<typeof MemoryEngine>) {
    super(limits, records);
    this.records.credentials.clear();
  }
}

export class LosesTheCapacityCountOnRestart extends MemoryEngine {
  readonly #recoveredKeys = this.records.entries.size;
  override async capacity(): Promise<EngineReply<Capacity>> {
    const counted = await super.capacity();
    if (!counted.ok) return counted;
    return { ok: true, value: { ...counted.value, keyCount: counted.value.keyCount - this.#recoveredKeys } };
  }
}

export class RecoversQueuesBackwards extends MemoryEngine {
  constructor(...[limits, records]: ConstructorParameters<typeof MemoryEngine>) {
    super(limits, records);
    for (const queue of this.records.queues.values()) queue.reverse();
  }
}

export class EventLengthsInUtf16Units extends MemoryEngine {
  protected override record<Type extends EventType>(type: Type, data: EventData[Type], agent?: string): void {
    super.record(type, 'content' in data ? { ...data, content_length: data.content.length } : data, agent);
  }
}

export class SeqRepeats extends MemoryEngine {
  protected override record<Type extends EventType>(type: Type, data: EventData[Type], agent?: string): void {
    super.record(type, data, agent);
    const last = this.records.events.at(-1);
    if (last && last.seq % 10 === 0) this.records.events[last.seq - 1] = { ...last, seq: last.seq - 1 };
  }
}

export class DropsAreNoEvents extends MemoryEngine {
  protected override record<Type extends EventType>(type: Type, data: EventData[Type], agent?: string): void {
    if (type !== 'message_dropped') super.record(type, data, agent);
  }
}

export class RefusedDeleteIsAnEvent extends MemoryEngine {
  override async deleteState(deleter: string, key: string): Promise<Deleted> {
    const deleted = await super.deleteState(deleter, key);
    if (!deleted.ok) this.record('state_deleted', { key, deleted_by: deleter }, deleter);
    return deleted;
  }
}

export class RepliesWithTheWrongScheme extends MemoryEngine {
  override async findCredential(lookup: string): Promise<EngineReply<Credential>> {
    const found = await super.findCredential(lookup);
    return found.ok ? { ok: true, value: { ...found.value, scheme: 'bcrypt' } } : found;
  }
}

export class OperatorLookupIsOverwritten extends MemoryEngine {
  override async createOperator(operator: NewOperator): Promise<EngineReply<{ readonly operatorId: string }>> {
    this.records.credentials.delete(operator.credential.lookup);
    return super.createOperator(operator);
  }
}

export class RegistersTwiceWhenRaced extends MemoryEngine {
  override async registerAgent(agent: NewAgent): Promise<EngineReply<AgentSummary>> {
    if (this.records.credentials.has(agent.credential.lookup)) return { ok: false, code: 'bad_request' };
    await nextTurn();
    this.records.credentials.delete(agent.credential.lookup);
    return super.registerAgent(agent);
  }
}

export class FindsAddressesInAnyCase extends MemoryEngine {
  override async findAgent(address: string): Promise<EngineReply<AgentSummary>> {
    return super.findAgent(address.toLowerCase());
  }
}

export class RegistryPagesEndAt999 extends MemoryEngine {
  override async listAgents(reader: string, page: PageRequest): Promise<EngineReply<AgentPage>> {
    return super.listAgents(reader, { ...page, limit: Math.min(page.limit, 999) });
  }
}

export class ChallengeTakenTwiceWhenRaced extends MemoryEngine {
  override async takeChallenge(challengeId: string): Promise<EngineReply<StoredChallenge>> {
    const challenge = this.challenges.get(challengeId);
    await nextTurn();
    const taken = await super.takeChallenge(challengeId);
    return challenge === undefined ? taken : { ok: true, value: challenge };
  }
}

export class QueuesShareOneLimit extends MemoryEngine {
  override async sendMessage(message: NewMessage): Promise<EngineReply<MessageReceipt>> {
    const queued = [...this.records.queues.values()].reduce((count, queue) => count + queue.length, 0);
    if (queued >= this.limits.maxQueuePerAgent) return { ok: false, code: 'store_full' };
    return super.sendMessage(message);
  }
}
