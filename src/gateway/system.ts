/** Health and the API's own description: no principal, no limit, nothing to wait for. */
import { buildOpenApi } from '../contract/openapi.js';
import { VERSION } from '../contract/version.js';
import type { Call } from './call.js';
import type { Route } from './routes.js';

export function systemRoutes(): Route[] {
  const health = JSON.stringify({ status: 'ok', version: VERSION });
  const openApi = JSON.stringify(buildOpenApi());
  const open = { principal: 'anyone', limit: null, takesBody: false, takesQuery: false } as const;
  const sendHealth = (call: Call) => call.reply.sendJson(200, health);
  return [
    { ...open, method: 'get', path: '/v1/health', handle: sendHealth },
    { ...open, method: 'head', path: '/v1/health', handle: sendHealth },
    { ...open, method: 'get', path: '/v1/openapi.json', handle: (call) => call.reply.sendJson(200, openApi) },
  ];
}
