/** The shapes of server that every rule of the kernel API must hold on, and the settings tests start from. */

export interface Topology {
  readonly name: string;
  readonly gateways: number;
  readonly shards: number;
}

export const ONE_SHARD: Topology = { name: '1 shard', gateways: 1, shards: 1 };
export const THREE_SHARDS: Topology = { name: '3 shards', gateways: 1, shards: 3 };
export const TWO_GATEWAYS: Topology = { name: '2 gateway threads, 2 shards', gateways: 2, shards: 2 };

export function topologySettings({ gateways, shards }: Topology): { topology: { gateways: number; shards: number } } {
  return { topology: { gateways, shards } };
}

/** Limits that no test meets by accident. */
export const PLENTIFUL_LIMITS = {
  message_send_per_min: 1_000_000,
  message_read_per_min: 1_000_000,
  state_read_per_min: 1_000_000,
  state_write_per_min: 1_000_000,
  registry_read_per_min: 1_000_000,
  operator_reg_per_hour_per_ip: 1_000_000,
} as const;

/** Tokens that cost no bcrypt, a gate that takes any answer, no limit in the way. */
export const FAST = {
  auth: { scheme: 'hmac' },
  verification: { gate_type: 'stub' },
  rate_limits: PLENTIFUL_LIMITS,
} as const;
