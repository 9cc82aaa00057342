/** An engine whose messages are handed out by the test: what the gateway asks for and gives back is seen call by call. */
import type {
  AckReceipt,
  Engine,
  EngineReply,
  LeasedBatch,
  LeasedMessage,
  LeaseTerms,
  ReceivedBatch,
  Wait,
} from '../../src/contract/engine.js';

export interface Asked<Batch> {
  readonly agent: string;
  readonly limit: number;
  readonly terms: LeaseTerms | null;
  readonly wait: Wait | null;
  answer(reply: EngineReply<Batch>): void;
  isAnswered: boolean;
}

const EMPTY = { ok: true, value: { messages: [], remaining: 0 } } as const;

export class HandFed {
  readonly received: Asked<ReceivedBatch>[] = [];
  readonly leased: Asked<LeasedBatch>[] = [];
  readonly acked: (readonly string[])[] = [];
  readonly returned: (readonly string[])[] = [];
  /** True: an aborted wait is not answered by itself, as if the engine had messages in hand already. */
  ignoresAborts = false;
  private count = 0;

  /** `inner` with the delivery of messages replaced. Waits that are aborted are answered empty, as the contract has it. */
  around(inner: Engine): Engine {
    const fed: Partial<Engine> = {
      receiveMessages: (agent, limit, wait) => this.ask(this.received, agent, limit, null, wait),
      leaseMessages: (agent, limit, terms, wait) => this.ask(this.leased, agent, limit, terms, wait),
      ackMessages: (_agent, leaseIds) => this.ack(leaseIds),
      returnLeases: (_agent, leaseIds) => {
        this.returned.push(leaseIds);
        return Promise.resolve({ ok: true, value: null });
      },
    };
    return new Proxy(inner, {
      get: (target, name: keyof Engine) => fed[name] ?? target[name].bind(target),
    });
  }

  /** The newest unanswered request for leases. */
  get waiting(): Asked<LeasedBatch> | undefined {
    return this.leased.findLast(({ isAnswered }) => !isAnswered);
  }

  batch(count: number, content = 'x'): LeasedMessage[] {
    return Array.from({ length: count }, () => ({
      messageId: `message-${++this.count}`,
      from: 'tab_from',
      to: 'tab_to',
      content,
      sentAtMs: 0,
      leaseId: `lease-${this.count}`,
      deliveryCount: 1,
    }));
  }

  private ack(leaseIds: readonly string[]): Promise<EngineReply<AckReceipt>> {
    this.acked.push(leaseIds);
    return Promise.resolve({ ok: true, value: { acked: leaseIds.length, unknown: [] } });
  }

  private ask<Batch extends ReceivedBatch>(
    list: Asked<Batch>[],
    agent: string,
    limit: number,
    terms: LeaseTerms | null,
    wait: Wait | null,
  ): Promise<EngineReply<Batch>> {
    return new Promise((resolve) => {
      const asked: Asked<Batch> = {
        agent,
        limit,
        terms,
        wait,
        isAnswered: false,
        answer: (reply) => {
          asked.isAnswered = true;
          resolve(reply);
        },
      };
      list.push(asked);
      wait?.signal.addEventListener('abort', () => {
        if (!asked.isAnswered && !this.ignoresAborts) asked.answer(EMPTY as unknown as EngineReply<Batch>);
      });
    });
  }
}
