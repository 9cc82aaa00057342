/**
 * Compares what the agents sent with what they heard. Pure; each line of `faults` is a broken promise of the server.
 */
import type { LifeAccount, SentMessage } from './protocol.js';

export interface Latency {
  readonly operation: string;
  readonly count: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly maxMs: number;
}

export interface Summary {
  readonly agents: number;
  readonly agentsListed: number;
  readonly messages: {
    readonly acknowledged: number;
    readonly received: number;
    readonly stillQueued: number;
    /** Sent without an answer; they may have arrived or not. */
    readonly unacknowledged: number;
  };
  readonly state: {
    readonly writes: number;
    readonly reads: number;
    readonly deletes: number;
    readonly conflicts: number;
  };
  /** Refusals by error code. */
  readonly refusals: Readonly<Record<string, number>>;
  readonly latencies: readonly Latency[];
  /** Empty when every acknowledged message was received exactly once or is still queued, and no read was stale. */
  readonly faults: readonly string[];
}

/** Cost: linear in the number of messages. */
export function summarize(accounts: readonly LifeAccount[]): Summary {
  const sum = (of: (account: LifeAccount) => number): number => accounts.reduce((total, one) => total + of(one), 0);
  return {
    agents: accounts.length,
    agentsListed: Math.max(0, ...accounts.map((one) => one.agentsListed)),
    messages: {
      acknowledged: sum((one) => one.sent.length),
      received: sum((one) => one.heard.length),
      stillQueued: sum((one) => one.stillQueued),
      unacknowledged: sum((one) => one.unacknowledged.length),
    },
    state: {
      writes: sum((one) => one.stateWrites),
      reads: sum((one) => one.stateReads),
      deletes: sum((one) => one.stateDeletes),
      conflicts: sum((one) => one.conflicts),
    },
    refusals: sumByName(accounts.map((one) => one.refusals)),
    latencies: latencies(accounts),
    faults: [...messageFaults(accounts), ...accounts.flatMap((one) => one.staleReads)],
  };
}

function messageFaults(accounts: readonly LifeAccount[]): string[] {
  const faults: string[] = [];
  const sent = new Map<string, SentMessage & { from: string; order: number }>();
  const unacknowledged = new Set<string>();
  for (const account of accounts) {
    account.sent.forEach((message, order) => {
      if (sent.has(message.id)) faults.push(`two messages were acknowledged as ${message.id}`);
      sent.set(message.id, { ...message, from: account.address, order });
    });
    for (const content of account.unacknowledged) unacknowledged.add(content);
  }

  const heardIds = new Set<string>();
  for (const account of accounts) {
    /** Per sender, the place of the latest message heard from it: each queue is first in, first out. */
    const latestOrder = new Map<string, number>();
    for (const heard of account.heard) {
      if (heardIds.has(heard.id)) faults.push(`message ${heard.id} was received twice`);
      heardIds.add(heard.id);
      const original = sent.get(heard.id);
      if (original === undefined) {
        if (!unacknowledged.has(heard.content)) faults.push(`message ${heard.id} was received but never sent`);
        continue;
      }
      if (original.to !== account.address || heard.to !== account.address) {
        faults.push(`message ${heard.id} to ${original.to} was received by ${account.address}`);
      }
      if (original.from !== heard.from)
        faults.push(`message ${heard.id} of ${original.from} names ${heard.from} as sender`);
      if (original.content !== heard.content) faults.push(`message ${heard.id} was changed on its way`);
      if (original.order < (latestOrder.get(original.from) ?? -1)) {
        faults.push(`message ${heard.id} overtook an earlier one from ${original.from}`);
      }
      latestOrder.set(original.from, original.order);
    }
  }

  const missing = new Map<string, number>();
  for (const message of sent.values()) {
    if (!heardIds.has(message.id)) missing.set(message.to, (missing.get(message.to) ?? 0) + 1);
  }
  for (const { address, stillQueued } of accounts) {
    const lost = (missing.get(address) ?? 0) - stillQueued;
    if (lost > 0) faults.push(`${lost} acknowledged messages to ${address} are neither received nor queued`);
  }
  return faults;
}

function latencies(accounts: readonly LifeAccount[]): Latency[] {
  const byOperation = new Map<string, number[]>();
  for (const account of accounts) {
    for (const [operation, latenciesMs] of Object.entries(account.latenciesMs)) {
      const all = byOperation.get(operation) ?? [];
      for (const latencyMs of latenciesMs) all.push(latencyMs);
      byOperation.set(operation, all);
    }
  }
  return [...byOperation].sort().map(([operation, latenciesMs]) => {
    latenciesMs.sort((a, b) => a - b);
    const at = (share: number): number => latenciesMs[Math.ceil(share * latenciesMs.length) - 1] ?? 0;
    return { operation, count: latenciesMs.length, p50Ms: at(0.5), p99Ms: at(0.99), maxMs: at(1) };
  });
}

function sumByName(counts: readonly Readonly<Record<string, number>>[]): Record<string, number> {
  const total: Record<string, number> = {};
  for (const one of counts) {
    for (const [name, count] of Object.entries(one)) total[name] = (total[name] ?? 0) + count;
  }
  return total;
}
