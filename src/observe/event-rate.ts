/** How many events each of the last seconds had, by the events' own times. Owns a ring of counts; starts empty. */
const SECONDS = 60;

export class EventRate {
  private readonly counts = new Array<number>(SECONDS).fill(0);
  private readonly seconds = new Array<number>(SECONDS).fill(0);

  add(atMs: number): void {
    const second = Math.floor(atMs / 1000);
    const slot = second % SECONDS;
    if (second < (this.seconds[slot] ?? 0)) return; // long past
    if (second > (this.seconds[slot] ?? 0)) {
      this.seconds[slot] = second;
      this.counts[slot] = 0;
    }
    this.counts[slot] = (this.counts[slot] ?? 0) + 1;
  }

  /** Of the whole seconds before `nowMs`, oldest first. */
  perSecond(nowMs: number): number[] {
    const now = Math.floor(nowMs / 1000);
    return Array.from({ length: SECONDS - 1 }, (_, i) => {
      const second = now - (SECONDS - 1) + i;
      const slot = second % SECONDS;
      return this.seconds[slot] === second ? (this.counts[slot] ?? 0) : 0;
    });
  }
}
