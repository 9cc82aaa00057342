/** Hooks that several views share: data that is fetched, fetched again, and a clock. */
import { useEffect, useRef, useState } from 'preact/hooks';
import { ApiFailure } from './api.js';
import { removalsSeen } from './live-stream.js';

export interface Loaded<T> {
  readonly data: T | null;
  /** Why there is no newer data; stands beside the older data, if any. */
  readonly failure: ApiFailure | null;
  readonly reload: () => void;
}

export interface LoadOptions {
  /** Again after this many milliseconds, for as long as the tab is visible; 0 for never. */
  readonly everyMs?: number;
  /** Again when it changes, after the load under way: however fast changes come, something is shown. */
  readonly change?: number;
  /** Again as soon as something was removed. */
  readonly onRemovals?: boolean;
}

const RETRY_MS = 4_000;

/** Loads when `key` changes; what was loaded for an earlier key never shows under a later one. */
export function useLoaded<T>(
  key: string,
  load: (abort: AbortSignal) => Promise<T>,
  options: LoadOptions = {},
): Loaded<T> {
  const [state, setState] = useState<{ key: string; data: T | null; failure: ApiFailure | null }>({
    key,
    data: null,
    failure: null,
  });
  const [round, setRound] = useState(0);
  const under = useRef({ isUnderWay: false, again: false });
  const loadRef = useRef(load);
  loadRef.current = load;
  const everyMs = options.everyMs ?? 0;
  const removals = options.onRemovals === true ? removalsSeen.value : 0;
  // A new round or removal means to load again
  useEffect(() => {
    const abort = new AbortController();
    let timer: number | undefined;
    const way = { isUnderWay: false, again: false };
    under.current = way;
    const run = async (): Promise<void> => {
      let againMs = everyMs;
      way.isUnderWay = true;
      try {
        const data = await loadRef.current(abort.signal);
        if (!abort.signal.aborted) setState({ key, data, failure: null });
      } catch (error) {
        if (abort.signal.aborted) return;
        if (!(error instanceof ApiFailure)) throw error;
        setState((old) => ({ key, data: old.key === key && error.status !== 404 ? old.data : null, failure: error }));
        if (error.status === 0 || error.status >= 500) againMs = RETRY_MS;
      }
      if (abort.signal.aborted) return;
      way.isUnderWay = false;
      if (way.again) {
        way.again = false;
        await run();
      } else if (againMs > 0) timer = window.setTimeout(whenVisible, againMs);
    };
    const whenVisible = (): void => {
      if (!document.hidden) void run();
      else document.addEventListener('visibilitychange', whenVisible, { once: true, signal: abort.signal });
    };
    void run();
    return () => {
      abort.abort();
      window.clearTimeout(timer);
    };
  }, [key, everyMs, round, removals]);
  const reload = (): void => {
    if (under.current.isUnderWay) under.current.again = true;
    else setRound((old) => old + 1);
  };
  const change = options.change ?? 0;
  const changeBefore = useRef(change);
  useEffect(() => {
    if (changeBefore.current === change) return;
    changeBefore.current = change;
    reload();
  }, [change]);
  const current = state.key === key ? state : { data: null, failure: null };
  return { data: current.data, failure: current.failure, reload };
}

/** The time, read again every second. */
export function useNow(): number {
  const [nowMs, setNowMs] = useState(Date.now);
  useEffect(() => {
    const timer = window.setInterval(() => setNowMs(Date.now()), 1000);
    return () => window.clearInterval(timer);
  }, []);
  return nowMs;
}

/** True while the window matches a media query. */
export function useMedia(query: string): boolean {
  const [matches, setMatches] = useState(() => matchMedia(query).matches);
  useEffect(() => {
    const list = matchMedia(query);
    const follow = (): void => setMatches(list.matches);
    follow();
    list.addEventListener('change', follow);
    return () => list.removeEventListener('change', follow);
  }, [query]);
  return matches;
}
