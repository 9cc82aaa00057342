/**
 * Receivers of webhooks in a process of their own, over TLS: `/good/...` answers at once, `/slow/...` after the milliseconds
 * given as first argument. Prints its port and, on the lines that follow, its certificate.
 * Told `{ expect: n }` it answers, once the next n posts to good receivers are in, with how long each took since its sender
 * wrote the time into it.
 */
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { selfSigned } from '../../test/support/self-signed.js';

export interface ReceiversOrder {
  readonly expect: number;
}

export interface ReceiversReport {
  /** By the clock both processes share; contents begin with `Date.now()` of their sending. */
  readonly latenciesMs: readonly number[];
  readonly lastAtMs: number;
}

const slowMs = Number(process.argv[2]);
const identity = selfSigned(['127.0.0.1']);
let expected = 0;
let latenciesMs: number[] = [];

const server = createServer({ ...identity, keepAliveTimeout: 60_000 }, (request, response) => {
  let body = '';
  request.setEncoding('utf8');
  request.on('data', (text: string) => {
    body += text;
  });
  request.on('end', () => {
    if (request.url?.startsWith('/slow/') === true) {
      setTimeout(() => response.writeHead(204).end(), slowMs);
      return;
    }
    response.writeHead(204).end();
    const { content } = JSON.parse(body) as { content: string };
    const lastAtMs = Date.now();
    latenciesMs.push(lastAtMs - Number.parseInt(content, 10));
    if (latenciesMs.length === expected) process.send?.({ latenciesMs, lastAtMs } satisfies ReceiversReport);
  });
});

process.on('message', ({ expect }: ReceiversOrder) => {
  expected = expect;
  latenciesMs = [];
});
process.once('disconnect', () => process.exit(0));
server.listen(0, '127.0.0.1', () => console.log(`${(server.address() as AddressInfo).port}\n${identity.cert}`));
