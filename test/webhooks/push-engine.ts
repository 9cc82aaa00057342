/**
 * The part of an engine that the dispatcher sees, in memory, with a hand on its behaviour: it can be away, restart, and hold
 * settlements back. Written from the contract alone.
 */
import type { Engine, EngineReply, PushAgent, PushOutcome, ReceivedMessage } from '../../src/contract/engine.js';

interface Inbox {
  readonly messages: ReceivedMessage[];
  state: PushAgent;
  handedOut: boolean;
}

const UNAVAILABLE = { ok: false, code: 'unavailable' } as const;
const NOT_FOUND = { ok: false, code: 'not_found' } as const;

export class PushEngine implements Pick<Engine, 'awaitPushAgents' | 'peekPush' | 'settlePush'> {
  readonly delivered: string[] = [];
  readonly undeliverable: string[] = [];
  readonly outcomes: PushOutcome[] = [];
  /** Every call answers `unavailable`. */
  away = false;
  /** So many settlements are made, but their answers are lost. */
  lostAnswers = 0;
  private readonly inboxes = new Map<string, Inbox>();
  private wake: () => void = () => {};

  add(address: string, contents: readonly string[], state: Partial<PushAgent> = {}): void {
    const inbox = this.inboxes.get(address) ?? {
      messages: [],
      state: { address, url: `https://${address}/`, secret: 'whsec_', attempts: 0, nextAttemptAtMs: 0, failedInRow: 0 },
      handedOut: false,
    };
    inbox.state = { ...inbox.state, ...state };
    for (const content of contents) {
      inbox.messages.push({ messageId: `id of ${content}`, from: 'tab_from', to: address, content, sentAtMs: 0 });
    }
    this.inboxes.set(address, inbox);
    this.wake();
  }

  /** Takes a message away, as its removal by law or a full queue would. */
  drop(address: string): void {
    this.inboxes.get(address)?.messages.shift();
  }

  stateOf(address: string): PushAgent | undefined {
    return this.inboxes.get(address)?.state;
  }

  waitingAt(address: string): number {
    return this.inboxes.get(address)?.messages.length ?? 0;
  }

  /** Forgets whom it handed out. */
  restart(): void {
    this.away = false;
    for (const inbox of this.inboxes.values()) inbox.handedOut = false;
    this.wake();
  }

  async awaitPushAgents(signal: AbortSignal): Promise<EngineReply<readonly PushAgent[]>> {
    for (;;) {
      if (this.away) return UNAVAILABLE;
      const found = [...this.inboxes.values()].filter(({ handedOut, messages }) => !handedOut && messages.length > 0);
      if (signal.aborted || found.length > 0) {
        for (const inbox of found) inbox.handedOut = true;
        return { ok: true, value: found.map(({ state }) => state) };
      }
      await new Promise<void>((resolve) => {
        this.wake = resolve;
        signal.addEventListener('abort', () => resolve(), { once: true });
      });
    }
  }

  async peekPush(agent: string): Promise<EngineReply<ReceivedMessage>> {
    if (this.away) return UNAVAILABLE;
    const inbox = this.inboxes.get(agent);
    const first = inbox?.messages[0];
    if (first !== undefined) return { ok: true, value: first };
    if (inbox !== undefined) inbox.handedOut = false;
    return NOT_FOUND;
  }

  async settlePush(agent: string, messageId: string, outcome: PushOutcome): Promise<EngineReply<PushAgent | null>> {
    if (this.away) return UNAVAILABLE;
    const inbox = this.inboxes.get(agent);
    if (inbox === undefined || inbox.messages[0]?.messageId !== messageId) return NOT_FOUND;
    this.outcomes.push(outcome);
    const { content } = inbox.messages[0];
    if (outcome.kind === 'retry') {
      inbox.state = { ...inbox.state, attempts: outcome.attempts, nextAttemptAtMs: outcome.nextAttemptAtMs };
    } else {
      inbox.messages.shift();
      const failedInRow = outcome.kind === 'delivered' ? 0 : outcome.failedInRow;
      inbox.state = { ...inbox.state, attempts: 0, nextAttemptAtMs: 0, failedInRow };
      this[outcome.kind].push(content);
      if (outcome.kind === 'undeliverable' && outcome.circuitOpenUntilMs > 0) {
        this.undeliverable.push(...inbox.messages.splice(0).map((message) => message.content));
      }
    }
    if (this.lostAnswers > 0) {
      this.lostAnswers--;
      return UNAVAILABLE;
    }
    if (inbox.messages.length > 0) return { ok: true, value: inbox.state };
    inbox.handedOut = false;
    return { ok: true, value: null };
  }
}
