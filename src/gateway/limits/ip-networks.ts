/**
 * Lists of networks as settings hold them. IPv4-mapped IPv6 addresses and ranges count as the IPv4 ones they stand for.
 */
import ipaddr from 'ipaddr.js';

export type IpAddress = ipaddr.IPv4 | ipaddr.IPv6;
export type IpNetwork = readonly [network: IpAddress, prefixBits: number];

const MAPPED_PREFIX_BITS = 96;

/** Four decimal parts or IPv6, no zone, no leading zeros of doubtful base; null for anything else. */
export function parseIpAddress(text: string): IpAddress | null {
  if (text.includes('%')) return null;
  if (ipaddr.IPv4.isValidFourPartDecimal(text)) return ipaddr.IPv4.parse(text);
  return ipaddr.IPv6.isValid(text) ? unmapped(ipaddr.IPv6.parse(text)) : null;
}

/** @param texts addresses or CIDR ranges. @throws Error naming the first one that is neither. */
export function parseIpNetworks(texts: readonly string[]): readonly IpNetwork[] {
  return texts.map(parseIpNetwork);
}

export function isInNetworks(address: IpAddress, networks: readonly IpNetwork[]): boolean {
  return networks.some(([network, prefixBits]) => {
    if (address instanceof ipaddr.IPv4) return network instanceof ipaddr.IPv4 && address.match(network, prefixBits);
    return network instanceof ipaddr.IPv6 && address.match(network, prefixBits);
  });
}

function parseIpNetwork(text: string): IpNetwork {
  const slash = text.indexOf('/');
  const bits = slash < 0 ? null : text.slice(slash + 1);
  const raw = slash < 0 ? text : text.slice(0, slash);
  const mapped = ipaddr.IPv6.isValid(raw) && ipaddr.IPv6.parse(raw).isIPv4MappedAddress();
  const address = parseIpAddress(raw);
  const widthBits = address instanceof ipaddr.IPv4 ? 32 : 128;
  if (address !== null && bits === null) return [address, widthBits];
  if (address !== null && bits !== null && /^\d{1,3}$/.test(bits)) {
    const prefixBits = Number(bits) - (mapped ? MAPPED_PREFIX_BITS : 0);
    if (prefixBits >= 0 && prefixBits <= widthBits) return [address, prefixBits];
  }
  throw new Error(`"${text}" is neither an IP address nor a CIDR range such as 10.0.0.0/8`);
}

function unmapped(address: ipaddr.IPv6): IpAddress {
  return address.isIPv4MappedAddress() ? address.toIPv4Address() : address;
}
