/** The gates: the pipeline's language against vectors made by other means, and each judge against its solver. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import fc from 'fast-check';
import type { Config } from '../../src/config/config.js';
import { createGate, type RandomBytes } from '../../src/gateway/gates/gate.js';
import { applyPipeline, type PipelineChallenge, PipelineError } from '../../src/gateway/gates/pipeline.js';
import type { ProofOfWorkChallenge } from '../../src/gateway/gates/proof-of-work.js';
import { seededRandom, seedFor } from '../support/seed.js';

const NOW_MS = 1_800_000_000_000;

function settings(gateType: Config['verification']['gateType'], difficultyBits = 8): Config['verification'] {
  return { gateType, challengeExpiryMs: 15_000, difficultyBits };
}

function seededBytes(seed: number): RandomBytes {
  const random = seededRandom(seed);
  return (size) => Buffer.from(Array.from({ length: size }, () => random(256)));
}

/** Expected values by hand, or from coreutils (`printf %s | sha256sum`, `base64`, `xxd -p`). */
const VECTORS: readonly (readonly [seed: string, ops: string[], expected: string])[] = [
  ['abc', ['reverse'], 'cba'],
  ['aé😀', ['reverse'], '😀éa'],
  ['', ['reverse'], ''],
  ['abc', ['base64_encode'], 'YWJj'],
  ['ab', ['base64_encode'], 'YWI='],
  ['é', ['base64_encode'], 'w6k='],
  ['???>>>', ['base64_encode'], 'Pz8/Pj4+'],
  ['YWI=', ['base64_decode'], 'ab'],
  ['w6k=', ['base64_decode'], 'é'],
  ['', ['base64_decode'], ''],
  ['abc', ['hex_encode'], '616263'],
  ['JZ', ['hex_encode'], '4a5a'],
  ['é', ['hex_encode'], 'c3a9'],
  ['', ['sha256'], 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855'],
  ['abc', ['sha256'], 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad'],
  ['aBc1', ['uppercase'], 'ABC1'],
  ['aBc1', ['lowercase'], 'abc1'],
  ['AZazMNmn09-é', ['rot13'], 'NMnmZAza09-é'],
  ['abc', ['prepend:x:y'], 'x:yabc'],
  ['abc', ['append:'], 'abc'],
  ['abc', ['append:😀', 'reverse'], '😀cba'],
  ['abc', ['reverse', 'uppercase', 'base64_encode', 'rot13', 'append:1', 'hex_encode'], '4430574f31'],
];

for (const [seed, ops, expected] of VECTORS) {
  test(`pipeline: ${JSON.stringify(seed)} through ${ops.join(', ')} is ${JSON.stringify(expected)}`, () => {
    assert.equal(
      applyPipeline(
        seed,
        ops.map((op) => ({ op })),
      ),
      expected,
    );
  });
}

test('the pipeline refuses what is not in its language', () => {
  for (const op of ['', 'rot14', 'Reverse', 'prepend', 'append', 'reverse ', 'constructor']) {
    assert.throws(() => applyPipeline('abc', [{ op }]), PipelineError, op);
  }
  for (const text of ['YWI', 'YW I=', '====', 'é', '_-8=', '/w==']) {
    assert.throws(() => applyPipeline(text, [{ op: 'base64_decode' }]), PipelineError, text);
  }
});

test('base64_decode undoes base64_encode, and reverse undoes itself, for any text', (t) => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), (text) => {
      assert.equal(applyPipeline(text, [{ op: 'base64_encode' }, { op: 'base64_decode' }]), text);
      assert.equal(applyPipeline(text, [{ op: 'reverse' }, { op: 'reverse' }]), text);
    }),
    { seed: seedFor(t) },
  );
});

/** A client's solver, written apart from the server's. */
function solve({ seed, operations }: PipelineChallenge): string {
  let text = seed;
  for (const { op } of operations) {
    if (op === 'reverse') text = [...text].reverse().join('');
    else if (op === 'base64_encode') text = btoa(text);
    else if (op === 'hex_encode') text = [...text].map((c) => c.charCodeAt(0).toString(16).padStart(2, '0')).join('');
    else if (op === 'sha256') text = createHash('sha256').update(text).digest('hex');
    else if (op === 'uppercase') text = text.toUpperCase();
    else if (op === 'lowercase') text = text.toLowerCase();
    else if (op === 'rot13') {
      const plain = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';
      const turned = 'NOPQRSTUVWXYZABCDEFGHIJKLMnopqrstuvwxyzabcdefghijklm';
      text = [...text].map((c) => turned[plain.indexOf(c)] ?? c).join('');
    } else if (op.startsWith('prepend:')) text = op.slice(8) + text;
    else if (op.startsWith('append:')) text = text + op.slice(7);
    else throw new Error(`unexpected ${op}`);
  }
  return text;
}

test("the pipeline gate accepts exactly the solver's answer", (t) => {
  const nonStrings = fc.constantFrom<unknown>(null, undefined, 0, true, {}, [], ['x']);
  fc.assert(
    fc.property(fc.nat(), fc.oneof(fc.string(), nonStrings), fc.nat(), (seed, other, at) => {
      const gate = createGate(settings('pipeline'), seededBytes(seed));
      const { challengeData, expectation } = gate.issue(NOW_MS);
      const challenge = challengeData as PipelineChallenge;
      const answer = solve(challenge);
      assert.equal(gate.judge(expectation, answer), true);
      assert.ok(answer.length > 0 && answer.length < 1024, `the answer has ${answer.length} characters`);
      const i = at % answer.length;
      const changed = answer.slice(0, i) + (answer[i] === 'x' ? 'y' : 'x') + answer.slice(i + 1);
      for (const wrong of [changed, `${answer} `, answer.slice(1), '', expectation, challenge.seed, other]) {
        if (wrong !== answer) assert.equal(gate.judge(expectation, wrong), false);
      }
      assert.equal(gate.judge('', answer), false);
    }),
    { seed: seedFor(t), numRuns: 500 },
  );
});

test('generated pipelines have a fresh seed, eight operations, all of the language but base64_decode in time', () => {
  const gate = createGate(settings('pipeline'));
  const seen = new Set<string>();
  const seeds = new Set<string>();
  for (let i = 0; i < 300; i++) {
    const { seed, operations } = gate.issue(NOW_MS).challengeData as PipelineChallenge;
    assert.match(seed, /^[0-9a-f]{32}$/);
    assert.equal(operations.length, 8);
    assert.ok(operations.every((operation) => Object.keys(operation).join() === 'op'));
    seeds.add(seed);
    for (const { op } of operations) seen.add(op.replace(/:.+$/, ':'));
  }
  assert.equal(seeds.size, 300);
  assert.deepEqual([...seen].sort(), [
    'append:',
    'base64_encode',
    'hex_encode',
    'lowercase',
    'prepend:',
    'reverse',
    'rot13',
    'sha256',
    'uppercase',
  ]);
});

test('the stored expectation of a pipeline does not hold the answer', () => {
  const gate = createGate(settings('pipeline'));
  const { challengeData, expectation } = gate.issue(NOW_MS);
  assert.notEqual(expectation, solve(challengeData as PipelineChallenge));
  assert.match(expectation, /^[0-9a-f]{64}$/);
});

test('an answer of megabytes or with a lone surrogate is wrong, whatever it hashes to', () => {
  for (const text of ['a'.repeat(5000), '\ud800']) {
    const expectation = createHash('sha256').update(text).digest('hex');
    assert.equal(createGate(settings('pipeline')).judge(expectation, text), false);
  }
});

function startsWithZeroBits(text: string, bits: number): boolean {
  const digest = createHash('sha256').update(text).digest('hex');
  const binary = [...digest].map((digit) => Number.parseInt(digit, 16).toString(2).padStart(4, '0')).join('');
  return binary.startsWith('0'.repeat(bits));
}

test('proof_of_work accepts exactly what has the zero bits', (t) => {
  fc.assert(
    fc.property(
      fc.nat(),
      fc.integer({ min: 0, max: 10 }),
      fc.string({ unit: 'grapheme' }),
      (seed, difficulty, noise) => {
        const gate = createGate(settings('proof_of_work', difficulty), seededBytes(seed));
        const { challengeData, expectation } = gate.issue(NOW_MS);
        const challenge = challengeData as ProofOfWorkChallenge;
        assert.deepEqual([challenge.algorithm, challenge.difficulty], ['sha256', difficulty]);
        let nonce = 0;
        while (!startsWithZeroBits(challenge.prefix + nonce, difficulty)) {
          if (nonce < 20) assert.equal(gate.judge(expectation, String(nonce)), false);
          nonce++;
        }
        assert.equal(gate.judge(expectation, String(nonce)), true);
        assert.equal(gate.judge(expectation, noise), startsWithZeroBits(challenge.prefix + noise, difficulty));
        for (const wrong of [nonce, null, undefined, [String(nonce)], {}])
          assert.equal(gate.judge(expectation, wrong), false);
      },
    ),
    { seed: seedFor(t), numRuns: 200 },
  );
});

test('proof_of_work: 256 bytes are an answer, 257 are not', () => {
  const gate = createGate(settings('proof_of_work', 0));
  const { expectation } = gate.issue(NOW_MS);
  assert.equal(gate.judge(expectation, 'a'.repeat(256)), true);
  assert.equal(gate.judge(expectation, 'a'.repeat(257)), false);
  assert.equal(gate.judge(expectation, 'é'.repeat(129)), false);
  assert.equal(gate.judge(expectation, '\ud800'), false);
});

test('proof_of_work judges a challenge by the difficulty it was given out with', () => {
  const easy = createGate(settings('proof_of_work', 0)).issue(NOW_MS);
  assert.equal(createGate(settings('proof_of_work', 200)).judge(easy.expectation, 'anything'), true);
  const hard = createGate(settings('proof_of_work', 200)).issue(NOW_MS);
  assert.equal(createGate(settings('proof_of_work', 0)).judge(hard.expectation, 'anything'), false);
});

test('stub accepts anything', () => {
  const gate = createGate(settings('stub'));
  const { challengeData, expectation } = gate.issue(NOW_MS);
  assert.equal(JSON.stringify(challengeData), '{}');
  for (const response of ['', null, undefined, 0, {}]) assert.equal(gate.judge(expectation, response), true);
});

test('each gate says its type', () => {
  for (const type of ['pipeline', 'proof_of_work', 'stub'] as const)
    assert.equal(createGate(settings(type)).type, type);
});
