/** What the feed is made of: a row, its lower end, and what stands there when there are no rows. */
import type { JSX } from 'preact';
import type { ObservedEvent } from '../api.js';
import { actor, Kind, Summary, sizeOf } from '../event-kinds.js';
import type { WindowState } from '../event-window.js';
import { FirstAgent } from '../first-agent.js';
import { clock, plural, shortAddress, whole } from '../format.js';
import { Empty, Loading, Trouble } from '../parts.js';
import { Excerpt } from '../text.js';

export function EventRow(props: {
  readonly event: ObservedEvent;
  readonly style: JSX.CSSProperties;
  readonly chosen: boolean;
  readonly onChoose: (seq: number) => void;
}): JSX.Element {
  const { event } = props;
  return (
    // biome-ignore lint/a11y/useKeyWithClickEvents: the list takes the keys
    <div
      id={`event-${event.seq}`}
      class="row"
      role="option"
      tabIndex={-1}
      aria-selected={props.chosen}
      style={props.style}
      onClick={() => props.onChoose(event.seq)}
    >
      <span class="seq mono">{whole(event.seq)}</span>
      <span class="when mono">{clock(event.ts)}</span>
      <Kind type={event.type} />
      <span class="who mono">
        <Excerpt text={actor(event) === '' ? 'operator' : shortAddress(actor(event))} />
      </span>
      <span class="summary">
        <Summary event={event} />
      </span>
      <span class="size">{sizeOf(event)}</span>
    </div>
  );
}

export function FeedEnd(props: {
  readonly state: WindowState;
  readonly searching: boolean;
  readonly onMore: () => void;
}): JSX.Element {
  const { state, searching } = props;
  return (
    <div class="feed-end" role="status">
      {state.failure !== null ? (
        <Trouble text={state.failure} onRetry={props.onMore} />
      ) : state.loading === 'older' ? (
        <span>
          {searching
            ? `Searching before #${whole(Math.min(state.searchedTo, state.rows[0]?.seq ?? 0))}…`
            : 'Loading older events…'}
        </span>
      ) : state.reachedStart ? (
        <span>
          {plural(state.rows.length, searching ? 'match' : 'event', searching ? 'matches' : 'events')}, back to the
          first
        </span>
      ) : state.searchRests ? (
        <>
          <span>
            {plural(state.rows.length, 'match', 'matches')} back to #{whole(state.searchedTo)}.{' '}
          </span>
          <button type="button" class="button small" onClick={props.onMore}>
            Search further back
          </button>
        </>
      ) : (
        <span>{plural(state.rows.length, 'event')} here, older ones as you scroll</span>
      )}
    </div>
  );
}

export function NothingYet(props: {
  readonly state: WindowState;
  readonly filtered: boolean;
  readonly searching: boolean;
  readonly onMore: () => void;
}): JSX.Element {
  const { state } = props;
  if (state.failure !== null) return <Trouble text={state.failure} onRetry={props.onMore} />;
  if (state.loading !== null) return <Loading what="events" />;
  if (!props.filtered) return <FirstAgent title="No events yet" />;
  return (
    <Empty title="Nothing matches">
      <p>
        {state.reachedStart
          ? 'No event in the whole log matches. New ones that do appear here at once.'
          : `Nothing back to #${whole(state.searchedTo)} matches.`}
      </p>
      {props.searching && !state.reachedStart && (
        <button type="button" class="button" onClick={props.onMore}>
          Search further back
        </button>
      )}
    </Empty>
  );
}
