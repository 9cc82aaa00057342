/** Operators come in: anyone may, as often as their address is let. */
import { ApiError } from '../contract/errors.js';
import { NewOperatorBody } from '../contract/schemas.js';
import { compileBody } from '../contract/validate.js';
import { createCredential, newToken } from './auth/credential.js';
import { type Call, unwrap } from './call.js';
import type { HandlerContext } from './context.js';
import type { Route } from './routes.js';

/** A token's public part has 64 random bits: that one is taken means a broken source of randomness, not bad luck. */
export const TOKEN_ATTEMPTS = 3;

export function operatorRoutes({ config, engine, hasher, hmacServerKey }: HandlerContext): Route[] {
  const validate = compileBody(NewOperatorBody);

  const register = async (call: Call): Promise<void> => {
    const { contact_hash: contactHash, accept_terms: acceptTerms } = validate(call.body);
    if (config.operators.requireTerms && acceptTerms !== true) {
      throw new ApiError('bad_request', 'accept_terms: must be true.');
    }
    for (let attempt = 1; ; attempt++) {
      const apiKey = newToken('operator');
      const credential = unwrap(await createCredential(apiKey, config.auth.scheme, hasher, hmacServerKey));
      const created = await engine.createOperator({ contactHash, credential });
      if (!created.ok && created.code === 'bad_request' && attempt < TOKEN_ATTEMPTS) continue;
      if (!created.ok && created.code === 'bad_request') throw new Error('no unused token after several attempts');
      const { operatorId } = unwrap(created);
      call.reply.sendJson(201, `{"operator_id":"${operatorId}","api_key":"${apiKey}"}`);
      return;
    }
  };

  return [
    {
      method: 'post',
      path: '/v1/operators',
      principal: 'anyone',
      limit: 'operator_registration',
      takesBody: true,
      takesQuery: false,
      handle: (call) => call.run(() => register(call)),
    },
  ];
}
