/**
 * The one frozen, checked object that settings become. Made by `loadConfig`; nothing else reads environment or files.
 * Durations are milliseconds, sizes bytes.
 */
export interface ListenAddress {
  readonly host: string;
  /** 0 lets the system choose. */
  readonly port: number;
}

export interface Config {
  readonly dataDir: string;
  readonly server: {
    readonly listenAddr: ListenAddress;
    /** A request's headers and body must be in within this time. */
    readonly readTimeoutMs: number;
    /** An answer may stay pending this long; then 503. */
    readonly writeTimeoutMs: number;
    /** CIDR ranges or addresses whose `X-Forwarded-For` counts. */
    readonly trustedProxies: readonly string[];
    /** While draining, 503 answers promise service again after this time; null promises nothing. */
    readonly expectedRecoveryMs: number | null;
  };
  readonly rateLimits: {
    readonly messageSendPerMin: number;
    readonly messageReadPerMin: number;
    readonly stateReadPerMin: number;
    readonly stateWritePerMin: number;
    readonly registryReadPerMin: number;
    readonly operatorRegPerHourPerIp: number;
    readonly webhookOutboundPerMin: number;
  };
  readonly operators: { readonly requireTerms: boolean };
  readonly topology: {
    readonly gateways: number;
    /** null: as the data directory has it; from the core count for a new one. */
    readonly shards: number | null;
  };
  readonly auth: {
    readonly scheme: 'bcrypt' | 'hmac';
    readonly bcryptCost: number;
    readonly sessionTtlMs: number;
    readonly poolThreads: number;
    readonly maxPending: number;
  };
  readonly state: {
    readonly maxCapacityBytes: number;
    readonly maxKeyBytes: number;
    readonly maxValueBytes: number;
  };
  readonly messaging: {
    readonly maxContentBytes: number;
    readonly maxQueuePerAgent: number;
    /** Of all queued messages together, as they lie in the event log. */
    readonly maxQueuedBytes: number;
    readonly overflow: 'drop_oldest' | 'reject';
  };
  /** WebSockets of agents. Numbers of connections hold for each gateway thread. */
  readonly connect: {
    readonly maxConnections: number;
    readonly maxConnectionsPerAgent: number;
    /** Calls of one connection not yet answered. */
    readonly maxInFlight: number;
    readonly writeTimeoutMs: number;
    readonly pingIntervalMs: number;
    readonly maxDurationMs: number;
  };
  readonly webhook: {
    readonly connectTimeoutMs: number;
    readonly totalTimeoutMs: number;
    readonly circuitBreakerThreshold: number;
    readonly circuitBreakerDurationMs: number;
    readonly maxRetries: number;
    readonly maxConcurrency: number;
    /** CIDR ranges exempt from the address check. */
    readonly allowNetworks: readonly string[];
  };
  readonly eventLog: {
    readonly maxFileBytes: number;
    readonly durability: 'fsync' | 'interval' | 'none';
    readonly intervalMs: number;
  };
  readonly verification: {
    readonly gateType: 'pipeline' | 'proof_of_work' | 'stub';
    readonly challengeExpiryMs: number;
    /** Leading zero bits asked for by `proof_of_work`. */
    readonly difficultyBits: number;
  };
  readonly observe: {
    readonly listenAddr: ListenAddress;
    readonly requestsPerMinPerIp: number;
    readonly websocket: {
      readonly maxConnections: number;
      readonly writeTimeoutMs: number;
      readonly pingIntervalMs: number;
      readonly maxDurationMs: number;
    };
  };
  readonly admin: {
    readonly listenAddr: ListenAddress;
    /** From TABULUM_ADMIN_KEY only, never from a file; null closes `/admin/*`. */
    readonly key: string | null;
  };
  readonly log: { readonly level: 'trace' | 'debug' | 'info' | 'warn' | 'error' | 'fatal' };
}
