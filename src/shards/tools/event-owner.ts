import type { LoggedEvent } from '../log-line.js';

/**
 * The name whose owner (`shardOf`) logs an event; null for a type that this version does not know. All lines of one
 * operation have one owner, so an operation stays whole wherever its lines go.
 */
export function ownerNameOf({ type, data }: LoggedEvent): string | null {
  const named = data as unknown as Readonly<Record<string, unknown>>;
  const field = OWNER_FIELDS[type as string];
  const name = field === undefined ? undefined : named[field];
  return typeof name === 'string' ? name : null;
}

const OWNER_FIELDS: Readonly<Record<string, string>> = {
  operator_created: 'operator_id',
  agent_registered: 'address',
  message_sent: 'to',
  message_delivered: 'to',
  message_dropped: 'to',
  state_written: 'key',
  state_deleted: 'key',
  state_read: 'key',
  registry_read: 'read_by',
  messages_leased: 'to',
  leases_returned: 'to',
  push_retried: 'to',
  push_given_up: 'to',
  idempotency_claimed: 'from',
  idempotency_released: 'from',
  state_removed: 'key',
  credential_revoked: 'subject',
} satisfies Record<LoggedEvent['type'], string>;

/** Logged by every shard that has something of the subject, so it proves nothing about where it lies. */
export function isLoggedAnywhere({ type }: LoggedEvent): boolean {
  return type === 'credential_revoked';
}
