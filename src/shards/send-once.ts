import { createHash } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { EngineReply, MessageReceipt, NewMessage } from '../contract/engine.js';
import { toNull, toReceipt, toSendClaim } from './answers.js';
import type { ShardClient } from './shard-client.js';
import { OPS } from './wire.js';

/** Between two tries to tell the sender's shard that an attempt has ended. */
const FINISH_RETRY_MS = 50;

/**
 * A send with an idempotency key, from the gateway's side: the three steps that idempotency.ts describes. Two durable
 * steps one after the other, so it takes twice as long as a plain send.
 * Never rejects. Where the second step's outcome is unknown (`unavailable`) the key stays bound to this very message.
 */
export async function sendOnce(
  ownerOfSender: ShardClient,
  ownerOfRecipient: ShardClient,
  { from, to, content }: NewMessage,
  idempotencyKey: string,
): Promise<EngineReply<MessageReceipt>> {
  const key = digest(idempotencyKey);
  // Addresses hold no newline: no two messages have one text.
  const fingerprint = digest(`${to}\n${content}`);
  const claim = await ownerOfSender.call(OPS.claimSend, from, key, fingerprint, toSendClaim);
  if (!claim.ok) return claim;
  const { messageId, attemptId } = claim.value;
  const sent = await ownerOfRecipient.call(OPS.sendOnce, from, to, [content, messageId], toReceipt);
  if (sent.ok || (sent.code !== 'not_found' && sent.code !== 'store_full')) {
    // Nobody but a repeat waits for this.
    void finish(ownerOfSender, from, key, attemptId);
    return sent;
  }
  const released = await ownerOfSender.call(OPS.releaseSend, from, key, attemptId, toNull);
  if (released.ok) return sent;
  void finish(ownerOfSender, from, key, attemptId);
  return released;
}

/** A shard that went away has forgotten the attempt; one that is only busy must be told. */
async function finish(owner: ShardClient, from: string, key: string, attemptId: string): Promise<void> {
  for (;;) {
    const finished = await owner.call(OPS.finishSend, from, key, attemptId, toNull);
    if (finished.ok || !owner.isConnected) return;
    await sleep(FINISH_RETRY_MS, undefined, { ref: false });
  }
}

function digest(text: string): string {
  return createHash('sha256').update(text, 'utf8').digest('base64url');
}
