/**
 * The `pipeline` gate: a seed and eight text operations, trivial for a program and tedious for a person.
 * Pure but for the random source it is given. The language of operations is API.md's; clients implement the same.
 */
import { Buffer } from 'node:buffer';
import { createHash } from 'node:crypto';
import { isDigestOf } from './digest-compare.js';
import type { Gate, RandomBytes } from './gate.js';

export interface PipelineOperation {
  /** `reverse`, `sha256`, ... or `prepend:<s>`, `append:<s>`. */
  readonly op: string;
}

export interface PipelineChallenge {
  /** 32 lowercase hex digits. */
  readonly seed: string;
  readonly operations: readonly PipelineOperation[];
}

/** An operation outside the language, or a text it can't be applied to. */
export class PipelineError extends Error {
  override readonly name = 'PipelineError';
}

const SEED_BYTES = 16;
const OPERATION_COUNT = 8;
const AFFIX_BYTES = 4;
/** Every operation but `base64_decode`, which needs an input that happens to be base64. */
const GENERATED_OPERATIONS = [
  'reverse',
  'base64_encode',
  'hex_encode',
  'sha256',
  'uppercase',
  'lowercase',
  'rot13',
  'prepend',
  'append',
] as const;
const PREPEND = 'prepend:';
const APPEND = 'append:';
/** Far over the longest answer of a generated challenge, which stays under 300 bytes: no operation comes twice. */
const MAX_RESPONSE_BYTES = 4096;

export class PipelineGate implements Gate {
  readonly type = 'pipeline';
  private readonly random: RandomBytes;

  constructor(random: RandomBytes) {
    this.random = random;
  }

  /** The expectation is the answer's SHA-256: of one size, whatever the answer's. */
  issue(_nowMs: number): { challengeData: PipelineChallenge; expectation: string } {
    const challengeData = generateChallenge(this.random);
    const answer = applyPipeline(challengeData.seed, challengeData.operations);
    return { challengeData, expectation: sha256Hex(answer) };
  }

  judge(expectation: string, response: unknown): boolean {
    if (typeof response !== 'string' || !response.isWellFormed()) return false;
    if (Buffer.byteLength(response) > MAX_RESPONSE_BYTES) return false;
    return isDigestOf(expectation, response);
  }
}

/**
 * The final string after all operations, in order. `hex_encode` doubles a text's bytes, `base64_encode` adds a third; the
 * caller bounds how often.
 * @throws PipelineError for an unknown operation, and for `base64_decode` of what is not base64 of UTF-8.
 */
export function applyPipeline(seed: string, operations: readonly PipelineOperation[]): string {
  let text = seed;
  for (const { op } of operations) text = applyOperation(text, op);
  return text;
}

function applyOperation(text: string, op: string): string {
  switch (op) {
    case 'reverse':
      return Array.from(text).reverse().join(''); // by code point: half a surrogate pair is no character
    case 'base64_encode':
      return Buffer.from(text).toString('base64');
    case 'base64_decode':
      return decodeBase64(text);
    case 'hex_encode':
      return Buffer.from(text).toString('hex');
    case 'sha256':
      return sha256Hex(text);
    case 'uppercase':
      return text.toUpperCase();
    case 'lowercase':
      return text.toLowerCase();
    case 'rot13':
      return rot13(text);
  }
  if (op.startsWith(PREPEND)) return op.slice(PREPEND.length) + text;
  if (op.startsWith(APPEND)) return text + op.slice(APPEND.length);
  throw new PipelineError(`"${op}" is not an operation of the pipeline`);
}

/** Standard alphabet with padding, as `base64_encode` makes it. Node skips what it can't read; here that is an error. */
function decodeBase64(text: string): string {
  const bytes = Buffer.from(text, 'base64');
  const decoded = bytes.toString('utf8');
  if (bytes.toString('base64') !== text || !Buffer.from(decoded).equals(bytes)) {
    throw new PipelineError('base64_decode needs padded base64 of UTF-8 text');
  }
  return decoded;
}

function rot13(text: string): string {
  return text.replace(/[a-z]/gi, (letter) => {
    const code = letter.charCodeAt(0);
    const first = code < 97 ? 65 : 97;
    return String.fromCharCode(((code - first + 13) % 26) + first);
  });
}

/** Eight different operations in random order: all variety, and an answer that can't grow beyond a line. */
function generateChallenge(random: RandomBytes): PipelineChallenge {
  const names: string[] = [...GENERATED_OPERATIONS];
  const operations: PipelineOperation[] = [];
  while (operations.length < OPERATION_COUNT) {
    // 32 random bits against at most nine choices: the bias is below one in 10^8.
    const [name = ''] = names.splice(random(4).readUInt32LE(0) % names.length, 1);
    const takesText = name === 'prepend' || name === 'append';
    operations.push({ op: takesText ? `${name}:${random(AFFIX_BYTES).toString('hex')}` : name });
  }
  return { seed: random(SEED_BYTES).toString('hex'), operations };
}

function sha256Hex(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}
