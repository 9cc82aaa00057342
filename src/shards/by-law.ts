import type { GroupCommit } from './group-commit.js';
import type { RemovalTarget } from './removal-scan.js';
import { type RevocationReply, revoke } from './revocations.js';
import type { RemovalReply, ShardRemoval } from './shard-removal.js';
import type { View } from './view.js';
import { OPS, type Op, type ReplyTo } from './wire.js';

/** The shard's operations for the person who runs the server: removal and revocation. They come from the main thread. */
export class ByLaw {
  constructor(
    private readonly removal: ShardRemoval,
    private readonly view: View,
    private readonly commit: GroupCommit,
    /** An agent's token is refused from now on. */
    private readonly revoked: (subject: string) => void,
  ) {}

  /** Answers `reply`. Rejects when the disk fails, which ends the shard. */
  async handle(op: Op, id: string, target: unknown, isOwner: unknown, reply: ReplyTo): Promise<void> {
    switch (op) {
      case OPS.findContent:
        return answer(await this.removal.find(id, target as RemovalTarget), reply);
      case OPS.removeContent:
        return answer(await this.removal.remove(id, target as RemovalTarget, isOwner === true), reply);
      case OPS.settleRemoval:
        await this.removal.settle(id);
        return reply.ok(null, null, null);
      default: {
        const revocation: RevocationReply = await revoke(this.view, this.commit, id, this.revoked);
        return revocation.ok ? reply.ok(revocation.isKnown, null, null) : reply.refuse(revocation.code);
      }
    }
  }
}

export function isByLaw(op: Op): boolean {
  return op >= OPS.findContent && op <= OPS.revoke;
}

function answer(found: RemovalReply<unknown>, reply: ReplyTo): void {
  if (found.ok) reply.ok(found.part, null, null);
  else reply.refuse(found.code);
}
