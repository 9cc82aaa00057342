/** Where each setting lands in `Config`: names in code carry their unit, names in the file are the original kernel's. */
import type { Config } from './config.js';
import type { SettingValues } from './settings.js';

/** Moves checked values to their fields; the type checker holds both tables together. */
export function toConfig(values: SettingValues, adminKey: string | null): Config {
  return {
    dataDir: values.data_dir,
    server: {
      listenAddr: { ...values['server.listen_addr'] },
      readTimeoutMs: values['server.read_timeout'],
      writeTimeoutMs: values['server.write_timeout'],
      trustedProxies: [...values['server.trusted_proxies']],
      expectedRecoveryMs: values['server.expected_recovery'],
    },
    rateLimits: {
      messageSendPerMin: values['rate_limits.message_send_per_min'],
      messageReadPerMin: values['rate_limits.message_read_per_min'],
      stateReadPerMin: values['rate_limits.state_read_per_min'],
      stateWritePerMin: values['rate_limits.state_write_per_min'],
      registryReadPerMin: values['rate_limits.registry_read_per_min'],
      operatorRegPerHourPerIp: values['rate_limits.operator_reg_per_hour_per_ip'],
      webhookOutboundPerMin: values['rate_limits.webhook_outbound_per_min'],
    },
    operators: { requireTerms: values['operators.require_terms'] },
    topology: { gateways: values['topology.gateways'], shards: values['topology.shards'] },
    auth: {
      scheme: values['auth.scheme'],
      bcryptCost: values['auth.bcrypt_cost'],
      sessionTtlMs: values['auth.session_ttl'],
      poolThreads: values['auth.pool_threads'],
      maxPending: values['auth.max_pending'],
    },
    state: {
      maxCapacityBytes: values['state.max_capacity_bytes'],
      maxKeyBytes: values['state.max_key_length'],
      maxValueBytes: values['state.max_value_length'],
    },
    messaging: {
      maxContentBytes: values['messaging.max_content_length'],
      maxQueuePerAgent: values['messaging.max_queue_per_agent'],
      maxQueuedBytes: values['messaging.max_queued_bytes'],
      overflow: values['messaging.overflow'],
    },
    connect: {
      maxConnections: values['connect.max_connections'],
      maxConnectionsPerAgent: values['connect.max_connections_per_agent'],
      maxInFlight: values['connect.max_in_flight'],
      writeTimeoutMs: values['connect.write_timeout'],
      pingIntervalMs: values['connect.ping_interval'],
      maxDurationMs: values['connect.max_duration'],
    },
    webhook: {
      connectTimeoutMs: values['webhook.connect_timeout'],
      totalTimeoutMs: values['webhook.total_timeout'],
      circuitBreakerThreshold: values['webhook.circuit_breaker_threshold'],
      circuitBreakerDurationMs: values['webhook.circuit_breaker_duration'],
      maxRetries: values['webhook.max_retries'],
      maxConcurrency: values['webhook.max_concurrency'],
      allowNetworks: [...values['webhook.allow_networks']],
    },
    eventLog: {
      maxFileBytes: values['event_log.max_file_size'],
      durability: values['event_log.durability'],
      intervalMs: values['event_log.interval'],
    },
    verification: {
      gateType: values['verification.gate_type'],
      challengeExpiryMs: values['verification.challenge_expiry'],
      difficultyBits: values['verification.difficulty'],
    },
    observe: {
      listenAddr: { ...values['observe.listen_addr'] },
      requestsPerMinPerIp: values['observe.rate_limit.requests_per_min_per_ip'],
      websocket: {
        maxConnections: values['observe.websocket.max_connections'],
        writeTimeoutMs: values['observe.websocket.write_timeout'],
        pingIntervalMs: values['observe.websocket.ping_interval'],
        maxDurationMs: values['observe.websocket.max_duration'],
      },
    },
    admin: { listenAddr: { ...values['admin.listen_addr'] }, key: adminKey },
    log: { level: values['log.level'] },
  };
}
