import type {
  AckReceipt,
  AgentSummary,
  Credential,
  LeasedBatch,
  LeasedMessage,
  MessageReceipt,
  PushAgent,
  ReceivedBatch,
  ReceivedMessage,
  StoredChallenge,
} from '../contract/engine.js';

/**
 * What the parts of each shard's answer mean, on the side of the gateway; `key` is the operation's second argument.
 * One function for each operation, never a closure: they run for every request.
 */

export function toOperator(_x: unknown, _y: unknown, _z: unknown, key: unknown): { readonly operatorId: string } {
  return { operatorId: key as string };
}

export function toAgent(x: unknown, _y: unknown, _z: unknown, key: unknown): AgentSummary {
  return { address: key as string, registeredAtMs: x as number };
}

export function toCredential(x: unknown): Credential {
  return x as Credential;
}

export function toNull(): null {
  return null;
}

export function toChallenge(x: unknown): StoredChallenge {
  return x as StoredChallenge;
}

export function toReceipt(x: unknown, y: unknown): MessageReceipt {
  return { messageId: x as string, sentAtMs: y as number };
}

export function toWritten(x: unknown): { readonly writtenAtMs: number } {
  return { writtenAtMs: x as number };
}

export function toDeleted(x: unknown): { readonly deletedAtMs: number } {
  return { deletedAtMs: x as number };
}

export function toKeys(x: unknown, y: unknown): { readonly keys: readonly string[]; readonly total: number } {
  return { keys: x as string[], total: y as number };
}

export interface OrderedAgent {
  readonly order: string;
  readonly address: string;
}

export function orderOf(agent: OrderedAgent): string {
  return agent.order;
}

export function toOrderedAgents(x: unknown, y: unknown): { readonly agents: OrderedAgent[]; readonly total: number } {
  const flat = x as readonly string[];
  const agents: OrderedAgent[] = [];
  for (let i = 0; i < flat.length; i += 2) agents.push({ order: flat[i] as string, address: flat[i + 1] as string });
  return { agents, total: y as number };
}

export function toReceived(x: unknown, y: unknown): ReceivedBatch {
  const flat = x as readonly unknown[];
  const messages: ReceivedMessage[] = [];
  for (let i = 0; i < flat.length; i += 5) {
    messages.push({
      messageId: flat[i] as string,
      from: flat[i + 1] as string,
      to: flat[i + 2] as string,
      content: flat[i + 3] as string,
      sentAtMs: flat[i + 4] as number,
    });
  }
  return { messages, remaining: y as number };
}

const LEASED_STRIDE = 7;

export function toLeased(x: unknown, y: unknown): LeasedBatch {
  const flat = x as readonly unknown[];
  const messages: LeasedMessage[] = [];
  for (let i = 0; i < flat.length; i += LEASED_STRIDE) {
    messages.push({
      messageId: flat[i] as string,
      from: flat[i + 1] as string,
      to: flat[i + 2] as string,
      content: flat[i + 3] as string,
      sentAtMs: flat[i + 4] as number,
      leaseId: flat[i + 5] as string,
      deliveryCount: flat[i + 6] as number,
    });
  }
  return { messages, remaining: y as number };
}

export function toAckReceipt(x: unknown, y: unknown): AckReceipt {
  return { acked: x as number, unknown: y as readonly string[] };
}

export function toPushAgents(x: unknown): readonly PushAgent[] {
  return x as readonly PushAgent[];
}

export function toNextPush(x: unknown): PushAgent | null {
  return x as PushAgent | null;
}

export function toPushMessage(x: unknown): ReceivedMessage {
  const [messageId, from, to, content, sentAtMs] = x as readonly [string, string, string, string, number];
  return { messageId, from, to, content, sentAtMs };
}

/** The message that an idempotency key stands for, and the attempt whose turn it is. */
export interface SendClaim {
  readonly messageId: string;
  readonly attemptId: string;
}

export function toSendClaim(x: unknown, y: unknown): SendClaim {
  return { messageId: x as string, attemptId: y as string };
}
