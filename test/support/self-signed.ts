/**
 * Makes self-signed certificates for TLS servers under test, which node:crypto can't: X.509 (RFC 5280) put together from its
 * DER parts (X.690), signed with ECDSA on P-256. No key lies in the repository, no program is needed.
 */
import { generateKeyPairSync, randomBytes, sign } from 'node:crypto';
import { isIP } from 'node:net';

export interface TlsIdentity {
  /** PEM, PKCS #8. */
  readonly key: string;
  /** PEM; it is its own authority. */
  readonly cert: string;
}

const TAG = { integer: 0x02, bits: 0x03, octets: 0x04, oid: 0x06, utf8: 0x0c, time: 0x18, sequence: 0x30, set: 0x31 };
const OID = {
  commonName: [2, 5, 4, 3],
  basicConstraints: [2, 5, 29, 19],
  subjectAltName: [2, 5, 29, 17],
  ecdsaWithSha256: [1, 2, 840, 10045, 4, 3, 2],
};
const DAY_MS = 86_400_000;

/** @param hosts names and IPv4 addresses that it is valid for, from yesterday to tomorrow. */
export function selfSigned(hosts: readonly string[]): TlsIdentity {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const algorithm = sequence(oid(OID.ecdsaWithSha256));
  const name = sequence(der(TAG.set, sequence(oid(OID.commonName), der(TAG.utf8, Buffer.from('Tabulum test')))));
  const serial = Buffer.concat([Buffer.from([0x01]), randomBytes(8)]);
  const isAuthority = sequence(oid(OID.basicConstraints), der(TAG.octets, sequence(der(0x01, Buffer.from([0xff])))));
  const altNames = sequence(oid(OID.subjectAltName), der(TAG.octets, sequence(...hosts.map(generalName))));
  const body = sequence(
    der(0xa0, der(TAG.integer, Buffer.from([2]))), // version 3
    der(TAG.integer, serial),
    algorithm,
    name,
    sequence(time(Date.now() - DAY_MS), time(Date.now() + DAY_MS)),
    name,
    publicKey.export({ type: 'spki', format: 'der' }),
    der(0xa3, sequence(isAuthority, altNames)),
  );
  const signature = Buffer.concat([Buffer.from([0]), sign('sha256', body, privateKey)]);
  const certificate = sequence(body, algorithm, der(TAG.bits, signature));
  const base64 = certificate.toString('base64').match(/.{1,64}/g) ?? [];
  return {
    key: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
    cert: ['-----BEGIN CERTIFICATE-----', ...base64, '-----END CERTIFICATE-----', ''].join('\n'),
  };
}

function generalName(host: string): Buffer {
  if (isIP(host) === 4) return der(0x87, Buffer.from(host.split('.').map(Number)));
  return der(0x82, Buffer.from(host));
}

function sequence(...parts: readonly Buffer[]): Buffer {
  return der(TAG.sequence, ...parts);
}

function time(epochMs: number): Buffer {
  const digits = new Date(epochMs).toISOString().replace(/[-:T]|\.\d+/g, '');
  return der(TAG.time, Buffer.from(digits));
}

function oid(arcs: readonly number[]): Buffer {
  const [first = 0, second = 0, ...rest] = arcs;
  return der(TAG.oid, Buffer.from([first * 40 + second, ...rest.flatMap(base128)]));
}

function base128(arc: number): number[] {
  const groups = [arc & 0x7f];
  for (let left = arc >> 7; left > 0; left >>= 7) groups.unshift((left & 0x7f) | 0x80);
  return groups;
}

function der(tag: number, ...parts: readonly Buffer[]): Buffer {
  const content = Buffer.concat(parts);
  const { length } = content;
  const size = length < 0x80 ? [length] : length < 0x100 ? [0x81, length] : [0x82, length >> 8, length & 0xff];
  return Buffer.concat([Buffer.from([tag, ...size]), content]);
}
