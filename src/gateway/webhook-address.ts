/**
 * Which webhook addresses are taken: https, and only to hosts of the public internet, so that no agent makes the server
 * talk to its own network. The dispatcher must check again when it connects: a name may resolve elsewhere by then.
 * Bound:     two lookups at a time (each holds a thread of libuv's pool, which fdatasync needs too), 64 waiting, 5 s.
 */
import { Buffer } from 'node:buffer';
import { promises as dns } from 'node:dns';
import ipaddr from 'ipaddr.js';
import { MAX_WEBHOOK_URL_BYTES } from '../contract/limits.js';
import { type IpAddress, type IpNetwork, isInNetworks, parseIpAddress, parseIpNetworks } from './limits/ip-networks.js';

export type WebhookCheck =
  | { readonly ok: true; readonly url: string }
  | { readonly ok: false; readonly message: string };

/** Resolves to every address of the host; rejects when there is none. */
export type ResolveHost = (host: string) => Promise<readonly { readonly address: string }[]>;

const LOOKUP_TIMEOUT_MS = 5_000;
const MAX_LOOKUPS_AT_ONCE = 2;
const MAX_LOOKUPS_WAITING = 64;
/** What the internet routes of IPv6 (RFC 4291, section 2.4, as assigned by IANA). */
const GLOBAL_UNICAST_V6: IpNetwork = [ipaddr.IPv6.parse('2000::'), 3];
const NAT64_V6: IpNetwork = [ipaddr.IPv6.parse('64:ff9b::'), 96];
const SIX_TO_FOUR_V6: IpNetwork = [ipaddr.IPv6.parse('2002::'), 16];
const TEREDO_V6: IpNetwork = [ipaddr.IPv6.parse('2001::'), 32];

const systemLookup: ResolveHost = (host) => dns.lookup(host, { all: true });

/** Every address the system knows for a host; takes its turn with other lookups. Rejects when there is none, or no place. */
export async function lookupHost(host: string): ReturnType<ResolveHost> {
  const found = await LOOKUPS.run(
    () => systemLookup(host),
    () => true,
  );
  if (found === null) throw new Error('too many lookups wait');
  return found;
}

/**
 * Checks a webhook URL as given at registration.
 * @param allowNetworks CIDR ranges exempt from the address check (not from the others). @throws Error if one is malformed.
 * @returns the URL in normal form, or what is wrong with it, fit for the client. Takes as long as DNS does, at most 5 s.
 */
export async function checkWebhookUrl(
  url: string,
  allowNetworks: readonly string[],
  resolve: ResolveHost = systemLookup,
): Promise<WebhookCheck> {
  const allowed = parseIpNetworks(allowNetworks);
  if (Buffer.byteLength(url) > MAX_WEBHOOK_URL_BYTES) {
    return refuse(`webhook_url is longer than ${MAX_WEBHOOK_URL_BYTES} bytes.`);
  }
  // WHATWG parsing turns decimal, octal, hex and short forms of IPv4 into the usual one.
  const parsed = URL.canParse(url) ? new URL(url) : null;
  if (parsed === null) return refuse('webhook_url is not a URL.');
  if (parsed.protocol !== 'https:') return refuse('webhook_url must start with https://.');
  if (parsed.username !== '' || parsed.password !== '') return refuse('webhook_url must not hold credentials.');
  if (Buffer.byteLength(parsed.href) > MAX_WEBHOOK_URL_BYTES) {
    return refuse(`webhook_url is longer than ${MAX_WEBHOOK_URL_BYTES} bytes when percent-encoded.`);
  }
  const addresses = await addressesOf(parsed.hostname, resolve);
  if (addresses === null) return refuse('webhook_url names a host that does not resolve.');
  if (!addresses.every((address) => isWebhookAddressAllowed(address, allowed))) {
    return refuse('webhook_url resolves to an address that is not on the public internet.');
  }
  return { ok: true, url: parsed.href };
}

/** True for a globally routable unicast address, or one in `allowed`. For the dispatcher, at connect time, too.
 *  @param address text as DNS or a socket gives it; anything that is no address is refused. */
export function isWebhookAddressAllowed(address: string, allowed: readonly IpNetwork[]): boolean {
  const parsed = parseIpAddress(address);
  return parsed !== null && isAllowed(parsed, allowed);
}

function isAllowed(address: IpAddress, allowed: readonly IpNetwork[]): boolean {
  if (isInNetworks(address, allowed)) return true;
  const embedded = embeddedAddresses(address);
  if (embedded.length > 0) return embedded.every((inner) => isAllowed(inner, allowed));
  if (address.range() !== 'unicast') return false;
  return address instanceof ipaddr.IPv4 || isInNetworks(address, [GLOBAL_UNICAST_V6]);
}

/** The IPv4 addresses at which a packet to this IPv6 address comes out; none for one that is routed as it is. */
function embeddedAddresses(address: IpAddress): ipaddr.IPv4[] {
  if (address instanceof ipaddr.IPv4) return [];
  const bytes = address.toByteArray();
  if (isInNetworks(address, [NAT64_V6])) return [new ipaddr.IPv4(bytes.slice(12, 16))]; // RFC 6052, section 2.2
  if (isInNetworks(address, [SIX_TO_FOUR_V6])) return [new ipaddr.IPv4(bytes.slice(2, 6))]; // RFC 3056, section 2
  if (isInNetworks(address, [TEREDO_V6])) {
    // RFC 4380, section 4: the server, and the client with every bit turned over.
    return [new ipaddr.IPv4(bytes.slice(4, 8)), new ipaddr.IPv4(bytes.slice(12, 16).map((byte) => byte ^ 0xff))];
  }
  return [];
}

/** Every address of a host, or of a literal itself; null if it has none, or does not tell in time. */
async function addressesOf(hostname: string, resolve: ResolveHost): Promise<readonly string[] | null> {
  const literal = hostname.startsWith('[') ? hostname.slice(1, -1) : hostname;
  if (parseIpAddress(literal) !== null) return [literal];
  let timer: NodeJS.Timeout | undefined;
  let wanted = true;
  const tooLate = new Promise<null>((settle) => {
    timer = setTimeout(() => settle(null), LOOKUP_TIMEOUT_MS);
  });
  try {
    const found = await Promise.race([
      LOOKUPS.run(
        () => resolve(hostname),
        () => wanted,
      ),
      tooLate,
    ]);
    return found === null || found.length === 0 ? null : found.map((entry) => entry.address);
  } catch {
    return null; // every failure of a lookup means the same to the client: this host can't be reached by name
  } finally {
    wanted = false;
    clearTimeout(timer);
  }
}

function refuse(message: string): WebhookCheck {
  return { ok: false, message };
}

/** Lookups can't be cancelled, so one counts until it has ended, even if nobody waits for it any more. */
class LookupQueue {
  private running = 0;
  private readonly waiting: (() => void)[] = [];

  /** null when too many wait already, or when nobody wants the answer any more once it could begin. */
  async run<T>(lookup: () => Promise<T>, isWanted: () => boolean): Promise<T | null> {
    if (this.running >= MAX_LOOKUPS_AT_ONCE) {
      if (this.waiting.length >= MAX_LOOKUPS_WAITING) return null;
      await new Promise<void>((proceed) => this.waiting.push(proceed)); // the one that ends hands over its place
    } else {
      this.running++;
    }
    try {
      return isWanted() ? await lookup() : null;
    } finally {
      const next = this.waiting.shift();
      if (next === undefined) this.running--;
      else next();
    }
  }
}

const LOOKUPS = new LookupQueue();
