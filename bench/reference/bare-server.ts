/**
 * The least an uWebSockets.js server can do: the same bytes to everybody, with no routing, authentication, limits or
 * storage. A process of its own. Argument: a JSON file with `status`, `headers` and `body`. Prints its port.
 */
import { readFileSync } from 'node:fs';
import { listenOn } from '../../src/gateway/uws.js';

interface CannedAnswer {
  readonly status: string;
  readonly headers: readonly (readonly [string, string])[];
  readonly body: string;
}

const answer = JSON.parse(readFileSync(process.argv[2] ?? '', 'utf8')) as CannedAnswer;

const { port } = await listenOn('127.0.0.1', 0, false, (response) => {
  response.cork(() => {
    response.writeStatus(answer.status);
    for (const [name, value] of answer.headers) response.writeHeader(name, value);
    response.end(answer.body);
  });
});
console.log(port);
process.once('SIGTERM', () => process.exit(0));
