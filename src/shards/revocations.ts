import type { ApiErrorCode } from '../contract/errors.js';
import type { GroupCommit } from './group-commit.js';
import { internalBody } from './internal-records.js';
import type { EventBody } from './log-line.js';
import type { Operation } from './operations.js';
import type { ByteString } from './overlay-table.js';
import type { View } from './view.js';

/**
 * Revocations, one shard's part: takes the credential of an agent or operator away for good.
 * Owns:      nothing; the rows are the view's.
 * Never:     logs a token, a hash or a lookup: the record names the subject, and replay finds its credential as this does.
 *
 * A subject's row and its credential may lie on different shards once the shard count was changed, so every shard is
 * asked, and each takes away what it has.
 */
const LOOKED_AT_PER_TURN = 1_000;

export type RevocationReply =
  /** `isKnown`: the shard has, or had, something of the subject. */
  { readonly ok: true; readonly isKnown: boolean } | { readonly ok: false; readonly code: ApiErrorCode };

/** Durable on resolution, and refused by `findCredential` from then on. Cost: a look at every credential of the shard. */
export async function revoke(
  view: View,
  commit: GroupCommit,
  subject: string,
  revoked: (subject: string) => void,
): Promise<RevocationReply> {
  const lookup = await lookupOf(view, subject);
  const row = view.agent(subject) ?? view.store.operators.get(subject);
  if (lookup === null && row === undefined) return { ok: true, isKnown: false };
  if (lookup === null && row?.revoked === true) return { ok: true, isKnown: true };
  return new Promise((resolve) => {
    const operation = new RevocationOperation(subject, {
      applied: () => {
        view.revoke(subject, lookup);
        revoked(subject);
      },
      done: resolve,
    });
    commit.stage(operation);
    commit.kick();
  });
}

/** Between two pages of credentials the shard serves. */
async function lookupOf(view: View, subject: string): Promise<string | null> {
  let start: ByteString = '';
  for (;;) {
    const page = view.lookupsFrom(start, LOOKED_AT_PER_TURN);
    const found = page.find((lookup) => view.store.credentials.get(lookup)?.subject === subject);
    if (found !== undefined) return found;
    const last = page.at(-1);
    if (last === undefined || page.length < LOOKED_AT_PER_TURN) return null;
    start = `${last}\u0000`;
    await new Promise(setImmediate);
  }
}

class RevocationOperation implements Operation {
  readonly bodies: readonly EventBody[];

  constructor(
    subject: string,
    readonly outcome: { applied(): void; done(reply: RevocationReply): void },
  ) {
    this.bodies = [internalBody('credential_revoked', { subject })];
  }

  logged(): void {}

  apply(): void {
    this.outcome.applied();
  }

  answer(): void {
    this.outcome.done({ ok: true, isKnown: true });
  }

  fail(code: ApiErrorCode): void {
    this.outcome.done({ ok: false, code });
  }
}
