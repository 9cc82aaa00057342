/**
 * Connects to webhooks, to judged addresses only: a name is resolved, every address of it is judged, and it is these very
 * addresses that are dialled. A name that resolves elsewhere than at registration (DNS rebinding) leads nowhere. TLS goes on
 * knowing the host by its name: certificate and SNI are about the name, not the address.
 * Owns:  the count of open sockets.
 * Never: looks at the environment: no proxy, and no variable that turns certificate checks off.
 */
import type { LookupFunction } from 'node:net';
import { isIP } from 'node:net';
import { buildConnector } from 'undici';
import { type IpNetwork, parseIpNetworks } from '../gateway/limits/ip-networks.js';
import { isWebhookAddressAllowed } from '../gateway/webhook-address.js';
import type { FindAddresses } from './host-addresses.js';

/** `code` of the error that a connection to an address which is not allowed ends with. */
export const ADDRESS_REFUSED = 'WEBHOOK_ADDRESS_REFUSED';
/** `code` of the error for a host without an address. */
export const HOST_NOT_FOUND = 'WEBHOOK_HOST_NOT_FOUND';

/** Before the next of a host's addresses is tried beside one that does not answer. */
const NEXT_ADDRESS_AFTER_MS = 500;

export interface ConnectSettings {
  readonly connectTimeoutMs: number;
  /** CIDR ranges exempt from the judgement. */
  readonly allowNetworks: readonly string[];
  /** PEM, trusted instead of what the process trusts (which NODE_EXTRA_CA_CERTS adds to). */
  readonly trustedCertificate?: string;
}

export class JudgedConnect {
  private open = 0;
  private readonly allowed: readonly IpNetwork[];
  private readonly connectSocket: buildConnector.connector;

  constructor(
    settings: ConnectSettings,
    private readonly findAddresses: FindAddresses,
  ) {
    this.allowed = parseIpNetworks(settings.allowNetworks);
    this.connectSocket = buildConnector({
      timeout: settings.connectTimeoutMs,
      lookup: this.lookup,
      autoSelectFamily: true,
      autoSelectFamilyAttemptTimeout: NEXT_ADDRESS_AFTER_MS,
      // Explicit, so that NODE_TLS_REJECT_UNAUTHORIZED has no say.
      rejectUnauthorized: true,
      ...(settings.trustedCertificate === undefined ? {} : { ca: settings.trustedCertificate }),
    });
  }

  /** Sockets that are connected, in use or idle. */
  get openSockets(): number {
    return this.open;
  }

  /** For undici, as its `connect`. */
  readonly connect: buildConnector.connector = (options, callback) => {
    // A literal is dialled without a lookup.
    if (isIP(options.hostname) !== 0 && !this.isAllowed(options.hostname)) {
      queueMicrotask(() => callback(refusal(ADDRESS_REFUSED), null));
      return;
    }
    this.connectSocket(options, (error, socket) => {
      if (error !== null || socket === null) {
        callback(error ?? refusal(HOST_NOT_FOUND), null);
        return;
      }
      // Belt and braces: who is at the other end was judged before it was dialled.
      if (!this.isAllowed(socket.remoteAddress ?? '')) {
        socket.destroy();
        callback(refusal(ADDRESS_REFUSED), null);
        return;
      }
      this.open += 1;
      socket.once('close', () => {
        this.open -= 1;
      });
      callback(null, socket);
    });
  };

  /** Instead of the system's: node dials what this answers, and nothing else. */
  private readonly lookup: LookupFunction = (host, options, callback) => {
    this.findAddresses(host).then(
      (addresses) => {
        if (!addresses.every(({ address }) => this.isAllowed(address))) {
          callback(refusal(ADDRESS_REFUSED), []);
        } else if (options.all === true) {
          callback(null, [...addresses]);
        } else {
          callback(null, addresses[0]?.address ?? '', addresses[0]?.family);
        }
      },
      () => callback(refusal(HOST_NOT_FOUND), []),
    );
  };

  private isAllowed(address: string): boolean {
    return isWebhookAddressAllowed(address, this.allowed);
  }
}

function refusal(code: string): NodeJS.ErrnoException {
  return Object.assign(new Error(code), { code });
}
