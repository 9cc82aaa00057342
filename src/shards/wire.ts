import type { MessagePort } from 'node:worker_threads';
import type { ApiErrorCode } from '../contract/errors.js';

/**
 * What gateways and shards say to each other: flat arrays, one for each thread and loop turn. Flat arrays cross threads
 * at a third less CPU than arrays of objects.
 *
 *   requests: [op, id, a, b, c,  op, id, a, b, c, ...]
 *   replies:  [id, code, x, y, z,  id, code, x, y, z, ...]   code is null when the operation was done
 */
export const STRIDE = 5;

export const OPS = {
  readState: 0,
  writeState: 1,
  deleteState: 2,
  listKeys: 3,
  sendMessage: 4,
  receiveMessages: 5,
  findAgent: 6,
  listAgents: 7,
  findCredential: 8,
  storeChallenge: 9,
  takeChallenge: 10,
  createOperator: 11,
  registerAgent: 12,
  /** The gateway has answered a read from its cache: the shard logs it, and sends no reply. */
  logRead: 13,
  leaseMessages: 14,
  ackMessages: 15,
  returnLeases: 16,
  /** Ends a wait of the same port; always answered. */
  cancelWait: 17,
  awaitPush: 18,
  peekPush: 19,
  settlePush: 20,
  claimSend: 21,
  finishSend: 22,
  releaseSend: 23,
  sendOnce: 24,
  // Of the admin service, not of gateways.
  findContent: 50,
  removeContent: 51,
  settleRemoval: 52,
  revoke: 53,
} as const;
export type Op = (typeof OPS)[keyof typeof OPS];

export type WireBatch = unknown[];

/** Gathers entries for one port and posts them as one message. */
export class Outbox {
  private readonly port: MessagePort;
  private batch: WireBatch = [];

  constructor(port: MessagePort) {
    this.port = port;
  }

  push(first: unknown, second: unknown, a: unknown, b: unknown, c: unknown): void {
    this.batch.push(first, second, a, b, c);
  }

  /** Entries gathered. */
  get size(): number {
    return this.batch.length / STRIDE;
  }

  flush(): void {
    if (this.batch.length === 0) return;
    const batch = this.batch;
    this.batch = [];
    this.port.postMessage(batch);
  }
}

/** Where an operation's answer goes. */
export class ReplyTo {
  constructor(
    readonly outbox: Outbox,
    readonly id: number,
  ) {}

  ok(x: unknown, y: unknown, z: unknown): void {
    this.outbox.push(this.id, null, x, y, z);
  }

  refuse(code: ApiErrorCode): void {
    this.outbox.push(this.id, code, null, null, null);
  }
}
