/**
 * The table of routes: method and exact path, and everything below `/v1/state/`. Pure lookup; paths are never normalised
 * (`/v1//state` is unknown, `/v1/state//` is the key `/`).
 */
import type { Call } from './call.js';
import type { LimitCategoryName } from './limits/shared-limiter.js';

export interface Route {
  readonly method: 'get' | 'head' | 'post' | 'put' | 'delete';
  /** Exact, or `/v1/state/*`. */
  readonly path: string;
  /** Whose token it takes. */
  readonly principal: 'anyone' | 'agent' | 'operator';
  /** Counted per session, or per client address where no token is asked for. */
  readonly limit: LimitCategoryName | null;
  readonly takesBody: boolean;
  /** True: `call.query` is filled in. */
  readonly takesQuery: boolean;
  /** True: `call.credentialLookup` is filled in, for what outlives the request. */
  readonly keepsLookup?: boolean;
  /**
   * Answers `call.reply` now or later. What it throws at once becomes the answer; later errors are its own to answer
   * (`Call.answer` and `Call.run` do). With `takesBody`, `call.body` is the parsed JSON.
   */
  handle(call: Call): void;
}

export interface Resource {
  readonly routes: ReadonlyMap<string, Route>;
  /** Value of the `Allow` header. */
  readonly allow: string;
}

export const STATE_PREFIX = '/v1/state/';

export class RouteTable {
  private readonly exact = new Map<string, Resource>();
  private readonly stateKeys: Resource;

  constructor(routes: readonly Route[]) {
    const byPath = new Map<string, Map<string, Route>>();
    for (const route of routes) {
      const methods = byPath.get(route.path) ?? new Map<string, Route>();
      if (methods.has(route.method)) throw new Error(`two routes for ${route.method} ${route.path}`);
      methods.set(route.method, route);
      byPath.set(route.path, methods);
    }
    for (const [path, methods] of byPath) this.exact.set(path, resource(methods));
    this.stateKeys = resource(byPath.get(`${STATE_PREFIX}*`) ?? new Map());
    this.exact.delete(`${STATE_PREFIX}*`);
  }

  /** undefined: no such path, whatever the method. */
  find(path: string): Resource | undefined {
    if (path.startsWith(STATE_PREFIX) && path.length > STATE_PREFIX.length) return this.stateKeys;
    return this.exact.get(path);
  }
}

function resource(routes: ReadonlyMap<string, Route>): Resource {
  return { routes, allow: [...routes.keys()].map((method) => method.toUpperCase()).join(', ') };
}
