/** The feed: every event, newest on top, live; filtered, searched, held still, and back to the first one. */
import type { JSX } from 'preact';
import { useEffect, useMemo, useRef, useState } from 'preact/hooks';
import type { ObservedEvent } from '../api.js';
import { EventWindow } from '../event-window.js';
import { plural } from '../format.js';
import { useMedia } from '../hooks.js';
import { Icon } from '../icons.js';
import { PageHead } from '../parts.js';
import { href, replaceRoute, route } from '../router.js';
import { useViewShortcuts } from '../shortcuts.js';
import { VirtualList } from '../virtual-list.js';
import { EventDetail } from './event-detail.js';
import { EventFilters } from './event-filters.js';
import { EventRow, FeedEnd, NothingYet } from './feed-rows.js';

/** Rows from either end of what is loaded at which more is asked for. */
const NEAR_END = 40;

export function EventsView(): JSX.Element {
  const { query } = route.value;
  const types = query.type ?? '';
  const agent = query.agent ?? '';
  const search = query.q ?? '';
  const seq = Number(query.seq ?? '');
  const chosen = Number.isSafeInteger(seq) && seq > 0 ? seq : 0;
  const [jump, setJump] = useState({ seq: chosen, round: 0 });
  const narrowing = `${types} ${agent} ${search}`;
  const before = useRef({ narrowing, chosen });
  const { narrowing: narrowedBefore, chosen: chosenBefore } = before.current;
  before.current = { narrowing, chosen };
  const held = useRef<EventWindow | null>(null);
  if (narrowedBefore !== narrowing) {
    if (jump.seq !== chosen) setJump({ seq: chosen, round: jump.round + 1 }); // from the newest again
  } else if (chosen !== chosenBefore && chosen !== 0 && chosen !== jump.seq && !holds(held.current, chosen)) {
    // A row that was chosen by hand is held already; only a seq from elsewhere moves the window.
    setJump({ seq: chosen, round: jump.round + 1 });
  }
  // A jump to the same seq again is a new window too
  const events = useMemo(
    () =>
      new EventWindow({
        filter: { types: types === '' ? [] : types.split(','), agent },
        search: search.toLowerCase(),
        aroundSeq: jump.seq,
      }),
    [types, agent, search, jump.seq, jump.round],
  );
  held.current = events;
  useEffect(() => {
    events.open();
    return () => events.close();
  }, [events]);
  const place = (change: Readonly<Record<string, string>>): void =>
    replaceRoute(href('events', '', { type: types, agent, q: search, seq: query.seq ?? '', ...change }));
  return (
    <Feed
      events={events}
      chosen={chosen}
      filtered={types !== '' || agent !== '' || search !== ''}
      searching={search !== ''}
      jumped={jump.seq}
      onChoose={(next) => place({ seq: next === 0 ? '' : String(next) })}
      onJump={(next) => {
        setJump((old) => ({ seq: next, round: old.round + 1 }));
        place({ seq: String(next) });
      }}
      onHead={() => {
        setJump((old) => ({ seq: 0, round: old.round + 1 }));
        place({ seq: '' });
      }}
      filters={
        <EventFilters
          types={types}
          agent={agent}
          search={search}
          onChange={(change) => place({ ...change, seq: '' })}
        />
      }
    />
  );
}

function holds(events: EventWindow | null, seq: number): boolean {
  return events?.state.peek().rows.some((event) => event.seq === seq) ?? false;
}

/** Newest first: where the event stands or, there being none of that number or it being filtered out, the next one does. */
function nearestIndex(rows: readonly ObservedEvent[], seq: number): number {
  const row = rows.findIndex((event) => event.seq >= seq);
  return row === -1 ? 0 : rows.length - 1 - row;
}

interface FeedProps {
  readonly events: EventWindow;
  readonly chosen: number;
  readonly filtered: boolean;
  readonly searching: boolean;
  readonly jumped: number;
  readonly filters: JSX.Element;
  readonly onChoose: (seq: number) => void;
  readonly onJump: (seq: number) => void;
  readonly onHead: () => void;
}

function Feed(props: FeedProps): JSX.Element {
  const { events, chosen } = props;
  const state = events.state.value;
  const { rows } = state;
  const count = rows.length;
  const [paused, setPaused] = useState(false);
  const list = useRef<HTMLDivElement>(null);
  const scrolled = useRef(false);
  const range = useRef({ first: -1, last: -1 });
  const narrow = useMedia('(max-width: 719px)');
  const at = (index: number): ObservedEvent | undefined => rows[count - 1 - index];
  const chosenRow = chosen === 0 ? -1 : rows.findIndex((event) => event.seq === chosen);
  const chosenIndex = chosenRow === -1 ? -1 : count - 1 - chosenRow;

  // Another window begins at its top, or around the event that was jumped to.
  const eventsBefore = useRef<EventWindow | null>(null);
  if (eventsBefore.current !== events) {
    eventsBefore.current = events;
    scrolled.current = props.jumped > 0;
  }
  const hold = (): void => events.hold(paused || scrolled.current);
  useEffect(hold, [paused, events]);
  const fill = (): void => {
    const { first, last } = range.current;
    if (last >= count - NEAR_END) void events.loadOlder();
    if (first <= NEAR_END) void events.loadNewer();
  };
  // What was asked for during another request was not asked; after a failure it is the reader who asks again.
  useEffect(() => {
    if (state.loading === null && state.failure === null && count > 0) fill();
  }, [state.loading]);
  const step = (by: number): void => {
    const next = at(chosenIndex === -1 ? 0 : Math.min(count - 1, Math.max(0, chosenIndex + by)));
    if (next !== undefined) props.onChoose(next.seq);
  };
  const toHead = (): void => {
    setPaused(false);
    scrolled.current = false;
    if (list.current !== null) list.current.scrollTop = 0;
    if (state.reachedHead) events.toHead();
    else props.onHead();
  };
  useViewShortcuts([
    { key: 'j', what: 'next event', run: () => step(1) },
    { key: 'k', what: 'previous event', run: () => step(-1) },
    { key: ' ', what: 'pause or go on', run: () => setPaused((old) => !old) },
    { key: '/', what: 'search', run: () => document.getElementById('event-search')?.focus() },
    { key: '#', what: 'jump to a number', run: () => document.getElementById('event-jump')?.focus() },
    { key: '.', what: 'newest events', run: toHead },
    { key: 'Escape', what: 'close the details', run: () => props.onChoose(0) },
  ]);
  const shown = chosenRow === -1 ? undefined : rows[chosenRow];
  return (
    <>
      <PageHead title="Events">
        <button type="button" class="button" aria-pressed={paused} onClick={() => setPaused(!paused)}>
          <Icon name={paused ? 'play' : 'pause'} />
          {paused ? 'Go on' : 'Pause'}
        </button>
        <Jump onJump={props.onJump} />
      </PageHead>
      {props.filters}
      <div class={shown === undefined ? 'feed' : 'feed feed-split'}>
        <div class="feed-list">
          {(state.pending > 0 || !state.reachedHead) && (
            <button type="button" class="newer" onClick={toHead}>
              {state.pending > 0 ? `${plural(state.pending, 'new event')} – show` : 'Back to the newest'}
            </button>
          )}
          {count === 0 ? (
            <NothingYet
              state={state}
              filtered={props.filtered}
              searching={props.searching}
              onMore={() => events.retry()}
            />
          ) : (
            <VirtualList
              count={count}
              rowHeight={narrow ? 58 : 34}
              rowKey={(index) => at(index)?.seq ?? index}
              addedOnTop={state.addedOnTop}
              followsTop={state.reachedHead}
              show={
                chosen === 0
                  ? null
                  : {
                      key: `${chosen}`,
                      index: props.jumped === chosen ? nearestIndex(rows, chosen) : chosenIndex,
                      align: props.jumped === chosen ? 'center' : 'nearest',
                    }
              }
              active={{ index: chosenIndex, id: `event-${chosen}` }}
              listRef={list}
              onRange={(first, last) => {
                range.current = { first, last };
                fill();
              }}
              attributes={{
                class: 'rows',
                role: 'listbox',
                tabIndex: 0,
                'aria-label': 'Events, newest first',
                'aria-busy': state.loading !== null,
                onScroll: (event) => {
                  scrolled.current = event.currentTarget.scrollTop > 20;
                  hold();
                },
                onKeyDown: (event) => {
                  const by = { ArrowDown: 1, ArrowUp: -1, PageDown: 15, PageUp: -15 }[event.key];
                  if (by === undefined) return;
                  event.preventDefault();
                  step(by);
                },
              }}
              row={(index, style) => {
                const event = at(index);
                return (
                  event && (
                    <EventRow
                      key={event.seq}
                      event={event}
                      style={style}
                      chosen={event.seq === chosen}
                      onChoose={props.onChoose}
                    />
                  )
                );
              }}
            />
          )}
          {count > 0 && <FeedEnd state={state} searching={props.searching} onMore={() => events.retry()} />}
        </div>
        {shown !== undefined && <EventDetail event={shown} onClose={() => props.onChoose(0)} />}
      </div>
    </>
  );
}

function Jump({ onJump }: { readonly onJump: (seq: number) => void }): JSX.Element {
  return (
    <form
      class="jump"
      onSubmit={(event) => {
        event.preventDefault();
        const text = new FormData(event.currentTarget).get('seq');
        const seq = Number(String(text).replace(/[#,\s]/g, ''));
        if (Number.isSafeInteger(seq) && seq > 0) onJump(seq);
      }}
    >
      <label class="sr-only" for="event-jump">
        Jump to event number
      </label>
      <input
        id="event-jump"
        name="seq"
        class="input mono"
        inputMode="numeric"
        placeholder="# number"
        autocomplete="off"
      />
      <button type="submit" class="button">
        Jump
      </button>
    </form>
  );
}
