/** Tells in words whether what is shown is live, and when it will be again. */
import type { JSX } from 'preact';
import { throttledUntilMs } from './api.js';
import { useNow } from './hooks.js';
import { liveState, retryNow } from './live-stream.js';

const WORDS = { off: 'no stream', connecting: 'connecting', live: 'live', waiting: 'not connected' } as const;

export function ConnectionDot(): JSX.Element {
  const { kind } = liveState.value;
  return (
    <span class={`dot dot-${kind}`} role="status">
      <span class="dot-light" aria-hidden="true" />
      <span class="dot-word">{WORDS[kind]}</span>
    </span>
  );
}

export function ConnectionBanner(): JSX.Element | null {
  const nowMs = useNow();
  const state = liveState.value;
  const throttledMs = throttledUntilMs.value - nowMs;
  if (state.kind === 'waiting' || (state.kind === 'connecting' && state.attempt > 0)) {
    const seconds = state.kind === 'waiting' ? Math.max(0, Math.ceil((state.retryAtMs - nowMs) / 1000)) : 0;
    return (
      <div class="banner" role="alert">
        <span>
          The connection to the server is lost. Nothing will be missed: it goes on where it broke off.{' '}
          <span aria-hidden="true">{state.kind === 'connecting' ? 'Trying now…' : `Next try in ${seconds} s.`}</span>
        </span>
        <button type="button" class="button small" onClick={retryNow} disabled={state.kind === 'connecting'}>
          Try now
        </button>
      </div>
    );
  }
  if (throttledMs > 0) {
    return (
      <div class="banner banner-calm" role="status">
        The server asks for fewer requests; this page waits {Math.ceil(throttledMs / 1000)} s.
      </div>
    );
  }
  return null;
}
