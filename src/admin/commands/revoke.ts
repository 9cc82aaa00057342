import { Argument, Command } from 'commander';
import { isAgentAddress, type PrincipalKind } from '../../contract/tokens.js';
import { createLogger } from '../../log.js';
import { Revocations } from '../revocations.js';
import {
  askServer,
  type ByLawFlags,
  CommandFailure,
  confirm,
  onStoppedDirectory,
  runByLaw,
  valueOrFailure,
  withByLawOptions,
} from './by-law.js';

export function revokeCommand(): Command {
  return withByLawOptions(new Command('revoke'))
    .description(
      'Take the token of an agent, or the key of an operator, away for good. It is refused everywhere at once; an ' +
        "operator's agents go on. There is no way back: register anew.",
    )
    .addArgument(new Argument('<type>', 'whose token').choices(['agent', 'operator']))
    .argument('<name>', "the agent's address, or the operator's id")
    .action((type: PrincipalKind, name: string, flags: ByLawFlags) =>
      runByLaw('revoke', flags, async () => {
        await confirm(`Revoke ${type} ${name} for good?`, flags);
        const named = type === 'agent' ? { address: name } : { operator_id: name };
        const answer =
          flags.dataDir === undefined
            ? await askServer(flags, '/admin/revoke', { type, ...named })
            : await revokeOffline(type, name, { ...flags, dataDir: flags.dataDir });
        return { answer, text: `revoked ${type} ${name}` };
      }),
    );
}

function revokeOffline(
  type: PrincipalKind,
  name: string,
  flags: ByLawFlags & { readonly dataDir: string },
): Promise<object> {
  const notFound = `there is no such ${type}`;
  if (isAgentAddress(name) !== (type === 'agent')) throw new CommandFailure(notFound);
  return onStoppedDirectory(flags, async (engine) => {
    const revocations = new Revocations(engine, () => [], createLogger('command', 'error'));
    valueOrFailure(await revocations.revoke(type, name), notFound);
    const named = type === 'agent' ? { address: name } : { operator_id: name };
    return { status: 'revoked', type, ...named };
  });
}
