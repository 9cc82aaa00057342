/** What of the feed is shown: types, one agent, and a search in the text. */
import type { JSX } from 'preact';
import { useEffect, useState } from 'preact/hooks';
import { api, EVENT_TYPES } from '../api.js';
import { kindOf } from '../event-kinds.js';
import { useLoaded } from '../hooks.js';

/** Typing is let to settle for this long before the log is asked. */
const SETTLE_MS = 300;
const WHOLE_ADDRESS = /^tab_[a-z0-9]{20}$/;
/** Addresses offered while typing. */
const SUGGESTIONS = 200;

interface Filters {
  readonly type?: string;
  readonly agent?: string;
  readonly q?: string;
}

export interface EventFiltersProps {
  /** Comma between types; empty for all. */
  readonly types: string;
  readonly agent: string;
  readonly search: string;
  readonly onChange: (change: Readonly<Record<string, string>>) => void;
}

export function EventFilters(props: EventFiltersProps): JSX.Element {
  const chosen = props.types === '' ? [] : props.types.split(',');
  const [asked, setAsked] = useState(false);
  const agents = useLoaded(`agents ${asked}`, async (abort) => {
    if (!asked) return [];
    return (await api.agents(null, SUGGESTIONS, abort)).agents.map(({ address }) => address);
  });
  const toggle = (type: string): void => {
    const next = chosen.includes(type) ? chosen.filter((other) => other !== type) : [...chosen, type];
    props.onChange({ type: next.join(',') });
  };
  return (
    <div class="filters">
      <div class="chips" role="group" aria-label="Types of events">
        {EVENT_TYPES.map((type) => (
          <button
            key={type}
            type="button"
            class={`chip kind-${kindOf(type).family}`}
            aria-pressed={chosen.includes(type)}
            onClick={() => toggle(type)}
          >
            {kindOf(type).label}
          </button>
        ))}
      </div>
      <div class="filter-fields">
        <Settled
          id="event-agent"
          label="Agent"
          placeholder="tab_… any agent"
          value={props.agent}
          accepts={(text) => text === '' || WHOLE_ADDRESS.test(text)}
          suggestions={agents.data ?? []}
          onFocus={() => setAsked(true)}
          onSettle={(agent) => props.onChange({ agent })}
        />
        <Settled
          id="event-search"
          label="Search"
          placeholder="Search in text and keys  /"
          value={props.search}
          onSettle={(q) => props.onChange({ q })}
        />
        {(props.types !== '' || props.agent !== '' || props.search !== '') && (
          <button
            type="button"
            class="button"
            onClick={() => props.onChange({ type: '', agent: '', q: '' } satisfies Filters)}
          >
            Clear
          </button>
        )}
      </div>
    </div>
  );
}

function Settled(props: {
  readonly id: string;
  readonly label: string;
  readonly placeholder: string;
  readonly value: string;
  /** What is not accepted yet waits for more; everything is when absent. */
  readonly accepts?: (text: string) => boolean;
  readonly suggestions?: readonly string[];
  readonly onFocus?: () => void;
  readonly onSettle: (text: string) => void;
}): JSX.Element {
  const [text, setText] = useState(props.value);
  useEffect(() => setText(props.value), [props.value]);
  const accepted = props.accepts?.(text.trim()) ?? true;
  // Only typing starts the clock
  useEffect(() => {
    if (text.trim() === props.value || !accepted) return;
    const timer = window.setTimeout(() => props.onSettle(text.trim()), SETTLE_MS);
    return () => window.clearTimeout(timer);
  }, [text]);
  return (
    <>
      <label class="sr-only" for={props.id}>
        {props.label}
      </label>
      <input
        id={props.id}
        class="input"
        type="search"
        value={text}
        placeholder={props.placeholder}
        autocomplete="off"
        spellcheck={false}
        aria-invalid={!accepted}
        title={accepted ? undefined : 'A whole address: tab_ and 20 letters or digits'}
        onFocus={props.onFocus}
        onInput={(event) => setText(event.currentTarget.value)}
        {...(props.suggestions !== undefined && { list: `${props.id}-list` })}
      />
      {props.suggestions !== undefined && (
        <datalist id={`${props.id}-list`}>
          {props.suggestions.map((each) => (
            <option key={each} value={each} />
          ))}
        </datalist>
      )}
    </>
  );
}
