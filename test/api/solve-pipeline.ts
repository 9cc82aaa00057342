/** The pipeline's language, written a second time from the contract alone, as a client would. */
import { createHash } from 'node:crypto';
import type { Challenge } from '../support/http.js';

interface PipelineData {
  readonly seed: string;
  readonly operations: readonly { readonly op: string }[];
}

const ALPHABET = 'abcdefghijklmnopqrstuvwxyz';

function rot13(text: string): string {
  return Array.from(text, (letter) => {
    const index = ALPHABET.indexOf(letter.toLowerCase());
    if (index < 0) return letter;
    const turned = ALPHABET[(index + 13) % 26] ?? '';
    return letter === letter.toLowerCase() ? turned : turned.toUpperCase();
  }).join('');
}

const OPERATIONS: Readonly<Record<string, (text: string) => string>> = {
  reverse: (text) => [...text].reverse().join(''),
  base64_encode: (text) => Buffer.from(text, 'utf8').toString('base64'),
  base64_decode: (text) => Buffer.from(text, 'base64').toString('utf8'),
  hex_encode: (text) => Buffer.from(text, 'utf8').toString('hex'),
  sha256: (text) => createHash('sha256').update(text, 'utf8').digest('hex'),
  uppercase: (text) => text.toUpperCase(),
  lowercase: (text) => text.toLowerCase(),
  rot13,
};

/** The answer to a challenge of type `pipeline`. */
export function solvePipeline(challenge: Challenge): string {
  const { seed, operations } = challenge.challenge_data as PipelineData;
  return operations.reduce((text, { op }) => {
    if (op.startsWith('prepend:')) return op.slice('prepend:'.length) + text;
    if (op.startsWith('append:')) return text + op.slice('append:'.length);
    const operation = OPERATIONS[op];
    if (operation === undefined) throw new Error(`"${op}" is not in the pipeline's language`);
    return operation(text);
  }, seed);
}
