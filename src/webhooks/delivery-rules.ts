/**
 * What becomes of a message after a post: retries with backoff, then the pull queue, and the circuit breaker.
 * Pure. A circuit-breaker library keeps its state in the memory of one process; here the state - failures in a row, until
 * when the circuit is open - is the agent's row in its shard, survives kill -9, and changes in the same durable step as
 * the message does. What is left for this file is one addition and one comparison.
 *
 *   closed     failedInRow < threshold: messages are posted
 *   open       until `circuitOpenUntilMs`: the engine puts messages straight into the pull queue
 *   half-open  afterwards failedInRow still stands at the threshold, so one more failed message opens it again,
 *              and one delivered message sets it to 0: closed
 */
import type { PushAgent, PushOutcome } from '../contract/engine.js';

export interface DeliveryRules {
  /** Further posts after the first one failed, 0 or more. */
  readonly maxRetries: number;
  /** Messages in a row that may fail; the last of them opens the circuit. 1 or more. */
  readonly circuitBreakerThreshold: number;
  readonly circuitBreakerDurationMs: number;
}

/** How one post ended. */
export type PostResult =
  /** 2xx within the time. */
  | { readonly kind: 'delivered'; readonly status: number }
  /** Any other answer, redirects included. */
  | { readonly kind: 'refused'; readonly status: number }
  /** No answer within `webhook.total_timeout`, or no connection within `webhook.connect_timeout`. */
  | { readonly kind: 'timeout' }
  /** The host's address is not on the public internet, or the URL is not one that may be posted to. */
  | { readonly kind: 'address_refused' }
  /** No connection, no valid certificate, or no valid answer. `code` names the fault, never a host or an address. */
  | { readonly kind: 'unreachable'; readonly code: string }
  /** The server stops: nothing is known about the receiver, and nothing is counted against it. */
  | { readonly kind: 'abandoned' };

export type CountedResult = Exclude<PostResult, { readonly kind: 'abandoned' }>;

const FIRST_BACKOFF_MS = 1_000;

/** @param agent as it was before this post. @param nowMs when the post ended. */
export function outcomeOf(agent: PushAgent, result: CountedResult, rules: DeliveryRules, nowMs: number): PushOutcome {
  if (result.kind === 'delivered') return { kind: 'delivered' };
  const attempts = agent.attempts + 1;
  if (attempts <= rules.maxRetries) {
    return { kind: 'retry', attempts, nextAttemptAtMs: nowMs + FIRST_BACKOFF_MS * 2 ** (attempts - 1) };
  }
  const failedInRow = agent.failedInRow + 1;
  const opens = failedInRow >= rules.circuitBreakerThreshold;
  return { kind: 'undeliverable', failedInRow, circuitOpenUntilMs: opens ? nowMs + rules.circuitBreakerDurationMs : 0 };
}
