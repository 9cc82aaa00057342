import { type InternalRecord, isInternalType } from './internal-records.js';
import type { LoggedEvent } from './log-line.js';
import type { ByteString } from './overlay-table.js';
import type { PushRow, QueueLease, QueueRow, SendClaimRow } from './row-codecs.js';
import type { Store } from './store.js';
import { expiring, expiryKey, expiryKeysBefore, queueKey, sendClaimName } from './store-keys.js';

/**
 * Delivery rows: the part of a shard's view that is about how messages reach their agents, beside where they lie.
 * Owns:      leases on queue rows, push rows, idempotency keys and the receipts of messages sent with one.
 * Never:     sees an event that is not durable; the same methods serve the live path and recovery.
 * Invariant: every change follows from one line of the log and its time, so recovery comes to the same rows.
 */
/** How long an idempotency key stands for the message it was first used for. */
export const SEND_CLAIM_MS = 24 * 60 * 60 * 1000;
/** Longer, so that an attempt that claimed its key in time is recognized by the recipient's shard however late it is. */
export const SENT_ONCE_MS = SEND_CLAIM_MS + 60 * 60 * 1000;

const NOTHING_TO_PUSH: PushRow = {
  waiting: 0,
  attempts: 0,
  nextAttemptAtMs: 0,
  failedInRow: 0,
  circuitOpenUntilMs: 0,
};

/** While it is open, messages go to the pull queue at once. */
export function isCircuitOpen(row: PushRow, nowMs: number): boolean {
  return row.circuitOpenUntilMs > nowMs;
}

export class DeliveryRows {
  private readonly store: Store;
  private pushed: number;

  constructor(store: Store, pushMessages: number) {
    this.store = store;
    this.pushed = pushMessages;
  }

  /** Messages that wait to be pushed, of all agents. */
  get pushMessages(): number {
    return this.pushed;
  }

  /** The message is on loan, given back, or waits for nothing more: all of its row, with what holds it now. */
  holdMessage(to: string, seq: number, row: QueueRow): void {
    this.store.queues.put(queueKey(to, seq), row);
  }

  /** Zeros for an agent with nothing to push and no failures. */
  pushRow(address: string): PushRow {
    return this.store.pushAgents.get(address) ?? NOTHING_TO_PUSH;
  }

  /** Addresses of agents with messages to push, or with failures to remember. */
  pushAgents(): string[] {
    return this.store.pushAgents.keys({ start: '', end: null, limit: Number.MAX_SAFE_INTEGER });
  }

  /** The first message to push has been delivered, and is removed besides. */
  pushDelivered(address: string): void {
    this.putPush(address, { ...NOTHING_TO_PUSH, waiting: this.pushRow(address).waiting });
  }

  pushRetried(address: string, attempts: number, nextAttemptAtMs: number): void {
    this.putPush(address, { ...this.pushRow(address), attempts, nextAttemptAtMs });
  }

  /** The message `seq` may be pulled; so may all that wait behind it, if the circuit is open at `atMs`. */
  pushGivenUp(address: string, seq: number, failedInRow: number, circuitOpenUntilMs: number, atMs: number): void {
    let freed = this.freeFromPush(queueKey(address, seq));
    if (circuitOpenUntilMs > atMs) {
      const range = { start: `${address}:`, end: `${address};`, limit: Number.MAX_SAFE_INTEGER };
      for (const key of this.store.queues.keys(range)) freed += this.freeFromPush(key);
    }
    this.pushed -= freed;
    const waiting = this.pushRow(address).waiting - freed;
    this.putPush(address, { ...NOTHING_TO_PUSH, waiting, failedInRow, circuitOpenUntilMs });
  }

  /** What the key stands for, if it was claimed less than 24 hours ago. */
  sendClaim(name: ByteString, nowMs: number): SendClaimRow | undefined {
    const row = this.store.sendClaims.get(name);
    return row !== undefined && row.claimedAtMs + SEND_CLAIM_MS > nowMs ? row : undefined;
  }

  claimSend(name: ByteString, fingerprint: string, messageId: string, claimedAtMs: number): void {
    this.store.sendClaims.put(name, { fingerprint, messageId, claimedAtMs });
    this.store.expiries.put(expiryKey(claimedAtMs + SEND_CLAIM_MS, 'claim', name), '');
  }

  releaseSend(name: ByteString): void {
    this.store.sendClaims.remove(name);
  }

  /** When the message was sent that was to be sent once; undefined when it was not, or long ago. */
  sentOnceAtMs(messageId: string): number | undefined {
    return this.store.sentOnce.get(messageId);
  }

  rememberSent(messageId: string, sentAtMs: number): void {
    this.store.sentOnce.put(messageId, sentAtMs);
    this.store.expiries.put(expiryKey(sentAtMs + SENT_ONCE_MS, 'sent', messageId), '');
  }

  /** Forgets up to `limit` claims and receipts whose time is over; returns how many times it looked at. */
  forgetExpired(nowMs: number, limit: number): number {
    const { expiries, sendClaims, sentOnce } = this.store;
    const keys = expiries.keys({ start: '', end: expiryKeysBefore(nowMs), limit });
    for (const key of keys) {
      const { what, name } = expiring(key);
      expiries.remove(key);
      // A key that was freed and claimed again has a later time, and another expiry.
      if (what === 'sent') sentOnce.remove(name);
      else if (this.sendClaim(name, nowMs) === undefined && sendClaims.has(name)) sendClaims.remove(name);
    }
    return keys.length;
  }

  /** One line of the log, during recovery. False when it is not about delivery alone. */
  replay({ type, data }: LoggedEvent, atMs: number): boolean {
    if (!isInternalType(type)) return false;
    const record = { type, data } as InternalRecord;
    switch (record.type) {
      case 'messages_leased': {
        const { to, lease, until_ms: untilMs, refs, counts } = record.data;
        refs.forEach((ref, index) => {
          this.replayHold(to, ref, { lease, untilMs, count: counts[index] as number });
        });
        return true;
      }
      case 'leases_returned': {
        const { to, refs } = record.data;
        for (const ref of refs) {
          const hold = this.store.queues.get(queueKey(to, ref))?.hold;
          if (typeof hold === 'object') this.replayHold(to, ref, { ...hold, untilMs: 0 });
        }
        return true;
      }
      case 'push_retried':
        this.pushRetried(record.data.to, record.data.attempts, record.data.next_attempt_at_ms);
        return true;
      case 'push_given_up': {
        const { to, ref, failed_in_row, circuit_open_until_ms } = record.data;
        this.pushGivenUp(to, ref, failed_in_row, circuit_open_until_ms, atMs);
        return true;
      }
      case 'idempotency_claimed': {
        const { from, key, fingerprint, message_id } = record.data;
        this.claimSend(sendClaimName(from, key), fingerprint, message_id, atMs);
        return true;
      }
      case 'idempotency_released':
        this.releaseSend(sendClaimName(record.data.from, record.data.key));
        return true;
      default:
        return false;
    }
  }

  /** A message begins or ceases to wait. */
  countToPush(address: string, by: 1 | -1): void {
    const row = this.pushRow(address);
    this.putPush(address, { ...row, waiting: row.waiting + by });
    this.pushed += by;
  }

  /** The push row of an agent with nothing to push and no failures is not kept. */
  private putPush(address: string, row: PushRow): void {
    if (row.waiting > 0 || row.failedInRow > 0 || row.circuitOpenUntilMs > 0) this.store.pushAgents.put(address, row);
    else this.store.pushAgents.remove(address);
  }

  /** 1 when the message waited to be pushed, and does no more; else 0. */
  private freeFromPush(key: ByteString): 0 | 1 {
    const row = this.store.queues.get(key);
    if (row?.hold !== 'push') return 0;
    this.store.queues.put(key, { position: row.position, bytes: row.bytes });
    return 1;
  }

  /** Nothing happens when the message's own line was damaged and skipped. */
  private replayHold(to: string, seq: number, hold: QueueLease): void {
    const row = this.store.queues.get(queueKey(to, seq));
    if (row !== undefined) this.holdMessage(to, seq, { position: row.position, bytes: row.bytes, hold });
  }
}
