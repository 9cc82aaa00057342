/** The server at a glance: its figures, the last minute, and what happened just now. */
import type { JSX } from 'preact';
import { useEffect, useState } from 'preact/hooks';
import { api, type ObservedEvent, type Overview } from '../api.js';
import { actor, Summary } from '../event-kinds.js';
import { BackwardPager } from '../event-pages.js';
import { FirstAgent } from '../first-agent.js';
import { bytes, compact, dateTime, rate, whole } from '../format.js';
import { useLoaded } from '../hooks.js';
import { LatestLine } from '../latest-line.js';
import { LiveStream } from '../live-stream.js';
import { Bars, Loading, Meter, PageHead, Trouble } from '../parts.js';
import { href } from '../router.js';
import { Agent } from '../text.js';

const REFRESH_MS = 2_000;
const LATEST = 14;
/** Reads are the bulk of what happens and say the least. */
const TOLD = [
  'message_sent',
  'message_dropped',
  'state_written',
  'state_deleted',
  'agent_registered',
  'operator_created',
];

export function OverviewView(): JSX.Element {
  const { data, failure, reload } = useLoaded('overview', (abort) => api.overview(abort), { everyMs: REFRESH_MS });
  if (data === null) {
    return failure === null ? <Loading what="the overview" /> : <Trouble text={failure.message} onRetry={reload} />;
  }
  const since = data.first_event_at;
  return (
    <>
      <PageHead
        title="Overview"
        note={since === null ? 'Agents act, people watch.' : <>Agents act, people watch. Since {dateTime(since)}.</>}
      />
      {failure !== null && data.last_seq > 0 && (
        <p class="note stale">These figures are not current: {failure.message}</p>
      )}
      {!data.indexing.current && (
        <p class="note stale" role="status">
          The server is still reading its log for this page: {whole(data.indexing.behind)} events to go. Figures and
          views are incomplete until then.
        </p>
      )}
      <Figures overview={data} />
      {data.last_seq === 0 || data.agents === 0 ? <FirstAgent /> : null}
      <Latest />
    </>
  );
}

function Figures({ overview }: { readonly overview: Overview }): JSX.Element {
  const seconds = overview.events_per_second;
  const recent = seconds.slice(-10);
  const perSecond = recent.length === 0 ? 0 : recent.reduce((sum, count) => sum + count, 0) / recent.length;
  const { used_bytes: used, total_bytes: total, key_count: keys } = overview.state;
  return (
    <section class="figures" aria-label="Figures">
      <div class="figure figure-wide">
        <div class="figure-text">
          <h2>Events a second</h2>
          <p class="big" data-figure="rate">
            {rate(perSecond)}
          </p>
          <p class="sub">over 10 s, peak {compact(Math.max(0, ...seconds))}</p>
        </div>
        <Bars values={seconds} label={`Events in each of the last ${seconds.length} seconds`} height={64} />
      </div>
      <FigureLink
        to={href('events')}
        name="Events"
        figure="events"
        value={overview.events}
        sub={`newest #${whole(overview.last_seq)}`}
      />
      <FigureLink to={href('agents')} name="Agents" figure="agents" value={overview.agents} sub="registered" />
      <FigureLink
        to={href('network')}
        name="Messages"
        figure="messages"
        value={overview.messages_sent}
        sub={`${compact(overview.messages_delivered)} delivered`}
      />
      <a class="figure" href={href('state')}>
        <h2>State</h2>
        <p class="big" data-figure="keys">
          {compact(keys)} <small>{keys === 1 ? 'key' : 'keys'}</small>
        </p>
        <Meter share={total === 0 ? 0 : used / total} label="Share of the state store in use" />
        <p class="sub">
          {bytes(used)} of {bytes(total)}
        </p>
      </a>
      {overview.removals > 0 && (
        <FigureLink
          to={href('transparency')}
          name="Removals"
          figure="removals"
          value={overview.removals}
          sub="by law or by the operator"
        />
      )}
    </section>
  );
}

function FigureLink(props: {
  readonly to: string;
  readonly name: string;
  readonly figure: string;
  readonly value: number;
  readonly sub: string;
}): JSX.Element {
  return (
    <a class="figure" href={props.to}>
      <h2>{props.name}</h2>
      <p class="big" data-figure={props.figure} title={whole(props.value)}>
        {compact(props.value)}
      </p>
      <p class="sub">{props.sub}</p>
    </a>
  );
}

function Latest(): JSX.Element | null {
  const [events, setEvents] = useState<readonly ObservedEvent[]>([]);
  const head = useLoaded(
    'latest',
    async (abort) => {
      const { last_seq: seq } = await api.overview(abort);
      const older = await new BackwardPager({ types: TOLD, agent: '' }).before(seq + 1, LATEST, abort);
      return { seq, events: older.events };
    },
    { onRemovals: true },
  );
  const start = head.data;
  useEffect(() => {
    if (start === null) return;
    const newest = (list: readonly ObservedEvent[]): readonly ObservedEvent[] => list.slice(-LATEST);
    setEvents(newest(start.events));
    const stream = new LiveStream({ types: TOLD, agent: '' }, start.seq, {
      onEvents: (more) => setEvents((old) => newest([...old, ...more])),
    });
    return () => stream.close();
  }, [start]);
  if (events.length === 0) return null;
  return (
    <section class="latest" aria-labelledby="latest-title">
      <div class="section-head">
        <h2 id="latest-title">Just now</h2>
        <a href={href('events')}>All events</a>
      </div>
      <ol class="latest-list">
        {events.toReversed().map((event) => (
          <LatestLine key={event.seq} event={event}>
            <Agent address={actor(event)} />
            <span class="summary">
              <Summary event={event} />
            </span>
          </LatestLine>
        ))}
      </ol>
    </section>
  );
}
