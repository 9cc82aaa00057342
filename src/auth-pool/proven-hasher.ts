/**
 * A hasher that remembers what it has found, for all gateway threads: each of them verifies a token the first time it
 * meets it, and only the first of them costs a bcrypt.
 * Owns:      fingerprints of proven and of refused pairs of token and hash, within bounds; checks under way, shared by
 *            equal ones.
 * Never:     keeps a token or a hash.
 *
 * What was found of a pair stays true whatever happens: that a token was revoked shows in its credential, and so its
 * hash, being gone.
 */
import { createHmac, randomBytes } from 'node:crypto';
import { LRUCache } from 'lru-cache';
import type { HasherStats, HashReply, PasswordHasher } from './password-hasher.js';

const MAX_PROVEN = 100_000;
/** Apart, so that no flood of wrong tokens makes it forget the right ones. */
const MAX_REFUSED = 16_384;

export class ProvenHasher implements PasswordHasher {
  private readonly hasher: PasswordHasher;
  private readonly key = randomBytes(32);
  private readonly proven = new LRUCache<string, true>({ max: MAX_PROVEN });
  private readonly refused = new LRUCache<string, true>({ max: MAX_REFUSED });
  private readonly underWay = new Map<string, Promise<HashReply<boolean>>>();

  constructor(hasher: PasswordHasher) {
    this.hasher = hasher;
  }

  hash(token: string): Promise<HashReply<string>> {
    return this.hasher.hash(token);
  }

  /** Costs a bcrypt for a pair not seen before, else some microseconds. */
  verify(token: string, hash: string): Promise<HashReply<boolean>> {
    const pair = createHmac('sha256', this.key).update(`${token}\n${hash}`).digest('base64');
    if (this.proven.get(pair) === true) return Promise.resolve({ ok: true, value: true });
    if (this.refused.get(pair) === true) return Promise.resolve({ ok: true, value: false });
    const running = this.underWay.get(pair);
    if (running !== undefined) return running;
    const check = this.prove(pair, token, hash);
    this.underWay.set(pair, check);
    return check;
  }

  stats(): HasherStats {
    return this.hasher.stats();
  }

  private async prove(pair: string, token: string, hash: string): Promise<HashReply<boolean>> {
    const reply = await this.hasher.verify(token, hash);
    this.underWay.delete(pair);
    if (reply.ok) (reply.value ? this.proven : this.refused).set(pair, true);
    return reply;
  }
}
