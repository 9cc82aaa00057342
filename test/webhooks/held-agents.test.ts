/** The dispatcher asks for no more agents than it may hold, while nobody answers its posts. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { EngineReply, PushAgent, ReceivedMessage } from '../../src/contract/engine.js';
import { createLogger } from '../../src/log.js';
import { AgentHistory } from '../../src/webhooks/agent-history.js';
import type { PostResult } from '../../src/webhooks/delivery-rules.js';
import { WebhookDispatcher } from '../../src/webhooks/dispatcher.js';
import { WebhookMetrics } from '../../src/webhooks/webhook-metrics.js';
import { waitUntil } from '../support/wait.js';

/** As in the dispatcher. */
const MAX_HELD_AGENTS = 100_000;
const HANDED_OUT_AT_ONCE = 1_000;
const AGENTS = MAX_HELD_AGENTS + 10 * HANDED_OUT_AT_ONCE;

test('a dispatcher whose posts all hang holds as many agents as it may, and then asks for no more', async (t) => {
  let handedOut = 0;
  let isAsked = false;
  const awaitPushAgents = async (): Promise<EngineReply<PushAgent[]>> => {
    isAsked = true;
    await new Promise(setImmediate);
    isAsked = false;
    const agents: PushAgent[] = [];
    for (let n = 0; n < HANDED_OUT_AT_ONCE && handedOut < AGENTS; n++) {
      const address = `tab_${handedOut++}`;
      const state = { attempts: 0, nextAttemptAtMs: 0, failedInRow: 0 };
      agents.push({ address, url: 'https://hang.example/', secret: 'whsec_', ...state });
    }
    return { ok: true, value: agents };
  };
  const peekPush = async (to: string): Promise<EngineReply<ReceivedMessage>> => {
    return { ok: true, value: { messageId: to, from: 'tab_from', to, content: 'x', sentAtMs: 0 } };
  };
  const posts: ((result: PostResult) => void)[] = [];
  const post = (): Promise<PostResult> => new Promise((resolve) => posts.push(resolve));
  const close = async (): Promise<void> => {
    for (const end of posts) end({ kind: 'abandoned' });
  };
  const dispatcher = new WebhookDispatcher({
    engine: { awaitPushAgents, peekPush, settlePush: async () => ({ ok: true, value: null }) },
    poster: { post, close },
    history: new AgentHistory(1_000, 1_000),
    metrics: new WebhookMetrics(),
    rules: { maxRetries: 3, circuitBreakerThreshold: 5, circuitBreakerDurationMs: 300_000 },
    maxConcurrency: 4,
    logger: createLogger('webhooks-test', 'fatal'),
    now: Date.now,
    onFault: (error) => {
      throw error;
    },
  });
  dispatcher.start();
  t.after(() => dispatcher.stop(0));
  await waitUntil(() => handedOut >= MAX_HELD_AGENTS && posts.length > 0, { timeoutMs: 20_000 });
  for (let turn = 0; turn < 50; turn++) await new Promise(setImmediate);
  assert.equal(dispatcher.waiting + dispatcher.inFlight, MAX_HELD_AGENTS);
  assert.equal(handedOut, MAX_HELD_AGENTS);
  assert.equal(isAsked, false);
  for (const end of posts.splice(0)) end({ kind: 'delivered', status: 200 });
  await waitUntil(() => handedOut > MAX_HELD_AGENTS, { timeoutMs: 5_000, what: 'it asks again when there is room' });
});
