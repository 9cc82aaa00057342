/** Limits of the API that no setting changes. Sizes are UTF-8 bytes. */
export const MAX_BODY_BYTES = 2 * 1024 * 1024;
export const MAX_CONTACT_HASH_BYTES = 256;
/** LMDB keys end at 1,978 bytes; `state.max_key_length` can't be set above this. */
export const MAX_KEY_BYTES = 1024;
export const MAX_WEBHOOK_URL_BYTES = 2048;

/** `limit` of a listing: outside `min..max`, or not a number, it falls back to `fallback` (agents rely on that). */
export interface PageLimit {
  readonly fallback: number;
  readonly max: number;
}
export const REGISTRY_PAGE: PageLimit = { fallback: 100, max: 1000 };
export const KEYS_PAGE: PageLimit = { fallback: 100, max: 1000 };
export const MESSAGES_PAGE: PageLimit = { fallback: 50, max: 100 };

/** Long polling: seconds a request for messages may wait for the first one. */
export const MAX_WAIT_SECONDS = 30;
/** Seconds a leased message stays hidden. */
export const VISIBILITY = { fallback: 60, min: 1, max: 43_200 } as const;
export const MAX_LEASE_IDS = 1000;
export const MAX_LEASE_ID_BYTES = 128;
/** Of visible ASCII. */
export const MAX_IDEMPOTENCY_KEY_BYTES = 128;
/** Messages of one subscription that are delivered and not yet acknowledged. */
export const UNACKED = { fallback: 100, min: 1, max: 1000 } as const;
/** Calls in one JSON-RPC batch. */
export const MAX_BATCH_CALLS = 50;
/** A WebSocket message holds what an HTTP body may, and the JSON-RPC around it. */
export const MAX_FRAME_BYTES = MAX_BODY_BYTES + 4096;

/** The state key that names the capacity document. */
export const CAPACITY_KEY = '_capacity';
