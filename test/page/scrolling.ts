/** Scrolls the feed as a reader does who waits for rows to be drawn: as fast as the page is, on any machine. */
import type { Page } from 'playwright-core';

/** Going no farther for this long is to be stuck. The way itself may take as long as it takes. */
const STUCK_MS = 30_000;

/**
 * Scrolls down until an event is in the list.
 * @param by `half` a page at a time, past every row; `end` to the lower end of what is loaded
 * @returns the number of every row that was there on the way
 */
export function scrollDownTo(page: Page, seq: number, by: 'half' | 'end'): Promise<number[]> {
  return page.evaluate(`(async () => {
    const list = document.querySelector('.rows');
    const seen = new Set();
    let lowest = Infinity;
    let sinceMs = performance.now();
    while (lowest > ${seq}) {
      await new Promise((drawn) => requestAnimationFrame(drawn));
      if (performance.now() - sinceMs > ${STUCK_MS}) throw new Error('stuck at event ' + lowest);
      const place = list.getBoundingClientRect();
      const rows = [...list.querySelectorAll('[role=option]')].map((row) => [row, row.getBoundingClientRect()]);
      const isDrawn = rows.some(([, { top }]) => top <= place.top + 1)
        && rows.some(([, { bottom }]) => bottom >= place.bottom - 1);
      if (!isDrawn) continue;
      for (const [row] of rows) seen.add(Number(row.id.slice(6)));
      const reached = Math.min(...seen);
      if (reached < lowest) sinceMs = performance.now();
      lowest = reached;
      list.scrollTop = ${by === 'half' ? 'list.scrollTop + list.clientHeight / 2' : 'list.scrollHeight'};
    }
    return [...seen];
  })()`);
}
