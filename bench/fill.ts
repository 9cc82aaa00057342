/** Puts the dataset in place over HTTP, exactly, before anything is measured. */
import { postRequests, putRequests } from './dataset.js';
import { expectSuccess, onConnections } from './load/http-connection.js';
import type { LoadRequest } from './load/load.js';
import type { Subject } from './subject.js';

const CONNECTIONS = 64;

/** Writes every key once. */
export function fillState(subject: Subject): Promise<void> {
  const requests = putRequests(subject);
  return sendEach(subject, requests.length, inTurn(requests));
}

/** Sends `count` messages, the same number to every agent if it divides. */
export function fillQueues(subject: Subject, count: number): Promise<void> {
  return sendEach(subject, count, inTurn(postRequests(subject)));
}

/** Sends `count` requests, each once, begun in the order of their numbers. @throws Error unless every answer is 2xx. */
export async function sendEach(
  subject: Subject,
  count: number,
  requestOf: (number: number) => LoadRequest,
): Promise<void> {
  let next = 0;
  await onConnections(subject.url, Math.min(CONNECTIONS, count), async (connection) => {
    while (next < count) {
      const request = requestOf(next++);
      expectSuccess(request, await connection.send(request));
    }
  });
}

function inTurn(requests: readonly LoadRequest[]): (number: number) => LoadRequest {
  return (number) => {
    const request = requests[number % requests.length];
    if (request === undefined) throw new Error('nothing to send');
    return request;
  };
}
