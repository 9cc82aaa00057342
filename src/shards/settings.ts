import type { Config } from '../config/config.js';

/** What the shards need of the configuration. Plain data: it is handed to every shard's thread. */
export interface EngineSettings {
  /** Key bytes + value bytes of live keys, over all shards. */
  readonly maxCapacityBytes: number;
  readonly maxQueuePerAgent: number;
  /** Log bytes of all queued messages, over all shards. */
  readonly maxQueuedBytes: number;
  readonly overflow: 'drop_oldest' | 'reject';
  /** A segment that has reached this size is followed by a new one. */
  readonly maxSegmentBytes: number;
  readonly durability: 'fsync' | 'interval' | 'none';
  /** Time between two flushes when `durability` is `interval`. */
  readonly flushIntervalMs: number;
  readonly logLevel: Config['log']['level'];
}

export function engineSettings(config: Config): EngineSettings {
  return {
    maxCapacityBytes: config.state.maxCapacityBytes,
    maxQueuePerAgent: config.messaging.maxQueuePerAgent,
    maxQueuedBytes: config.messaging.maxQueuedBytes,
    overflow: config.messaging.overflow,
    maxSegmentBytes: config.eventLog.maxFileBytes,
    durability: config.eventLog.durability,
    flushIntervalMs: config.eventLog.intervalMs,
    logLevel: config.log.level,
  };
}
