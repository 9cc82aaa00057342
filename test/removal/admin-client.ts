/** The admin API as its only user sees it, and what may be looked for on the disk behind it. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { type HttpAnswer, HttpClient } from '../support/http.js';
import type { TestServer } from '../support/server.js';

export const ADMIN_KEY = 'the-key-of-the-tests';

export interface TransparencyAnswer {
  readonly removals: readonly Record<string, string>[];
  readonly total: number;
}

export class AdminClient {
  readonly client: HttpClient;

  constructor(readonly server: TestServer) {
    this.client = new HttpClient(() => server.adminPort);
  }

  removeKey(key: string, reason = 'law'): Promise<HttpAnswer> {
    return this.client.post('/admin/remove', { type: 'state', key, reason }, ADMIN_KEY);
  }

  removeMessage(messageId: string, reason = 'law'): Promise<HttpAnswer> {
    return this.client.post('/admin/remove', { type: 'message', message_id: messageId, reason }, ADMIN_KEY);
  }

  revokeAgent(address: string): Promise<HttpAnswer> {
    return this.client.post('/admin/revoke', { type: 'agent', address }, ADMIN_KEY);
  }

  revokeOperator(operatorId: string): Promise<HttpAnswer> {
    return this.client.post('/admin/revoke', { type: 'operator', operator_id: operatorId }, ADMIN_KEY);
  }

  async removals(): Promise<TransparencyAnswer> {
    const answer = await this.client.get('/admin/removals', ADMIN_KEY);
    assert.equal(answer.status, 200, answer.text);
    return answer.json<TransparencyAnswer>();
  }

  close(): void {
    this.client.close();
  }
}

export function sha256(text: string): string {
  return createHash('sha256').update(text, 'utf8').digest('hex');
}

/** Every file below the data directory; archives as what they hold. */
export async function* filesOf(dataDir: string): AsyncGenerator<{ name: string; bytes: Buffer }> {
  for (const entry of await readdir(dataDir, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue;
    const path = join(entry.parentPath, entry.name);
    const bytes = await readFile(path);
    yield { name: path.slice(dataDir.length + 1), bytes: entry.name.endsWith('.gz') ? gunzipSync(bytes) : bytes };
  }
}

/** Names of the files in which one of the texts stands. */
export async function filesWith(dataDir: string, ...texts: readonly (string | Buffer)[]): Promise<string[]> {
  const names: string[] = [];
  for await (const { name, bytes } of filesOf(dataDir)) {
    if (texts.some((text) => bytes.includes(text))) names.push(name);
  }
  return names;
}

export async function assertNowhere(dataDir: string, ...texts: readonly (string | Buffer)[]): Promise<void> {
  assert.deepEqual(await filesWith(dataDir, ...texts), []);
}
