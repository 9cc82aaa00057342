/**
 * Sets how large a request head uWebSockets.js gathers over several reads: past it the native module answers 431 by
 * itself. It looks at the process's environment once, when it is loaded first, and a worker thread's `process.env` is a
 * copy: so the main thread must import this before it starts any thread that listens.
 * A head that comes in one read is not bounded by this; `head.ts` bounds it.
 */
export const MAX_HEAD_BYTES = 16_384;

process.env.UWS_HTTP_MAX_HEADERS_SIZE = String(MAX_HEAD_BYTES);
