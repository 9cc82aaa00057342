import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Deadlined, type DeadlineList, Sweeper } from '../../src/gateway/deadlines.js';
import { waitUntil } from '../support/wait.js';

class Entry implements Deadlined {
  deadlines: DeadlineList | null = null;
  previous: Deadlined | null = null;
  next: Deadlined | null = null;
  sinceMs = 0;
  lateByMs: number | null = null;
  private readonly addedMs = performance.now();

  onDeadline(list: DeadlineList): void {
    assert.equal(this.lateByMs, null, 'told twice');
    this.lateByMs = performance.now() - this.addedMs - list.timeoutMs;
  }
}

test('entries are told once, none early; those taken out are not told', async (t) => {
  const sweeper = new Sweeper(40);
  t.after(() => sweeper.stop());
  const list = sweeper.list(40);
  const entries = Array.from({ length: 9 }, () => new Entry());
  for (const entry of entries) list.add(entry);
  const removed = [entries[0], entries[4], entries[8]];
  for (const entry of removed) if (entry !== undefined) list.remove(entry);
  const rest = entries.filter((entry) => !removed.includes(entry));
  await waitUntil(() => rest.every(({ lateByMs }) => lateByMs !== null), { timeoutMs: 5_000, what: 'all deadlines' });
  for (const { lateByMs } of rest) assert.ok((lateByMs ?? -1) >= 0, `early by ${-(lateByMs ?? 0)} ms`);
  for (const entry of removed) assert.equal(entry?.lateByMs, null);
  for (const entry of entries) assert.equal(entry.deadlines, null);
});
