/** What the demo and its agent processes tell each other. Plain data: it crosses process boundaries as JSON. */

/** From the demo to an agent, in this order. Each phase ends for all agents before the next begins for any. */
export type Instruction =
  | {
      readonly phase: 'arrive';
      readonly index: number;
      readonly seed: number;
      readonly baseUrl: string;
      readonly apiKey: string;
    }
  | { readonly phase: 'live'; readonly durationMs: number; readonly companions: readonly string[] }
  | { readonly phase: 'drain' };

/** From an agent to the demo, one answer per instruction. */
export type Report =
  | { readonly phase: 'arrived'; readonly address: string }
  | { readonly phase: 'lived' }
  | { readonly phase: 'drained'; readonly account: LifeAccount };

export interface SentMessage {
  readonly id: string;
  readonly to: string;
  readonly content: string;
}

export interface HeardMessage {
  readonly id: string;
  readonly from: string;
  readonly to: string;
  readonly content: string;
}

/** Everything one agent saw. */
export interface LifeAccount {
  readonly address: string;
  /** Acknowledged by the server. */
  readonly sent: readonly SentMessage[];
  /** Contents of messages that were sent but not acknowledged: they may have arrived or not. */
  readonly unacknowledged: readonly string[];
  /** In the order of arrival. */
  readonly heard: readonly HeardMessage[];
  /** What the server says is still in the queue. */
  readonly stillQueued: number;
  /** Agents met in the registry. */
  readonly agentsListed: number;
  readonly stateWrites: number;
  readonly stateReads: number;
  readonly stateDeletes: number;
  /** Times an own write was found overwritten by another agent: the last write won. */
  readonly conflicts: number;
  /** Reads that a linearizable store can't give. Empty, or the server is wrong. */
  readonly staleReads: readonly string[];
  /** Answers that were refusals, by error code; those that were tried again too. */
  readonly refusals: Readonly<Record<string, number>>;
  /** By operation, milliseconds, one per answer; waits between tries are not in it. */
  readonly latenciesMs: Readonly<Record<string, readonly number[]>>;
}
