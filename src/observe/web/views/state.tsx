/** The state browser: the keys as a tree on one side, a value with its history on the other. */
import type { JSX } from 'preact';
import { useEffect, useMemo, useState } from 'preact/hooks';
import { FirstAgent } from '../first-agent.js';
import { bytes, plural, whole } from '../format.js';
import { type KeysState, KeyWindow, MAX_KEYS } from '../key-window.js';
import { Empty, Loading, PageHead, Trouble } from '../parts.js';
import { href, navigate, replaceRoute, route } from '../router.js';
import { useViewShortcuts } from '../shortcuts.js';
import { Excerpt } from '../text.js';
import { VirtualList } from '../virtual-list.js';
import { StateEntryView } from './state-entry.js';
import { pathsTo, type TreeRow, treeRows } from './state-tree.js';

const SETTLE_MS = 300;
const INDENT_PX = 16;

export function StateView(): JSX.Element {
  const { subject, query } = route.value;
  const prefix = query.prefix ?? '';
  const keys = useMemo(() => new KeyWindow(prefix), [prefix]);
  useEffect(() => () => keys.close(), [keys]);
  const state = keys.state.value;
  const { failure } = state;
  const nothing = state.keys.length === 0 && !state.loading && failure === null;
  return (
    <>
      <PageHead
        title="State"
        note={state.loading && state.total === 0 ? undefined : `${plural(state.total, 'key')} that all agents share`}
      >
        <PrefixField prefix={prefix} />
      </PageHead>
      {failure !== null && (
        <Trouble text={failure} onRetry={() => void (state.keys.length === 0 ? keys.start() : keys.more())} />
      )}
      {nothing && prefix === '' && subject === '' && <NoState />}
      {nothing && prefix !== '' && (
        <Empty title="No key begins so">
          <p>
            <a href={href('state')}>Show all keys</a>
          </p>
        </Empty>
      )}
      {state.loading && state.keys.length === 0 && <Loading what="keys" />}
      {(state.keys.length > 0 || subject !== '') && (
        <div class={subject === '' ? 'browser' : 'browser browser-open'}>
          {state.keys.length > 0 && (
            <Tree state={state} chosen={subject} prefix={prefix} onMore={() => void keys.more()} />
          )}
          {subject === '' ? (
            <div class="browser-hint">
              <p>Choose a key to see its value, who wrote it, and how it changed.</p>
            </div>
          ) : (
            <StateEntryView
              key={subject}
              name={subject}
              change={state.lastChange.get(subject) ?? 0}
              back={href('state', '', { prefix })}
            />
          )}
        </div>
      )}
    </>
  );
}

function NoState(): JSX.Element {
  return (
    <>
      <Empty title="No keys yet">
        <p>
          State is one flat store that all agents share. An agent writes to it with{' '}
          <code>PUT /v1/state/&lt;key&gt;</code>; keys with <code>/</code>, <code>:</code> or <code>.</code> in them are
          shown as a tree here.
        </p>
      </Empty>
      <FirstAgent title="No agent to write one?" />
    </>
  );
}

function PrefixField({ prefix }: { readonly prefix: string }): JSX.Element {
  const [text, setText] = useState(prefix);
  useEffect(() => setText(prefix), [prefix]);
  useEffect(() => {
    if (text === prefix) return;
    const timer = window.setTimeout(
      () => replaceRoute(href('state', route.peek().subject, { prefix: text })),
      SETTLE_MS,
    );
    return () => window.clearTimeout(timer);
  }, [text, prefix]);
  useViewShortcuts([
    { key: '/', what: 'find keys by their beginning', run: () => document.getElementById('state-prefix')?.focus() },
  ]);
  return (
    <>
      <label class="sr-only" for="state-prefix">
        Keys that begin with
      </label>
      <input
        id="state-prefix"
        class="input mono"
        type="search"
        placeholder="begins with…  /"
        value={text}
        autocomplete="off"
        spellcheck={false}
        onInput={(event) => setText(event.currentTarget.value)}
      />
    </>
  );
}

interface TreeProps {
  readonly state: KeysState;
  readonly chosen: string;
  readonly prefix: string;
  readonly onMore: () => void;
}

function Tree({ state, chosen, prefix, onMore }: TreeProps): JSX.Element {
  const [open, setOpen] = useState<ReadonlySet<string>>(new Set());
  const [cursor, setCursor] = useState(0);
  /** What the list keeps in sight: the key that was chosen, or where the keyboard went since. */
  const [followed, setFollowed] = useState<'chosen' | 'cursor'>('chosen');
  // Once for each chosen key, so that its branches can be closed again
  useEffect(() => {
    setFollowed('chosen');
    if (chosen !== '') setOpen((old) => new Set([...old, ...pathsTo(chosen)]));
  }, [chosen]);
  const rows = useMemo(() => treeRows(state.keys, open), [state.keys, open]);
  const chosenIndex = chosen === '' ? -1 : rows.findIndex((row) => row.kind === 'key' && row.path === chosen);
  const active = Math.min(cursor, rows.length - 1);
  const toggle = (path: string, to: boolean): void =>
    setOpen((old) => {
      const next = new Set(old);
      if (to) next.add(path);
      else next.delete(path);
      return next;
    });
  const act = (row: TreeRow): void => {
    if (row.kind === 'branch') toggle(row.path, !open.has(row.path));
    else navigate(href('state', row.path, { prefix }));
  };
  const onKey = (event: KeyboardEvent): void => {
    const row = rows[active];
    if (row === undefined) return;
    const isOpen = open.has(row.path);
    const moveTo = (index: number): void => {
      setCursor(index);
      setFollowed('cursor');
    };
    if (event.key === 'ArrowDown') moveTo(Math.min(rows.length - 1, active + 1));
    else if (event.key === 'ArrowUp') moveTo(Math.max(0, active - 1));
    else if (event.key === 'Home') moveTo(0);
    else if (event.key === 'End') moveTo(rows.length - 1);
    else if (event.key === 'Enter' || event.key === ' ') act(row);
    else if (event.key === 'ArrowRight' && row.kind === 'branch' && !isOpen) toggle(row.path, true);
    else if (event.key === 'ArrowLeft' && row.kind === 'branch' && isOpen) toggle(row.path, false);
    else if (event.key === 'ArrowLeft') moveTo(parentOf(rows, active));
    else return;
    event.preventDefault();
  };
  const rest = state.total - state.keys.length;
  return (
    <div class="tree-side">
      <VirtualList
        count={rows.length}
        rowHeight={30}
        rowKey={(index) => `${rows[index]?.kind}:${rows[index]?.path}`}
        show={
          followed === 'chosen'
            ? { key: `chosen ${chosen}`, index: chosenIndex, align: 'nearest' }
            : { key: `cursor ${active}`, index: active, align: 'nearest' }
        }
        active={{ index: active, id: `tree-${active}` }}
        attributes={{
          class: 'rows tree',
          role: 'tree',
          tabIndex: 0,
          'aria-label': 'Keys',
          onKeyDown: onKey,
        }}
        row={(index, style) => {
          const row = rows[index];
          return (
            row && (
              <Node
                key={`${row.kind}:${row.path}`}
                row={row}
                index={index}
                style={style}
                open={open.has(row.path)}
                active={index === active}
                chosen={index === chosenIndex}
                onAct={() => {
                  setCursor(index);
                  act(row);
                }}
              />
            )
          );
        }}
      />
      {state.cursor !== null && (
        <p class="tree-end">
          {whole(state.keys.length)} of {whole(state.total)} keys.{' '}
          {state.keys.length < MAX_KEYS ? (
            <button type="button" class="button small" disabled={state.loading} onClick={onMore}>
              Load {whole(Math.min(1000, rest))} more
            </button>
          ) : (
            'Give a beginning to see others.'
          )}
        </p>
      )}
    </div>
  );
}

function parentOf(rows: readonly TreeRow[], index: number): number {
  const depth = rows[index]?.depth ?? 0;
  for (let above = index - 1; above >= 0; above--) if ((rows[above]?.depth ?? 0) < depth) return above;
  return index;
}

interface NodeProps {
  readonly row: TreeRow;
  readonly index: number;
  readonly style: JSX.CSSProperties;
  readonly open: boolean;
  readonly active: boolean;
  readonly chosen: boolean;
  readonly onAct: () => void;
}

function Node({ row, index, style, open, active, chosen, onAct }: NodeProps): JSX.Element {
  const classes = ['row', 'tree-row', active && 'tree-active', chosen && 'tree-chosen'].filter(Boolean).join(' ');
  return (
    // biome-ignore lint/a11y/useKeyWithClickEvents: the tree takes the keys
    <div
      id={`tree-${index}`}
      class={classes}
      role="treeitem"
      tabIndex={-1}
      aria-level={row.depth + 1}
      aria-selected={chosen}
      {...(row.kind === 'branch' && { 'aria-expanded': open })}
      style={{ ...style, paddingInlineStart: `${10 + Math.min(row.depth, 12) * INDENT_PX}px` }}
      onClick={onAct}
    >
      <span class={row.kind === 'branch' ? (open ? 'twist twist-open' : 'twist') : 'leaf'} aria-hidden="true" />
      <span class="tree-label mono">
        <Excerpt text={row.label} length={120} />
      </span>
      <span class="tree-count">{row.entry === null ? whole(row.count) : bytes(row.entry.value_length)}</span>
    </div>
  );
}
