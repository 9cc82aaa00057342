import { Buffer } from 'node:buffer';
import { Argument, Command, InvalidArgumentError } from 'commander';
import type { TransparencyEntry } from '../../contract/redaction.js';
import { realDisk } from '../../shards/disk.js';
import type { RemovalTarget } from '../../shards/removal-scan.js';
import { MAX_REASON_BYTES } from '../by-law-routes.js';
import { Removals } from '../removals.js';
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

interface RemoveFlags extends ByLawFlags {
  readonly reason: string;
}

/** What the admin API answers, as far as it is printed. */
interface Answer {
  readonly action: string;
  readonly content_hash: string;
  readonly backups?: readonly string[];
  readonly unreadable_archives?: readonly string[];
}

export function removeCommand(): Command {
  return withByLawOptions(new Command('remove'))
    .description(
      'Remove the value of a state key, or the content of a message, for good: from the store, the queues, the event log ' +
        'and every open page. The removal, its reason and the SHA-256 of the content stay in the transparency log.',
    )
    .addArgument(new Argument('<type>', 'what is removed').choices(['state', 'message']))
    .argument('<name>', 'the state key, or the message id')
    .requiredOption('--reason <text>', `shown to everybody; 1 to ${MAX_REASON_BYTES} bytes`, reason)
    .action((type: 'state' | 'message', name: string, flags: RemoveFlags) =>
      runByLaw('remove', flags, async () => {
        const what = type === 'state' ? `state key ${JSON.stringify(name)}` : `message ${name}`;
        const whole = type === 'state' ? 'its value and every earlier one' : 'its content';
        await confirm(`Remove ${what}: ${whole}, for good?`, flags);
        const answer = await (flags.dataDir === undefined
          ? removeOnline(type, name, flags)
          : removeOffline(type, name, { ...flags, dataDir: flags.dataDir }));
        return { answer, text: textOf(what, answer) };
      }),
    );
}

function reason(text: string): string {
  const bytes = Buffer.byteLength(text);
  if (text.trim() !== '' && bytes <= MAX_REASON_BYTES) return text;
  throw new InvalidArgumentError(`Expected 1 to ${MAX_REASON_BYTES} bytes, not only spaces.`);
}

async function removeOnline(type: 'state' | 'message', name: string, flags: RemoveFlags): Promise<Answer> {
  const named = type === 'state' ? { key: name } : { message_id: name };
  const answer = await askServer(flags, '/admin/remove', { type, ...named, reason: flags.reason });
  return answer as unknown as Answer;
}

function removeOffline(
  type: 'state' | 'message',
  name: string,
  flags: RemoveFlags & { readonly dataDir: string },
): Promise<Answer> {
  const target: RemovalTarget = type === 'state' ? { kind: 'state', key: name } : { kind: 'message', messageId: name };
  return onStoppedDirectory(flags, async (engine, dataDir, logger) => {
    const removals = await Removals.open({ dataDir, engine, disk: realDisk, logger, onRemoved: () => {} });
    if (removals.isFinishing)
      throw new CommandFailure('an earlier removal has to be finished first: make room on the disk');
    const notFound = 'there is no such content, or it has been removed already';
    const { entry, unreadable, backups } = valueOrFailure(await removals.remove(target, flags.reason), notFound);
    const held = { backups, ...(unreadable.length === 0 ? {} : { unreadable_archives: unreadable }) };
    return { status: 'removed', ...withoutTime(entry), ...held };
  });
}

function withoutTime({ ts: _ts, performed_by: _by, ...rest }: TransparencyEntry): Omit<Answer, 'backups'> {
  return rest;
}

function textOf(what: string, { content_hash, backups = [], unreadable_archives = [] }: Answer): string {
  const lines = [`removed ${what}; SHA-256 of what it held: ${content_hash}`];
  if (backups.length > 0) lines.push(`backups that still hold it: ${backups.join(', ')}`);
  if (unreadable_archives.length > 0) {
    lines.push(`damaged archives that may still hold it: ${unreadable_archives.join(', ')}`);
  }
  return lines.join('\n');
}
