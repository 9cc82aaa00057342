/** The timeline: how busy each stretch of history was, and any of it again at a chosen speed. */
import type { JSX } from 'preact';
import { useEffect, useMemo, useReducer, useRef, useState } from 'preact/hooks';
import { api, type ObservedEvent } from '../api.js';
import { actor, kindOf, Summary } from '../event-kinds.js';
import { FirstAgent } from '../first-agent.js';
import { dateTime, duration, whole } from '../format.js';
import { useLoaded } from '../hooks.js';
import { Icon } from '../icons.js';
import { LatestLine } from '../latest-line.js';
import { Bars, Loading, PageHead, Trouble } from '../parts.js';
import { Replay } from '../replay.js';
import { href, replaceRoute, route } from '../router.js';
import { useViewShortcuts } from '../shortcuts.js';
import { Agent } from '../text.js';
import { useStream } from '../use-stream.js';
import { Cast, ReplayStage } from './replay-stage.js';

/** A history of one moment is drawn as if it were this long. */
const SHORTEST_MS = 1_000;
const MIN_SLICES = 24;
const MAX_SLICES = 160;
const TICKER = 40;
const SPEEDS = [1, 10, 60, 600, 3600] as const;
const SCRUB_SETTLE_MS = 200;

interface Span {
  readonly firstMs: number;
  readonly lastMs: number;
  readonly lastSeq: number;
  /** Events in equal slices of the time between. */
  readonly counts: readonly number[];
}

async function loadSpan(abort: AbortSignal): Promise<Span | null> {
  const { last_seq: lastSeq, first_event_at: first, last_event_at: last } = await api.overview(abort);
  if (first === null || last === null) return null;
  const firstMs = Date.parse(first);
  const lastMs = Math.max(firstMs + SHORTEST_MS, Date.parse(last));
  const activity = await api.allActivity(MAX_SLICES, abort);
  if (activity.counts.length >= MIN_SLICES) {
    const fromMs = Date.parse(activity.from);
    return {
      firstMs: fromMs,
      lastMs: Math.max(lastMs, fromMs + activity.counts.length * activity.bucket_ms),
      lastSeq,
      counts: activity.counts,
    };
  }
  // Too young for the server's own slices: the sequence numbers at equal steps tell the same.
  const steps = Array.from(
    { length: MIN_SLICES - 1 },
    (_, index) => firstMs + ((lastMs - firstMs) * (index + 1)) / MIN_SLICES,
  );
  const ends = await Promise.all(steps.map((stepMs) => api.seqAt(new Date(stepMs).toISOString(), abort)));
  const seqs = [0, ...ends.map(({ seq }) => seq), lastSeq];
  return { firstMs, lastMs, lastSeq, counts: seqs.slice(1).map((seq, index) => Math.max(0, seq - (seqs[index] ?? 0))) };
}

export function TimelineView(): JSX.Element {
  const span = useLoaded('span', loadSpan);
  useStream('operator_created', () => undefined);
  if (span.data === null) {
    if (span.failure !== null) return <Trouble text={span.failure.message} onRetry={span.reload} />;
    return (
      <>
        <PageHead title="Timeline" />
        <SpanOrNothing reload={span.reload} />
      </>
    );
  }
  return <Player span={span.data} />;
}

/** `null` is both "not yet" and "nothing ever": the overview tells which. */
function SpanOrNothing({ reload }: { readonly reload: () => void }): JSX.Element {
  const overview = useLoaded('overview', (abort) => api.overview(abort), { everyMs: 3_000 });
  const empty = overview.data !== null && overview.data.last_seq === 0;
  const began = overview.data !== null && !empty;
  const wasEmpty = useRef(false);
  useEffect(() => {
    if (empty) wasEmpty.current = true;
    if (began && wasEmpty.current) reload();
  }, [empty, began]);
  return empty ? <FirstAgent title="No history yet" /> : <Loading what="the timeline" />;
}

function Player({ span }: { readonly span: Span }): JSX.Element {
  const [, redraw] = useReducer((count: number) => count + 1, 0);
  const cast = useRef(new Cast());
  const ticker = useRef<readonly ObservedEvent[]>([]);
  const counts = useRef(new Map<string, number>());
  const [speed, setSpeed] = useState<number>(10);
  const [scrubbed, setScrubbed] = useState<number | null>(null);
  /** A step was asked for on the way to another moment: it is taken there. */
  const stepWanted = useRef(false);
  const replay = useMemo(
    () =>
      new Replay((events) => {
        cast.current.take(events);
        ticker.current = [...ticker.current, ...events].slice(-TICKER);
        for (const { type } of events) counts.current.set(type, (counts.current.get(type) ?? 0) + 1);
        redraw(undefined);
      }),
    [],
  );
  const clear = (): void => {
    cast.current = new Cast();
    ticker.current = [];
    counts.current = new Map();
  };
  const wanted = Number(route.value.query.seq ?? '');
  useEffect(() => {
    if (wanted > 0 && wanted === replay.state.peek().seq) return; // the link to where it was paused
    clear();
    if (Number.isSafeInteger(wanted) && wanted > 0) void replay.seek(wanted - 1, null);
    else if (replay.state.peek().seq === 0) void replay.seek(0, span.firstMs);
  }, [replay, wanted, span]);
  useEffect(() => () => replay.close(), [replay]);
  useEffect(() => {
    if (scrubbed === null) return;
    const abort = new AbortController();
    const timer = window.setTimeout(async () => {
      await replay.seekTime(scrubbed, abort.signal, clear);
      if (abort.signal.aborted) return; // dragged on
      setScrubbed(null);
      if (stepWanted.current) await replay.step();
      stepWanted.current = false;
    }, SCRUB_SETTLE_MS);
    return () => {
      abort.abort();
      window.clearTimeout(timer);
    };
  }, [scrubbed, replay]);
  replay.speed = speed;
  const state = replay.state.value;
  const toggle = (): void => {
    if (state.playing) {
      replay.pause();
      replaceRoute(href('timeline', '', state.seq > 0 ? { seq: String(state.seq) } : {}));
    } else replay.play();
  };
  const step = (): void => {
    if (scrubbed === null) void replay.step();
    else stepWanted.current = true;
  };
  useViewShortcuts([
    { key: ' ', what: 'play or pause', run: toggle },
    { key: 'ArrowRight', what: 'one event on', run: step },
    { key: '>', what: 'faster', run: () => setSpeed(SPEEDS.find((each) => each > speed) ?? speed) },
    { key: '<', what: 'slower', run: () => setSpeed(SPEEDS.findLast((each) => each < speed) ?? speed) },
  ]);
  const atMs = Math.min(span.lastMs, Math.max(span.firstMs, scrubbed ?? state.atMs));
  const sliceMs = (span.lastMs - span.firstMs) / span.counts.length;
  const share = (atMs - span.firstMs) / (span.lastMs - span.firstMs);
  return (
    <>
      <PageHead
        title="Timeline"
        note={
          <>
            From {dateTime(span.firstMs)} to {dateTime(span.lastMs)}, a bar for each {duration(sliceMs)}
          </>
        }
      />
      <div class="scrubber">
        <Bars values={span.counts} label="Events over time" height={84} />
        <span class="playhead" style={{ insetInlineStart: `${share * 100}%` }} aria-hidden="true" />
        <input
          type="range"
          aria-label="Moment of history"
          aria-valuetext={dateTime(atMs)}
          min={span.firstMs}
          max={span.lastMs}
          step={Math.max(1, Math.floor((span.lastMs - span.firstMs) / 2000))}
          value={atMs}
          onInput={(event) => {
            replay.pause();
            setScrubbed(Number(event.currentTarget.value));
          }}
        />
      </div>
      <div class="player">
        <button type="button" class="button button-strong" onClick={toggle}>
          <Icon name={state.playing ? 'pause' : 'play'} />
          {state.playing ? 'Pause' : 'Play'}
        </button>
        <button type="button" class="button" onClick={step}>
          One event
        </button>
        <div class="switch" role="group" aria-label="Speed">
          {SPEEDS.map((each) => (
            <button
              key={each}
              type="button"
              class="button"
              aria-pressed={each === speed}
              onClick={() => setSpeed(each)}
            >
              {whole(each)}×
            </button>
          ))}
        </div>
        <p class="player-time" data-seq={state.seq}>
          <strong>{dateTime(atMs)}</strong>{' '}
          <span class="note">
            {state.seq > 0 && `#${whole(state.seq)}`}
            {state.atEnd && ' · reached the present'}
            {state.loading && ' · loading'}
          </span>
        </p>
      </div>
      {state.failure !== null && <Trouble text={state.failure} onRetry={() => replay.play()} />}
      <div class="replay">
        <ReplayStage cast={cast.current} newest={state.seq} />
        <section aria-label="Events of the replay">
          <ul class="tally">
            {[...counts.current].map(([type, count]) => (
              <li key={type} class={`kind-${kindOf(type).family}`}>
                <strong>{whole(count)}</strong> {kindOf(type).label}
              </li>
            ))}
          </ul>
          {ticker.current.length === 0 ? (
            <p class="faint">Press play, or drag the line to another moment.</p>
          ) : (
            <ol class="latest-list latest-own ticker">
              {ticker.current.toReversed().map((event) => (
                <LatestLine key={event.seq} event={event}>
                  <span class="summary">
                    <Agent address={actor(event)} /> <Summary event={event} />
                  </span>
                </LatestLine>
              ))}
            </ol>
          )}
        </section>
      </div>
    </>
  );
}
