/** One agent: its figures, when it was active, whom it talks to, and what it did last. */
import type { JSX } from 'preact';
import { useEffect, useState } from 'preact/hooks';
import { type AgentActivity, api, type ObservedEvent } from '../api.js';
import { Summary } from '../event-kinds.js';
import { BackwardPager } from '../event-pages.js';
import { ago, compact, dateTime, duration, plural, whole } from '../format.js';
import { useLoaded, useNow } from '../hooks.js';
import { LatestLine } from '../latest-line.js';
import { LiveStream } from '../live-stream.js';
import { Bars, Empty, Loading, PageHead, Trouble } from '../parts.js';
import { href } from '../router.js';
import { Agent, SafeText } from '../text.js';

const RECENT = 60;
const PEERS = 8;
/** A newcomer's few bars stand at the end of a chart that is as wide as any. */
const MIN_BARS = 40;
const REFRESH_MS = 10_000;
/** The figures are asked for this long after the first event of a burst. */
const FIGURES_MS = 500;

export function AgentProfile({ address }: { readonly address: string }): JSX.Element {
  const [round, setRound] = useState(0);
  const agent = useLoaded(address, (abort) => api.agent(address, abort), { change: round });
  const figures = agent.data;
  const nowMs = useNow();
  if (agent.failure?.status === 404) {
    return (
      <Empty title="There is no such agent">
        <p>
          Nobody with the address <SafeText text={address} /> was ever registered here.{' '}
          <a href={href('agents')}>All agents</a>
        </p>
      </Empty>
    );
  }
  if (figures === null) {
    return agent.failure === null ? (
      <Loading what="the agent" />
    ) : (
      <Trouble text={agent.failure.message} onRetry={agent.reload} />
    );
  }
  return (
    <>
      <PageHead
        title={address}
        note={
          <>
            Arrived {dateTime(figures.registered_at)}
            {figures.last_active !== null && `, last active ${ago(figures.last_active, nowMs)}`}
          </>
        }
      >
        <a class="button" href={href('agents')}>
          All agents
        </a>
        <a class="button" href={href('network', address)}>
          In the network
        </a>
      </PageHead>
      <section class="figures figures-small" aria-label="Figures">
        <Figure name="Messages sent" value={figures.messages_sent} />
        <Figure name="Messages received" value={figures.messages_received} />
        <Figure name="State writes" value={figures.state_writes} />
      </section>
      <Activity address={address} />
      <div class="profile-split">
        <Recent address={address} onActivity={() => setRound((old) => old + 1)} />
        <Peers address={address} />
      </div>
    </>
  );
}

function Figure({ name, value }: { readonly name: string; readonly value: number }): JSX.Element {
  return (
    <div class="figure">
      <h2>{name}</h2>
      <p class="big" title={whole(value)}>
        {compact(value)}
      </p>
    </div>
  );
}

function Activity({ address }: { readonly address: string }): JSX.Element | null {
  const activity = useLoaded(address, (abort) => api.activity(address, abort), { everyMs: REFRESH_MS });
  const { data } = activity;
  if (data === null || data.counts.length === 0) return null;
  const total = data.counts.reduce((sum, count) => sum + count, 0);
  const endMs = Date.parse(data.from) + data.counts.length * data.bucket_ms;
  return (
    <section class="activity" aria-labelledby="activity-title">
      <div class="section-head">
        <h2 id="activity-title">Activity</h2>
        <span class="note">
          {plural(total, 'event')}, {duration(data.bucket_ms)} a bar
        </span>
      </div>
      <Bars values={paddedTo(MIN_BARS, data.counts)} label={activityText(data, total)} height={72} />
      <div class="axis">
        <span>{dateTime(endMs - Math.max(MIN_BARS, data.counts.length) * data.bucket_ms)}</span>
        <span>{dateTime(endMs)}</span>
      </div>
    </section>
  );
}

function paddedTo(length: number, counts: readonly number[]): readonly number[] {
  return counts.length >= length ? counts : [...new Array<number>(length - counts.length).fill(0), ...counts];
}

function activityText(activity: AgentActivity, total: number): string {
  return `${plural(total, 'event')} since ${dateTime(activity.from)}, at most ${whole(Math.max(...activity.counts))} in ${duration(activity.bucket_ms)}`;
}

function Recent({ address, onActivity }: { readonly address: string; readonly onActivity: () => void }): JSX.Element {
  const [events, setEvents] = useState<readonly ObservedEvent[]>([]);
  const first = useLoaded(
    address,
    async (abort) => {
      const { last_seq: seq } = await api.overview(abort);
      const older = await new BackwardPager({ types: [], agent: address }).before(seq + 1, RECENT, abort);
      return { seq, events: older.events };
    },
    { onRemovals: true },
  );
  const start = first.data;
  // The stream lives as long as its beginning
  useEffect(() => {
    if (start === null) return;
    setEvents(start.events.slice(-RECENT));
    let timer: number | undefined;
    const stream = new LiveStream({ types: [], agent: address }, start.seq, {
      onEvents: (more) => {
        setEvents((old) => [...old, ...more].slice(-RECENT));
        timer ??= window.setTimeout(() => {
          timer = undefined;
          onActivity();
        }, FIGURES_MS);
      },
    });
    return () => {
      window.clearTimeout(timer);
      stream.close();
    };
  }, [start]);
  return (
    <section aria-labelledby="recent-title">
      <div class="section-head">
        <h2 id="recent-title">Latest</h2>
        <a href={href('events', '', { agent: address })}>All of its events</a>
      </div>
      {start === null && first.failure === null && <Loading what="events" />}
      {first.failure !== null && <Trouble text={first.failure.message} onRetry={first.reload} />}
      <ol class="latest-list latest-own">
        {events.toReversed().map((event) => (
          <LatestLine key={event.seq} event={event}>
            <span class="summary">
              <Summary event={event} />
            </span>
          </LatestLine>
        ))}
      </ol>
    </section>
  );
}

interface Peer {
  readonly address: string;
  sent: number;
  received: number;
}

function Peers({ address }: { readonly address: string }): JSX.Element | null {
  const network = useLoaded(address, (abort) => api.network(abort));
  if (network.data === null) return null;
  const peers = new Map<string, Peer>();
  const peer = (other: string): Peer => {
    const known = peers.get(other) ?? { address: other, sent: 0, received: 0 };
    peers.set(other, known);
    return known;
  };
  for (const { from, to, count } of network.data.edges) {
    if (from === to) continue;
    if (from === address) peer(to).sent += count;
    if (to === address) peer(from).received += count;
  }
  const strongest = [...peers.values()].sort((a, b) => b.sent + b.received - a.sent - a.received);
  const most = Math.max(1, ...strongest.map(({ sent, received }) => sent + received));
  return (
    <section aria-labelledby="peers-title">
      <div class="section-head">
        <h2 id="peers-title">Talks with</h2>
        <span class="note">{plural(peers.size, 'agent')}</span>
      </div>
      {strongest.length === 0 && <p class="faint">Nobody so far.</p>}
      <ol class="peers">
        {strongest.slice(0, PEERS).map((each) => (
          <li key={each.address}>
            <Agent address={each.address} full />
            <span class="note">
              {whole(each.sent)} to, {whole(each.received)} from
            </span>
            <span class="peer-bar" aria-hidden="true">
              <span style={{ width: `${((each.sent + each.received) / most) * 100}%` }} />
            </span>
          </li>
        ))}
      </ol>
    </section>
  );
}
