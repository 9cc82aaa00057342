/** Agents come in: an operator asks for a challenge, answers it, and names a webhook if the agent wants one. */
import { randomBytes, randomUUID } from 'node:crypto';
import type { NewAgent } from '../contract/engine.js';
import { ApiError } from '../contract/errors.js';
import { NewAgentBody } from '../contract/schemas.js';
import { compileBody } from '../contract/validate.js';
import { createCredential, newToken } from './auth/credential.js';
import { type Call, unwrap } from './call.js';
import type { HandlerContext } from './context.js';
import { isoTime } from './iso-time.js';
import { TOKEN_ATTEMPTS } from './operators.js';
import type { Route } from './routes.js';
import { checkWebhookUrl } from './webhook-address.js';

/** Standard Webhooks: 24 to 64 random bytes. */
const WEBHOOK_SECRET_BYTES = 32;

export function agentRoutes(context: HandlerContext): Route[] {
  const { config, engine, gate, now } = context;
  const validate = compileBody(NewAgentBody);

  const challenge = async (call: Call): Promise<void> => {
    const nowMs = now();
    const expiresAtMs = nowMs + config.verification.challengeExpiryMs;
    const { challengeData, expectation } = gate.issue(nowMs);
    const challengeId = randomUUID();
    unwrap(await engine.storeChallenge({ challengeId, operatorId: call.subject, expectation, expiresAtMs }));
    call.reply.sendJson(
      200,
      JSON.stringify({
        challenge_id: challengeId,
        challenge_type: gate.type,
        challenge_data: challengeData,
        expires_at: isoTime(expiresAtMs),
      }),
    );
  };

  /** The steps and their order are part of the contract; from the second on the challenge is used up. */
  const register = async (call: Call): Promise<void> => {
    const { verification_response: answer, webhook_url: webhookUrl } = validate(call.body);
    await meetChallenge(context, call.subject, answer.challenge_id, answer.response);
    const webhook = webhookUrl === undefined ? null : await newWebhook(webhookUrl, config.webhook.allowNetworks);
    await sendNewAgent(context, call, webhook);
  };

  return [
    {
      method: 'get',
      path: '/v1/agents/verification-challenge',
      principal: 'operator',
      limit: null,
      takesBody: false,
      takesQuery: false,
      handle: (call) => call.run(() => challenge(call)),
    },
    {
      method: 'post',
      path: '/v1/agents',
      principal: 'operator',
      limit: null,
      takesBody: true,
      takesQuery: false,
      handle: (call) => call.run(() => register(call)),
    },
  ];
}

/** @throws ApiError `verification_failed`, with the reason, unless the operator's own challenge is met in time. */
async function meetChallenge(
  { engine, gate, now }: HandlerContext,
  operatorId: string,
  challengeId: string,
  response: unknown,
): Promise<void> {
  const taken = await engine.takeChallenge(challengeId);
  if (!taken.ok && taken.code === 'not_found') throw failed('is unknown, used or expired');
  const stored = unwrap(taken);
  if (stored.operatorId !== operatorId) throw failed('was issued to another operator');
  if (stored.expiresAtMs <= now()) throw failed('has expired');
  if (!gate.judge(stored.expectation, response)) throw failed('was answered wrongly');
}

function failed(reason: string): ApiError {
  return new ApiError(
    'verification_failed',
    `The challenge ${reason}. Ask for a new one and answer it before it expires.`,
  );
}

/** @throws ApiError `bad_request` with the broken rule. Resolves the host's name. */
async function newWebhook(url: string, allowNetworks: readonly string[]): Promise<NewAgent['webhook']> {
  const checked = await checkWebhookUrl(url, allowNetworks);
  if (!checked.ok) {
    const { message } = checked;
    throw new ApiError('bad_request', message.startsWith('webhook_url') ? message : `webhook_url: ${message}`);
  }
  return { url: checked.url, secret: `whsec_${randomBytes(WEBHOOK_SECRET_BYTES).toString('base64')}` };
}

async function sendNewAgent(context: HandlerContext, call: Call, webhook: NewAgent['webhook']): Promise<void> {
  const { config, engine, hasher, hmacServerKey } = context;
  for (let attempt = 1; ; attempt++) {
    const token = newToken('agent');
    const credential = unwrap(await createCredential(token, config.auth.scheme, hasher, hmacServerKey));
    const registered = await engine.registerAgent({ operatorId: call.subject, credential, webhook });
    if (!registered.ok && registered.code === 'bad_request') {
      if (attempt < TOKEN_ATTEMPTS) continue;
      throw new Error('no unused token after several attempts');
    }
    const { address } = unwrap(registered);
    const secret = webhook === null ? '' : `,"webhook_secret":"${webhook.secret}"`;
    call.reply.sendJson(201, `{"agent_address":"${address}","agent_token":"${token}"${secret}}`);
    return;
  }
}
