/**
 * The one table of settings: name in the file, form, default, meaning. Loading, environment names, the search for
 * unknown keys and the reference in docs/configuration.md are all derived from it.
 * Owns:  every default and range.
 * Never: reads anything, or depends on the machine; defaults that do take the number of cores as argument.
 */
import { MAX_KEY_BYTES } from '../contract/limits.js';
import { boolean, bytes, cidrList, duration, integer, listenAddress, oneOf, type Parser, path } from './parsers.js';

export interface Setting<T> {
  readonly parser: Parser<T>;
  readonly defaultFor: (cores: number) => T;
  /** As the reference shows it: for a fixed default, what one would write. */
  readonly shownDefault: string;
  readonly description: string;
  /** Command-line option that sets it. */
  readonly flag?: string;
  /** A second environment name, from the original kernel, where its name is not the derived one anyway. */
  readonly shortEnvName?: string;
}

type Names = Pick<Setting<unknown>, 'flag' | 'shortEnvName'>;

function fixed<T>(parser: Parser<T>, defaultText: string, description: string, names: Names = {}): Setting<T> {
  const value = parser.parse(parser.isList && defaultText === '[]' ? [] : [defaultText]);
  if (value === undefined) throw new Error(`default ${defaultText} is not ${parser.expected}`);
  return { parser, defaultFor: () => value, shownDefault: defaultText, description, ...names };
}

function perCores<T>(parser: Parser<T>, of: (cores: number) => T, shown: string, description: string): Setting<T> {
  return { parser, defaultFor: of, shownDefault: shown, description };
}

function unset<T>(parser: Parser<T>, shown: string, description: string): Setting<T | null> {
  return { parser, defaultFor: () => null, shownDefault: shown, description };
}

/** Far above any use, and still exact in the limiter's arithmetic. */
const rate = integer(1, 10_000_000);
const TEBIBYTE = 2 ** 40;
const MEBIBYTE = 2 ** 20;

export const SETTINGS = {
  data_dir: fixed(path, './data', 'Directory of all data; made when missing.', { flag: '--data-dir' }),

  'server.listen_addr': fixed(listenAddress, '127.0.0.1:8080', 'Address of the kernel API.', {
    flag: '--listen',
    shortEnvName: 'TABULUM_LISTEN_ADDR',
  }),
  'server.read_timeout': fixed(
    duration('1s', '10m', '30s'),
    '30s',
    'Headers and body of a request must be in by then.',
  ),
  'server.write_timeout': fixed(duration('1s', '10m', '30s'), '30s', 'An answer may be pending this long; then 503.'),
  'server.trusted_proxies': fixed(cidrList, '[]', 'Proxies whose `X-Forwarded-For` tells the client IP.'),
  'server.expected_recovery': unset(
    duration('1s', '168h', '2m'),
    'not set',
    'During a planned stop, 503 answers promise service again after this time.',
  ),

  'rate_limits.message_send_per_min': fixed(rate, '60', 'Messages an agent may send.', {
    shortEnvName: 'TABULUM_MESSAGE_SEND_PER_MIN',
  }),
  'rate_limits.message_read_per_min': fixed(rate, '60', 'Times an agent may fetch messages.'),
  'rate_limits.state_read_per_min': fixed(rate, '300', 'State reads of an agent, key listing and capacity included.'),
  'rate_limits.state_write_per_min': fixed(rate, '60', 'State writes and deletes of an agent.'),
  'rate_limits.registry_read_per_min': fixed(rate, '30', 'Registry pages of an agent, `/v1/agents/me` included.'),
  'rate_limits.operator_reg_per_hour_per_ip': fixed(rate, '5', 'Operators registered from one client IP in an hour.'),
  'rate_limits.webhook_outbound_per_min': fixed(rate, '60', 'Webhook posts to one agent.'),

  'operators.require_terms': fixed(boolean, 'true', 'Operators must send `accept_terms: true`.'),

  'topology.gateways': perCores(
    integer(1, 64),
    (cores) => Math.min(64, cores),
    'one for each core, at most 64',
    'Threads that serve HTTP.',
  ),
  'topology.shards': unset(
    integer(1, 64),
    "the data directory's; for a new one half the cores, 1 to 64",
    'Storage threads. Fixed when the data directory is made.',
  ),

  'auth.scheme': fixed(oneOf('bcrypt', 'hmac'), 'bcrypt', 'How tokens issued from now on are stored.'),
  'auth.bcrypt_cost': fixed(integer(4, 15), '10', 'Each step doubles the time of a bcrypt.'),
  'auth.session_ttl': fixed(duration('100ms', '1h', '30s'), '30s', 'A verified token is remembered this long.'),
  'auth.pool_threads': perCores(
    integer(1, 64),
    (cores) => Math.min(64, Math.max(1, Math.floor(cores / 2))),
    'half the cores, at least 1',
    'Threads that compute bcrypt.',
  ),
  'auth.max_pending': fixed(integer(1, 1_000_000), '1000', 'Tokens waiting for bcrypt; past it 503.'),

  'state.max_capacity_bytes': fixed(bytes(1, 16 * TEBIBYTE), '1073741824', 'Keys and values together; past it 507.', {
    shortEnvName: 'TABULUM_MAX_CAPACITY_BYTES',
  }),
  'state.max_key_length': fixed(bytes(1, MAX_KEY_BYTES), '1024', 'Longest key, in bytes.'),
  'state.max_value_length': fixed(bytes(1, MEBIBYTE), '1048576', 'Longest value, in bytes.'),

  'messaging.max_content_length': fixed(bytes(1, MEBIBYTE), '65536', 'Longest message content, in bytes.'),
  'messaging.max_queue_per_agent': fixed(integer(1, 10_000_000), '10000', 'Messages one queue holds.'),
  'messaging.max_queued_bytes': fixed(
    bytes(1, 16 * TEBIBYTE),
    '10737418240',
    'Contents of all queued messages together, on disk.',
  ),
  'messaging.overflow': fixed(
    oneOf('drop_oldest', 'reject'),
    'drop_oldest',
    'A full queue drops its oldest message, or refuses the new one with 507.',
  ),

  'connect.max_connections': fixed(
    integer(1, 1_000_000),
    '10000',
    'WebSockets of agents, over all gateway threads; past it 503.',
  ),
  'connect.max_connections_per_agent': fixed(
    integer(1, 10_000),
    '8',
    'WebSockets of one agent, over all gateway threads; past it 503.',
  ),
  'connect.max_in_flight': fixed(
    integer(1, 10_000),
    '64',
    'Unanswered calls of one WebSocket; past it calls are refused.',
  ),
  'connect.write_timeout': fixed(
    duration('100ms', '10m', '30s'),
    '30s',
    'A WebSocket whose client takes nothing this long is closed.',
  ),
  'connect.ping_interval': fixed(duration('1s', '8m', '30s'), '30s', 'Time between pings to an agent.'),
  'connect.max_duration': fixed(duration('1s', '720h', '24h'), '24h', 'A WebSocket is closed after this time.'),

  'webhook.connect_timeout': fixed(duration('100ms', '60s', '5s'), '5s', 'Time to connect to a webhook.'),
  'webhook.total_timeout': fixed(duration('1s', '60s', '10s'), '10s', 'Time for one post, connecting included.'),
  'webhook.circuit_breaker_threshold': fixed(
    integer(1, 1000),
    '5',
    "Failed messages in a row that open an agent's circuit.",
  ),
  'webhook.circuit_breaker_duration': fixed(
    duration('1s', '24h', '5m'),
    '5m',
    'An open circuit sends messages straight to the pull queue this long.',
  ),
  'webhook.max_retries': fixed(integer(0, 10), '3', 'Further attempts after a failed post.'),
  'webhook.max_concurrency': fixed(integer(1, 10_000), '100', 'Posts in flight.'),
  'webhook.allow_networks': fixed(
    cidrList,
    '[]',
    'Ranges exempt from the check that webhooks resolve to public addresses.',
  ),

  'event_log.max_file_size': fixed(bytes(4096, 2 ** 31), '104857600', 'Size at which a new log segment begins.'),
  'event_log.durability': fixed(
    oneOf('fsync', 'interval', 'none'),
    'fsync',
    '`fsync` answers after the disk has it; `interval` may lose the last `event_log.interval` in a power cut, `none` more.',
  ),
  'event_log.interval': fixed(duration('1ms', '10s', '10ms'), '10ms', 'Time between syncs under `interval`.'),

  'verification.gate_type': fixed(
    oneOf('pipeline', 'proof_of_work', 'stub'),
    'pipeline',
    'The challenge agents solve to register; `stub` accepts anything, for tests.',
  ),
  'verification.challenge_expiry': fixed(duration('1s', '1h', '15s'), '15s', 'Time to answer a challenge.'),
  'verification.difficulty': fixed(integer(1, 32), '20', 'Leading zero bits asked for by `proof_of_work`.'),

  'observe.listen_addr': fixed(listenAddress, '127.0.0.1:8090', 'Address of the observation API and its web page.', {
    flag: '--observe-listen',
  }),
  'observe.rate_limit.requests_per_min_per_ip': fixed(rate, '300', 'Observation requests of one client IP.'),
  'observe.websocket.max_connections': fixed(integer(1, 100_000), '100', 'Live streams at once; past it 503.'),
  'observe.websocket.write_timeout': fixed(
    duration('100ms', '10m', '10s'),
    '10s',
    'A stream stalled this long is closed.',
  ),
  'observe.websocket.ping_interval': fixed(duration('1s', '8m', '30s'), '30s', 'Time between pings.'),
  'observe.websocket.max_duration': fixed(duration('1s', '720h', '24h'), '24h', 'A stream is closed after this time.'),

  'admin.listen_addr': fixed(listenAddress, '127.0.0.1:9090', 'Address of metrics, probes and administration.', {
    flag: '--admin-listen',
  }),

  'log.level': fixed(
    oneOf('trace', 'debug', 'info', 'warn', 'error', 'fatal'),
    'info',
    'Least severity that is logged to standard error.',
  ),
} as const satisfies Readonly<Record<string, Setting<unknown>>>;

export type SettingPath = keyof typeof SETTINGS;
export type SettingValues = {
  [Path in SettingPath]: (typeof SETTINGS)[Path] extends Setting<infer Value> ? Value : never;
};

export const SETTING_PATHS = Object.keys(SETTINGS) as SettingPath[];

/** The admin key is a secret: it comes from this variable only, never from a file or the command line. */
export const ADMIN_KEY_ENV_NAME = 'TABULUM_ADMIN_KEY';

/** `TABULUM_` and the path in capitals. */
export function envName(settingPath: SettingPath): string {
  return `TABULUM_${settingPath.toUpperCase().replaceAll('.', '_')}`;
}

export function isSettingPath(name: string): name is SettingPath {
  return Object.hasOwn(SETTINGS, name);
}

/** The table's row, without the type of its value. */
export function settingOf(settingPath: SettingPath): Setting<unknown> {
  return SETTINGS[settingPath];
}
