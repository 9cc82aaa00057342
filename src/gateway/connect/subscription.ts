/**
 * Pushes an agent's messages down one WebSocket as they come, each leased, never more than a window of unacknowledged ones.
 * Owns:      the window, and the wait for further messages.
 * Never:     polls, or sends while the client is slow in reading: what is not leased stays in the queue for others.
 * Invariant: every lease taken is in the window, or acknowledged, or its time is over, or it was returned.
 */
import type { Engine, LeasedMessage } from '../../contract/engine.js';
import { MAX_WAIT_SECONDS } from '../../contract/limits.js';
import { renderLeased } from '../message-terms.js';
import type { RunningWait, Waits } from '../waits.js';
import type { WebSocketConnection } from '../web-socket.js';
import { rpcNotification } from './json-rpc.js';

export interface SubscriptionTerms {
  readonly visibilityMs: number;
  readonly maxUnacked: number;
}

export interface SubscriptionDeps {
  readonly agent: string;
  readonly engine: Pick<Engine, 'leaseMessages' | 'returnLeases'>;
  readonly waits: Waits;
  readonly socket: WebSocketConnection;
  /** A mistake of the server; the socket should be closed. */
  readonly onFailure: (error: unknown) => void;
}

/** Messages taken at once: 64 KiB each by default, so some 2 MiB at most. */
const MAX_BATCH = 32;
/** Bytes the client has not taken yet above which nothing more is sent to it. */
const HIGH_WATER_BYTES = 256 * 1024;
/** After a refusal of the engine (a shard restarts, say). */
const RETRY_MS = 1_000;

export class Subscription {
  /** Lease id to the time it ends, in the order given out; all run equally long. */
  private readonly unacked = new Map<string, number>();
  private wait: RunningWait | null = null;
  private isPumping = false;
  private hasEnded = false;
  private timer: NodeJS.Timeout | null = null;

  constructor(
    private readonly deps: SubscriptionDeps,
    readonly terms: SubscriptionTerms,
  ) {}

  get unackedCount(): number {
    return this.unacked.size;
  }

  isUnacked(leaseId: string): boolean {
    return this.unacked.has(leaseId);
  }

  /** These need no place in the window any more. */
  acked(leaseIds: readonly string[]): void {
    for (const leaseId of leaseIds) this.unacked.delete(leaseId);
    this.resume();
  }

  /** Goes on after whatever held it up: the window, the client's slowness, a refusal. */
  resume(): void {
    if (this.isPumping || this.hasEnded) return;
    this.isPumping = true;
    this.pump().catch((error: unknown) => {
      this.isPumping = false;
      this.deps.onFailure(error);
    });
  }

  /** Takes no more, and puts back what is not acknowledged. */
  end(): void {
    if (this.hasEnded) return;
    this.hasEnded = true;
    this.wait?.abort();
    if (this.timer !== null) clearTimeout(this.timer);
    this.giveBack([...this.unacked.keys()]);
    this.unacked.clear();
  }

  private async pump(): Promise<void> {
    for (;;) {
      const room = this.room();
      if (room === 0 || this.deps.socket.bufferedBytes > HIGH_WATER_BYTES) break;
      if (!(await this.takeSome(Math.min(room, MAX_BATCH)))) break;
    }
    // Nothing awaits between the last look at room and buffer and here, so no call of `resume` is lost.
    this.isPumping = false;
    if (!this.hasEnded && this.unacked.size >= this.terms.maxUnacked) this.resumeAt(this.firstEndMs());
  }

  /** False: nothing is to be had for now. */
  private async takeSome(limit: number): Promise<boolean> {
    const { agent, engine, waits, socket } = this.deps;
    const wait = waits.begin(MAX_WAIT_SECONDS * 1000);
    if (wait === null) return false; // the server stops
    this.wait = wait;
    const { visibilityMs } = this.terms;
    const reply = await engine.leaseMessages(agent, limit, { visibilityMs, holder: 'connection' }, wait);
    wait.end();
    this.wait = null;
    if (!reply.ok) {
      if (!this.hasEnded) this.resumeAt(Date.now() + RETRY_MS);
      return false;
    }
    const { messages } = reply.value;
    if (this.hasEnded) {
      this.giveBack(messages.map(({ leaseId }) => leaseId));
      return false;
    }
    const endMs = Date.now() + visibilityMs;
    for (const { leaseId } of messages) this.unacked.set(leaseId, endMs);
    if (messages.length > 0) socket.sendAll(messages.map(notification));
    return !this.hasEnded;
  }

  /** Free places in the window, those counted whose lease is over. */
  private room(): number {
    const nowMs = Date.now();
    for (const [leaseId, endMs] of this.unacked) {
      if (endMs > nowMs) break;
      this.unacked.delete(leaseId);
    }
    return this.hasEnded ? 0 : Math.max(0, this.terms.maxUnacked - this.unacked.size);
  }

  private firstEndMs(): number {
    for (const endMs of this.unacked.values()) return endMs;
    return 0;
  }

  private resumeAt(epochMs: number): void {
    if (this.timer !== null) clearTimeout(this.timer);
    this.timer = setTimeout(() => this.resume(), Math.max(1, epochMs - Date.now()));
    this.timer.unref();
  }

  private giveBack(leaseIds: readonly string[]): void {
    if (leaseIds.length === 0) return;
    const { agent, engine, onFailure } = this.deps;
    // A refusal leaves them to their time.
    engine.returnLeases(agent, leaseIds).catch(onFailure);
  }
}

function notification(message: LeasedMessage): string {
  return rpcNotification('messages.deliver', renderLeased(message));
}
