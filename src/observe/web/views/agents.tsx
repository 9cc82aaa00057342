/** Who is here: a table to sort and search, or the profile of one agent. */
import type { JSX } from 'preact';
import { useMemo, useRef, useState } from 'preact/hooks';
import { type AgentFigures, api } from '../api.js';
import { FirstAgent } from '../first-agent.js';
import { ago, dateTime, plural, whole } from '../format.js';
import { useLoaded, useMedia, useNow } from '../hooks.js';
import { Empty, Loading, PageHead, Trouble } from '../parts.js';
import { href, navigate, replaceRoute, route } from '../router.js';
import { useViewShortcuts } from '../shortcuts.js';
import { Agent } from '../text.js';
import { useStream } from '../use-stream.js';
import { VirtualList } from '../virtual-list.js';
import { AgentProfile } from './agent-profile.js';

const PAGE = 1000;
/** More are not listed: the address field finds any agent all the same. */
const MAX_PAGES = 10;
const REFRESH_MS = 5_000;
const REFRESH_LARGE_MS = 30_000;

type Column = 'address' | 'registered_at' | 'messages_sent' | 'messages_received' | 'state_writes' | 'last_active';
const COLUMNS: readonly {
  readonly name: Column;
  readonly label: string;
  readonly short: string;
  readonly number: boolean;
}[] = [
  { name: 'address', label: 'Agent', short: 'Agent', number: false },
  { name: 'messages_sent', label: 'Sent', short: 'Sent', number: true },
  { name: 'messages_received', label: 'Received', short: 'Recv', number: true },
  { name: 'state_writes', label: 'State writes', short: 'Writes', number: true },
  { name: 'last_active', label: 'Last active', short: 'Active', number: false },
  { name: 'registered_at', label: 'Arrived', short: 'Arrived', number: false },
];

export function AgentsView(): JSX.Element {
  const { subject } = route.value;
  return subject === '' ? <AgentTable /> : <AgentProfile key={subject} address={subject} />;
}

interface AgentList {
  readonly agents: readonly AgentFigures[];
  readonly total: number;
}

async function loadAgents(abort: AbortSignal): Promise<AgentList> {
  const agents: AgentFigures[] = [];
  let cursor: string | null = null;
  for (let page = 0; page < MAX_PAGES; page++) {
    const answer: Awaited<ReturnType<typeof api.agents>> = await api.agents(cursor, PAGE, abort);
    agents.push(...answer.agents);
    cursor = answer.next_cursor ?? null;
    if (cursor === null) return { agents, total: answer.total };
    if (page === MAX_PAGES - 1) return { agents, total: answer.total };
  }
  return { agents, total: agents.length };
}

function AgentTable(): JSX.Element {
  const [large, setLarge] = useState(false);
  const list = useLoaded('agents', loadAgents, { everyMs: large ? REFRESH_LARGE_MS : REFRESH_MS });
  useStream('agent_registered', () => list.reload());
  const { query } = route.value;
  const search = query.q ?? '';
  const sort = COLUMNS.find(({ name }) => name === query.sort)?.name ?? 'last_active';
  const rising = query.order === 'asc';
  const { data } = list;
  if (data !== null && data.agents.length > PAGE !== large) setLarge(!large);
  const rows = useMemo(() => sorted(data?.agents ?? [], sort, rising, search), [data, sort, rising, search]);
  const field = useRef<HTMLInputElement>(null);
  useViewShortcuts([{ key: '/', what: 'find an agent', run: () => field.current?.focus() }]);
  const place = (change: Readonly<Record<string, string>>): void =>
    replaceRoute(href('agents', '', { sort: query.sort ?? '', order: query.order ?? '', q: search, ...change }));
  const sortBy = (column: Column): void => {
    const turn = column === sort ? !rising : column === 'address';
    place({ sort: column, order: turn ? 'asc' : 'desc' });
  };
  if (data === null) {
    return list.failure === null ? (
      <Loading what="agents" />
    ) : (
      <Trouble text={list.failure.message} onRetry={list.reload} />
    );
  }
  if (data.total === 0) {
    return (
      <>
        <PageHead title="Agents" />
        <FirstAgent title="No agents yet" />
      </>
    );
  }
  const unlisted = data.total - data.agents.length;
  return (
    <>
      <PageHead
        title="Agents"
        note={
          <>
            {plural(data.total, 'agent')}
            {unlisted > 0 && `, the first ${whole(data.agents.length)} listed; any other by its whole address`}
          </>
        }
      >
        <label class="sr-only" for="agent-search">
          Find an agent by its address
        </label>
        <input
          id="agent-search"
          ref={field}
          class="input mono"
          type="search"
          placeholder="tab_…  /"
          value={search}
          spellcheck={false}
          autocomplete="off"
          onInput={(event) => place({ q: event.currentTarget.value.trim() })}
          onKeyDown={(event) => {
            if (event.key === 'Enter' && /^tab_[a-z0-9]{20}$/.test(search)) navigate(href('agents', search));
          }}
        />
      </PageHead>
      {rows.length === 0 ? (
        <Empty title="No listed agent has this in its address" />
      ) : (
        <Table rows={rows} sort={sort} rising={rising} onSort={sortBy} />
      )}
    </>
  );
}

interface TableProps {
  readonly rows: readonly AgentFigures[];
  readonly sort: Column;
  readonly rising: boolean;
  readonly onSort: (column: Column) => void;
}

function Table({ rows, sort, rising, onSort }: TableProps): JSX.Element {
  const nowMs = useNow();
  const narrow = useMedia('(max-width: 719px)');
  return (
    <div class="table" role="table" aria-label="Agents" aria-rowcount={rows.length + 1}>
      <div role="rowgroup">
        <div class="agent-row agent-head" role="row" aria-rowindex={1}>
          {COLUMNS.map(({ name, label, short, number }) => (
            <div
              key={name}
              class={`cell cell-${name}${number ? ' number' : ''}`}
              role="columnheader"
              aria-sort={name === sort ? (rising ? 'ascending' : 'descending') : 'none'}
            >
              <button type="button" class="sort" onClick={() => onSort(name)}>
                {narrow ? short : label}
                <span class="sort-mark" aria-hidden="true">
                  {name === sort ? (rising ? '↑' : '↓') : ''}
                </span>
              </button>
            </div>
          ))}
        </div>
      </div>
      <VirtualList
        count={rows.length}
        rowHeight={36}
        rowKey={(index) => rows[index]?.address ?? index}
        attributes={{ class: 'rows', role: 'rowgroup', tabIndex: 0, 'aria-label': 'Agents, scrolls' }}
        row={(index, style) => {
          const agent = rows[index];
          return agent && <AgentRow key={agent.address} agent={agent} index={index} style={style} nowMs={nowMs} />;
        }}
      />
    </div>
  );
}

interface AgentRowProps {
  readonly agent: AgentFigures;
  readonly index: number;
  readonly style: JSX.CSSProperties;
  readonly nowMs: number;
}

function AgentRow({ agent, index, style, nowMs }: AgentRowProps): JSX.Element {
  return (
    <div class="agent-row row" role="row" aria-rowindex={index + 2} style={style}>
      <div class="cell cell-address" role="cell">
        <Agent address={agent.address} full />
      </div>
      <div class="cell cell-messages_sent number" role="cell">
        {whole(agent.messages_sent)}
      </div>
      <div class="cell cell-messages_received number" role="cell">
        {whole(agent.messages_received)}
      </div>
      <div class="cell cell-state_writes number" role="cell">
        {whole(agent.state_writes)}
      </div>
      <div class="cell cell-last_active" role="cell">
        {agent.last_active === null ? '–' : ago(agent.last_active, nowMs)}
      </div>
      <div class="cell cell-registered_at" role="cell">
        {dateTime(agent.registered_at)}
      </div>
    </div>
  );
}

function sorted(agents: readonly AgentFigures[], column: Column, rising: boolean, search: string): AgentFigures[] {
  const wanted = search === '' ? [...agents] : agents.filter(({ address }) => address.includes(search));
  const turn = rising ? 1 : -1;
  return wanted.sort((a, b) => {
    const left = a[column] ?? '';
    const right = b[column] ?? '';
    if (left !== right) return left < right ? -turn : turn;
    return a.address < b.address ? -1 : 1;
  });
}
