/** A stream for views that keep no window of events: it begins at the newest event once that is known. */
import { useEffect, useRef } from 'preact/hooks';
import { ApiFailure, api, type ObservedEvent } from './api.js';
import { LiveStream } from './live-stream.js';

const RETRY_MS = 4_000;

/**
 * @param types comma between them; the stream is opened again when they change
 * @param since begins after this event, for a view that loaded what came before; the newest one when absent
 */
export function useStream(types: string, onEvents: (events: readonly ObservedEvent[]) => void, since?: number): void {
  const handler = useRef(onEvents);
  handler.current = onEvents;
  useEffect(() => {
    const abort = new AbortController();
    let stream: LiveStream | null = null;
    let timer: number | undefined;
    const open = async (): Promise<void> => {
      try {
        const seq = since ?? (await api.overview(abort.signal)).last_seq;
        if (abort.signal.aborted) return;
        stream = new LiveStream({ types: types.split(','), agent: '' }, seq, {
          onEvents: (events) => handler.current(events),
        });
      } catch (error) {
        if (abort.signal.aborted) return;
        if (!(error instanceof ApiFailure)) throw error;
        timer = window.setTimeout(() => void open(), RETRY_MS); // the view tells that the server can't be reached
      }
    };
    void open();
    return () => {
      abort.abort();
      window.clearTimeout(timer);
      stream?.close();
    };
  }, [types, since]);
}
