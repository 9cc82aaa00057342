/**
 * Finds a host's addresses for a post.
 * Owns:  a small cache of answers. It spares lookups, no checks: every address is judged each time it is dialled.
 * Never: holds a thread of libuv's pool, which fdatasync needs, for names of the public internet: they are asked of DNS
 *        itself. getaddrinfo, which also knows /etc/hosts and search domains, and of which a hanging name server holds a
 *        thread for long, is for private deployments: it is asked, two at a time, only where networks are allowed and DNS does not know.
 */
import { Resolver } from 'node:dns/promises';
import { isIPv6 } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { LRUCache } from 'lru-cache';
import { lookupHost } from '../gateway/webhook-address.js';

export interface HostAddress {
  readonly address: string;
  readonly family: 4 | 6;
}

/** Resolves to every address of the host, one at least; rejects when there is none, or none in time. */
export type FindAddresses = (host: string) => Promise<readonly HostAddress[]>;

const CACHE_TTL_MS = 10_000;
const MAX_CACHED_HOSTS = 10_000;
/** One try at one name server; there are two of each. */
const QUERY_TIMEOUT_MS = 1_500;
const QUERY_TRIES = 2;
const LOOKUP_LIMIT_MS = 5_000;
/** DNS has not answered: where the system may be asked, it is. */
const SYSTEM_AFTER_MS = 500;

/** @param asksSystem also `lookupHost`, for names that DNS does not know, or not soon. */
export function createAddressFinder(asksSystem: boolean): FindAddresses {
  const cache = new LRUCache<string, readonly HostAddress[]>({
    max: MAX_CACHED_HOSTS,
    ttl: CACHE_TTL_MS,
    // Posts that ask for the same host at the same moment share one lookup; a failure is not remembered.
    fetchMethod: (host) => findAddresses(host, asksSystem),
  });
  return async (host) => {
    const found = await cache.fetch(host);
    if (found === undefined) throw new Error('the lookup was given up'); // only for an entry that was pushed out
    return found;
  };
}

async function findAddresses(host: string, asksSystem: boolean): Promise<readonly HostAddress[]> {
  const inDns = askDns(host);
  const early = asksSystem ? await Promise.race([inDns, sleep(SYSTEM_AFTER_MS, [], { ref: false })]) : await inDns;
  const found = early.length === 0 && asksSystem ? await askSystem(host).catch(() => inDns) : early;
  if (found.length === 0) throw new Error('the host has no address');
  return found;
}

async function askSystem(host: string): Promise<readonly HostAddress[]> {
  const answers = await lookupHost(host);
  return answers.map(({ address }) => ({ address, family: isIPv6(address) ? 6 : 4 }));
}

/** Empty when neither kind of address is found: whatever the reason, nobody can be dialled. */
async function askDns(host: string): Promise<readonly HostAddress[]> {
  const resolver = new Resolver({ timeout: QUERY_TIMEOUT_MS, tries: QUERY_TRIES });
  const limit = setTimeout(() => resolver.cancel(), LOOKUP_LIMIT_MS);
  try {
    const [v4, v6] = await Promise.allSettled([resolver.resolve4(host), resolver.resolve6(host)]);
    return [
      ...(v4.status === 'fulfilled' ? v4.value : []).map((address) => ({ address, family: 4 }) as const),
      ...(v6.status === 'fulfilled' ? v6.value : []).map((address) => ({ address, family: 6 }) as const),
    ];
  } finally {
    clearTimeout(limit);
  }
}
