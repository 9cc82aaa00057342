import type { PasswordHasher } from '../auth-pool/password-hasher.js';
import type { Config } from '../config/config.js';
import type { Engine } from '../contract/engine.js';
import type { Logger } from '../log.js';
import type { ConnectionCounts } from './connect/connection-counts.js';
import type { Gate } from './gates/gate.js';
import type { SharedLimiter } from './limits/shared-limiter.js';
import type { Waits } from './waits.js';

/** What one gateway thread is made of. */
export interface GatewayContext {
  readonly config: Config;
  readonly engine: Engine;
  readonly hasher: PasswordHasher;
  /** From `loadServerKey`. */
  readonly hmacServerKey: Buffer;
  readonly limiter: SharedLimiter;
  readonly connectionCounts: ConnectionCounts;
  readonly logger: Logger;
  readonly listen: {
    readonly host: string;
    /** 0 lets the system choose. */
    readonly port: number;
    /** Several gateway threads share the port; whoever starts them must have probed it. */
    readonly shared: boolean;
  };
}

/** What handlers need; the rest is the gateway's own. */
export interface HandlerContext extends Pick<GatewayContext, 'config' | 'engine' | 'hasher' | 'hmacServerKey'> {
  readonly gate: Gate;
  readonly waits: Waits;
  /** Epoch ms. */
  readonly now: () => number;
}
