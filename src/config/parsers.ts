/**
 * How a setting is written: from text to a checked value in the unit that code uses (milliseconds, bytes).
 * Owns:  syntax, ranges, and the words that tell what was expected.
 * Never: knows which setting it reads, or where the text came from.
 */
import { isIP, isIPv4, isIPv6 } from 'node:net';
import type { ListenAddress } from './config.js';

export interface Parser<T> {
  /** Completes the sentence "expected ...". */
  readonly expected: string;
  /** Takes any number of texts: a YAML list, or comma-separated text elsewhere. Others take exactly one. */
  readonly isList: boolean;
  /** undefined: the text does not fit. Lists get all items, others one. */
  parse(texts: readonly string[]): T | undefined;
}

function single<T>(expected: string, parseText: (text: string) => T | undefined): Parser<T> {
  return {
    expected,
    isList: false,
    parse: ([text, ...rest]) => (text === undefined || rest.length > 0 ? undefined : parseText(text)),
  };
}

const SECOND_MS = 1000;
const MINUTE_MS = 60 * SECOND_MS;
const HOUR_MS = 60 * MINUTE_MS;
const DURATION_UNITS = [
  { suffix: 'h', sizeMs: HOUR_MS },
  { suffix: 'm', sizeMs: MINUTE_MS },
  { suffix: 's', sizeMs: SECOND_MS },
  { suffix: 'ms', sizeMs: 1 },
] as const;

/** `90s`, `1h30m`, `500ms` in milliseconds. A bare number has no unit, so it is no duration. */
function parseDurationMs(text: string): number | undefined {
  if (!/^(?:\d{1,12}(?:ms|s|m|h))+$/.test(text)) return undefined;
  let totalMs = 0;
  for (const [, digits, suffix] of text.matchAll(/(\d+)(ms|s|m|h)/g)) {
    totalMs += Number(digits) * (DURATION_UNITS.find((unit) => unit.suffix === suffix)?.sizeMs ?? Number.NaN);
  }
  return totalMs;
}

/** The shortest way to write a duration with one unit. */
export function formatDuration(durationMs: number): string {
  const unit = DURATION_UNITS.find(({ sizeMs }) => durationMs >= sizeMs && durationMs % sizeMs === 0);
  return unit === undefined ? `${durationMs}ms` : `${durationMs / unit.sizeMs}${unit.suffix}`;
}

/** A duration within bounds that are themselves written as durations; the value is in milliseconds. */
export function duration(min: string, max: string, example: string): Parser<number> {
  const minMs = parseDurationMs(min);
  const maxMs = parseDurationMs(max);
  if (minMs === undefined || maxMs === undefined) throw new Error(`not durations: ${min}, ${max}`);
  return single(`a duration from ${min} to ${max}, such as ${example}`, (text) => {
    const durationMs = parseDurationMs(text);
    return durationMs !== undefined && durationMs >= minMs && durationMs <= maxMs ? durationMs : undefined;
  });
}

/** A whole number in plain decimal digits. */
export function integer(min: number, max: number): Parser<number> {
  return single(`a whole number from ${min} to ${max}`, (text) => {
    if (!/^\d{1,15}$/.test(text)) return undefined;
    const value = Number(text);
    return value >= min && value <= max ? value : undefined;
  });
}

const SIZE_UNITS: Readonly<Record<string, number>> = { '': 1, KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30, TiB: 2 ** 40 };

/** A size: bytes as a whole number, or with `KiB`, `MiB`, `GiB`, `TiB`. */
export function bytes(min: number, max: number): Parser<number> {
  return single(`a size from ${min} to ${max} bytes, such as 65536 or 64KiB`, (text) => {
    const match = /^(\d{1,15})(|KiB|MiB|GiB|TiB)$/.exec(text);
    if (match === null) return undefined;
    const value = Number(match[1]) * (SIZE_UNITS[match[2] ?? ''] ?? Number.NaN);
    return value >= min && value <= max ? value : undefined;
  });
}

/** One of a few words, spelled exactly. */
export function oneOf<const Word extends string>(...words: readonly Word[]): Parser<Word> {
  const list = words.length === 2 ? words.join(' or ') : `one of ${words.join(', ')}`;
  return single(list, (text) => words.find((word) => word === text));
}

export const boolean: Parser<boolean> = single('true or false', (text) =>
  text === 'true' ? true : text === 'false' ? false : undefined,
);

/** Any text that can name a path. */
export const path: Parser<string> = single('a path', (text) =>
  text.trim() === '' || text.includes('\0') ? undefined : text,
);

const HOST_NAME =
  /^(?=.{1,253}$)[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*$/;

/** `host:port`; `:8080` means every IPv4 address; IPv6 in brackets; port 0 lets the system choose. */
export const listenAddress: Parser<ListenAddress> = single(
  'HOST:PORT with a port from 0 to 65535, such as 127.0.0.1:8080, :8080 or [::1]:8080',
  (text) => {
    const colon = text.lastIndexOf(':');
    if (colon < 0) return undefined;
    const portText = text.slice(colon + 1);
    const port = Number(portText);
    if (!/^\d{1,5}$/.test(portText) || port > 65_535) return undefined;
    const host = parseHost(text.slice(0, colon));
    return host === undefined ? undefined : { host, port };
  },
);

function parseHost(text: string): string | undefined {
  if (text === '') return '0.0.0.0';
  if (text.startsWith('[') && text.endsWith(']')) {
    const address = text.slice(1, -1);
    return isIPv6(address) ? address : undefined;
  }
  // 300.1.1.1 or 127.1 would pass as host names, and fail only at listening.
  if (/^[\d.]+$/.test(text)) return isIPv4(text) ? text : undefined;
  return HOST_NAME.test(text) ? text : undefined;
}

/** CIDR ranges; a bare address stands for itself alone. The value holds ranges only: `10.0.0.1` becomes `10.0.0.1/32`. */
export const cidrList: Parser<readonly string[]> = {
  expected: 'a list of CIDR ranges or addresses, such as 10.0.0.0/8 or ::1',
  isList: true,
  parse: (texts) => {
    const ranges: string[] = [];
    for (const text of texts) {
      const range = parseRange(text);
      if (range === undefined) return undefined;
      ranges.push(range);
    }
    return ranges;
  },
};

function parseRange(text: string): string | undefined {
  const [address = '', prefixText, ...rest] = text.split('/');
  const family = address.includes('%') ? 0 : isIP(address);
  if (family === 0 || rest.length > 0) return undefined;
  const maxPrefix = family === 4 ? 32 : 128;
  if (prefixText === undefined) return `${address}/${maxPrefix}`;
  return /^\d{1,3}$/.test(prefixText) && Number(prefixText) <= maxPrefix
    ? `${address}/${Number(prefixText)}`
    : undefined;
}
