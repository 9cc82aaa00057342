import { Command } from 'commander';
import { backupDirectory } from '../../shards/tools/backup.js';
import { verifyDirectory } from '../../shards/tools/verify.js';
import { counted, mebibytes, runTool, type ToolFlags, wholeNumber, withToolOptions } from './run-tool.js';
import { verifyJson, verifyText } from './verify.js';

const DEFAULT_KEEP = 7;
const MAX_KEEP = 10_000;

interface BackupFlags extends ToolFlags {
  readonly keep: number;
  readonly verify?: true;
  readonly tempDir?: string;
}

export function backupCommand(): Command {
  return withToolOptions(new Command('backup'))
    .description(
      'Make a backup of a data directory, consistent also while the server runs. Each run adds a generation to the ' +
        'backup directory, and shares with the one before what did not change. It holds secrets: keep it private.',
    )
    .argument('<dir>', 'the backup directory; made if missing')
    .option('--keep <n>', 'generations that stay, the new one included', wholeNumber(1, MAX_KEEP), DEFAULT_KEEP)
    .option('--verify', 'check the new generation as the command verify does')
    .option('--temp-dir <dir>', "for --verify: where to rebuild the stores (default: the system's temporary directory)")
    .action((backupDir: string, flags: BackupFlags) =>
      runTool('backup', flags, async ({ dataDir }, progress) => {
        const report = await backupDirectory({ dataDir, backupDir, keep: flags.keep, progress });
        const temp = flags.tempDir === undefined ? {} : { tempDir: flags.tempDir };
        const verification =
          flags.verify === true ? await verifyDirectory({ dataDir: report.generation, progress, ...temp }) : null;
        const { generation, lastSeq, files, bytes, linkedBytes, pruned } = report;
        const shared = linkedBytes > 0 ? `, ${mebibytes(linkedBytes)} of them shared with the one before` : '';
        const removed = pruned.length > 0 ? `${counted(pruned.length, 'older generation')} removed\n` : '';
        return {
          report: {
            generation,
            last_seq: lastSeq,
            files,
            bytes,
            linked_bytes: linkedBytes,
            pruned,
            verification: verification === null ? null : verifyJson(verification),
          },
          text:
            `${generation}\nevents up to seq ${lastSeq} in ${counted(files, 'file')}, ${mebibytes(bytes)}${shared}\n` +
            `${removed}${verification === null ? '' : verifyText(verification)}`,
          failed: verification !== null && !verification.ok,
        };
      }),
    );
}
