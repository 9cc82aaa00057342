/**
 * A list of which only the rows in sight exist. Rows are of one height; the scroll position is the browser's own.
 * Owns:  the virtualizer of one scrolling element.
 */
import { elementScroll, observeElementOffset, observeElementRect, Virtualizer } from '@tanstack/virtual-core';
import type { ComponentChildren, JSX, Ref } from 'preact';
import { useEffect, useLayoutEffect, useMemo, useReducer, useRef } from 'preact/hooks';

export interface VirtualListProps {
  readonly count: number;
  readonly rowHeight: number;
  readonly rowKey: (index: number) => string | number;
  readonly row: (index: number, style: JSX.CSSProperties) => ComponentChildren;
  /** Told the range in sight after each change. */
  readonly onRange?: (first: number, last: number) => void;
  /** Scrolls a row into sight; null leaves the position alone. */
  readonly show?: ShownRow | null;
  /** The row that the keyboard acts on: told to assistive technology while that row exists. */
  readonly active?: { readonly index: number; readonly id: string };
  /** Rows ever added at the top less those taken away: what is being read keeps its place when it changes. */
  readonly addedOnTop?: number;
  /** At its upper end the list shows what is added there, instead of keeping its place. */
  readonly followsTop?: boolean;
  readonly attributes?: JSX.HTMLAttributes<HTMLDivElement>;
  readonly listRef?: Ref<HTMLDivElement>;
}

export interface ShownRow {
  /** Once for each: where the row stands may change without the reader being taken back to it. */
  readonly key: string;
  /** -1 while there is no such row; it is shown as soon as there is. */
  readonly index: number;
  /** Where the first one comes to stand. Later ones are scrolled to no farther than needed. */
  readonly align: 'nearest' | 'center';
}

export function VirtualList(props: VirtualListProps): JSX.Element {
  const element = useRef<HTMLDivElement>(null);
  const [, redraw] = useReducer((count: number) => count + 1, 0);
  const virtualizer = useMemo(
    () =>
      new Virtualizer<HTMLDivElement, HTMLDivElement>({
        count: props.count,
        getScrollElement: () => element.current,
        estimateSize: () => props.rowHeight,
        scrollToFn: elementScroll,
        observeElementRect,
        observeElementOffset,
        overscan: 8,
        onChange: () => redraw(undefined),
      }),
    [],
  );
  virtualizer.setOptions({
    ...virtualizer.options,
    count: props.count,
    estimateSize: () => props.rowHeight,
    getItemKey: props.rowKey,
  });
  // Measured anew when the height of rows changes
  useLayoutEffect(() => virtualizer.measure(), [props.rowHeight]);
  useLayoutEffect(() => virtualizer._didMount(), [virtualizer]);
  useLayoutEffect(() => virtualizer._willUpdate());
  const { addedOnTop = 0, followsTop = true, rowHeight, show = null } = props;
  const before = useRef({ addedOnTop, followsTop, rowHeight });
  const shownKey = useRef<string | null>(null);
  // One after the other, and not by the virtualizer's own command: that one goes on towards an index for some frames, and
  // rows added on top meanwhile give the index to another row.
  useLayoutEffect(() => {
    const old = before.current;
    before.current = { addedOnTop, followsTop, rowHeight };
    const node = element.current;
    if (node === null) return;
    if (rowHeight !== old.rowHeight) node.scrollTop *= rowHeight / old.rowHeight;
    const added = addedOnTop - old.addedOnTop;
    if (added !== 0 && (node.scrollTop > 0 || !old.followsTop)) node.scrollTop += added * rowHeight;
    if (show === null && shownKey.current !== null) shownKey.current = ''; // the same one may be shown again
    if (show === null || show.index < 0 || show.index >= props.count || show.key === shownKey.current) return;
    scrollToRow(node, show.index, shownKey.current === null ? show.align : 'nearest', rowHeight);
    shownKey.current = show.key;
  });
  const items = virtualizer.getVirtualItems();
  const first = items[0]?.index ?? -1;
  const last = items.at(-1)?.index ?? -1;
  useEffect(() => props.onRange?.(first, last), [first, last, props.count]);
  const { active } = props;
  const hasActive = items.some(({ index }) => index === active?.index);
  return (
    <div
      {...props.attributes}
      {...(hasActive && { 'aria-activedescendant': active?.id })}
      ref={(node) => {
        element.current = node;
        const { listRef } = props;
        if (typeof listRef === 'function') listRef(node);
        else if (listRef) listRef.current = node;
      }}
    >
      <div role="presentation" class="virtual-space" style={{ height: `${props.count * rowHeight}px` }}>
        {items.map(({ index }) => props.row(index, placed(index, rowHeight)))}
      </div>
    </div>
  );
}

function scrollToRow(node: HTMLElement, index: number, align: ShownRow['align'], rowHeight: number): void {
  const top = index * rowHeight;
  const room = node.clientHeight - rowHeight;
  if (align === 'center') node.scrollTop = top - room / 2;
  else node.scrollTop = Math.min(top, Math.max(node.scrollTop, top - room));
}

function placed(index: number, rowHeight: number): JSX.CSSProperties {
  return { position: 'absolute', insetInline: '0', top: `${index * rowHeight}px`, height: `${rowHeight}px` };
}
