/** The communication network: who talks to whom and how much, live; as a picture, and as a table that says the same. */
import type { JSX } from 'preact';
import { useEffect, useMemo, useReducer, useRef, useState } from 'preact/hooks';
import { api } from '../api.js';
import { field } from '../event-kinds.js';
import { FirstAgent } from '../first-agent.js';
import { plural, whole } from '../format.js';
import { useLoaded, useMedia } from '../hooks.js';
import { linkKey, NetworkModel } from '../network-model.js';
import { canDraw, MAX_LINKS, NetworkPicture } from '../network-picture.js';
import { Empty, Loading, PageHead, Trouble } from '../parts.js';
import { href, navigate, route } from '../router.js';
import { useViewShortcuts } from '../shortcuts.js';
import { Agent } from '../text.js';
import { theme } from '../theme.js';
import { useStream } from '../use-stream.js';

const TABLE_ROWS = 200;
/** Counts are drawn anew at most this often; lights are at once. */
const REDRAW_MS = 400;

export function NetworkView(): JSX.Element {
  // The position first: a newcomer between the two answers is told again rather than never.
  const network = useLoaded('network', async (abort) => {
    const { last_seq: since } = await api.overview(abort);
    return { since, network: await api.network(abort) };
  });
  const { data } = network;
  const model = useMemo(() => (data === null ? null : new NetworkModel(data.network)), [data]);
  if (data === null || model === null) {
    return network.failure === null ? (
      <Loading what="the network" />
    ) : (
      <Trouble text={network.failure.message} onRetry={network.reload} />
    );
  }
  return <LiveNetwork model={model} since={data.since} />;
}

/** The smallest count that leaves few enough links to be told apart. */
function readableLeast(model: NetworkModel): number {
  const counts = [...model.links.values()].map(({ count }) => count).sort((a, b) => b - a);
  return counts.length <= MAX_LINKS ? 1 : (counts[MAX_LINKS] ?? 0) + 1;
}

function LiveNetwork({ model, since }: { readonly model: NetworkModel; readonly since: number }): JSX.Element {
  const { subject, query } = route.value;
  const [version, redraw] = useReducer((count: number) => count + 1, 0);
  const drawable = useMemo(canDraw, []);
  const [least, setLeast] = useState(() => readableLeast(model));
  const [linkedOnly, setLinkedOnly] = useState(true);
  const asTable = query.as === 'table' || !drawable;
  const picture = useRef<NetworkPicture | null>(null);
  const pending = useRef(0);
  useStream(
    'message_sent,agent_registered',
    (events) => {
      const lit: string[] = [];
      for (const event of events) {
        model.take(event);
        if (event.type === 'message_sent') lit.push(linkKey(field(event, 'from'), field(event, 'to')));
      }
      picture.current?.light(lit);
      if (pending.current !== 0) return;
      pending.current = window.setTimeout(() => {
        pending.current = 0;
        redraw(undefined);
      }, REDRAW_MS);
    },
    since,
  );
  useEffect(() => () => window.clearTimeout(pending.current), []);
  useViewShortcuts([
    {
      key: 'v',
      what: 'picture or table',
      run: () => navigate(href('network', subject, asTable ? {} : { as: 'table' })),
    },
    { key: '+', what: 'nearer', run: () => picture.current?.zoom(1.5) },
    { key: '-', what: 'farther', run: () => picture.current?.zoom(1 / 1.5) },
    { key: '0', what: 'the whole network', run: () => picture.current?.fit() },
    { key: 'Escape', what: 'choose nobody', run: () => navigate(href('network', '', asTable ? { as: 'table' } : {})) },
  ]);
  const silent = [...model.talkers.values()].filter(({ sent, received }) => sent + received === 0).length;
  if (model.talkers.size === 0) {
    return (
      <>
        <PageHead title="Network" />
        <FirstAgent title="Nobody to talk to yet" />
      </>
    );
  }
  return (
    <>
      <PageHead
        title="Network"
        note={`${plural(model.talkers.size, 'agent')}, ${plural(model.links.size, 'pair')} in touch${silent > 0 ? `, ${whole(silent)} silent` : ''}`}
      >
        {drawable && (
          <div class="switch" role="group" aria-label="Shown as">
            <a class="button" aria-current={!asTable} href={href('network', subject)}>
              Picture
            </a>
            <a class="button" aria-current={asTable} href={href('network', subject, { as: 'table' })}>
              Table
            </a>
          </div>
        )}
        <label class="least">
          <span>At least</span>
          <input
            class="input mono"
            type="number"
            min={1}
            value={least}
            onInput={(event) => setLeast(Math.max(1, Number(event.currentTarget.value) || 1))}
          />
          <span>messages</span>
        </label>
        {!asTable && (
          <label class="check">
            <input
              type="checkbox"
              checked={!linkedOnly}
              onChange={(event) => setLinkedOnly(!event.currentTarget.checked)}
            />
            <span>Silent agents too</span>
          </label>
        )}
      </PageHead>
      {!drawable && (
        <p class="note stale" role="status">
          This browser has no WebGL, which the picture needs. The table has the same figures.
        </p>
      )}
      {asTable ? (
        <EdgeTable model={model} least={least} version={version} />
      ) : (
        <Picture
          model={model}
          version={version}
          least={least}
          linkedOnly={linkedOnly && model.links.size > 0}
          chosen={subject}
          onPicture={(shown) => {
            picture.current = shown;
          }}
        />
      )}
    </>
  );
}

interface PictureProps {
  readonly model: NetworkModel;
  /** Rises when the model has changed. */
  readonly version: number;
  readonly least: number;
  readonly linkedOnly: boolean;
  readonly chosen: string;
  readonly onPicture: (picture: NetworkPicture | null) => void;
}

function Picture(props: PictureProps): JSX.Element {
  const { model, version, least, linkedOnly, chosen } = props;
  const container = useRef<HTMLDivElement>(null);
  const picture = useRef<NetworkPicture | null>(null);
  const still = useMedia('(prefers-reduced-motion: reduce)');
  const dark = useMedia('(prefers-color-scheme: dark)');
  const colours = theme.value;
  // The picture lives as long as its place in the page
  useEffect(() => {
    if (container.current === null) return;
    const shown = new NetworkPicture(container.current, still, (address) => navigate(href('network', address)));
    picture.current = shown;
    props.onPicture(shown);
    return () => {
      picture.current = null;
      props.onPicture(null);
      shown.close();
    };
  }, [still]);
  // A version is a change of the model
  useEffect(
    () => picture.current?.show(model, { least, linkedOnly, chosen }),
    [model, version, least, linkedOnly, chosen, still],
  );
  // Either may change the colours
  useEffect(() => picture.current?.recolour(), [dark, colours]);
  const talker = model.talkers.get(chosen);
  return (
    <div class="graph">
      <div
        class="graph-canvas"
        ref={container}
        role="img"
        aria-label={`Picture of ${plural(model.talkers.size, 'agent')} and their messages. The table has the same figures.`}
      />
      <div class="graph-tools">
        <button type="button" class="icon-button" onClick={() => picture.current?.zoom(1.5)} aria-label="Nearer">
          +
        </button>
        <button type="button" class="icon-button" onClick={() => picture.current?.zoom(1 / 1.5)} aria-label="Farther">
          −
        </button>
        <button type="button" class="icon-button" onClick={() => picture.current?.fit()} aria-label="The whole network">
          ⤢
        </button>
      </div>
      {talker !== undefined && (
        <div class="graph-card">
          <Agent address={talker.address} full />
          <span class="note">
            {whole(talker.sent)} sent, {whole(talker.received)} received, in touch with{' '}
            {plural(model.neighbours(talker.address).size, 'agent')}
          </span>
          <a class="button small" href={href('network')}>
            Show everybody
          </a>
        </div>
      )}
    </div>
  );
}

interface EdgeTableProps {
  readonly model: NetworkModel;
  readonly least: number;
  readonly version: number;
}

function EdgeTable({ model, least, version }: EdgeTableProps): JSX.Element {
  // A version is a change of the model
  const edges = useMemo(
    () => model.strongestEdges(TABLE_ROWS).filter(({ count }) => count >= least),
    [model, least, version],
  );
  const narrow = useMedia('(max-width: 719px)');
  const most = edges[0]?.count ?? 1;
  if (edges.length === 0) {
    return (
      <Empty title="No messages so far">
        <p>As soon as one agent writes to another, both appear here.</p>
      </Empty>
    );
  }
  return (
    <div class="edge-table" tabIndex={0} role="region" aria-label="Strongest links">
      <table>
        <caption>
          {model.edges.size > edges.length
            ? `The ${whole(edges.length)} strongest of ${whole(model.edges.size)} directions`
            : 'Messages in each direction'}
        </caption>
        <thead>
          <tr>
            <th scope="col">From</th>
            <th scope="col">To</th>
            <th scope="col" class="number">
              Messages
            </th>
            <th scope="col" class="bar-column">
              <span class="sr-only">Share of the strongest</span>
            </th>
          </tr>
        </thead>
        <tbody>
          {edges.map(({ from, to, count }) => (
            <tr key={`${from} ${to}`}>
              <td>
                <Agent address={from} full={!narrow} />
              </td>
              <td>
                <Agent address={to} full={!narrow} />
              </td>
              <td class="number">{whole(count)}</td>
              <td class="bar-column">
                <span class="peer-bar" aria-hidden="true">
                  <span style={{ width: `${(count / most) * 100}%` }} />
                </span>
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
