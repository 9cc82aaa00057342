/** Challenges: solved, wrong, used, expired, foreign. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Challenge, HttpAnswer } from '../../support/http.js';
import { assertError, assertFields, type Rig, UUID } from '../rig.js';
import { solvePipeline } from '../solve-pipeline.js';

const OPERATION = /^(?:reverse|base64_encode|hex_encode|sha256|uppercase|lowercase|rot13|(?:prepend|append):.+)$/;

interface PipelineData {
  readonly seed: string;
  readonly operations: readonly { readonly op: string }[];
}
interface ProofOfWorkData {
  readonly algorithm: string;
  readonly prefix: string;
  readonly difficulty: number;
}

function leadingZeroBits(text: string): number {
  const digest = createHash('sha256').update(text).digest();
  const bits = Array.from(digest, (byte) => byte.toString(2).padStart(8, '0')).join('');
  return bits.indexOf('1');
}

function answerWith(
  rig: Rig,
  challengeId: string,
  response: unknown,
  operatorKey = rig.operatorKey,
): Promise<HttpAnswer> {
  return rig.client.post('/v1/agents', { verification_response: { challenge_id: challengeId, response } }, operatorKey);
}

/** Settings of the server for `proofOfWorkChecks`. */
const DIFFICULTY_BITS = 8;
export const PROOF_OF_WORK = {
  verification: { gate_type: 'proof_of_work', difficulty: DIFFICULTY_BITS, challenge_expiry: '2s' },
} as const;

/** Needs the default gate. */
export function pipelineChecks(rig: () => Rig): void {
  test('pipeline: the default gate; a challenge is a seed and eight operations, and 15 s long', async () => {
    for (let round = 0; round < 20; round++) {
      const askedMs = Date.now();
      const challenge = await rig().challenge();
      assert.match(challenge.challenge_id, UUID);
      assert.equal(challenge.challenge_type, 'pipeline');
      const lifeMs = Date.parse(challenge.expires_at) - askedMs;
      assert.ok(lifeMs >= 14_900 && lifeMs < 17_000, `it lives ${lifeMs} ms`);
      const { seed, operations } = challenge.challenge_data as PipelineData;
      assert.match(seed, /^[0-9a-f]{32}$/);
      assert.equal(operations.length, 8);
      for (const { op } of operations) assert.match(op, OPERATION);
      const answer = await answerWith(rig(), challenge.challenge_id, solvePipeline(challenge));
      assertFields(answer, 201, ['agent_address', 'agent_token']);
    }
  });

  test('pipeline: a wrong answer is 403 and uses the challenge up; so does a right one', async () => {
    for (const wrong of ['', 'wrong', 1, null, true, ['x'], {}, 'x'.repeat(100_000)]) {
      const challenge = await rig().challenge();
      assertError(
        await answerWith(rig(), challenge.challenge_id, wrong),
        'verification_failed',
        JSON.stringify(wrong).slice(0, 20),
      );
      const late = await answerWith(rig(), challenge.challenge_id, solvePipeline(challenge));
      assertError(late, 'verification_failed', 'used up by a wrong answer');
    }
    const challenge = await rig().challenge();
    const right = solvePipeline(challenge);
    const both = await Promise.all([1, 2, 3, 4].map(() => answerWith(rig(), challenge.challenge_id, right)));
    assert.deepEqual(both.map(({ status }) => status).sort(), [201, 403, 403, 403], 'used once, also at one moment');
    const nearly = await rig().challenge();
    assertError(await answerWith(rig(), nearly.challenge_id, `${solvePipeline(nearly)} `), 'verification_failed');
    for (const id of [
      crypto.randomUUID(),
      'nonsense',
      `${challenge.challenge_id}0`,
      challenge.challenge_id.toUpperCase(),
    ]) {
      assertError(await answerWith(rig(), id, right), 'verification_failed', id);
    }
  });

  test('a challenge belongs to the operator who asked for it, and a stranger who tries uses it up', async () => {
    const registered = async (): Promise<number> =>
      (await rig().server.events()).filter(({ type }) => type === 'agent_registered').length;
    const before = await registered();
    const stranger = await rig().operator();
    const challenge = await rig().challenge();
    const response = solvePipeline(challenge);
    assertError(await answerWith(rig(), challenge.challenge_id, response, stranger), 'verification_failed');
    assertError(await answerWith(rig(), challenge.challenge_id, response), 'verification_failed');
    assert.equal(await registered(), before);
  });
}

export function proofOfWorkChecks(rig: () => Rig): void {
  /** Answers a fresh challenge, after `waitsFor` it. */
  const attempt = async (isRight: boolean, waitsFor?: (challenge: Challenge) => Promise<void>): Promise<HttpAnswer> => {
    const challenge = await rig().challenge();
    assert.equal(challenge.challenge_type, 'proof_of_work');
    const { algorithm, prefix, difficulty } = challenge.challenge_data as ProofOfWorkData;
    assert.deepEqual([algorithm, difficulty], ['sha256', DIFFICULTY_BITS]);
    let suffix = 0;
    while (leadingZeroBits(prefix + suffix) >= DIFFICULTY_BITS !== isRight) suffix++;
    await waitsFor?.(challenge);
    return answerWith(rig(), challenge.challenge_id, String(suffix));
  };

  test('proof_of_work: a string with enough zero bits registers, one without does not', async () => {
    assertFields(await attempt(true), 201, ['agent_address', 'agent_token']);
    assertError(await attempt(false), 'verification_failed');
  });

  test('an expired challenge is 403, however right the answer', async () => {
    // Expiry itself is what is tested.
    const expiry = (challenge: Challenge) => sleep(Math.max(0, Date.parse(challenge.expires_at) - Date.now()) + 20);
    assertError(await attempt(true, expiry), 'verification_failed');
  });
}
