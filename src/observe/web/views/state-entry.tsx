/** One key: its value now, its history from the log, and what each write changed. */
import type { JSX } from 'preact';
import { useMemo, useState } from 'preact/hooks';
import { ApiFailure, api, type ObservedEvent, type StateEntry } from '../api.js';
import { field, isRedacted } from '../event-kinds.js';
import { ago, bytes, dateTime } from '../format.js';
import { useLoaded, useNow } from '../hooks.js';
import { Loading, Trouble } from '../parts.js';
import { href } from '../router.js';
import { Agent, LongText, SafeText, Time } from '../text.js';
import { Diff } from './diff.js';

const VERSIONS = 50;
/** Larger values are not laid out anew: it would take longer than reading them as they are. */
const MAX_PRETTY = 200_000;

export interface StateEntryProps {
  readonly name: string;
  /** `seq` of the newest change told by the stream; another one means to look again. */
  readonly change: number;
  readonly back: string;
}

export function StateEntryView({ name, change, back }: StateEntryProps): JSX.Element {
  const entry = useLoaded(name, (abort) => loadEntry(name, abort), { change, onRemovals: true });
  const gone = entry.failure?.status === 404;
  const shown = entry.data; // the old value stays until the new one is here
  return (
    <section class="entry" aria-label="Value">
      <div class="detail-head">
        <h2 class="entry-key mono">
          <SafeText text={name} />
        </h2>
        <a class="button small entry-back" href={back}>
          All keys
        </a>
      </div>
      {gone && <p class="removed">There is no such key now. What it held before is below, as far as the log has it.</p>}
      {shown !== null && <Value entry={shown} />}
      {shown === null && !gone && entry.failure === null && <Loading what="the value" />}
      {shown === null && !gone && entry.failure !== null && (
        <Trouble text={entry.failure.message} onRetry={entry.reload} />
      )}
      <History name={name} change={change} />
    </section>
  );
}

/** A path can't end in the keys `.` and `..`: what browsers make of them is another path. The log has them. */
async function loadEntry(name: string, abort: AbortSignal): Promise<StateEntry> {
  if (name !== '.' && name !== '..') return api.entry(name, abort);
  const { versions } = await api.history(name, null, 1, abort);
  const [newest] = versions;
  if (newest === undefined || newest.type !== 'state_written') throw new ApiFailure(404, 'There is no such key.');
  return {
    key: name,
    value: field(newest, 'value'),
    last_modified_by: field(newest, 'written_by'),
    last_modified_at: newest.ts,
    redacted: isRedacted(newest),
  };
}

function Value({ entry }: { readonly entry: StateEntry }): JSX.Element {
  const nowMs = useNow();
  const [raw, setRaw] = useState(false);
  const pretty = useMemo(() => prettyJson(entry.value), [entry.value]);
  const sizeBytes = useMemo(() => new Blob([entry.value]).size, [entry.value]);
  if (entry.redacted === true) {
    return (
      <p class="removed">
        The value was removed.{' '}
        {typeof entry.reason === 'string' && (
          <>
            Reason: <SafeText text={entry.reason} />.{' '}
          </>
        )}
        <a href={href('transparency')}>Transparency log</a>
      </p>
    );
  }
  return (
    <>
      <p class="entry-meta">
        {bytes(sizeBytes)}, written by <Agent address={entry.last_modified_by ?? ''} />{' '}
        {entry.last_modified_at !== undefined && (
          <time dateTime={entry.last_modified_at} title={dateTime(entry.last_modified_at)}>
            {ago(entry.last_modified_at, nowMs)}
          </time>
        )}
        {pretty !== null && (
          <button type="button" class="button small" aria-pressed={raw} onClick={() => setRaw(!raw)}>
            As stored
          </button>
        )}
      </p>
      <LongText key={`${raw}`} text={raw || pretty === null ? entry.value : pretty} label="Value" />
    </>
  );
}

/** JSON objects and lists with indents; null for all else. */
function prettyJson(text: string): string | null {
  if (text.length > MAX_PRETTY || !/^\s*[[{]/.test(text)) return null;
  try {
    const pretty = JSON.stringify(JSON.parse(text), null, 2);
    return pretty === text ? null : pretty;
  } catch {
    return null; // not JSON: shown as it is
  }
}

function History({ name, change }: { readonly name: string; readonly change: number }): JSX.Element | null {
  const history = useLoaded(name, (abort) => api.history(name, null, VERSIONS, abort), { change, onRemovals: true });
  const [chosen, setChosen] = useState(0);
  if (history.data === null) {
    return history.failure === null ? (
      <Loading what="the history" />
    ) : (
      <Trouble text={history.failure.message} onRetry={history.reload} />
    );
  }
  const { versions } = history.data;
  const found = versions.findIndex((version) => version.seq === chosen);
  const index = found === -1 ? 0 : found;
  const version = versions[index];
  if (version === undefined) return null;
  const before = versions[index + 1];
  const more = history.data.next_cursor !== null;
  return (
    <div class="history">
      <h3>History</h3>
      <div class="history-split">
        <ol class="versions" aria-label="Versions, newest first">
          {versions.map((each, at) => (
            <li key={each.seq}>
              <button type="button" class="version" aria-pressed={at === index} onClick={() => setChosen(each.seq)}>
                <span class={each.type === 'state_deleted' ? 'version-what version-gone' : 'version-what'}>
                  {each.type === 'state_deleted'
                    ? 'deleted'
                    : at === versions.length - 1 && !more
                      ? 'created'
                      : 'written'}
                </span>
                <Time ts={each.ts} withDay />
              </button>
            </li>
          ))}
          {more && <li class="faint">older ones are in the event feed</li>}
        </ol>
        <div class="change">
          <p class="entry-meta">
            <a class="mono" href={href('events', '', { seq: String(version.seq) })}>
              #{version.seq}
            </a>{' '}
            by <Agent address={version.agent ?? field(version, 'written_by')} />
            {before !== undefined && <span>– against the version before</span>}
          </p>
          <Change version={version} before={before} />
        </div>
      </div>
    </div>
  );
}

function Change(props: { readonly version: ObservedEvent; readonly before: ObservedEvent | undefined }): JSX.Element {
  const { version, before } = props;
  if (isRedacted(version)) {
    return (
      <p class="removed">
        What was written here was removed. <a href={href('transparency')}>Transparency log</a>
      </p>
    );
  }
  const textOf = (event: ObservedEvent | undefined): string =>
    event === undefined || event.type === 'state_deleted' || isRedacted(event) ? '' : field(event, 'value');
  return <Diff before={textOf(before)} after={textOf(version)} />;
}
