/** Puts the dataset in place over HTTP, exactly, before anything is measured. */
import { postRequests, putRequests } from './dataset.js';
import { expectSuccess, onConnections } from './load/http-connection.js';
import type { LoadRequest } from './load/load.js';
import type { Subject } from './subject.js';

const CONNECTIONS = 64;

/** Writes every key once. */
export function fillState(subject: Subject): Promise<void> {
  const requests = putRequests(subject);
  return sendInTurn(subject, requests, requests.length);
}

/** Sends `count` messages, the same number to every agent if it divides. */
export function fillQueues(subject: Subject, count: number): Promise<void> {
  return sendInTurn(subject, postRequests(subject), count);
}

async function sendInTurn(subject: Subject, requests: readonly LoadRequest[], count: number): Promise<void> {
  let next = 0;
  await onConnections(subject.url, Math.min(CONNECTIONS, count), async (connection) => {
    while (next < count) {
      const request = requests[next++ % requests.length];
      if (request === undefined) throw new Error('nothing to send');
      expectSuccess(request, await connection.send(request));
    }
  });
}
