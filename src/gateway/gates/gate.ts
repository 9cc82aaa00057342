/**
 * The gate an agent passes to register: what makes a challenge and what judges an answer.
 * Never:     keeps a challenge (the engine does, and hands it out once), or minds who asks and when it expires.
 */
import { randomBytes } from 'node:crypto';
import type { Config } from '../../config/config.js';
import { PipelineGate } from './pipeline.js';
import { ProofOfWorkGate } from './proof-of-work.js';

export interface Gate {
  readonly type: Config['verification']['gateType'];
  /** `challengeData` goes to the client; `expectation`, under 200 bytes, into the store until `judge` needs it. */
  issue(nowMs: number): { challengeData: unknown; expectation: string };
  /** @param response the client's answer as it came, of any JSON type. Never throws. Constant time where it matters. */
  judge(expectation: string, response: unknown): boolean;
}

/** As `crypto.randomBytes`. */
export type RandomBytes = (size: number) => Buffer;

/** The configured gate. @param random source of seeds; tests pass their own. */
export function createGate(verification: Config['verification'], random: RandomBytes = randomBytes): Gate {
  switch (verification.gateType) {
    case 'pipeline':
      return new PipelineGate(random);
    case 'proof_of_work':
      return new ProofOfWorkGate(verification.difficultyBits, random);
    case 'stub':
      return STUB_GATE;
  }
}

/** Accepts anything; for tests and closed networks. */
const STUB_GATE: Gate = {
  type: 'stub',
  issue: () => ({ challengeData: {}, expectation: '' }),
  judge: () => true,
};
