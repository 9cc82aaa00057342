/** Operators and agents come in: fields, webhooks, and what they get. The gate here is `stub`. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ADDRESS, AGENT_TOKEN, assertError, assertFields, assertRecent, OPERATOR_KEY, type Rig, UUID } from '../rig.js';

export function registrationChecks(rig: () => Rig): void {
  const operatorsLogged = async (contact: string): Promise<number> =>
    (await rig().server.events()).filter(({ data }) => data.contact_hash === contact).length;

  test('an operator gets an id and a key, different at every registration', async () => {
    const seen = new Set<unknown>();
    for (let index = 0; index < 3; index++) {
      const answer = await rig().client.post('/v1/operators', { contact_hash: 'same', accept_terms: true });
      const { operator_id: id, api_key: key } = assertFields(answer, 201, ['operator_id', 'api_key']);
      assert.match(String(id), UUID);
      assert.match(String(key), OPERATOR_KEY);
      rig().server.handedOut.add(String(key));
      seen.add(id).add(key);
    }
    assert.equal(seen.size, 6);
  });

  test('contact_hash is a non-empty string of at most 256 bytes, counted in UTF-8', async () => {
    const accepted = ['x', 'x'.repeat(256), 'é'.repeat(128), '😀'.repeat(64), 'nul \u0000 and "quotes"'];
    for (const contact of accepted) {
      const answer = await rig().client.post('/v1/operators', { contact_hash: contact, accept_terms: true });
      assertFields(answer, 201, ['operator_id', 'api_key']);
      assert.ok((await operatorsLogged(contact)) > 0);
    }
    for (const contact of ['', 'x'.repeat(257), `${'é'.repeat(128)}x`, '😀'.repeat(65), 1, null, true, ['x'], {}]) {
      const answer = await rig().client.post('/v1/operators', { contact_hash: contact, accept_terms: true });
      assertError(answer, 'bad_request', JSON.stringify(contact));
    }
    assertError(await rig().client.post('/v1/operators', { accept_terms: true }), 'bad_request', 'no contact_hash');
  });

  test('accept_terms must be true, and nothing that merely looks like it', async () => {
    for (const terms of [false, null, 'true', 1, {}, [true]]) {
      const answer = await rig().client.post('/v1/operators', { contact_hash: 'no terms', accept_terms: terms });
      assertError(answer, 'bad_request', JSON.stringify(terms));
    }
    assertError(await rig().client.post('/v1/operators', { contact_hash: 'no terms' }), 'bad_request', 'left out');
    assert.equal(await operatorsLogged('no terms'), 0);
  });

  test('a challenge has an id, a type, data and a time at which it ends', async () => {
    const answer = await rig().client.get('/v1/agents/verification-challenge', rig().operatorKey);
    const fields = ['challenge_id', 'challenge_type', 'challenge_data', 'expires_at'] as const;
    const challenge = assertFields(answer, 200, fields);
    assert.match(String(challenge.challenge_id), UUID);
    assert.equal(challenge.challenge_type, 'stub');
    assertRecent(challenge.expires_at);
  });

  test('an agent gets an address and a token, and finds itself under agents/me', async () => {
    const { challenge_id } = await rig().challenge();
    const body = { verification_response: { challenge_id, response: '' } };
    const answer = await rig().client.post('/v1/agents', body, rig().operatorKey);
    const { agent_address, agent_token } = assertFields(answer, 201, ['agent_address', 'agent_token']);
    assert.match(String(agent_address), ADDRESS);
    assert.match(String(agent_token), AGENT_TOKEN);
    rig().server.handedOut.add(String(agent_token));
    const me = assertFields(await rig().client.get('/v1/agents/me', String(agent_token)), 200, [
      'address',
      'registered_at',
    ]);
    assert.equal(me.address, agent_address);
    assertRecent(me.registered_at);
  });

  test('the stub gate takes any answer, but each challenge once', async () => {
    for (const response of ['', 'x', 0, null, { a: 1 }]) {
      const { challenge_id } = await rig().challenge();
      const body = { verification_response: { challenge_id, response } };
      const answer = await rig().client.post('/v1/agents', body, rig().operatorKey);
      rig().server.handedOut.add(String(assertFields(answer, 201, ['agent_address', 'agent_token']).agent_token));
      assertError(await rig().client.post('/v1/agents', body, rig().operatorKey), 'verification_failed');
    }
  });

  test('malformed registrations are 400 and leave the challenge unused', async () => {
    const { challenge_id } = await rig().challenge();
    const malformed = [
      {},
      null,
      [],
      'text',
      { verification_response: null },
      { verification_response: {} },
      { verification_response: { challenge_id } },
      { verification_response: { response: '' } },
      { verification_response: { challenge_id: 1, response: '' } },
      { verification_response: { challenge_id: null, response: '' } },
      { verification_response: [challenge_id, ''] },
      { verification_response: { challenge_id, response: '' }, webhook_url: 1 },
      { verification_response: { challenge_id, response: '' }, webhook_url: {} },
    ];
    for (const body of malformed) {
      const answer = await rig().client.post('/v1/agents', JSON.stringify(body), rig().operatorKey);
      assertError(answer, 'bad_request', JSON.stringify(body));
    }
    const lone = `{"verification_response":{"challenge_id":"${challenge_id}","response":"\\ud800"}}`;
    assertError(await rig().client.post('/v1/agents', lone, rig().operatorKey), 'bad_request', 'lone surrogate');
    const body = { verification_response: { challenge_id, response: '' } };
    const answer = await rig().client.post('/v1/agents', body, rig().operatorKey);
    assertFields(answer, 201, ['agent_address', 'agent_token']);
    rig().server.handedOut.add(answer.json<{ agent_token: string }>().agent_token);
  });

  test('unknown fields and identity fields in a registration are ignored', async () => {
    const { challenge_id } = await rig().challenge();
    const claimed = {
      agent_address: `tab_${'a'.repeat(20)}`,
      operator_id: challenge_id,
      nonsense: [1, { deep: null }],
    };
    const body = { ...claimed, verification_response: { challenge_id, response: '', extra: 1 } };
    const answer = await rig().client.post('/v1/agents', body, rig().operatorKey);
    const { agent_address, agent_token } = assertFields(answer, 201, ['agent_address', 'agent_token']);
    rig().server.handedOut.add(String(agent_token));
    assert.notEqual(agent_address, claimed.agent_address);
  });

  const register = async (webhookUrl: string): Promise<Awaited<ReturnType<Rig['client']['post']>>> => {
    const { challenge_id } = await rig().challenge();
    const body = { verification_response: { challenge_id, response: '' }, webhook_url: webhookUrl };
    return rig().client.post('/v1/agents', body, rig().operatorKey);
  };

  test('an agent with a webhook gets a secret; the log tells of the webhook, but not its address', async () => {
    const answer = await register('https://127.0.0.1:1/secret-path-of-the-hook');
    const fields = ['agent_address', 'agent_token', 'webhook_secret'] as const;
    const { agent_address, agent_token, webhook_secret } = assertFields(answer, 201, fields);
    assert.match(String(webhook_secret), /^whsec_[A-Za-z0-9+/=]{32,}$/);
    rig().server.handedOut.add(String(webhook_secret)).add(String(agent_token)).add('secret-path-of-the-hook');
    const { address } = await rig().agent();
    const registrations = (await rig().server.events()).filter(({ type }) => type === 'agent_registered');
    const hasWebhook = (agent: unknown) => registrations.find(({ data }) => data.address === agent)?.data.has_webhook;
    assert.equal(hasWebhook(agent_address), true);
    assert.equal(hasWebhook(address), false);
  });

  test('a webhook that is not https to a public host is 400', async () => {
    const refused = [
      '',
      'nonsense',
      '/relative',
      'http://127.0.0.1/hook',
      'ftp://127.0.0.1/hook',
      'https://',
      'https://user:password@127.0.0.1/hook',
      'https://user@127.0.0.1/hook',
      'https://name.invalid/hook',
      'https://10.0.0.1/',
      'https://192.168.1.1/',
      'https://172.16.0.1/',
      'https://169.254.169.254/latest/meta-data',
      'https://100.64.0.1/',
      'https://0.0.0.0/',
      'https://224.0.0.1/',
      'https://255.255.255.255/',
      'https://192.0.2.1/',
      'https://167772161/', // 10.0.0.1 as one number
      'https://0x0a000001/',
      'https://10.1/',
      'https://[::1]/',
      'https://[::]/',
      'https://[fe80::1]/',
      'https://[fc00::1]/',
      'https://[ff02::1]/',
      'https://[2001:db8::1]/',
      'https://[::ffff:10.0.0.1]/', // IPv4-mapped
      'https://[64:ff9b::a00:1]/', // NAT64 of 10.0.0.1
    ];
    for (const url of refused) assertError(await register(url), 'bad_request', url);
    const body = `{"verification_response":{"challenge_id":"x","response":""},"webhook_url":"https://127.0.0.1/\\ud800"}`;
    assertError(await rig().client.post('/v1/agents', body, rig().operatorKey), 'bad_request', 'lone surrogate');
  });

  test('the challenge is judged before the webhook, and a refused webhook has used it up', async () => {
    const unknown = { challenge_id: crypto.randomUUID(), response: '' };
    const bad = 'https://10.0.0.1/';
    const { client, operatorKey } = rig();
    const first = await client.post('/v1/agents', { verification_response: unknown, webhook_url: bad }, operatorKey);
    assertError(first, 'verification_failed');
    const { challenge_id } = await rig().challenge();
    const verification_response = { challenge_id, response: '' };
    const second = await client.post('/v1/agents', { verification_response, webhook_url: bad }, operatorKey);
    assertError(second, 'bad_request');
    assertError(await client.post('/v1/agents', { verification_response }, operatorKey), 'verification_failed');
  });
}
