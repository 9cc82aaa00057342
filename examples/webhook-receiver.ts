/**
 * A small receiver of Tabulum's webhooks, with Node's own modules only: checks signature and age, drops repeats, answers at
 * once. Copy `verifyWebhook` into your agent; the rest shows how it is used.
 *
 *   WEBHOOK_SECRET=whsec_... TLS_CERT=cert.pem TLS_KEY=key.pem PORT=8443 node build/examples/webhook-receiver.js
 *
 * Without TLS_CERT it speaks plain HTTP on 127.0.0.1, for a proxy in front that ends TLS.
 */
import { Buffer } from 'node:buffer';
import { createHmac, timingSafeEqual } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createServer as createHttpServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { createServer as createHttpsServer } from 'node:https';
import { pathToFileURL } from 'node:url';

export interface WebhookMessage {
  readonly message_id: string;
  readonly from: string;
  readonly to: string;
  readonly content: string;
  readonly timestamp: string;
}

/** As Node gives them: names in lower case. */
export type WebhookHeaders = Readonly<Record<string, string | string[] | undefined>>;

/** Older posts may be repeats by somebody who listened; newer ones come from a clock that is wrong. */
const MAX_AGE_SECONDS = 300;

/**
 * @param rawBody the bytes as they came: parsed and written again they are others
 * @param secret `whsec_...`, as the registration answered it
 * @throws Error when the post is not from the server, or too old. Answer 400 then.
 */
export function verifyWebhook(
  headers: WebhookHeaders,
  rawBody: Buffer,
  secret: string,
  nowMs: number = Date.now(),
): WebhookMessage {
  const { 'webhook-id': id, 'webhook-timestamp': timestamp, 'webhook-signature': signatures } = headers;
  if (typeof id !== 'string' || typeof timestamp !== 'string' || typeof signatures !== 'string') {
    throw new Error('a webhook header is missing');
  }
  const ageSeconds = nowMs / 1000 - Number(timestamp);
  if (!(Math.abs(ageSeconds) <= MAX_AGE_SECONDS)) throw new Error('the post is too old, or from the future');
  const key = Buffer.from(secret.replace(/^whsec_/, ''), 'base64');
  const expected = createHmac('sha256', key).update(`${id}.${timestamp}.`).update(rawBody).digest();
  // Several signatures, by spaces, when a secret is being changed; `v1` is HMAC-SHA256.
  const isSigned = signatures.split(' ').some((one) => {
    const [version, text = ''] = one.split(',');
    const given = Buffer.from(text, 'base64');
    return version === 'v1' && given.length === expected.length && timingSafeEqual(given, expected);
  });
  if (!isSigned) throw new Error('the signature is wrong');
  return JSON.parse(rawBody.toString('utf8')) as WebhookMessage;
}

/** Remembers the last ids it saw: a message comes at least once, and a repeat has the id of the first. */
export class SeenIds {
  private readonly ids = new Set<string>();

  constructor(private readonly most = 10_000) {}

  /** False for an id that was here before. */
  add(id: string): boolean {
    if (this.ids.has(id)) return false;
    this.ids.add(id);
    for (const oldest of this.ids) {
      if (this.ids.size <= this.most) break;
      this.ids.delete(oldest);
    }
    return true;
  }
}

const MAX_BODY_BYTES = 2 * 1024 * 1024;

/** Answers posts of webhooks; `onMessage` is told of each message once. */
export function receiver(secret: string, onMessage: (message: WebhookMessage) => void) {
  const seen = new SeenIds();
  return (request: IncomingMessage, response: ServerResponse): void => {
    const chunks: Buffer[] = [];
    let bytes = 0;
    request.on('data', (chunk: Buffer) => {
      chunks.push(chunk);
      bytes += chunk.length;
      if (bytes > MAX_BODY_BYTES) request.destroy();
    });
    request.on('end', () => {
      let message: WebhookMessage;
      try {
        message = verifyWebhook(request.headers, Buffer.concat(chunks), secret);
      } catch (error) {
        response.writeHead(400).end(error instanceof Error ? error.message : 'bad request');
        return;
      }
      // Answer first, work afterwards: only 2xx within ten seconds is delivery.
      response.writeHead(204).end();
      if (seen.add(message.message_id)) onMessage(message);
    });
  };
}

function main(): void {
  const { WEBHOOK_SECRET: secret, TLS_CERT: cert, TLS_KEY: key, PORT: port = '8443' } = process.env;
  if (secret === undefined) throw new Error('WEBHOOK_SECRET is not set');
  const handle = receiver(secret, ({ from, content }) => console.log(`${from}: ${content}`));
  const server =
    cert === undefined || key === undefined
      ? createHttpServer(handle).listen(Number(port), '127.0.0.1')
      : createHttpsServer({ cert: readFileSync(cert), key: readFileSync(key) }, handle).listen(Number(port));
  server.on('listening', () => console.log(`waiting for messages on port ${port}`));
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) main();
