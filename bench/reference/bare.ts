/** Starts `bare-server.ts` with an answer taken from the server under test. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { pidOf, stopProcess } from '../../examples/demo/server-process.js';
import type { BenchContext } from '../scenario.js';

const BARE_SERVER = fileURLToPath(new URL('./bare-server.js', import.meta.url));
/** uWebSockets.js writes these itself. */
const OWN_HEADERS = new Set(['content-length', 'date', 'uwebsockets', 'connection']);

export interface BareServer {
  readonly url: string;
  readonly pid: number;
}

/** It stops when the scenario ends. @param sample head and body of the answer to repeat. */
export async function startBareServer(
  context: BenchContext,
  sample: { readonly head: string; readonly body: string },
): Promise<BareServer> {
  const [statusLine = '', ...headerLines] = sample.head.split('\r\n');
  const headers = headerLines
    .map((line) => line.split(/: (.*)/s, 2))
    .filter(([name = '']) => !OWN_HEADERS.has(name.toLowerCase()));
  const file = join(context.workDir, 'bare-answer.json');
  writeFileSync(file, JSON.stringify({ status: statusLine.slice('HTTP/1.1 '.length), headers, body: sample.body }));
  const child = spawn(process.execPath, [BARE_SERVER, file], { stdio: ['ignore', 'pipe', 'inherit'] });
  context.onEnd(() => stopProcess(child));
  const [port] = await Promise.race([
    once(createInterface({ input: child.stdout }), 'line'),
    once(child, 'exit').then(([code]) => Promise.reject(new Error(`the bare server ended with ${code}`))),
  ]);
  return { url: `http://127.0.0.1:${port}`, pid: pidOf(child) };
}
