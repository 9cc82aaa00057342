/**
 * Authenticator of one gateway thread: turns a token into a session.
 * Owns:      the session cache, the negative cache, and the verifications in flight; each bounded.
 * Never:     keeps a token as key or value (an HMAC under a key of this process stands for it), runs bcrypt for a token
 *            whose lookup is unknown, or lets a verification that a revocation overtook end in a session.
 *
 * A session ends with its TTL. What stays in the cache is the proof: the stored hash this token was checked against.
 * If the engine still holds that very hash, the token needs no second bcrypt, only the lookup - so an active agent costs
 * one bcrypt per process, and a revocation missed here still takes effect within the TTL.
 */
import { Buffer } from 'node:buffer';
import { randomBytes, timingSafeEqual } from 'node:crypto';
import { LRUCache } from 'lru-cache';
import type { HasherStats, PasswordHasher } from '../../auth-pool/password-hasher.js';
import type { Credential, Engine } from '../../contract/engine.js';
import { isWellFormedToken, type PrincipalKind, tokenKind, tokenLookup } from '../../contract/tokens.js';
import { hmacCredentialHash } from './credential.js';
import { createTokenFingerprint, type TokenFingerprint } from './token-fingerprint.js';

/** Sessions of agents seen lately, some 300 bytes each. */
const MAX_SESSIONS = 100_000;
/** Wrong tokens whose lookup exists; an attacker needs to know a lookup to make one. */
const MAX_NEGATIVES = 10_000;
const NEGATIVE_TTL_MS = 30_000;
/** Lookups and bcrypts under way, over all tokens. The engine and the hasher refuse long before. */
const MAX_IN_FLIGHT = 10_000;

export interface Session {
  readonly kind: PrincipalKind;
  /** The operator id or agent address. */
  readonly subject: string;
  readonly expiresAtMs: number;
  /** The subject's entry in the shared limiter; -1 until the gateway acquires one. A new session starts at -1. */
  limiterSlot: number;
}

export type AuthResult = { readonly ok: true; readonly session: Session } | AuthRefusal;

export interface AuthRefusal {
  readonly ok: false;
  readonly code: 'unauthorized' | 'unavailable' | 'internal_error';
}

export interface AuthenticatorDeps {
  readonly engine: Pick<Engine, 'findCredential'>;
  readonly hasher: PasswordHasher;
  readonly sessionTtlMs: number;
  /** From `loadServerKey`: needed even where new tokens use bcrypt, for those made under `auth.scheme: hmac`. */
  readonly hmacServerKey: Buffer;
  /** Epoch ms. */
  readonly now: () => number;
}

/** Counts since start, but `sessions`, `negatives` and `inFlight`, which are now. */
export interface AuthenticatorStats {
  /** Entries of the session cache, those past their TTL included. */
  readonly sessions: number;
  readonly negatives: number;
  readonly inFlight: number;
  /** Answered from the session cache. */
  readonly hits: number;
  /** Well-formed tokens that needed a lookup. */
  readonly misses: number;
  /** Misses that joined another one's verification. */
  readonly sharedMisses: number;
  /** Wrong tokens answered from the negative cache. */
  readonly negativeHits: number;
  /** Sessions renewed by a lookup alone. */
  readonly renewals: number;
  /** Verifications given to the hasher. */
  readonly bcrypts: number;
  readonly hasher: HasherStats;
}

interface CachedSession extends Session {
  /** The stored hash that this token matched. */
  readonly provenHash: string;
}

/** What happened while a verification ran. */
interface Interruptions {
  /** Which of the subjects is ours is known only after the lookup. */
  readonly revoked: Set<string>;
  /** `clear` came: answer, but leave nothing in the caches. */
  cleared: boolean;
}

interface Verification {
  readonly result: Promise<AuthResult>;
  readonly interruptions: Interruptions;
}

const UNAUTHORIZED: AuthRefusal = { ok: false, code: 'unauthorized' };
const UNAVAILABLE: AuthRefusal = { ok: false, code: 'unavailable' };
const INTERNAL_ERROR: AuthRefusal = { ok: false, code: 'internal_error' };

export class Authenticator {
  private readonly deps: AuthenticatorDeps;
  private readonly fingerprint: TokenFingerprint;
  private readonly sessions = new LRUCache<string, CachedSession>({ max: MAX_SESSIONS });
  /** Fingerprint to epoch ms until which it is refused. */
  private readonly negatives = new LRUCache<string, number>({ max: MAX_NEGATIVES });
  private readonly inFlight = new Map<string, Verification>();
  private hits = 0;
  private misses = 0;
  private sharedMisses = 0;
  private negativeHits = 0;
  private renewals = 0;
  private bcrypts = 0;

  constructor(deps: AuthenticatorDeps) {
    this.deps = deps;
    this.fingerprint = createTokenFingerprint(randomBytes(64));
  }

  /** Hot path, once per request: the session of a token seen within its TTL, else undefined. About 1 us, one HMAC. */
  cached(token: string): Session | undefined {
    const fingerprint = this.fingerprint(token);
    return fingerprint === undefined ? undefined : this.liveSession(fingerprint);
  }

  /**
   * Cold path, after `cached` found nothing. Concurrent calls with one token share one verification.
   * `unauthorized`: malformed, unknown, wrong or revoked. `unavailable`: the engine or the bcrypt queue is at a bound.
   * Rejects only if the engine or the hasher does, which is a bug.
   */
  authenticate(token: string): Promise<AuthResult> {
    if (!isWellFormedToken(token)) return Promise.resolve(UNAUTHORIZED);
    const fingerprint = this.fingerprint(token);
    if (fingerprint === undefined) return Promise.resolve(UNAUTHORIZED);
    const session = this.liveSession(fingerprint);
    if (session !== undefined) return Promise.resolve({ ok: true, session });
    const refusedUntilMs = this.negatives.get(fingerprint);
    if (refusedUntilMs !== undefined) {
      if (refusedUntilMs > this.deps.now()) {
        this.negativeHits++;
        return Promise.resolve(UNAUTHORIZED);
      }
      this.negatives.delete(fingerprint);
    }
    this.misses++;
    const running = this.inFlight.get(fingerprint);
    if (running !== undefined) {
      this.sharedMisses++;
      return running.result;
    }
    if (this.inFlight.size >= MAX_IN_FLIGHT) return Promise.resolve(UNAVAILABLE);
    return this.startVerification(token, fingerprint);
  }

  /** Forgets the subject here, verifications in flight included. Call it once the engine refuses the credential: a later
   *  `authenticate` asks the engine. Costs a walk over the cache, up to some milliseconds. */
  revoke(subject: string): void {
    for (const [fingerprint, session] of this.sessions.entries()) {
      if (session.subject === subject) this.sessions.delete(fingerprint);
    }
    for (const verification of this.inFlight.values()) verification.interruptions.revoked.add(subject);
  }

  /** Forgets everybody; every next request goes through the engine and the hasher. */
  clear(): void {
    this.sessions.clear();
    this.negatives.clear();
    for (const verification of this.inFlight.values()) verification.interruptions.cleared = true;
  }

  stats(): AuthenticatorStats {
    return {
      sessions: this.sessions.size,
      negatives: this.negatives.size,
      inFlight: this.inFlight.size,
      hits: this.hits,
      misses: this.misses,
      sharedMisses: this.sharedMisses,
      negativeHits: this.negativeHits,
      renewals: this.renewals,
      bcrypts: this.bcrypts,
      hasher: this.deps.hasher.stats(),
    };
  }

  private liveSession(fingerprint: string): Session | undefined {
    const session = this.sessions.get(fingerprint);
    if (session === undefined || session.expiresAtMs <= this.deps.now()) return undefined;
    this.hits++;
    return session;
  }

  private startVerification(token: string, fingerprint: string): Promise<AuthResult> {
    const interruptions: Interruptions = { revoked: new Set(), cleared: false };
    const result = this.verify(token, fingerprint, interruptions).finally(() => this.inFlight.delete(fingerprint));
    this.inFlight.set(fingerprint, { result, interruptions });
    return result;
  }

  private async verify(token: string, fingerprint: string, interruptions: Interruptions): Promise<AuthResult> {
    const found = await this.deps.engine.findCredential(tokenLookup(token));
    if (!found.ok) {
      if (found.code === 'not_found') return this.forget(fingerprint);
      return found.code === 'unavailable' ? UNAVAILABLE : INTERNAL_ERROR;
    }
    const credential = found.value;
    if (credential.kind !== tokenKind(token)) return this.forget(fingerprint);
    const matches = await this.matches(token, fingerprint, credential);
    if (matches === undefined) return UNAVAILABLE;
    if (!matches) {
      if (!interruptions.cleared) this.negatives.set(fingerprint, this.deps.now() + NEGATIVE_TTL_MS);
      return this.forget(fingerprint);
    }
    // Nothing below awaits, so no revocation can slip between this check and the cache.
    if (interruptions.revoked.has(credential.subject)) return this.forget(fingerprint);
    const session: CachedSession = {
      kind: credential.kind,
      subject: credential.subject,
      // From now, not from the lookup: in a storm longer than the TTL sessions would else be born expired.
      expiresAtMs: this.deps.now() + this.deps.sessionTtlMs,
      limiterSlot: -1,
      provenHash: credential.hash,
    };
    if (!interruptions.cleared) this.sessions.set(fingerprint, session);
    return { ok: true, session };
  }

  /** undefined: the hasher is at its bound. */
  private async matches(token: string, fingerprint: string, credential: Credential): Promise<boolean | undefined> {
    if (credential.scheme === 'hmac') {
      const expected = Buffer.from(credential.hash, 'latin1');
      const actual = Buffer.from(hmacCredentialHash(this.deps.hmacServerKey, token), 'latin1');
      return expected.length === actual.length && timingSafeEqual(expected, actual);
    }
    if (this.sessions.peek(fingerprint)?.provenHash === credential.hash) {
      this.renewals++;
      return true;
    }
    this.bcrypts++;
    const verified = await this.deps.hasher.verify(token, credential.hash);
    return verified.ok ? verified.value : undefined;
  }

  /** Drops the proof of a token that was good once. */
  private forget(fingerprint: string): AuthRefusal {
    this.sessions.delete(fingerprint);
    return UNAUTHORIZED;
  }
}
