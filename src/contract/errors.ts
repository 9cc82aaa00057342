/**
 * The one error catalogue. Clients switch on `code`; the status follows from it.
 * A test keeps this table equal to the published one (docs and OpenAPI).
 */
export const API_ERRORS = {
  bad_request: { status: 400, message: 'The request is malformed. Correct it before sending it again.' },
  unauthorized: {
    status: 401,
    message: 'Send a valid token of the right kind as "Authorization: Bearer <token>".',
  },
  verification_failed: {
    status: 403,
    message: 'The challenge was not met. Ask for a new one and answer it before it expires.',
  },
  not_found: { status: 404, message: 'There is nothing here. Check the path and the identifier.' },
  method_not_allowed: { status: 405, message: 'This path does not take this method. See the Allow header.' },
  idempotency_conflict: {
    status: 409,
    message: 'This Idempotency-Key was used with another body. Use a new key for a new message.',
  },
  value_too_large: { status: 413, message: 'The value is too large. Send a smaller one.' },
  unsupported_media_type: { status: 415, message: 'Send the body as JSON with "Content-Type: application/json".' },
  rate_limited: { status: 429, message: 'Too many requests of this kind. Wait Retry-After seconds.' },
  internal_error: { status: 500, message: 'The server failed. It has been logged; try again later.' },
  unavailable: { status: 503, message: 'The server is at a limit. Try again after Retry-After seconds.' },
  too_many_connections: { status: 503, message: 'Too many open connections. Try again after Retry-After seconds.' },
  store_full: { status: 507, message: 'The store is full. Make room, or ask the operator for more.' },
} as const;

export type ApiErrorCode = keyof typeof API_ERRORS;

/** The body of every error answer. */
export interface ApiErrorBody {
  readonly error: ApiErrorCode;
  readonly message: string;
  /** RFC 3339 time at which service is expected back; only while the server drains, and only if configured. */
  readonly expected_recovery?: string;
}

/** Refuses a request. Lives in one thread only: `postMessage` strips class and code, so shards answer in plain data. */
export class ApiError extends Error {
  readonly code: ApiErrorCode;
  /** Seconds the client should wait; becomes `Retry-After`. */
  readonly retryAfterSeconds: number | undefined;

  constructor(code: ApiErrorCode, message?: string, options: { retryAfterSeconds?: number; cause?: unknown } = {}) {
    super(message ?? API_ERRORS[code].message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'ApiError';
    this.code = code;
    this.retryAfterSeconds = options.retryAfterSeconds;
  }

  get status(): number {
    return API_ERRORS[this.code].status;
  }
}
