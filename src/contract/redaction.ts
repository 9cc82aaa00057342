/**
 * What readers are shown in the place of a content that was removed by law. The content itself is gone from the log,
 * the store and the queues; why, and its hash, stand in the transparency log.
 */
export const REDACTED_TEXT = '[REDACTED — see /observe/transparency]';

/** One entry of the transparency log, as `GET /observe/transparency` and `GET /admin/removals` show it. */
export interface TransparencyEntry {
  /** RFC 3339 UTC with milliseconds. */
  readonly ts: string;
  readonly action: RemovalAction;
  /** With `state_key_removed`. */
  readonly key?: string;
  /** With `message_redacted`. */
  readonly message_id?: string;
  readonly reason: string;
  readonly performed_by: 'admin';
  /** SHA-256, in lowercase hex, of the UTF-8 bytes that were removed: of a state key, its last value. */
  readonly content_hash: string;
}

export type RemovalAction = 'state_key_removed' | 'message_redacted';
