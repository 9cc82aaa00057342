/**
 * A flood of requests with tokens that nobody was given, from a process of its own, at a bounded rate. Runs as a child:
 * `token-flood.js URL CONNECTIONS PER_SECOND [TOKEN ...]`; without tokens each request has a new random one, of the right
 * form. Prints `ready` when it flows, then, when its standard input ends, what came of it as JSON: a `FloodCount`.
 */
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { HttpConnection } from './http-connection.js';

export interface FloodCount {
  /** Answered with 401. */
  readonly refused: number;
  /** Answered otherwise. */
  readonly other: number;
  readonly seconds: number;
}

async function main(url: string, count: number, perSecond: number, tokens: readonly string[]): Promise<FloodCount> {
  const intervalMs = (count * 1000) / perSecond;
  let refused = 0;
  let other = 0;
  let turn = 0;
  let over = false;
  const flow = async (connection: HttpConnection, index: number): Promise<void> => {
    let dueMs = performance.now() + (index * intervalMs) / count;
    while (!over) {
      const waitMs = dueMs - performance.now();
      if (waitMs > 0) await sleep(waitMs);
      const token = tokens[turn++ % tokens.length] ?? `at_live_${randomBytes(32).toString('hex')}`;
      const { status } = await connection.send({ method: 'GET', path: '/v1/agents/me', token });
      if (status === 401) refused++;
      else other++;
      dueMs = Math.max(dueMs + intervalMs, performance.now()); // what was missed is not made up for
    }
  };
  const connections = await Promise.all(Array.from({ length: count }, () => HttpConnection.open(url)));
  const startedMs = performance.now();
  const flows = connections.map(flow);
  process.stdout.write('ready\n');
  process.stdin.resume();
  await Promise.race([once(process.stdin, 'end'), Promise.all(flows)]); // flows end early only by failing
  over = true;
  await Promise.all(flows);
  for (const connection of connections) connection.close();
  return { refused, other, seconds: (performance.now() - startedMs) / 1000 };
}

const [, , url = '', connections, perSecond, ...tokens] = process.argv;
process.stdout.write(`${JSON.stringify(await main(url, Number(connections), Number(perSecond), tokens))}\n`);
