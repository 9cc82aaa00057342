/** Who is here: the registry, and an agent's own entry. */
import type { AgentPage, AgentSummary } from '../contract/engine.js';
import { REGISTRY_PAGE } from '../contract/limits.js';
import type { Call, RefusalMessages } from './call.js';
import type { HandlerContext } from './context.js';
import { isoTime } from './iso-time.js';
import { pageCursor, pageLimit, parseQuery, UNUSABLE_CURSOR } from './query.js';
import type { Route } from './routes.js';

const BAD_CURSOR: RefusalMessages = { bad_request: UNUSABLE_CURSOR };

export function registryRoutes({ engine }: HandlerContext): Route[] {
  const me = (call: Call): void => call.answer(engine.findAgent(call.subject), 200, renderAgent);
  const list = (call: Call): void => {
    const parameters = parseQuery(call.query);
    const page = { cursor: pageCursor(parameters), limit: pageLimit(parameters, REGISTRY_PAGE) };
    call.answer(engine.listAgents(call.subject, page), 200, renderPage, BAD_CURSOR);
  };
  const read = { method: 'get', principal: 'agent', limit: 'registry_read', takesBody: false } as const;
  return [
    { ...read, path: '/v1/agents/me', takesQuery: false, handle: me },
    { ...read, path: '/v1/registry', takesQuery: true, handle: list },
  ];
}

export function renderAgent(agent: AgentSummary): string {
  return `{"address":"${agent.address}","registered_at":"${isoTime(agent.registeredAtMs)}"}`;
}

export function renderPage(page: AgentPage): string {
  const cursor = JSON.stringify(page.nextCursor);
  return `{"agents":[${page.agents.map(renderAgent).join(',')}],"next_cursor":${cursor},"total":${page.total}}`;
}
