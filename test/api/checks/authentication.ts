/** Which tokens are let in, and where. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Method } from '../../support/http.js';
import { assertError, type Rig } from '../rig.js';

const AGENT_ROUTES: readonly (readonly [Method, string])[] = [
  ['GET', '/v1/agents/me'],
  ['GET', '/v1/registry'],
  ['POST', '/v1/messages'],
  ['GET', '/v1/messages'],
  ['GET', '/v1/state'],
  ['GET', '/v1/state/'],
  ['GET', '/v1/state/key'],
  ['PUT', '/v1/state/key'],
  ['DELETE', '/v1/state/key'],
  ['GET', '/v1/state/_capacity'],
];
const OPERATOR_ROUTES: readonly (readonly [Method, string])[] = [
  ['GET', '/v1/agents/verification-challenge'],
  ['POST', '/v1/agents'],
];

/** Forms of a token that are not the token. */
function forgeries(token: string): string[] {
  const prefix = token.slice(0, 8);
  const digits = token.slice(8);
  const last = digits.endsWith('0') ? '1' : '0';
  return [
    `${token}0`,
    `${token}x`,
    `${token}${'0'.repeat(200)}`,
    `${token} ${token}`,
    `${token},`,
    token.slice(0, -1),
    `${token.slice(0, -1)}${last}`,
    `${token.slice(0, -1)}g`,
    `${prefix}${digits.toUpperCase()}`.replace(/^(.{8}\d*)$/, '$1A'),
    token.toUpperCase(),
    prefix,
    digits,
    `xx_live_${digits}`,
    `${prefix.slice(0, 3)}test_${digits}`,
    `${prefix}${'0'.repeat(64)}`,
    `"${token}"`,
    'undefined',
  ];
}

export function authenticationChecks(rig: () => Rig): void {
  test('every route but health, the document and operator registration is 401 without a token', async () => {
    for (const [method, path] of [...AGENT_ROUTES, ...OPERATOR_ROUTES]) {
      const answer = await rig().client.send(method, path);
      assertError(answer, 'unauthorized', `${method} ${path}`);
      assert.equal(answer.headers['x-ratelimit-limit'], undefined, 'nobody is known, so nobody is limited');
    }
  });

  test('an operator key on an agent route, and an agent token on an operator route, are 401', async () => {
    const agent = await rig().agent();
    for (const [method, path] of AGENT_ROUTES) {
      const answer = await rig().client.send(method, path, { token: rig().operatorKey });
      assertError(answer, 'unauthorized', `${method} ${path}`);
    }
    for (const [method, path] of OPERATOR_ROUTES) {
      const answer = await rig().client.send(method, path, { token: agent.token });
      assertError(answer, 'unauthorized', `${method} ${path}`);
    }
  });

  test('a token with anything added, taken or changed is 401, before and after the right one was seen', async () => {
    const agent = await rig().agent();
    const routes = [
      [agent.token, '/v1/agents/me'],
      [rig().operatorKey, '/v1/agents/verification-challenge'],
    ] as const;
    for (const [token, path] of routes) {
      for (const seen of [false, true]) {
        if (seen) assert.equal((await rig().client.get(path, token)).status, 200);
        for (const forged of forgeries(token)) {
          assertError(await rig().client.get(path, forged), 'unauthorized', forged.slice(0, 20));
        }
      }
    }
  });

  test('the scheme is Bearer in any case, and nothing else', async () => {
    const { token } = await rig().agent();
    for (const scheme of ['Bearer', 'bearer', 'BEARER', 'bEARer']) {
      const headers = { Authorization: `${scheme} ${token}` };
      assert.equal((await rig().client.send('GET', '/v1/agents/me', { headers })).status, 200, scheme);
    }
    for (const value of [
      token,
      `Basic ${token}`,
      `Token ${token}`,
      `Bearer${token}`,
      `Bearer:${token}`,
      'Bearer',
      '',
    ]) {
      const headers = { Authorization: value };
      assertError(await rig().client.send('GET', '/v1/agents/me', { headers }), 'unauthorized', value.slice(0, 20));
    }
  });
}
