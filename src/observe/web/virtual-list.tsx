/**
 * A list of which only the rows in sight exist. Rows are of one height; the scroll position is the browser's own.
 * Owns:  the virtualizer of one scrolling element.
 */
import {
  elementScroll,
  observeElementOffset,
  observeElementRect,
  type VirtualItem,
  Virtualizer,
} from '@tanstack/virtual-core';
import type { ComponentChildren, JSX, Ref } from 'preact';
import { useEffect, useLayoutEffect, useMemo, useReducer, useRef } from 'preact/hooks';

export interface VirtualListProps {
  readonly count: number;
  readonly rowHeight: number;
  readonly rowKey: (index: number) => string | number;
  readonly row: (index: number, style: JSX.CSSProperties) => ComponentChildren;
  /** Told the range in sight after each change. */
  readonly onRange?: (first: number, last: number) => void;
  /** Scrolls this row into sight when it changes; -1 leaves the position alone. */
  readonly showIndex?: number;
  readonly showAlign?: 'auto' | 'center';
  /** The row that the keyboard acts on: told to assistive technology while that row exists. */
  readonly active?: { readonly index: number; readonly id: string };
  /** Rows ever added at the top less those taken away: what is being read keeps its place when it changes. */
  readonly addedOnTop?: number;
  readonly attributes?: JSX.HTMLAttributes<HTMLDivElement>;
  readonly listRef?: Ref<HTMLDivElement>;
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
  const { showIndex = -1, showAlign = 'auto' } = props;
  useLayoutEffect(() => {
    if (showIndex >= 0 && showIndex < virtualizer.options.count) {
      virtualizer.scrollToIndex(showIndex, { align: showAlign });
    }
  }, [virtualizer, showIndex, showAlign, props.rowHeight]);
  const { addedOnTop = 0, rowHeight } = props;
  const addedBefore = useRef(addedOnTop);
  useLayoutEffect(() => {
    const added = addedOnTop - addedBefore.current;
    addedBefore.current = addedOnTop;
    const node = element.current;
    if (node !== null && added !== 0 && node.scrollTop > 0) node.scrollTop += added * rowHeight;
  }, [addedOnTop, rowHeight]);
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
      <div role="presentation" class="virtual-space" style={{ height: `${virtualizer.getTotalSize()}px` }}>
        {items.map((item) => props.row(item.index, placed(item)))}
      </div>
    </div>
  );
}

function placed(item: VirtualItem): JSX.CSSProperties {
  return { position: 'absolute', insetInline: '0', top: `${item.start}px`, height: `${item.size}px` };
}
