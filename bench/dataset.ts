/** The data all scenarios share, so that their figures can be set side by side. */
import type { LoadRequest } from './load/load.js';
import type { Subject } from './subject.js';

/** As in DESIGN.md's figures to reach. */
export const VALUE_BYTES = 200;
export const VALUE = 'v'.repeat(VALUE_BYTES);
export const AGENTS = 16;
export const KEYS = 1000;

export function keyPath(index: number): string {
  return `/v1/state/bench/key-${String(index % KEYS).padStart(6, '0')}`;
}

/** Coprime to the sizes of worlds, which are round. */
const JUMP = 7919;

/**
 * The `turn`th place in a world of `size`, in an order that jumps and spreads any run of turns over the whole of it; each
 * place once in `size` turns.
 */
export function spreadPlace(turn: number, size: number): number {
  return (turn * JUMP) % size;
}

/** Agents and keys in turn. */
export function getRequests(subject: Subject): LoadRequest[] {
  return Array.from({ length: KEYS }, (_, n) => ({ method: 'GET', path: keyPath(n), token: subject.agent(n).token }));
}

export function putRequests(subject: Subject): LoadRequest[] {
  const body = JSON.stringify({ value: VALUE });
  return Array.from({ length: KEYS }, (_, n) => ({
    method: 'PUT',
    path: keyPath(n),
    token: subject.agent(n).token,
    body,
  }));
}

/** Every agent writes to the next one. */
export function postRequests(subject: Subject): LoadRequest[] {
  return subject.agents.map(({ token }, n) => ({
    method: 'POST',
    path: '/v1/messages',
    token,
    body: JSON.stringify({ to: subject.agent(n + 1).address, content: VALUE }),
  }));
}
