import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Type } from '@sinclair/typebox';
import { ApiError } from '../../src/contract/errors.js';
import {
  NewAgentBody,
  NewMessageBody,
  NewOperatorBody,
  StateValueBody,
  Utf8String,
} from '../../src/contract/schemas.js';
import { compileBody } from '../../src/contract/validate.js';

const newOperator = compileBody(NewOperatorBody);
const newAgent = compileBody(NewAgentBody);
const newMessage = compileBody(NewMessageBody);
const stateValue = compileBody(StateValueBody);

function refuses(check: (value: unknown) => unknown, json: string, message: string): void {
  assert.throws(
    () => check(JSON.parse(json)),
    (error) => {
      assert.ok(error instanceof ApiError);
      assert.equal(error.code, 'bad_request');
      assert.equal(error.message, message);
      return true;
    },
    json,
  );
}

test('a body that is not a JSON object is refused as such', () => {
  for (const json of ['null', '[]', '"text"', '1', 'true', '[{"value":"x"}]']) {
    refuses(stateValue, json, 'body: must be a JSON object');
  }
});

test('a missing field is named', () => {
  refuses(stateValue, '{}', 'value: is required');
  refuses(newMessage, '{"to":"tab_x"}', 'content: is required');
  refuses(newMessage, '{"content":"x"}', 'to: is required');
  refuses(newOperator, '{"accept_terms":true}', 'contact_hash: is required');
  refuses(newAgent, '{}', 'verification_response: is required');
  refuses(newAgent, '{"verification_response":{"response":"x"}}', 'verification_response.challenge_id: is required');
  refuses(newAgent, '{"verification_response":{"challenge_id":"x"}}', 'verification_response.response: is required');
});

test('a field of another type is refused by its rule, null and {} included', () => {
  for (const value of ['null', '{}', '[]', '1', 'false']) {
    refuses(stateValue, `{"value":${value}}`, 'value: must be a string');
    refuses(newMessage, `{"to":"tab_x","content":${value}}`, 'content: must be a non-empty string');
    refuses(newMessage, `{"to":${value},"content":"x"}`, 'to: must be a string');
    refuses(newOperator, `{"contact_hash":${value}}`, 'contact_hash: must be a string of 1 to 256 bytes');
  }
  for (const value of ['null', '[]', '1', '"x"']) {
    refuses(newAgent, `{"verification_response":${value}}`, 'verification_response: must be a JSON object');
  }
});

test('a webhook url may be left out, but not be of another type or empty', () => {
  const proof = '"verification_response":{"challenge_id":"c","response":"r"}';
  assert.equal(newAgent(JSON.parse(`{${proof}}`)).webhook_url, undefined);
  assert.equal(newAgent(JSON.parse(`{${proof},"webhook_url":"https://a.example"}`)).webhook_url, 'https://a.example');
  for (const value of ['null', '1', '""', '{}', `"${'x'.repeat(2049)}"`]) {
    refuses(newAgent, `{${proof},"webhook_url":${value}}`, 'webhook_url: must be a string of 1 to 2048 bytes');
  }
});

test('the answer to a challenge may be any JSON value, so that every gate can judge it', () => {
  for (const value of ['null', '0', 'false', '{}', '[]', '""', '"x"']) {
    const body = newAgent(JSON.parse(`{"verification_response":{"challenge_id":"c","response":${value}}}`));
    assert.deepEqual(body.verification_response.response, JSON.parse(value));
  }
});

test('accept_terms is handed on whatever it is, or left out', () => {
  for (const value of ['true', 'false', 'null', '"yes"']) {
    assert.deepEqual(newOperator(JSON.parse(`{"contact_hash":"h","accept_terms":${value}}`)), {
      contact_hash: 'h',
      accept_terms: JSON.parse(value),
    });
  }
  assert.deepEqual(newOperator(JSON.parse('{"contact_hash":"h"}')), { contact_hash: 'h' });
});

test('lengths are counted in UTF-8 bytes, at exactly the bounds', () => {
  const rule = 'contact_hash: must be a string of 1 to 256 bytes';
  for (const accepted of [
    'x',
    'x'.repeat(256),
    'é'.repeat(128),
    '€'.repeat(85),
    `${'€'.repeat(85)}x`,
    '😀'.repeat(64),
  ]) {
    assert.equal(newOperator({ contact_hash: accepted }).contact_hash, accepted);
  }
  for (const refused of [
    '',
    'x'.repeat(257),
    'é'.repeat(129),
    '€'.repeat(86),
    `${'😀'.repeat(64)}x`,
    '😀'.repeat(65),
  ]) {
    refuses(newOperator, JSON.stringify({ contact_hash: refused }), rule);
  }
});

test('a least number of bytes is counted too', () => {
  const check = compileBody(Type.Object({ field: Utf8String({ minBytes: 4 }) }));
  for (const accepted of ['xxxx', 'éé', '😀', '€x']) assert.equal(check({ field: accepted }).field, accepted);
  for (const refused of ['', 'xxx', 'éx', '€']) {
    refuses(check, JSON.stringify({ field: refused }), 'field: must be a string of at least 4 bytes');
  }
});

test('lone surrogates are refused in every string that is used', () => {
  const rule = 'must be well-formed Unicode, without lone surrogates';
  for (const lone of ['\\ud800', 'a\\udc00b', '\\udc00\\ud800']) {
    refuses(stateValue, `{"value":"${lone}"}`, `value: ${rule}`);
    refuses(newMessage, `{"to":"x","content":"${lone}"}`, `content: ${rule}`);
    refuses(newMessage, `{"to":"${lone}","content":"x"}`, `to: ${rule}`);
    refuses(newOperator, `{"contact_hash":"${lone}"}`, `contact_hash: ${rule}`);
    refuses(
      newAgent,
      `{"verification_response":{"challenge_id":"c","response":"${lone}"}}`,
      `verification_response.response: ${rule}`,
    );
  }
  assert.equal(stateValue(JSON.parse('{"value":"\\ud83d\\ude00"}')).value, '😀');
});

test('every character JSON can carry is accepted unchanged, and a value may be empty', () => {
  for (const text of ['', '\u0000', '"\\', '\u2028\u2029', '\ufffe\uffff\ufeff', '😀', '/%2F%', '__proto__']) {
    assert.equal(stateValue(JSON.parse(JSON.stringify({ value: text }))).value, text);
  }
});

test('unknown fields are ignored, identity fields among them', () => {
  const body = newMessage(JSON.parse('{"to":"x","content":"y","from":"tab_me","message_id":7,"__proto__":null}'));
  assert.equal(body.to, 'x');
  assert.equal(body.content, 'y');
});

test('a field named __proto__ supplies no other field, and changes no prototype', () => {
  refuses(stateValue, '{"__proto__":{"value":"x"}}', 'value: is required');
  refuses(newMessage, '{"__proto__":{"to":"x","content":"y"}}', 'to: is required');
  refuses(
    newAgent,
    '{"verification_response":{"__proto__":{"challenge_id":"c","response":"r"}}}',
    'verification_response.challenge_id: is required',
  );
  refuses(newAgent, '{"constructor":{"verification_response":{}}}', 'verification_response: is required');
  assert.equal(Object.hasOwn(Object.prototype, 'value'), false);
});

test('the same check gives the same verdict after a refusal', () => {
  refuses(stateValue, '{"value":1}', 'value: must be a string');
  assert.deepEqual(stateValue({ value: 'x' }), { value: 'x' });
  refuses(stateValue, '{"value":1}', 'value: must be a string');
});
