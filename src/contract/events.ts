/**
 * Everything an agent does is one event. The event log is the write-ahead log: these are the facts that all
 * other data is derived from. Events never hold tokens, hashes of tokens, webhook URLs or secrets.
 */
export interface EventData {
  operator_created: { operator_id: string; contact_hash: string };
  agent_registered: { address: string; operator_id: string; has_webhook: boolean };
  message_sent: { message_id: string; from: string; to: string; content: string; content_length: number };
  message_delivered: { message_id: string; to: string; delivery_method: 'pull' | 'push' };
  message_dropped: { message_id: string; to: string; reason: 'queue_full' };
  state_written: { key: string; value: string; value_length: number; written_by: string };
  state_deleted: { key: string; deleted_by: string };
  state_read: { key: string; read_by: string; found: boolean };
  registry_read: { read_by: string };
}

export type EventType = keyof EventData;

/** One event as readers see it. `seq` rises strictly over the whole server; lengths are UTF-8 bytes. */
export type KernelEvent = {
  [Type in EventType]: {
    seq: number;
    /** RFC 3339 UTC with milliseconds. */
    ts: string;
    type: Type;
    /** The acting agent's address; absent for operator events. */
    agent?: string;
    data: EventData[Type];
  };
}[EventType];
