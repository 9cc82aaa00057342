import { expectSuccess, onConnections } from './load/http-connection.js';
import type { LoadRequest } from './load/load.js';
import { type Percentiles, percentiles } from './statistics.js';
import type { Subject } from './subject.js';

export interface DrainResult extends Percentiles {
  readonly messages: number;
  readonly requests: number;
  /** Message ids that came more than once. */
  readonly repeated: number;
  readonly seconds: number;
}

/** Takes every message of every agent, on several connections at once. @param limit messages per request, 1 to 100. */
export async function drainQueues(
  subject: Subject,
  options: { readonly connectionsPerAgent: number; readonly limit: number },
): Promise<DrainResult> {
  const ids = new Set<string>();
  const latenciesMs: number[] = [];
  let messages = 0;
  const startedMs = performance.now();
  await onConnections(subject.url, subject.agents.length * options.connectionsPerAgent, async (connection, index) => {
    const { token } = subject.agent(index);
    const request: LoadRequest = { method: 'GET', path: `/v1/messages?limit=${options.limit}`, token };
    for (;;) {
      const sentMs = performance.now();
      const answer = expectSuccess(request, await connection.send(request));
      latenciesMs.push(performance.now() - sentMs);
      const page = JSON.parse(answer.body) as { messages: { message_id: string }[]; remaining: number };
      for (const { message_id } of page.messages) ids.add(message_id);
      messages += page.messages.length;
      if (page.remaining === 0) return;
    }
  });
  const seconds = (performance.now() - startedMs) / 1000;
  const requests = latenciesMs.length;
  return { messages, requests, repeated: messages - ids.size, seconds, ...percentiles(latenciesMs) };
}
