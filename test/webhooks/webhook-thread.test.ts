/** The webhook thread dies, in a server that runs in this process, where a test can reach its threads. */
import assert from 'node:assert/strict';
import { createRequire, syncBuiltinESMExports } from 'node:module';
import { test } from 'node:test';
import type * as WorkerThreads from 'node:worker_threads';
import { loadConfig } from '../../src/config/load.js';
import { createLogger } from '../../src/log.js';
import { startServer } from '../../src/server.js';
import { type Challenge, HttpClient } from '../support/http.js';
import { makeTempDir, removeTempDir } from '../support/temp-dir.js';
import { waitUntil } from '../support/wait.js';

const soon = { timeoutMs: 20_000 };

test('a webhook thread that dies is replaced, and the next one goes on where it ended', async (t) => {
  const webhookThreads: WorkerThreads.Worker[] = [];
  const threads = createRequire(import.meta.url)('node:worker_threads') as { Worker: typeof WorkerThreads.Worker };
  const { Worker } = threads;
  threads.Worker = class extends Worker {
    constructor(file: string | URL, options?: WorkerThreads.WorkerOptions) {
      super(file, options);
      if (options?.name === 'webhooks') webhookThreads.push(this);
    }
  };
  syncBuiltinESMExports();
  t.after(() => {
    threads.Worker = Worker;
    syncBuiltinESMExports();
  });
  const directory = await makeTempDir();
  const anywhere = '127.0.0.1:0';
  const loaded = loadConfig({
    env: {},
    flags: {
      data_dir: directory,
      'server.listen_addr': anywhere,
      'observe.listen_addr': anywhere,
      'admin.listen_addr': anywhere,
      'auth.scheme': 'hmac',
      'verification.gate_type': 'stub',
      'webhook.allow_networks': '127.0.0.0/8',
      'webhook.max_retries': '0',
      'rate_limits.message_read_per_min': '100000',
      'log.level': 'fatal',
    },
    cores: 1,
  });
  assert.ok(loaded.ok);
  const fatal: Error[] = [];
  const server = await startServer(loaded.config, createLogger('test', 'fatal'), (error) => fatal.push(error));
  t.after(async () => {
    await server.stop();
    await removeTempDir(directory);
  });
  const client = new HttpClient(() => server.addresses.kernel.port);
  t.after(() => client.close());
  const operator = await client.post('/v1/operators', { contact_hash: 'x', accept_terms: true });
  const { api_key: key } = operator.json<{ api_key: string }>();
  const { challenge_id } = (await client.get('/v1/agents/verification-challenge', key)).json<Challenge>();
  // Nobody listens there: a message that is in the pull queue shows that a dispatcher has tried.
  const body = { verification_response: { challenge_id, response: 'x' }, webhook_url: 'https://127.0.0.1:9/' };
  const agent = (await client.post('/v1/agents', body, key)).json<{ agent_address: string; agent_token: string }>();

  for (const [life, content] of ['first', 'second', 'third'].entries()) {
    const sent = await client.post('/v1/messages', { to: agent.agent_address, content }, agent.agent_token);
    assert.equal(sent.status, 202, sent.text);
    const pulled: string[] = [];
    await waitUntil(async () => {
      const answer = await client.get('/v1/messages', agent.agent_token);
      pulled.push(...answer.json<{ messages: { content: string }[] }>().messages.map((message) => message.content));
      return pulled.length > 0;
    }, soon);
    assert.deepEqual(pulled, [content]);
    if (life < 2) {
      await webhookThreads[life]?.terminate();
      await waitUntil(() => webhookThreads.length === life + 2, soon);
    }
  }
  assert.deepEqual(fatal, []);
  await server.stop();
  assert.equal(webhookThreads.length, 3, 'a planned stop starts none');
});
