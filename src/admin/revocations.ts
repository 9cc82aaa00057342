/**
 * Revocations: an agent or operator loses its token, everywhere at once.
 * Owns:      their order - first the engine refuses the credential, then every gateway forgets its sessions - and which
 *            subjects were revoked lately, for gateways that start meanwhile.
 * Never:     answers before every gateway has forgotten; logs anything of a token.
 */
import type { EngineReply } from '../contract/engine.js';
import type { PrincipalKind } from '../contract/tokens.js';
import type { Logger } from '../log.js';
import type { AdminEngine } from '../shards/admin-engine.js';

/** Longer than a gateway thread takes from its first request to being known here. */
const LATELY_MS = 60_000;

/** One gateway, in this thread or another. */
export interface SessionHolder {
  /** Resolves when it has forgotten the subject's sessions and closed its sockets; false when it does not say so in time. */
  revoke(subject: string): Promise<boolean>;
}

export class Revocations {
  private readonly lately = new Map<string, number>();
  private readonly counts: Record<PrincipalKind, number> = { agent: 0, operator: 0 };

  constructor(
    private readonly engine: AdminEngine,
    /** Those that serve now. */
    private readonly gateways: () => readonly SessionHolder[],
    private readonly logger: Logger,
  ) {}

  /**
   * Durable and in force everywhere on resolution; may be repeated. `not_found`: there never was such a subject.
   * `unavailable`: a shard or gateway did not answer. The revocation may be durable then, and is in force at the latest
   * when sessions run out; repeat it to be sure.
   */
  async revoke(kind: PrincipalKind, subject: string): Promise<EngineReply<null>> {
    const revoked = await this.engine.revoke(subject);
    if (!revoked.ok) return revoked;
    if (!revoked.value) return { ok: false, code: 'not_found' };
    this.lately.set(subject, Date.now());
    const forgotten = await Promise.all(this.gateways().map((gateway) => gateway.revoke(subject)));
    if (forgotten.includes(false)) {
      this.logger.error({ kind, subject }, 'revoked, but a gateway thread did not confirm it: its sessions run out');
      return { ok: false, code: 'unavailable' };
    }
    this.counts[kind] += 1;
    this.logger.info({ kind, subject }, 'revoked');
    return { ok: true, value: null };
  }

  /** For a gateway that has just become known: it may have looked a credential up before it was gone. */
  async tell(gateway: SessionHolder): Promise<void> {
    const sinceMs = Date.now() - LATELY_MS;
    for (const [subject, atMs] of this.lately) {
      if (atMs < sinceMs) this.lately.delete(subject);
    }
    await Promise.all([...this.lately.keys()].map((subject) => gateway.revoke(subject)));
  }

  /** Since start. */
  count(kind: PrincipalKind): number {
    return this.counts[kind];
  }
}
