import assert from 'node:assert/strict';
import { Buffer } from 'node:buffer';
import type { KeyPage, PageRequest } from '../contract/engine.js';
import type { KernelEvent } from '../contract/events.js';
import { isAgentAddress } from '../contract/tokens.js';
import { DeliveryRows, isCircuitOpen } from './delivery-rows.js';
import type { InternalData } from './internal-records.js';
import { KeyCounts } from './key-counts.js';
import type { LoggedEvent } from './log-line.js';
import { type ByteString, fromByteString, prefixEnd, toByteString } from './overlay-table.js';
import type { AgentRow, QueueRow, StateRow, ViewMeta } from './row-codecs.js';
import type { LogPosition } from './segments.js';
import type { SharedCounters } from './shared-counters.js';
import type { Store } from './store.js';
import { orderKey, queueKey } from './store-keys.js';

/**
 * View: one shard's rows as they follow from its event log. Everything here is visible to readers at once.
 * Owns:      the counters of the shard and the order in which rows change together.
 * Never:     sees an event that is not durable (with `durability: fsync`); writes the log; answers anybody.
 * Invariant: applying the log from `replayFrom` to a view at `appliedSeq` gives the view of the whole log.
 *
 * The live path and recovery use the same methods, one for each event type that changes something.
 */
export class View {
  private readonly shard: number;
  private readonly counters: SharedCounters;
  private readonly keyCounts: KeyCounts;
  readonly store: Store;

  private appliedSeq: number;
  private replayFrom: LogPosition;
  private stateBytes: number;
  private keys: number;
  private agents: number;
  private queuedMessages: number;
  private queuedBytes: number;
  /** Leases, pushes and idempotency keys. */
  readonly delivery: DeliveryRows;

  constructor(store: Store, shard: number, counters: SharedCounters) {
    this.store = store;
    this.shard = shard;
    this.counters = counters;
    const meta = store.loadMeta();
    this.appliedSeq = meta.appliedSeq;
    this.replayFrom = meta.replayFrom;
    this.stateBytes = meta.stateBytes;
    this.keys = meta.keys;
    this.agents = meta.agents;
    this.queuedMessages = meta.queuedMessages;
    this.queuedBytes = meta.queuedBytes;
    this.delivery = new DeliveryRows(store, meta.pushMessages ?? 0);
    this.keyCounts = new KeyCounts(store.keyCounts, store.state);
  }

  get meta(): ViewMeta {
    return {
      appliedSeq: this.appliedSeq,
      replayFrom: this.replayFrom,
      stateBytes: this.stateBytes,
      keys: this.keys,
      agents: this.agents,
      queuedMessages: this.queuedMessages,
      queuedBytes: this.queuedBytes,
      pushMessages: this.delivery.pushMessages,
    };
  }

  /** All events up to `seq` are in the view; the log goes on at `next`. */
  advance(seq: number, next: LogPosition): void {
    assert(seq >= this.appliedSeq, `applied seq ${this.appliedSeq} can't fall to ${seq}`);
    this.appliedSeq = seq;
    this.replayFrom = next;
  }

  /** Publishes the shard's counters. */
  report(): void {
    const { stateBytes, keys, agents, queuedMessages, queuedBytes } = this;
    const { pushMessages } = this.delivery;
    this.counters.publish(this.shard, { stateBytes, keys, agents, queuedMessages, queuedBytes, pushMessages });
  }

  stateRow(key: string): StateRow | undefined {
    return this.store.state.get(toByteString(key));
  }

  /** Bytes of the key's value, without decoding it; -1 when the key is not there. */
  valueBytes(key: string): number {
    return this.store.state.sizeOf(toByteString(key));
  }

  /** `growthBytes`: what the key and its value take now, less what they took before; `isNew`: the key was not there. */
  putState(key: string, row: StateRow, growthBytes: number, isNew: boolean): void {
    const bytes = toByteString(key);
    this.store.state.put(bytes, row);
    this.stateBytes += growthBytes;
    if (!isNew) return;
    this.keys += 1;
    this.keyCounts.added(bytes);
  }

  /** The key must be there; `growthBytes` is below zero. */
  removeState(key: string, growthBytes: number): void {
    const bytes = toByteString(key);
    this.store.state.remove(bytes);
    this.stateBytes += growthBytes;
    this.keys -= 1;
    this.keyCounts.removed(bytes);
  }

  /** As `removeState`, and leaves no trace of the value in LMDB's pages, as far as that can be done. */
  eraseState(key: string, growthBytes: number): void {
    this.removeState(key, growthBytes);
    this.store.state.erase(toByteString(key));
  }

  /** One shard's part of a key listing; the cursor is the last key of the page before, as is. */
  listKeys(prefix: string, after: string | null, limit: number): Pick<KeyPage, 'keys' | 'total'> {
    const prefixBytes = toByteString(prefix);
    const start = after === null ? prefixBytes : `${toByteString(after)}\u0000`;
    const keys = this.store.state.keys({ start, end: prefixEnd(prefixBytes), limit });
    return {
      keys: keys.map(fromByteString),
      total: prefix === '' ? this.keys : this.keyCounts.count(prefixBytes),
    };
  }

  /** Any text may be asked for; only addresses are looked up. */
  agent(address: string): AgentRow | undefined {
    return isAgentAddress(address) ? this.store.agents.get(address) : undefined;
  }

  /** Completes a registration whose credential waits in the store. */
  addAgent(address: string, operatorId: string, registeredAtMs: number, seq: number): void {
    const pending = this.store.getPending(address);
    assert(pending !== undefined, `agent ${address} is logged, but its credential was never stored`);
    this.store.agents.put(address, { operatorId, registeredAtMs, seq, webhook: pending.webhook });
    this.store.agentOrder.put(orderKey(registeredAtMs, seq), address);
    this.store.credentials.put(pending.credential.lookup, pending.credential);
    this.agents += 1;
  }

  addOperator(operatorId: string, createdAtMs: number): void {
    const pending = this.store.getPending(operatorId);
    assert(pending !== undefined, `operator ${operatorId} is logged, but its credential was never stored`);
    this.store.operators.put(operatorId, { lookup: pending.credential.lookup, createdAtMs });
    this.store.credentials.put(pending.credential.lookup, pending.credential);
  }

  /** Up to `limit` lookups of credentials from `start` on. */
  lookupsFrom(start: ByteString, limit: number): ByteString[] {
    return this.store.credentials.keys({ start, end: null, limit });
  }

  /**
   * Takes away what the subject authenticates by and where its messages are pushed to; it stays registered.
   * @param lookup of its credential; null when this shard has none.
   */
  revoke(subject: string, lookup: string | null): void {
    const { credentials, agents, operators } = this.store;
    if (lookup !== null) credentials.remove(lookup);
    const agent = agents.get(subject);
    if (agent !== undefined) agents.put(subject, { ...agent, webhook: null, revoked: true });
    const operator = operators.get(subject);
    if (operator !== undefined) operators.put(subject, { ...operator, revoked: true });
  }

  get agentCount(): number {
    return this.agents;
  }

  /** Order keys and addresses after `after`, oldest first. */
  listAgents(page: PageRequest): { order: string; address: string }[] {
    const start = page.cursor === null ? '' : `${page.cursor}\u0000`;
    return this.store.agentOrder.keys({ start, end: null, limit: page.limit }).map((order) => {
      const address = this.store.agentOrder.get(order);
      assert(address !== undefined);
      return { order, address };
    });
  }

  addMessage(to: string, seq: number, row: QueueRow): void {
    this.store.queues.put(queueKey(to, seq), row);
    this.queuedMessages += 1;
    this.queuedBytes += row.bytes;
    if (row.hold === 'push') this.delivery.countToPush(to, 1);
  }

  /** `bytes` as in the message's row; `wasToPush`: it waited to be pushed. */
  removeMessage(to: string, seq: number, bytes: number, wasToPush: boolean): void {
    this.store.queues.remove(queueKey(to, seq));
    this.queuedMessages -= 1;
    this.queuedBytes -= bytes;
    if (wasToPush) this.delivery.countToPush(to, -1);
  }

  /** One event from the log, during recovery. Events up to `appliedSeq` must not be given. */
  replay(event: LoggedEvent, position: LogPosition, bytes: number): void {
    assert(event.seq > this.appliedSeq, `replay must rise: ${event.seq} after ${this.appliedSeq}`);
    this.applyLogged(event, position, bytes);
    this.advance(event.seq, position + bytes);
  }

  /** Removals and revocations: records that the log has, but no events of the API. */
  private applyByLaw(event: LoggedEvent): boolean {
    const type: string = event.type;
    if (type === 'state_removed') {
      const { key } = event.data as unknown as InternalData['state_removed'];
      const before = this.stateRow(key);
      if (before !== undefined) this.eraseState(key, -Buffer.byteLength(key) - before.valueBytes);
      return true;
    }
    if (type === 'credential_revoked') {
      const { subject } = event.data as unknown as InternalData['credential_revoked'];
      const { credentials } = this.store;
      const lookups = this.lookupsFrom('', Number.MAX_SAFE_INTEGER);
      this.revoke(subject, lookups.find((lookup) => credentials.get(lookup)?.subject === subject) ?? null);
      return true;
    }
    return false;
  }

  private applyLogged(event: LoggedEvent, position: LogPosition, bytes: number): void {
    const atMs = Date.parse(event.ts);
    if (this.applyByLaw(event) || this.delivery.replay(event, atMs)) return;
    const logged = event as LoggedEvent & KernelEvent;
    switch (logged.type) {
      case 'state_written': {
        const { key, value, value_length, written_by } = logged.data;
        const before = this.stateRow(key);
        const row = { value, valueBytes: value_length, modifiedBy: written_by, modifiedAtMs: atMs };
        const usedBefore = before === undefined ? 0 : Buffer.byteLength(key) + before.valueBytes;
        this.putState(key, row, Buffer.byteLength(key) + value_length - usedBefore, before === undefined);
        break;
      }
      case 'state_deleted': {
        const { key } = logged.data;
        const before = this.stateRow(key);
        // The line that wrote it may have been damaged and skipped.
        if (before !== undefined) this.removeState(key, -Buffer.byteLength(key) - before.valueBytes);
        break;
      }
      case 'agent_registered':
        this.addAgent(logged.data.address, logged.data.operator_id, atMs, event.seq);
        break;
      case 'operator_created':
        this.addOperator(logged.data.operator_id, atMs);
        break;
      case 'message_sent': {
        const { to, message_id } = logged.data;
        const isToPush = event.push === true && !isCircuitOpen(this.delivery.pushRow(to), atMs);
        this.addMessage(to, event.seq, isToPush ? { position, bytes, hold: 'push' } : { position, bytes });
        if (event.once === true) this.delivery.rememberSent(message_id, atMs);
        break;
      }
      case 'message_delivered':
      case 'message_dropped': {
        assert(event.ref !== undefined, `${event.type} ${event.seq} names no message_sent`);
        const { to } = logged.data;
        const row = this.store.queues.get(queueKey(to, event.ref));
        // The message's own line may have been damaged and skipped: then there is nothing to remove.
        if (row !== undefined) this.removeMessage(to, event.ref, row.bytes, row.hold === 'push');
        if (logged.type === 'message_delivered' && logged.data.delivery_method === 'push') {
          this.delivery.pushDelivered(to);
        }
        break;
      }
      case 'state_read':
      case 'registry_read':
        break;
    }
  }
}
