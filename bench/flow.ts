/** Messages on their way: some connections send, others receive in one way or another, and each journey is timed. */
import { setTimeout as sleep } from 'node:timers/promises';
import { VALUE_BYTES } from './dataset.js';
import { expectSuccess, onConnections } from './load/http-connection.js';
import type { LoadRequest, LoadResult } from './load/load.js';
import { RpcConnection } from './load/rpc-connection.js';
import { percentiles } from './statistics.js';
import type { BenchAgent, Subject } from './subject.js';

/** How recipients hear: asking again after a short pause, long polling, or a subscription. */
export type Way = 'pull' | 'long poll' | 'push';

export interface FlowPlan {
  readonly way: Way;
  readonly recipients: readonly BenchAgent[];
  /** Connections that send, each to the recipients in turn, one message in flight each. */
  readonly senders: number;
  readonly seconds: number;
}

export interface FlowResult extends LoadResult {
  readonly sent: number;
  readonly repeated: number;
}

const PULL_PAUSE_MS = 10;
const PAGE = 100;
/** After the last send, for what is still on its way. */
const ARRIVAL_LIMIT_MS = 30_000;

/**
 * Sends for `seconds`, then waits for the rest to arrive. The rate is of messages received, first send to last arrival;
 * the times are from before the send to the arrival, by one clock.
 */
export async function measureFlow(subject: Subject, plan: FlowPlan): Promise<FlowResult> {
  const flow = new Flow();
  const receivers = await startReceivers(subject, plan, flow);
  const startedMs = performance.now();
  await send(subject, plan, flow);
  await flow.allArrived();
  const seconds = (flow.lastArrivalMs - startedMs) / 1000;
  await receivers.stop();
  const received = flow.latenciesMs.length;
  return {
    sent: flow.sent,
    repeated: flow.repeated,
    completed: received,
    failed: flow.sent - received,
    ratePerSecond: received / seconds,
    ...percentiles(flow.latenciesMs),
  };
}

class Flow {
  sent = 0;
  repeated = 0;
  lastArrivalMs = 0;
  isOver = false;
  readonly latenciesMs: number[] = [];
  private readonly ids = new Set<string>();

  arrived(messageId: string, content: string): void {
    if (this.ids.has(messageId)) {
      this.repeated++;
      return;
    }
    this.ids.add(messageId);
    this.lastArrivalMs = performance.now();
    this.latenciesMs.push(this.lastArrivalMs - Number.parseFloat(content));
  }

  async allArrived(): Promise<void> {
    const deadlineMs = performance.now() + ARRIVAL_LIMIT_MS;
    while (this.latenciesMs.length < this.sent && performance.now() < deadlineMs) await sleep(5);
    this.isOver = true;
  }
}

async function send(subject: Subject, plan: FlowPlan, flow: Flow): Promise<void> {
  const endMs = performance.now() + plan.seconds * 1000;
  let turn = 0;
  await onConnections(subject.url, plan.senders, async (connection, index) => {
    const { token } = subject.agent(index);
    while (performance.now() < endMs) {
      const to = plan.recipients[turn++ % plan.recipients.length]?.address ?? '';
      const content = `${performance.now()} `.padEnd(VALUE_BYTES, '.');
      const body = JSON.stringify({ to, content });
      const request: LoadRequest = { method: 'POST', path: '/v1/messages', token, body };
      expectSuccess(request, await connection.send(request));
      flow.sent++;
    }
  });
}

interface Receivers {
  stop(): Promise<void>;
}

async function startReceivers(subject: Subject, plan: FlowPlan, flow: Flow): Promise<Receivers> {
  if (plan.way === 'push') {
    const connections = await Promise.all(
      plan.recipients.map(({ token }) =>
        RpcConnection.subscribe(subject.url, token, 1000, ({ message_id, content }) =>
          flow.arrived(message_id, content),
        ),
      ),
    );
    return {
      stop: async () => {
        await Promise.all(connections.map((connection) => connection.acknowledged()));
        for (const connection of connections) connection.close();
      },
    };
  }
  // A second at most, so that the last long poll ends soon after the flow.
  const path = `/v1/messages?limit=${PAGE}${plan.way === 'long poll' ? '&wait=1' : ''}`;
  const receiving = onConnections(subject.url, plan.recipients.length, async (connection, index) => {
    const request: LoadRequest = { method: 'GET', path, token: plan.recipients[index]?.token ?? '' };
    while (!flow.isOver) {
      const answer = expectSuccess(request, await connection.send(request));
      const { messages } = JSON.parse(answer.body) as { messages: { message_id: string; content: string }[] };
      for (const { message_id, content } of messages) flow.arrived(message_id, content);
      if (messages.length === 0 && plan.way === 'pull') await sleep(PULL_PAUSE_MS);
    }
  });
  return { stop: () => receiving };
}
