/**
 * Makes the one frozen Config out of flags, environment and file, or a complete list of what is wrong with them.
 * Owns:  precedence (flags beat environment beats file beats default), environment names, rules between settings.
 * Never: reads `process.env` itself, prints, exits, or shows the admin key.
 */
import { availableParallelism } from 'node:os';
import type { Config } from './config.js';
import { GivenValues, shown } from './given-values.js';
import { nearest } from './nearest.js';
import { formatDuration } from './parsers.js';
import {
  ADMIN_KEY_ENV_NAME,
  envName,
  isSettingPath,
  SETTING_PATHS,
  type SettingPath,
  type SettingValues,
  settingOf,
} from './settings.js';
import { toConfig } from './to-config.js';
import { addYamlFile } from './yaml-source.js';

export interface ConfigSources {
  /** Path of a YAML file; errors name it as given here. */
  readonly file?: string | undefined;
  readonly env: NodeJS.ProcessEnv;
  /** What the command line set, by the setting's path in the file: `{ 'server.listen_addr': ':8080' }`. */
  readonly flags: Readonly<Record<string, string | undefined>>;
  /** Cores that defaults are made for; those of this machine when left out. */
  readonly cores?: number;
}

export type ConfigResult =
  | { readonly ok: true; readonly config: Config }
  | { readonly ok: false; readonly errors: string[] };

/**
 * All mistakes at once, one line each, in the order file, environment, flags, rules between settings.
 * Reads `file` and nothing else; the result is frozen through and through.
 */
export function loadConfig(sources: ConfigSources): ConfigResult {
  const given = new GivenValues();
  if (sources.file !== undefined) addYamlFile(sources.file, given);
  const adminKey = addEnvironment(sources.env, given);
  addFlags(sources.flags, given);
  const values = withDefaults(given, sources.cores ?? availableParallelism());
  checkRelations(values, given);
  if (given.errors.length > 0) return { ok: false, errors: given.errors };
  return { ok: true, config: deepFreeze(toConfig(values, adminKey)) };
}

/** Environment name -> setting, the original kernel's short names included. */
const ENV_NAMES: ReadonlyMap<string, SettingPath> = new Map(
  SETTING_PATHS.flatMap((path): [string, SettingPath][] => {
    const { shortEnvName } = settingOf(path);
    return shortEnvName === undefined
      ? [[envName(path), path]]
      : [
          [envName(path), path],
          [shortEnvName, path],
        ];
  }),
);

/** Returns the admin key, or null. An empty variable counts as not set: that is how compose files leave one out. */
function addEnvironment(env: NodeJS.ProcessEnv, given: GivenValues): string | null {
  for (const name of Object.keys(env).sort()) {
    const text = env[name];
    if (!name.startsWith('TABULUM_') || name === ADMIN_KEY_ENV_NAME || text === undefined) continue;
    const path = ENV_NAMES.get(name);
    if (path === undefined) {
      const meant = nearest(name, [...ENV_NAMES.keys(), ADMIN_KEY_ENV_NAME]);
      given.errors.push(`${name}: is not a known variable${meant === undefined ? '' : `; did you mean ${meant}?`}`);
      continue;
    }
    if (text === '') continue;
    const { shortEnvName } = settingOf(path);
    const longText = env[envName(path)];
    if (name === shortEnvName && longText !== undefined && longText !== '' && longText !== text) {
      given.errors.push(`${name}: is ${shown(text)}, but ${envName(path)}, the same setting, is ${shown(longText)}`);
      continue;
    }
    given.add(path, splitText(path, text), name, shown(text));
  }
  return adminKeyFrom(env, given);
}

function adminKeyFrom(env: NodeJS.ProcessEnv, given: GivenValues): string | null {
  const key = env[ADMIN_KEY_ENV_NAME];
  if (key === undefined || key === '') return null;
  // It has to fit into an Authorization header. The message must not show it.
  if (/^[\x21-\x7e]{1,512}$/.test(key)) return key;
  given.errors.push(`${ADMIN_KEY_ENV_NAME}: expected 1 to 512 printable ASCII characters without spaces`);
  return null;
}

function addFlags(flags: ConfigSources['flags'], given: GivenValues): void {
  for (const [path, text] of Object.entries(flags)) {
    if (!isSettingPath(path)) throw new Error(`no setting is called ${path}`);
    if (text !== undefined) given.add(path, splitText(path, text), settingOf(path).flag ?? path, shown(text));
  }
}

/** Outside YAML a list is separated by commas. */
function splitText(path: SettingPath, text: string): string[] {
  return settingOf(path).parser.isList ? text.split(',').map((item) => item.trim()) : [text];
}

function withDefaults(given: GivenValues, cores: number): SettingValues {
  // Each value was made by its own setting's parser or default, so the types agree by construction.
  return Object.fromEntries(
    SETTING_PATHS.map((path) => [path, given.get(path)?.value ?? settingOf(path).defaultFor(cores)]),
  ) as unknown as SettingValues;
}

const LISTENERS = ['server.listen_addr', 'observe.listen_addr', 'admin.listen_addr'] as const;

/** Rules between settings; each is judged only where both sides were given soundly. */
function checkRelations(values: SettingValues, given: GivenValues): void {
  const refuseUnless = (holds: boolean, left: SettingPath, right: SettingPath, mistake: string): void => {
    if (holds || !given.isSound(left) || !given.isSound(right)) return;
    const origin = given.get(left)?.origin ?? given.get(right)?.origin ?? 'default';
    given.errors.push(`${origin}: ${mistake}`);
  };
  const notLonger = (shorter: DurationPath, longer: DurationPath): void =>
    refuseUnless(
      values[shorter] <= values[longer],
      shorter,
      longer,
      `${shorter} (${formatDuration(values[shorter])}) is longer than ${longer} (${formatDuration(values[longer])})`,
    );
  notLonger('webhook.connect_timeout', 'webhook.total_timeout');
  notLonger('observe.websocket.ping_interval', 'observe.websocket.max_duration');
  const contentBytes = values['messaging.max_content_length'];
  const queuedBytes = values['messaging.max_queued_bytes'];
  refuseUnless(
    contentBytes <= queuedBytes,
    'messaging.max_queued_bytes',
    'messaging.max_content_length',
    `messaging.max_queued_bytes (${queuedBytes}) is less than messaging.max_content_length (${contentBytes}): ` +
      'the longest message could never be queued',
  );
  LISTENERS.forEach((first, index) => {
    for (const second of LISTENERS.slice(index + 1)) {
      const { host, port } = values[first];
      const clash = port !== 0 && port === values[second].port && host === values[second].host;
      refuseUnless(!clash, second, first, `${first} and ${second} are the same address, port ${port} of ${host}`);
    }
  });
}

type DurationPath =
  | 'webhook.connect_timeout'
  | 'webhook.total_timeout'
  | 'observe.websocket.ping_interval'
  | 'observe.websocket.max_duration';

function deepFreeze<T>(value: T): T {
  if (typeof value === 'object' && value !== null && !Object.isFrozen(value)) {
    Object.freeze(value);
    for (const inner of Object.values(value)) deepFreeze(inner);
  }
  return value;
}
