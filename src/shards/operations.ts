import type { ApiErrorCode } from '../contract/errors.js';
import type { EventBody } from './log-line.js';
import type { LogPosition } from './segments.js';
import type { ReplyTo } from './wire.js';

/**
 * One mutation on its way through a batch. A shard calls, in this order and for every operation of a batch in turn:
 *   logged   for each of its events, once their places in the log are known; nothing is durable yet
 *   apply    the batch is durable: make it visible
 *   answer   everything of the batch is visible: tell the agent
 * or, instead of apply and answer, fail: nothing of it happened.
 */
export interface Operation {
  /** Empty for an answer that only has to wait for the operations before it. */
  readonly bodies: readonly EventBody[];
  logged(seq: number, position: LogPosition, bytes: number): void;
  apply(atMs: number): void;
  answer(atMs: number): void;
  fail(code: ApiErrorCode): void;
}

/**
 * A refusal that follows from operations which are staged but not durable: told once they are, for else it would show
 * what a crash could still undo.
 */
export class RefuseLater implements Operation {
  readonly bodies: readonly EventBody[] = [];

  constructor(
    private readonly code: ApiErrorCode,
    private readonly reply: ReplyTo,
  ) {}

  logged(): void {}
  apply(): void {}

  answer(): void {
    this.reply.refuse(this.code);
  }

  fail(code: ApiErrorCode): void {
    this.reply.refuse(code);
  }
}

/** Tries again from scratch when everything staged before it is durable: only then is it known what is true. */
export class RetryLater implements Operation {
  readonly bodies: readonly EventBody[] = [];

  constructor(
    private readonly retry: () => void,
    private readonly reply: ReplyTo,
  ) {}

  logged(): void {}
  apply(): void {}

  answer(): void {
    this.retry();
  }

  fail(code: ApiErrorCode): void {
    this.reply.refuse(code);
  }
}
