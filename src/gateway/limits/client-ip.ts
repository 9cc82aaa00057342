/**
 * Whose request this is, by address: the socket's peer, or what trusted proxies say they saw.
 * Never:     believes a header that came from an address not listed in `server.trusted_proxies`.
 */
import { isInNetworks, parseIpAddress, parseIpNetworks } from './ip-networks.js';

/** @returns the client's address in its shortest usual form (IPv4-mapped IPv6 as IPv4); `remote` itself if it is none. */
export type ClientIp = (remote: string, forwardedFor: string | undefined) => string;

/**
 * The client is found from the right of `X-Forwarded-For`, where each trusted proxy appended the peer it saw: the first
 * hop that is no trusted proxy is the client. An entry that is no address ends the walk at the last good one.
 * @param trustedProxies addresses or CIDR ranges. @throws Error naming one that is neither.
 */
export function createClientIp(trustedProxies: readonly string[]): ClientIp {
  const trusted = parseIpNetworks(trustedProxies);
  return (remote, forwardedFor) => {
    let client = parseIpAddress(remote);
    if (client === null) return remote;
    if (forwardedFor === undefined || trusted.length === 0) return client.toString();
    const hops = forwardedFor.split(',');
    for (let i = hops.length - 1; i >= 0 && isInNetworks(client, trusted); i--) {
      const hop = parseIpAddress(withoutPort((hops[i] ?? '').trim()));
      if (hop === null) break;
      client = hop;
    }
    return client.toString();
  };
}

/** Some proxies write `1.2.3.4:5678`, `[2001:db8::1]` or `[2001:db8::1]:5678`. */
function withoutPort(hop: string): string {
  if (hop.startsWith('[')) return /^\[([^\]]*)\](?::\d{1,5})?$/.exec(hop)?.[1] ?? hop;
  const colon = hop.indexOf(':');
  return colon > 0 && colon === hop.lastIndexOf(':') && /^\d{1,5}$/.test(hop.slice(colon + 1))
    ? hop.slice(0, colon)
    : hop;
}
