/**
 * Entry of a pool thread: runs one bcrypt after the other, below everybody else's priority.
 * Never:     keeps a token, or throws for anything a token or a stored hash can hold.
 */
import { Buffer } from 'node:buffer';
import { randomBytes } from 'node:crypto';
import { readlinkSync } from 'node:fs';
import { getPriority, setPriority } from 'node:os';
import { bcrypt, bcryptVerify } from 'hash-wasm';

export type BcryptTask =
  | { readonly kind: 'hash'; readonly token: string; readonly cost: number }
  | { readonly kind: 'verify'; readonly token: string; readonly hash: string };

/** The encoded hash, or whether the token matches. */
export type BcryptAnswer = string | boolean;

const MAX_PASSWORD_BYTES = 72;
const SALT_BYTES = 16;
/** hash-wasm throws for anything else, and a throw would be taken for a broken thread. */
const ENCODED_HASH = /^\$2[abxy]\$(?:0[4-9]|[12][0-9]|3[01])\$[./A-Za-z0-9]{53}$/;
/** Over the server's own nice value: a storm of cold sessions gets what gateway and shards leave, or about a tenth. */
const POOL_NICE_INCREMENT = 10;
const LOWEST_PRIORITY = 19;

lowerOwnPriority();

/** Runs in the pool thread, once per task. */
export async function runTask(task: BcryptTask): Promise<BcryptAnswer> {
  if (task.kind === 'hash') {
    return bcrypt({ password: task.token, salt: randomBytes(SALT_BYTES), costFactor: task.cost });
  }
  const tokenBytes = Buffer.byteLength(task.token);
  if (tokenBytes === 0 || tokenBytes > MAX_PASSWORD_BYTES || !ENCODED_HASH.test(task.hash)) return false;
  return bcryptVerify({ password: task.token, hash: task.hash });
}

/** Linux gives each thread its own nice value under its thread id; elsewhere setting it would slow the whole process. */
function lowerOwnPriority(): void {
  if (process.platform !== 'linux') return;
  try {
    const threadId = Number(readlinkSync('/proc/thread-self').split('/')[2]);
    if (threadId > 0) setPriority(threadId, Math.min(getPriority() + POOL_NICE_INCREMENT, LOWEST_PRIORITY));
  } catch {
    // No /proc, or a sandbox that forbids it: the pool works without, only less politely.
  }
}
