/**
 * `/admin/remove`, `/admin/removals` and `/admin/revoke`: what the person who runs the server may do by law.
 * Owns:  the form of their bodies and answers.
 */
import { Type } from '@sinclair/typebox';
import { ApiError } from '../contract/errors.js';
import { Utf8String } from '../contract/schemas.js';
import { isAgentAddress, type PrincipalKind } from '../contract/tokens.js';
import { compileBody } from '../contract/validate.js';
import { type Call, unwrap } from '../gateway/call.js';
import type { Route } from '../gateway/routes.js';
import type { RemovalTarget } from '../shards/removal-scan.js';
import type { Removals } from './removals.js';
import type { Revocations } from './revocations.js';

/** Why something is removed is shown to everybody. */
export const MAX_REASON_BYTES = 1_024;

const Reason = Utf8String({ minBytes: 1, maxBytes: MAX_REASON_BYTES }, { description: 'Shown to everybody.' });
const Name = Utf8String({ minBytes: 1 });

/** Bodies of `POST /admin/remove`. */
export const StateRemovalBody = Type.Object({ key: Name, reason: Reason });
export const MessageRemovalBody = Type.Object({ message_id: Name, reason: Reason });
/** Bodies of `POST /admin/revoke`. */
export const AgentRevocationBody = Type.Object({ address: Name });
export const OperatorRevocationBody = Type.Object({ operator_id: Name });

export interface ByLawOptions {
  readonly removals: Removals;
  readonly revocations: Revocations;
}

export function byLawRoutes({ removals, revocations }: ByLawOptions): Route[] {
  const stateRemoval = compileBody(StateRemovalBody);
  const messageRemoval = compileBody(MessageRemovalBody);
  const agentRevocation = compileBody(AgentRevocationBody);
  const operatorRevocation = compileBody(OperatorRevocationBody);

  const remove = async (call: Call): Promise<void> => {
    const { target, reason } = removalOf(call.body);
    const { entry, unreadable, backups } = unwrap(await removals.remove(target, reason), {
      not_found: 'There is no such content, or it has been removed already.',
      unavailable:
        'A part of the server does not answer. What has begun is finished by itself; look before you repeat it.',
      store_full: 'There is no room on the disk to note what is to be removed. Make room; nothing has begun.',
    });
    const { action, key, message_id, reason: given, content_hash } = entry;
    const held = { backups, ...(unreadable.length === 0 ? {} : { unreadable_archives: unreadable }) };
    const what = { action, key, message_id, reason: given, content_hash };
    call.reply.sendJson(200, JSON.stringify({ status: 'removed', ...what, ...held }));
  };

  const removalOf = (body: unknown): { target: RemovalTarget; reason: string } => {
    const named = namedInBody(body);
    if (named.reason.trim() === '')
      throw new ApiError('bad_request', 'reason: must say something; it is shown to everybody');
    return named;
  };

  const namedInBody = (body: unknown): { target: RemovalTarget; reason: string } => {
    if (typeOf(body, ['state', 'message']) === 'state') {
      const { key, reason } = stateRemoval(body);
      return { target: { kind: 'state', key }, reason };
    }
    const { message_id: messageId, reason } = messageRemoval(body);
    return { target: { kind: 'message', messageId }, reason };
  };

  const revoke = async (call: Call): Promise<void> => {
    const type = typeOf(call.body, ['agent', 'operator']);
    const named = type === 'agent' ? agentRevocation(call.body) : operatorRevocation(call.body);
    const subject = 'address' in named ? named.address : named.operator_id;
    unwrap(await revocations.revoke(type, known(type, subject)), {
      not_found: `There is no such ${type}.`,
      unavailable:
        'A part of the server does not answer. The revocation may not be in force everywhere yet: repeat it.',
    });
    call.reply.sendJson(200, JSON.stringify({ status: 'revoked', type, ...named }));
  };

  return [
    route('post', '/admin/remove', (call) => call.run(() => remove(call))),
    route('get', '/admin/removals', (call) => call.reply.sendJson(200, removalsJson(removals))),
    route('post', '/admin/revoke', (call) => call.run(() => revoke(call))),
  ];
}

function route(method: 'get' | 'post', path: string, handle: (call: Call) => void): Route {
  return { method, path, principal: 'anyone', limit: null, takesBody: method === 'post', takesQuery: false, handle };
}

function removalsJson({ entries }: Removals): string {
  return JSON.stringify({ removals: entries, total: entries.length });
}

const checkedType = compileBody(Type.Object({ type: Utf8String({}) }));

/** @throws ApiError `bad_request` that names the field. */
function typeOf<Name extends string>(body: unknown, names: readonly [Name, Name]): Name {
  const { type } = checkedType(body);
  const name = names.find((each) => each === type);
  if (name === undefined) throw new ApiError('bad_request', `type: must be "${names[0]}" or "${names[1]}"`);
  return name;
}

/** An address is not looked for among operators, nor the other way round. */
function known(type: PrincipalKind, subject: string): string {
  if (isAgentAddress(subject) !== (type === 'agent')) throw new ApiError('not_found', `There is no such ${type}.`);
  return subject;
}
