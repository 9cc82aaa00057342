/**
 * The event types observers are shown, each with the number it has in the index. Anything else in the log is the server's
 * own record, and is passed over.
 */
import type { EventType } from '../contract/events.js';

/** Numbers are kept in the index: give a new type a new one, never change one. 1 to 255. */
export const EVENT_TYPE_IDS: Readonly<Record<EventType, number>> = {
  operator_created: 1,
  agent_registered: 2,
  message_sent: 3,
  message_delivered: 4,
  message_dropped: 5,
  state_written: 6,
  state_deleted: 7,
  state_read: 8,
  registry_read: 9,
};

export const EVENT_TYPES = Object.keys(EVENT_TYPE_IDS) as EventType[];
export const MAX_TYPE_ID = 31;

export function isEventType(name: string): name is EventType {
  return Object.hasOwn(EVENT_TYPE_IDS, name);
}

/** The number of a type as it stands in the log; 0 for the server's own records. */
export function typeIdOf(name: string): number {
  return isEventType(name) ? EVENT_TYPE_IDS[name] : 0;
}
