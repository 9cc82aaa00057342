import assert from 'node:assert/strict';
import { test } from 'node:test';
import { TypeCompiler } from '@sinclair/typebox/compiler';
import {
  ChallengeResponse,
  ErrorResponse,
  MessageReceiptResponse,
  NewAgentResponse,
  OperatorResponse,
  RegistryResponse,
} from '../../src/contract/schemas.js';

const UUID = '0f8fad5b-d9cb-469f-a165-70867728950e';
const TIME = '2026-03-18T05:30:00.123Z';
const ADDRESS = `tab_${'a1'.repeat(10)}`;
const HEX_64 = 'ab'.repeat(32);

test('challenges of every gate fit, and data of another gate does not', () => {
  const check = TypeCompiler.Compile(ChallengeResponse);
  const common = { challenge_id: UUID, expires_at: TIME };
  const op = 'prepend: any\ntext';
  const pipeline = { seed: 'ab'.repeat(16), operations: Array.from({ length: 8 }, () => ({ op })) };
  const work = { algorithm: 'sha256', prefix: 'p', difficulty: 20 };
  assert.ok(check.Check({ ...common, challenge_type: 'pipeline', challenge_data: pipeline }));
  assert.ok(check.Check({ ...common, challenge_type: 'proof_of_work', challenge_data: work }));
  assert.ok(check.Check({ ...common, challenge_type: 'stub', challenge_data: {} }));
  assert.equal(check.Check({ ...common, challenge_type: 'pipeline', challenge_data: work }), false);
  assert.equal(check.Check({ ...common, challenge_type: 'proof_of_work', challenge_data: pipeline }), false);
  const unknownOp = { ...pipeline, operations: Array.from({ length: 8 }, () => ({ op: 'md5' })) };
  assert.equal(check.Check({ ...common, challenge_type: 'pipeline', challenge_data: unknownOp }), false);
});

test('tokens, addresses and times are held to their exact form', () => {
  const operator = TypeCompiler.Compile(OperatorResponse);
  assert.ok(operator.Check({ operator_id: UUID, api_key: `sk_live_${HEX_64}` }));
  assert.equal(operator.Check({ operator_id: UUID, api_key: `at_live_${HEX_64}` }), false);
  assert.equal(operator.Check({ operator_id: 'x', api_key: `sk_live_${HEX_64}` }), false);
  const agent = TypeCompiler.Compile(NewAgentResponse);
  assert.ok(agent.Check({ agent_address: ADDRESS, agent_token: `at_live_${HEX_64}` }));
  assert.ok(agent.Check({ agent_address: ADDRESS, agent_token: `at_live_${HEX_64}`, webhook_secret: 'whsec_x' }));
  assert.equal(agent.Check({ agent_address: `${ADDRESS}0`, agent_token: `at_live_${HEX_64}` }), false);
  const receipt = TypeCompiler.Compile(MessageReceiptResponse);
  const sent = { message_id: UUID, from: ADDRESS, to: ADDRESS };
  assert.ok(receipt.Check({ ...sent, timestamp: TIME }));
  for (const timestamp of ['2026-03-18T05:30:00Z', '2026-13-18T05:30:00.123Z', '2026-03-18 05:30:00.123Z', 1]) {
    assert.equal(receipt.Check({ ...sent, timestamp }), false, String(timestamp));
  }
});

test('a page ends with a null cursor, never with a missing one', () => {
  const page = TypeCompiler.Compile(RegistryResponse);
  assert.ok(page.Check({ agents: [{ address: ADDRESS, registered_at: TIME }], next_cursor: null, total: 1 }));
  assert.ok(page.Check({ agents: [], next_cursor: 'opaque', total: 0 }));
  assert.equal(page.Check({ agents: [], total: 0 }), false);
});

test('an error names a code of the catalogue', () => {
  const error = TypeCompiler.Compile(ErrorResponse);
  assert.ok(error.Check({ error: 'not_found', message: 'm' }));
  assert.ok(error.Check({ error: 'unavailable', message: 'm', expected_recovery: TIME }));
  assert.equal(error.Check({ error: 'missing', message: 'm' }), false);
});
