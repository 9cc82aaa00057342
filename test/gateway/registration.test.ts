import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ask, errorCode, type RawResponse, type Rig, startRig, testConfig } from './rig.js';

type Context = Parameters<typeof startRig>[0];

function post(t: Context, rig: Rig, path: string, body: unknown, headers = ''): Promise<RawResponse> {
  const text = JSON.stringify(body);
  const head = `POST ${path} HTTP/1.1\r\nHost: x\r\n${headers}Content-Type: application/json\r\nContent-Length: ${Buffer.byteLength(text)}\r\n\r\n`;
  return ask(t, rig.gateway.port, head, Buffer.from(text));
}

async function newChallenge(
  t: Context,
  rig: Rig,
  operatorKey: string,
): Promise<{ challenge_id: string; expires_at: string }> {
  const request = `GET /v1/agents/verification-challenge HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${operatorKey}\r\n\r\n`;
  const response = await ask(t, rig.gateway.port, request);
  assert.equal(response.status, 200);
  return JSON.parse(response.body);
}

const operatorHeader = (key: string) => `Authorization: Bearer ${key}\r\n`;

test('an operator registers, meets a challenge and gets an agent whose token works', async (t) => {
  const rig = await startRig(t);
  const operator = await post(t, rig, '/v1/operators', { contact_hash: 'hash', accept_terms: true });
  assert.equal(operator.status, 201);
  assert.equal(operator.headers['x-ratelimit-limit'], '5');
  const { api_key: key } = JSON.parse(operator.body) as { api_key: string };
  const challenge = await newChallenge(t, rig, key);
  const answer = { verification_response: { challenge_id: challenge.challenge_id, response: 'anything' } };
  const agent = await post(t, rig, '/v1/agents', answer, operatorHeader(key));
  assert.equal(agent.status, 201);
  const made = JSON.parse(agent.body) as { agent_address: string; agent_token: string; webhook_secret?: string };
  assert.equal(made.webhook_secret, undefined);
  const me = await ask(
    t,
    rig.gateway.port,
    `GET /v1/agents/me HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${made.agent_token}\r\n\r\n`,
  );
  assert.equal(JSON.parse(me.body).address, made.agent_address);
});

test('field errors leave a challenge unused; any attempt uses it up; another operator cannot use it', async (t) => {
  const rig = await startRig(t);
  const { api_key: other } = JSON.parse(
    (await post(t, rig, '/v1/operators', { contact_hash: 'h', accept_terms: true })).body,
  );
  const { challenge_id } = await newChallenge(t, rig, rig.operatorKey);
  const answered = { verification_response: { challenge_id, response: 'x' } };
  const incomplete = await post(
    t,
    rig,
    '/v1/agents',
    { verification_response: { challenge_id } },
    operatorHeader(rig.operatorKey),
  );
  assert.equal(incomplete.status, 400);
  assert.equal((await post(t, rig, '/v1/agents', answered, operatorHeader(rig.operatorKey))).status, 201);
  const again = await post(t, rig, '/v1/agents', answered, operatorHeader(rig.operatorKey));
  assert.equal(again.status, 403);
  assert.equal(errorCode(again), 'verification_failed');
  const second = await newChallenge(t, rig, rig.operatorKey);
  const stolen = { verification_response: { challenge_id: second.challenge_id, response: 'x' } };
  assert.equal((await post(t, rig, '/v1/agents', stolen, operatorHeader(other))).status, 403);
  assert.equal(
    (await post(t, rig, '/v1/agents', stolen, operatorHeader(rig.operatorKey))).status,
    403,
    'used up by the thief',
  );
});

test('a webhook is checked after the challenge, and brings a secret', async (t) => {
  const rig = await startRig(t, testConfig({}, { 'webhook.allow_networks': '127.0.0.0/8' }));
  const register = async (url: string) => {
    const { challenge_id } = await newChallenge(t, rig, rig.operatorKey);
    const body = { verification_response: { challenge_id, response: 'x' }, webhook_url: url };
    return { body, response: await post(t, rig, '/v1/agents', body, operatorHeader(rig.operatorKey)) };
  };
  const refused = await register('https://10.0.0.1/hook');
  assert.equal(refused.response.status, 400);
  const retried = await post(t, rig, '/v1/agents', refused.body, operatorHeader(rig.operatorKey));
  assert.equal(retried.status, 403, 'the challenge was used up');
  const { response } = await register('https://127.0.0.1/hook');
  assert.equal(response.status, 201);
  assert.match(JSON.parse(response.body).webhook_secret, /^whsec_[A-Za-z0-9+/]{43}=$/);
});

test('operator registrations are counted per client address, before anything else is looked at', async (t) => {
  const rig = await startRig(t);
  for (let count = 0; count < 5; count++) {
    assert.equal((await post(t, rig, '/v1/operators', { contact_hash: '' })).status, 400);
  }
  const forged = 'X-Forwarded-For: 203.0.113.7\r\n';
  const refused = await post(t, rig, '/v1/operators', { contact_hash: 'h', accept_terms: true }, forged);
  assert.equal(refused.status, 429);
  assert.equal(refused.headers['x-ratelimit-remaining'], '0');
});

test('behind a trusted proxy the forwarded address is the one that counts', async (t) => {
  const rig = await startRig(t, testConfig({ trustedProxies: ['127.0.0.1'] }));
  const body = { contact_hash: 'h', accept_terms: true };
  for (let count = 0; count < 6; count++) {
    const response = await post(t, rig, '/v1/operators', body, `X-Forwarded-For: 203.0.113.${count}\r\n`);
    assert.equal(response.status, 201);
  }
});
