/**
 * The `proof_of_work` gate: find a string whose SHA-256 after a given prefix starts with n zero bits (2^n tries on
 * average). Judging costs one hash. A proof fits one challenge only, as the prefix is random and used once.
 */
import { Buffer } from 'node:buffer';
import { createHash } from 'node:crypto';
import type { Gate, RandomBytes } from './gate.js';

export interface ProofOfWorkChallenge {
  readonly algorithm: 'sha256';
  readonly prefix: string;
  /** Leading zero bits. */
  readonly difficulty: number;
}

const PREFIX_BYTES = 16;
const MAX_RESPONSE_BYTES = 256;
const DIGEST_BITS = 256;

export class ProofOfWorkGate implements Gate {
  readonly type = 'proof_of_work';
  private readonly difficultyBits: number;
  private readonly random: RandomBytes;

  constructor(difficultyBits: number, random: RandomBytes) {
    this.difficultyBits = difficultyBits;
    this.random = random;
  }

  /** The expectation is `<difficulty>:<prefix>`, so that a changed setting never judges a challenge given out before. */
  issue(_nowMs: number): { challengeData: ProofOfWorkChallenge; expectation: string } {
    const prefix = this.random(PREFIX_BYTES).toString('hex');
    const difficulty = this.difficultyBits;
    return { challengeData: { algorithm: 'sha256', prefix, difficulty }, expectation: `${difficulty}:${prefix}` };
  }

  judge(expectation: string, response: unknown): boolean {
    if (typeof response !== 'string' || !response.isWellFormed()) return false;
    if (Buffer.byteLength(response) > MAX_RESPONSE_BYTES) return false;
    const colon = expectation.indexOf(':');
    const digest = createHash('sha256')
      .update(expectation.slice(colon + 1) + response)
      .digest();
    return leadingZeroBits(digest) >= Number(expectation.slice(0, colon));
  }
}

/** 0 to 256. */
function leadingZeroBits(digest: Buffer): number {
  const first = digest.findIndex((byte) => byte !== 0);
  return first < 0 ? DIGEST_BITS : first * 8 + Math.clz32(digest[first] ?? 0) - 24;
}
