/**
 * Deep links. The whole place of a view lives in the URL's hash, `#/events?type=message_sent&seq=12`, so one file serves all
 * and every link can be shared.
 * Owns: the hash, and the `route` signal that follows it.
 */
import { signal } from '@preact/signals';

export const VIEWS = ['overview', 'events', 'state', 'network', 'agents', 'timeline', 'transparency'] as const;
export type ViewName = (typeof VIEWS)[number];

export interface Route {
  readonly view: ViewName;
  /** What stands behind the view's name, decoded: a key or an address; empty when there is none. */
  readonly subject: string;
  readonly query: Readonly<Record<string, string>>;
}

/** An unknown or malformed hash is the overview: links are typed and cut by hand. */
export function parseRoute(hash: string): Route {
  const text = hash.replace(/^#?\/?/, '');
  const queryAt = text.indexOf('?');
  const path = queryAt === -1 ? text : text.slice(0, queryAt);
  const slashAt = path.indexOf('/');
  const name = slashAt === -1 ? path : path.slice(0, slashAt);
  const view = VIEWS.find((known) => known === name);
  if (view === undefined) return { view: 'overview', subject: '', query: {} };
  return {
    view,
    subject: slashAt === -1 ? '' : decodeSafely(path.slice(slashAt + 1)),
    query: queryAt === -1 ? {} : Object.fromEntries(new URLSearchParams(text.slice(queryAt + 1))),
  };
}

function decodeSafely(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text; // a stray percent sign: taken as it stands
  }
}

/** The link to a place; `encodeURIComponent` needs well-formed text, which everything from the API is. */
export function href(view: ViewName, subject = '', query: Readonly<Record<string, string>> = {}): string {
  const given = Object.entries(query).filter(([, value]) => value !== '');
  const search = given.length === 0 ? '' : `?${new URLSearchParams(given).toString()}`;
  const path = view === 'overview' && subject === '' && search === '' ? '' : view;
  return `#/${path}${subject === '' ? '' : `/${encodeURIComponent(subject.toWellFormed())}`}${search}`;
}

export const route = signal<Route>(parseRoute(location.hash));

window.addEventListener('hashchange', () => {
  route.value = parseRoute(location.hash);
});

export function navigate(to: string): void {
  location.hash = to;
}

/** Changes the place without a new entry in the history: typing in a filter must not fill it. */
export function replaceRoute(to: string): void {
  history.replaceState(null, '', to);
  route.value = parseRoute(to);
}
