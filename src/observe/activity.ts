/** Counts over time: of one agent or of everybody, in equal buckets. */
import type { EventIndex } from './event-index.js';
import { ACTIVITY_SLOTS_MS, activityKey, decodeActivity, slotOfActivityKey } from './index-rows.js';

/** Slots of the finer kind that one answer may walk; a longer span is counted by the coarser kind. */
const MAX_FINE_SLOTS = 20_000;

export interface Span {
  readonly fromMs: number;
  /** Not before `fromMs`. */
  readonly toMs: number;
}

export interface ActivityDocument {
  /** Start of the first bucket. */
  readonly from: string;
  readonly to: string;
  readonly bucket_ms: number;
  /** Events in each bucket, oldest first. */
  readonly counts: number[];
  readonly messages_sent: number[];
  readonly messages_received: number[];
  readonly state_writes: number[];
}

/**
 * Buckets that cover the span, at most `maxBuckets`; their length is a multiple of the slots in which events are counted.
 * Cost: a row for each slot in which something happened, 20,000 at most for spans of up to two years.
 */
export function activityOf(index: EventIndex, agentId: number, span: Span, maxBuckets: number): ActivityDocument {
  const spanMs = span.toMs - span.fromMs;
  const resolution = spanMs / ACTIVITY_SLOTS_MS[0] <= MAX_FINE_SLOTS ? 0 : 1;
  const slotMs = ACTIVITY_SLOTS_MS[resolution];
  const firstSlot = Math.floor(span.fromMs / slotMs);
  const slots = Math.floor(span.toMs / slotMs) - firstSlot + 1;
  const slotsPerBucket = Math.ceil(slots / maxBuckets);
  const buckets = Math.ceil(slots / slotsPerBucket);
  const zeros = (): number[] => new Array<number>(buckets).fill(0);
  const counts = zeros();
  const sent = zeros();
  const received = zeros();
  const writes = zeros();
  const range = {
    start: activityKey(agentId, resolution, firstSlot),
    end: activityKey(agentId, resolution, firstSlot + slots),
  };
  for (const { key, value } of index.store.table('activity').getRange(range)) {
    const bucket = Math.floor((slotOfActivityKey(key) - firstSlot) / slotsPerBucket);
    const row = decodeActivity(value);
    counts[bucket] = (counts[bucket] ?? 0) + row.events;
    sent[bucket] = (sent[bucket] ?? 0) + row.messagesSent;
    received[bucket] = (received[bucket] ?? 0) + row.messagesReceived;
    writes[bucket] = (writes[bucket] ?? 0) + row.stateWrites;
  }
  const fromMs = firstSlot * slotMs;
  const bucketMs = slotsPerBucket * slotMs;
  return {
    from: new Date(fromMs).toISOString(),
    to: new Date(fromMs + buckets * bucketMs).toISOString(),
    bucket_ms: bucketMs,
    counts,
    messages_sent: sent,
    messages_received: received,
    state_writes: writes,
  };
}
