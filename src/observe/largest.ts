/** The `capacity` largest of many items, in memory for no more than these. A binary heap with the smallest on top. */
export class Largest<Item> {
  private readonly heap: Item[] = [];

  constructor(
    private readonly capacity: number,
    private readonly sizeOf: (item: Item) => number,
  ) {}

  offer(item: Item): void {
    const { heap } = this;
    if (heap.length < this.capacity) {
      heap.push(item);
      this.rise(heap.length - 1);
    } else if (this.sizeOf(item) > this.size(0)) {
      heap[0] = item;
      this.sink();
    }
  }

  /** In no particular order. */
  items(): Item[] {
    return [...this.heap];
  }

  private rise(place: number): void {
    while (place > 0) {
      const parent = (place - 1) >>> 1;
      if (this.size(parent) <= this.size(place)) return;
      this.swap(parent, place);
      place = parent;
    }
  }

  private sink(): void {
    for (let place = 0; ; ) {
      let least = place;
      for (const child of [2 * place + 1, 2 * place + 2]) {
        if (child < this.heap.length && this.size(child) < this.size(least)) least = child;
      }
      if (least === place) return;
      this.swap(least, place);
      place = least;
    }
  }

  private size(place: number): number {
    return this.sizeOf(this.heap[place] as Item);
  }

  private swap(a: number, b: number): void {
    const item = this.heap[a] as Item;
    this.heap[a] = this.heap[b] as Item;
    this.heap[b] = item;
  }
}
