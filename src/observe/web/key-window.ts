/**
 * The keys that the state browser has loaded, in byte order, kept current by the stream.
 * Owns:      the loaded pages and the newest change of every loaded key.
 * Invariant: every key up to the last loaded one is in `keys`; later ones come with `more`.
 */
import { signal } from '@preact/signals';
import { ApiFailure, api, type KeyRow, type ObservedEvent } from './api.js';
import { field } from './event-kinds.js';
import { LiveStream } from './live-stream.js';

export interface KeysState {
  readonly keys: readonly KeyRow[];
  readonly total: number;
  readonly cursor: string | null;
  readonly loading: boolean;
  readonly failure: string | null;
  /** The change of a key that came last, for the open entry to follow. */
  readonly lastChange: ReadonlyMap<string, number>;
}

const PAGE = 1000;
/** Past this a prefix must narrow: more names than anyone reads. */
export const MAX_KEYS = 20_000;

const EMPTY: KeysState = { keys: [], total: 0, cursor: null, loading: true, failure: null, lastChange: new Map() };

/** Compares as their UTF-8 bytes do: by code point. */
function byBytes(a: string, b: string): number {
  const shared = Math.min(a.length, b.length);
  for (let index = 0; index < shared; index++) {
    const left = a.charCodeAt(index);
    const right = b.charCodeAt(index);
    if (left === right) continue;
    const leftHigh = left >= 0xd800 && left <= 0xdfff;
    const rightHigh = right >= 0xd800 && right <= 0xdfff;
    return leftHigh === rightHigh ? left - right : leftHigh ? 1 : -1;
  }
  return a.length - b.length;
}

export class KeyWindow {
  readonly state = signal<KeysState>(EMPTY);
  private readonly abort = new AbortController();
  private stream: LiveStream | null = null;
  private isUnderWay = false;
  private startAgain = false;

  constructor(private readonly prefix: string) {
    void this.start();
  }

  close(): void {
    this.abort.abort();
    this.stream?.close();
  }

  async more(): Promise<void> {
    const { cursor, loading } = this.state.peek();
    if (loading || cursor === null) return;
    await this.load(async () => {
      const page = await api.keys(this.prefix, cursor, PAGE, this.abort.signal);
      const known = new Set(this.state.peek().keys.map(({ key }) => key));
      const fresh = page.keys.filter(({ key }) => !known.has(key));
      this.set({ keys: [...this.state.peek().keys, ...fresh], cursor: page.next_cursor, total: page.total });
    });
  }

  /** From the first key again; during a request, once that is over: notices of removals come many at a time. */
  async start(): Promise<void> {
    if (this.isUnderWay) {
      this.startAgain = true;
      return;
    }
    await this.load(async () => {
      const { last_seq: seq } = await api.overview(this.abort.signal);
      const page = await api.keys(this.prefix, null, PAGE, this.abort.signal);
      this.set({ keys: page.keys, cursor: page.next_cursor, total: page.total });
      // Changes since before the page was made are told again: they are applied by key, so that does no harm.
      this.stream ??= new LiveStream({ types: ['state_written', 'state_deleted'], agent: '' }, seq, {
        onEvents: (events) => this.take(events),
        onRemoval: () => void this.start(),
      });
    });
  }

  private take(events: readonly ObservedEvent[]): void {
    const { keys, total, cursor, lastChange } = this.state.peek();
    const changed = new Map<string, ObservedEvent>();
    for (const event of events) {
      const key = field(event, 'key');
      if (key.startsWith(this.prefix)) changed.set(key, event);
    }
    if (changed.size === 0) return;
    const end = cursor === null ? null : (keys.at(-1)?.key ?? null);
    const before = new Set<string>();
    const next: KeyRow[] = [];
    for (const row of keys) {
      const event = changed.get(row.key);
      before.add(row.key);
      if (event === undefined) next.push(row);
      else if (event.type === 'state_written') next.push(rowOf(event));
    }
    let arrived = 0;
    for (const [key, event] of changed) {
      if (before.has(key) || event.type !== 'state_written') continue;
      if (end !== null && byBytes(key, end) > 0) continue; // its page is not loaded yet
      next.push(rowOf(event));
      arrived++;
    }
    if (arrived > 0) next.sort((a, b) => byBytes(a.key, b.key));
    const changes = new Map(lastChange);
    for (const [key, event] of changed) changes.set(key, event.seq);
    this.set({ keys: next, total: Math.max(next.length, total + next.length - keys.length), lastChange: changes });
  }

  private async load(work: () => Promise<void>): Promise<void> {
    this.isUnderWay = true;
    this.set({ loading: true, failure: null });
    try {
      await work();
      this.set({ loading: false });
    } catch (error) {
      if (this.abort.signal.aborted) return;
      if (!(error instanceof ApiFailure)) throw error;
      this.set({ loading: false, failure: error.message });
    } finally {
      this.isUnderWay = false;
    }
    if (!this.startAgain) return;
    this.startAgain = false;
    await this.start();
  }

  private set(change: Partial<KeysState>): void {
    this.state.value = { ...this.state.peek(), ...change };
  }
}

function rowOf(event: ObservedEvent): KeyRow {
  const length = event.data.value_length;
  return {
    key: field(event, 'key'),
    last_modified_by: field(event, 'written_by'),
    last_modified_at: event.ts,
    value_length: typeof length === 'number' ? length : 0,
  };
}
