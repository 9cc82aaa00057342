/** State keys and values: what they may be, that they come back as they were, and what is refused. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type HttpAnswer, statePath } from '../../support/http.js';
import { assertError, assertFields, assertRecent, type Rig } from '../rig.js';
import { AWKWARD_TEXTS, LONE_SURROGATE_ESCAPES, MALFORMED_UTF8, NOT_OBJECTS } from './texts.js';

const MAX_KEY_BYTES = 1024;
const MAX_VALUE_BYTES = 1_048_576;
const MAX_BODY_BYTES = 2_097_152;
const READ_FIELDS = ['key', 'value', 'last_modified_by', 'last_modified_at'] as const;

/** Every byte as `%XX`, also those that need not be. */
function percentEncodeAll(text: string): string {
  return Array.from(Buffer.from(text), (byte) => `%${byte.toString(16).padStart(2, '0')}`).join('');
}

export function stateChecks(rig: () => Rig): void {
  test('a value is written, read, overwritten and deleted by any agent; the last write wins', async () => {
    const [writer, other] = [await rig().agent(), await rig().agent()];
    assertError(await writer.read('life'), 'not_found');
    assertError(await writer.remove('life'), 'not_found');
    const written = assertFields(await writer.write('life', 'one'), 200, ['key', 'written_by', 'written_at']);
    assert.deepEqual([written.key, written.written_by], ['life', writer.address]);
    assertRecent(written.written_at);
    const entry = { key: 'life', value: 'one', last_modified_by: writer.address, last_modified_at: written.written_at };
    assert.deepEqual(assertFields(await other.read('life'), 200, READ_FIELDS), entry);
    const second = assertFields(await other.write('life', 'two'), 200, ['key', 'written_by', 'written_at']);
    const now = (await writer.read('life')).json();
    assert.deepEqual(
      [now.value, now.last_modified_by, now.last_modified_at],
      ['two', other.address, second.written_at],
    );
    const deleted = assertFields(await writer.remove('life'), 200, ['key', 'deleted_by', 'deleted_at']);
    assert.deepEqual([deleted.key, deleted.deleted_by], ['life', writer.address]);
    assertRecent(deleted.deleted_at);
    assertError(await other.read('life'), 'not_found');
    assertError(await other.remove('life'), 'not_found');
  });

  test('keys and values come back with every character that JSON can carry', async () => {
    const agent = await rig().agent();
    for (const text of AWKWARD_TEXTS) {
      assert.equal((await agent.write(text, text)).json().key, text);
      const entry = (await agent.read(text)).json();
      assert.deepEqual([entry.key, entry.value], [text, text]);
    }
    for (const text of AWKWARD_TEXTS) {
      const byBytes = (await agent.get(`/v1/state/${percentEncodeAll(text)}`)).json();
      assert.equal(byBytes.value, text);
      assert.equal((await agent.remove(text)).json().key, text);
      assertError(await agent.read(text), 'not_found', text);
    }
  });

  test('a key is the path after /v1/state/, decoded exactly once and never normalised', async () => {
    const agent = await rig().agent();
    const spellings: readonly (readonly [key: string, paths: readonly string[]])[] = [
      ['a/b', ['a/b', 'a%2Fb', 'a%2fb', '%61/%62']],
      ['%41', ['%2541', '%25%34%31']],
      ['A', ['A', '%41']],
      ['/', ['/', '%2F']],
      ['//', ['//', '%2F/']],
      ['a//b', ['a//b', 'a/%2Fb']],
      ['/a', ['/a', '%2Fa']],
      ['a/', ['a/', 'a%2f']],
      ['.', ['.', '%2E']],
      ['..', ['..', '%2e%2E']],
      ['a/../b', ['a/../b', 'a/%2E%2E/b']],
      ['./a', ['./a']],
      ['a+b', ['a+b', 'a%2Bb']],
      ['a b', ['a%20b']],
      ['a?b', ['a%3Fb']],
      ['a#b', ['a%23b']],
      ['q', ['q', 'q?x=1', 'q?']],
      ['é', ['%C3%A9', '%c3%a9']],
      ['%', ['%25']],
      ['%2F', ['%252F']],
      ['_capacity/', ['_capacity/']],
      ['_CAPACITY', ['_CAPACITY']],
      ['messages', ['messages']],
    ];
    for (const [key, paths] of spellings) {
      for (const path of paths) {
        const value = `written as ${path}`;
        assert.equal((await agent.put(`/v1/state/${path}`, { value })).json().key, key, path);
        for (const spelling of paths) {
          const entry = (await agent.get(`/v1/state/${spelling}`)).json();
          assert.deepEqual([entry.key, entry.value], [key, value], `${path} read as ${spelling}`);
        }
      }
    }
    for (const [key, paths] of spellings) assert.equal((await agent.delete(`/v1/state/${paths[0]}`)).json().key, key);
  });

  test('keys of every length from 1 to 1,024 bytes work everywhere, one byte more is 400 everywhere', async () => {
    const agent = await rig().agent();
    const longest = [
      'k'.repeat(MAX_KEY_BYTES),
      'é'.repeat(MAX_KEY_BYTES / 2),
      '😀'.repeat(MAX_KEY_BYTES / 4),
      '/'.repeat(MAX_KEY_BYTES),
      '\0'.repeat(MAX_KEY_BYTES),
      `${'€'.repeat(341)}k`,
    ];
    for (const key of ['k', ...longest]) {
      const path = `/v1/state/${percentEncodeAll(key)}`;
      assert.equal((await agent.put(path, { value: 'v' })).json().key, key);
      assert.equal((await agent.get(path)).json().key, key);
      const prefix = percentEncodeAll(key.slice(0, 4));
      const listed = (await agent.get(`/v1/state?limit=1000&prefix=${prefix}`)).json<{ keys: string[] }>();
      assert.ok(listed.keys.includes(key));
      assert.equal((await agent.delete(path)).json().key, key);
    }
    for (const key of longest.map((text) => `${text}k`)) {
      for (const path of [`/v1/state/${percentEncodeAll(key)}`, statePath(key)]) {
        assertError(await agent.get(path), 'bad_request', 'GET');
        assertError(await agent.put(path, { value: 'v' }), 'bad_request', 'PUT');
        assertError(await agent.delete(path), 'bad_request', 'DELETE');
      }
    }
    assertError(await agent.put('/v1/state/', { value: 'v' }), 'bad_request', 'PUT of the empty key');
    assertError(await agent.delete('/v1/state/'), 'bad_request', 'DELETE of the empty key');
  });

  test('malformed percent-encoding and malformed UTF-8 in a key are 400', async () => {
    const agent = await rig().agent();
    const encoded = MALFORMED_UTF8.map((bytes) => `%${(bytes.toString('hex').match(/../g) ?? []).join('%')}`);
    const raw = MALFORMED_UTF8.map((bytes) => bytes.toString('latin1'));
    for (const key of ['%', '%4', '%GG', 'a%', '%%41', '%u0041', ...encoded, ...raw]) {
      const path = `/v1/state/${key}`;
      assertError(await agent.get(path), 'bad_request', `GET ${key}`);
      assertError(await agent.put(path, { value: 'v' }), 'bad_request', `PUT ${key}`);
      assertError(await agent.delete(path), 'bad_request', `DELETE ${key}`);
    }
  });

  test('a value is 0 to 1,048,576 bytes, counted in UTF-8; one byte more is 413 and leaves the old value', async () => {
    const agent = await rig().agent();
    for (const value of [
      '',
      'x'.repeat(MAX_VALUE_BYTES),
      'é'.repeat(MAX_VALUE_BYTES / 2),
      '😀'.repeat(MAX_VALUE_BYTES / 4),
      '"'.repeat(MAX_VALUE_BYTES - 100),
    ]) {
      assert.equal((await agent.write('size', value)).status, 200);
      assert.ok((await agent.read('size')).json().value === value, 'the value came back changed');
    }
    await agent.write('size', 'old');
    for (const value of ['x'.repeat(MAX_VALUE_BYTES + 1), `${'😀'.repeat(MAX_VALUE_BYTES / 4)}x`]) {
      assertError(await agent.write('size', value), 'value_too_large');
    }
    assert.equal((await agent.read('size')).json().value, 'old');
  });

  test('a body of 2 MiB is read, one byte more is 413 on every route that takes a body', async () => {
    const agent = await rig().agent();
    const padded = (body: object, bytes: number): string => JSON.stringify(body).padEnd(bytes);
    assert.equal((await agent.put('/v1/state/body', padded({ value: 'v' }, MAX_BODY_BYTES))).status, 200);
    const { client, operatorKey } = rig();
    const tooLarge: [string, HttpAnswer][] = [
      ['state', await agent.put('/v1/state/body', padded({ value: 'w' }, MAX_BODY_BYTES + 1))],
      ['messages', await agent.post('/v1/messages', padded({ to: agent.address, content: 'w' }, MAX_BODY_BYTES + 1))],
      ['agents', await client.post('/v1/agents', padded({}, MAX_BODY_BYTES + 1), operatorKey)],
      [
        'operators',
        await client.post('/v1/operators', padded({ contact_hash: 'w', accept_terms: true }, MAX_BODY_BYTES + 1)),
      ],
    ];
    for (const [route, answer] of tooLarge) assertError(answer, 'value_too_large', route);
    assert.equal((await agent.read('body')).json().value, 'v');
    assert.equal((await agent.receive()).messages.length, 0);
  });

  test('anything but an object with a string value is 400 and leaves the old value', async () => {
    const agent = await rig().agent();
    await agent.write('kept', 'old');
    for (const text of [...NOT_OBJECTS, '{}', '{"value":null}', '{"value":1}', '{"value":true}', '{"value":{}}']) {
      assertError(await agent.put('/v1/state/kept', text), 'bad_request', text);
    }
    for (const text of ['{"value":["x"]}', '{"Value":"x"}', '{"val\\u0000ue":"x"}', ...lonely()]) {
      assertError(await agent.put('/v1/state/kept', text), 'bad_request', text);
    }
    for (const bytes of MALFORMED_UTF8) {
      const body = Buffer.concat([Buffer.from('{"value":"'), bytes, Buffer.from('"}')]);
      assertError(await agent.put('/v1/state/kept', body), 'bad_request', bytes.toString('hex'));
    }
    assert.equal((await agent.read('kept')).json().value, 'old');
  });

  test('unknown fields and identity fields beside the value are ignored', async () => {
    const [agent, other] = [await rig().agent(), await rig().agent()];
    const claimed = { key: 'elsewhere', written_by: other.address, last_modified_by: other.address, extra: [1] };
    const written = (await agent.put('/v1/state/claimed', { ...claimed, value: 'v' })).json();
    assert.deepEqual([written.key, written.written_by], ['claimed', agent.address]);
    assert.equal((await other.read('claimed')).json().last_modified_by, agent.address);
    assertError(await agent.read('elsewhere'), 'not_found');
  });

  test('_capacity is reserved: read as the capacity document in any spelling, never written or deleted', async () => {
    const agent = await rig().agent();
    for (const path of ['/v1/state/_capacity', '/v1/state/%5Fcapacity', '/v1/state/_capacit%79']) {
      assertFields(await agent.get(path), 200, ['used_bytes', 'total_bytes', 'key_count']);
      assertError(await agent.put(path, { value: 'v' }), 'bad_request', path);
      assertError(await agent.delete(path), 'bad_request', path);
    }
  });

  test('capacity counts the bytes of live keys and values, and the keys', async () => {
    const agent = await rig().agent();
    const capacity = async () => (await agent.get('/v1/state/_capacity')).json<Record<string, number>>();
    const before = await capacity();
    assert.equal(before.total_bytes, 1_073_741_824);
    const growth = async (): Promise<readonly [number, number]> => {
      const now = await capacity();
      return [Number(now.used_bytes) - Number(before.used_bytes), Number(now.key_count) - Number(before.key_count)];
    };
    await agent.write('clé', '😀😀');
    assert.deepEqual(await growth(), [4 + 8, 1]);
    await agent.write('clé', '');
    assert.deepEqual(await growth(), [4, 1]);
    await agent.write('other', 'x'.repeat(100));
    assert.deepEqual(await growth(), [4 + 5 + 100, 2]);
    await agent.remove('clé');
    await agent.remove('other');
    assert.deepEqual(await growth(), [0, 0]);
  });
}

function lonely(): string[] {
  return LONE_SURROGATE_ESCAPES.map((lone) => `{"value":"${lone}"}`);
}
