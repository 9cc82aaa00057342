import type { StoredChallenge } from '../contract/engine.js';

/**
 * Challenges waiting for an answer, in memory only.
 * Owns:      the challenges of one shard, bounded in all and for each operator.
 * Never:     judges an answer. A challenge leaves once: taken, pushed out by its operator's newer ones, or expired.
 */
export const MAX_CHALLENGES = 16_384;
export const MAX_CHALLENGES_PER_OPERATOR = 64;

export class Challenges {
  /** Oldest first, for both maps. */
  private readonly byId = new Map<string, StoredChallenge>();
  private readonly byOperator = new Map<string, Set<string>>();

  /** False when the shard holds as many unexpired challenges as it may. */
  store(challenge: StoredChallenge, nowMs: number): boolean {
    const own = this.byOperator.get(challenge.operatorId);
    if (own !== undefined && own.size >= MAX_CHALLENGES_PER_OPERATOR) {
      const oldest = own.values().next().value;
      if (oldest !== undefined) this.remove(oldest);
    } else if (this.byId.size >= MAX_CHALLENGES) {
      this.removeExpired(nowMs);
      if (this.byId.size >= MAX_CHALLENGES) return false;
    }
    this.byId.set(challenge.challengeId, challenge);
    const ids = this.byOperator.get(challenge.operatorId);
    if (ids === undefined) this.byOperator.set(challenge.operatorId, new Set([challenge.challengeId]));
    else ids.add(challenge.challengeId);
    return true;
  }

  /** Undefined when there is none, or it has expired. */
  take(challengeId: string, nowMs: number): StoredChallenge | undefined {
    const challenge = this.remove(challengeId);
    return challenge === undefined || challenge.expiresAtMs <= nowMs ? undefined : challenge;
  }

  private remove(challengeId: string): StoredChallenge | undefined {
    const challenge = this.byId.get(challengeId);
    if (challenge === undefined) return undefined;
    this.byId.delete(challengeId);
    const own = this.byOperator.get(challenge.operatorId);
    own?.delete(challengeId);
    if (own?.size === 0) this.byOperator.delete(challenge.operatorId);
    return challenge;
  }

  private removeExpired(nowMs: number): void {
    for (const challenge of this.byId.values()) {
      if (challenge.expiresAtMs <= nowMs) this.remove(challenge.challengeId);
    }
  }
}
