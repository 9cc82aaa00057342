/**
 * The one bcrypt pool, lent to other threads over a MessagePort: plain data both ways, a call's id on each.
 * Bound:     the pool's own; a call past it comes back `unavailable`. A closed port answers every open call so.
 */
import type { MessagePort } from 'node:worker_threads';
import { HASHER_UNAVAILABLE, type HasherStats, type HashReply, type PasswordHasher } from './password-hasher.js';

type HasherCall =
  | { readonly id: number; readonly kind: 'hash'; readonly token: string }
  | { readonly id: number; readonly kind: 'verify'; readonly token: string; readonly hash: string };

interface HasherAnswer {
  readonly id: number;
  readonly reply: HashReply<string | boolean>;
}

/** Answers calls from the other end of `port` with `hasher`. Runs on the thread that owns the pool; holds no process open. */
export function serveHasher(port: MessagePort, hasher: PasswordHasher): void {
  port.on('message', (call: HasherCall) => {
    const replying: Promise<HashReply<string | boolean>> =
      call.kind === 'hash' ? hasher.hash(call.token) : hasher.verify(call.token, call.hash);
    // Posting to a port whose other end has gone is a no-op.
    void replying.then((reply) => port.postMessage({ id: call.id, reply } satisfies HasherAnswer));
  });
  port.unref();
}

/** A hasher whose work is done at the other end of `port`. Its stats count this thread's calls only, all as waiting. */
export function connectHasher(port: MessagePort): PasswordHasher {
  return new RemoteHasher(port);
}

class RemoteHasher implements PasswordHasher {
  private readonly waiting = new Map<number, (reply: HashReply<string | boolean>) => void>();
  private nextId = 0;
  private completed = 0;
  private closed = false;

  constructor(private readonly port: MessagePort) {
    port.on('message', (answer: HasherAnswer) => this.settle(answer));
    port.once('close', () => {
      this.closed = true;
      for (const id of [...this.waiting.keys()]) this.settle({ id, reply: HASHER_UNAVAILABLE });
    });
    port.unref();
  }

  async hash(token: string): Promise<HashReply<string>> {
    const reply = await this.call((id) => ({ id, kind: 'hash', token }));
    return reply.ok && typeof reply.value === 'string' ? { ok: true, value: reply.value } : HASHER_UNAVAILABLE;
  }

  async verify(token: string, hash: string): Promise<HashReply<boolean>> {
    const reply = await this.call((id) => ({ id, kind: 'verify', token, hash }));
    return reply.ok && typeof reply.value === 'boolean' ? { ok: true, value: reply.value } : HASHER_UNAVAILABLE;
  }

  stats(): HasherStats {
    return { running: 0, waiting: this.waiting.size, completed: this.completed };
  }

  private call(withId: (id: number) => HasherCall): Promise<HashReply<string | boolean>> {
    if (this.closed) return Promise.resolve(HASHER_UNAVAILABLE);
    return new Promise((resolve) => {
      const id = this.nextId++;
      this.waiting.set(id, resolve);
      this.port.ref(); // a thread with an open call must live to hear the answer
      this.port.postMessage(withId(id));
    });
  }

  private settle(answer: HasherAnswer): void {
    const resolve = this.waiting.get(answer.id);
    if (resolve === undefined) return;
    this.waiting.delete(answer.id);
    if (this.waiting.size === 0) this.port.unref();
    if (answer.reply.ok) this.completed++;
    resolve(answer.reply);
  }
}
