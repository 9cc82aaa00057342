/** Whose address counts behind a proxy, and whether terms are required. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type HttpAnswer, HttpClient } from '../../support/http.js';
import { startServer, type TestServer } from '../../support/server.js';
import { assertError, limitFigures } from '../rig.js';
import { FAST, type Topology, topologySettings } from '../topologies.js';

export function proxyChecks(topology: Topology): void {
  const register = async (
    server: TestServer,
    client: HttpClient,
    forwarded: string | string[],
  ): Promise<HttpAnswer> => {
    const headers = { 'X-Forwarded-For': forwarded };
    // No accept_terms: the server under test does not require them.
    const answer = await client.send('POST', '/v1/operators', { body: { contact_hash: 'x' }, headers });
    if (answer.status === 201) server.handedOut.add(answer.json<{ api_key: string }>().api_key);
    return answer;
  };

  test('X-Forwarded-For counts from a trusted proxy, from the right, and terms may be optional', async (t) => {
    const server = await startServer(t, {
      config: {
        ...FAST,
        ...topologySettings(topology),
        server: { trusted_proxies: ['127.0.0.1', '10.0.0.0/8'] },
        operators: { require_terms: false },
        rate_limits: { operator_reg_per_hour_per_ip: 2 },
      },
    });
    const client = new HttpClient(() => server.kernelPort);
    t.after(async () => client.close());
    const remaining = async (forwarded: string | string[]): Promise<number> => {
      const answer = await register(server, client, forwarded);
      assert.equal(answer.status, 201, `${String(forwarded)} ${answer.text}`);
      return limitFigures(answer).remaining;
    };
    assert.equal(await remaining('203.0.113.1'), 1);
    assert.equal(await remaining('203.0.113.2'), 1, 'another client has a bucket of its own');
    assert.equal(await remaining('198.51.100.7, 203.0.113.1'), 0, 'what the client itself wrote does not count');
    assertError(await register(server, client, '203.0.113.1'), 'rate_limited');
    assertError(await register(server, client, '203.0.113.1, 10.1.2.3'), 'rate_limited', 'a second trusted proxy');
    assertError(await register(server, client, ['9.9.9.9', '203.0.113.1']), 'rate_limited', 'over two lines');
    assertError(await register(server, client, '::ffff:203.0.113.1'), 'rate_limited', 'the same address in IPv6');
    assert.equal(await remaining('2001:db8::1'), 1);
    assert.equal(await remaining('nonsense'), 1, 'what is no address leaves the proxy as the client');
  });
}
