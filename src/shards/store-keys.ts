import type { ByteString } from './overlay-table.js';

/** Keys of the tables that are read in order. Numbers are written so that byte order is their order. */

/** 36^11 exceeds 2^53. */
const SORTABLE_DIGITS = 11;

/** Queue rows of one agent lie together in send order. */
export function queueKey(address: string, seq: number): ByteString {
  return `${address}:${sortable(seq)}`;
}

/** The `seq` in a queue key. */
export function seqOfQueueKey(key: ByteString): number {
  return Number.parseInt(key.slice(key.length - SORTABLE_DIGITS), 36);
}

/** One order by registration time over all shards; `seq` settles equal times. */
export function orderKey(registeredAtMs: number, seq: number): ByteString {
  return `${sortable(registeredAtMs)}.${sortable(seq)}`;
}

/** The registration time in an order key, epoch milliseconds. */
export function orderKeyTimeMs(key: ByteString): number {
  return Number.parseInt(key.slice(0, SORTABLE_DIGITS), 36);
}

/** A sender's idempotency key; `keyDigest` has no colon. */
export function sendClaimName(from: string, keyDigest: string): ByteString {
  return `${from}:${keyDigest}`;
}

/** What is remembered for a time, in the order in which it is forgotten. `name` is a key of the table `what` stands for. */
export function expiryKey(expiresAtMs: number, what: 'claim' | 'sent', name: ByteString): ByteString {
  return `${sortable(expiresAtMs)}:${what}:${name}`;
}

/** All expiry keys of earlier times are below it. */
export function expiryKeysBefore(timeMs: number): ByteString {
  return sortable(timeMs);
}

/** What an expiry key is of. */
export function expiring(key: ByteString): { readonly what: 'claim' | 'sent'; readonly name: ByteString } {
  const isClaim = key.startsWith('claim:', SORTABLE_DIGITS + 1);
  const what = isClaim ? 'claim' : 'sent';
  return { what, name: key.slice(SORTABLE_DIGITS + 1 + what.length + 1) };
}

export const ORDER_KEY_PATTERN = /^[0-9a-z]{11}\.[0-9a-z]{11}$/;

function sortable(value: number): string {
  return value.toString(36).padStart(SORTABLE_DIGITS, '0');
}
