/**
 * k-way merge of the shards' pages, each in order already, into one page of `limit` items.
 * @param pages each as long as the shard could make it, up to `limit + 1` items
 * @param orderOf compares as the order does; no two items are equal
 * Cost: limit * shards comparisons, whatever the shards hold.
 */
export function mergePages<Item>(
  pages: readonly (readonly Item[])[],
  orderOf: (item: Item) => string,
  limit: number,
): { items: Item[]; isLast: boolean } {
  const next = pages.map(() => 0);
  const items: Item[] = [];
  for (;;) {
    let least = -1;
    let leastOrder = '';
    for (let page = 0; page < pages.length; page++) {
      const item = pages[page]?.[next[page] as number];
      if (item === undefined) continue;
      const order = orderOf(item);
      if (least < 0 || order < leastOrder) {
        least = page;
        leastOrder = order;
      }
    }
    if (least < 0) return { items, isLast: true };
    if (items.length === limit) return { items, isLast: false };
    items.push(pages[least]?.[next[least] as number] as Item);
    next[least] = (next[least] as number) + 1;
  }
}
