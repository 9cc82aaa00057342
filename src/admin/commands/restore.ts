import { Command } from 'commander';
import { restoreBackup } from '../../shards/tools/restore.js';
import { counted, mebibytes, runTool, type ToolFlags, withToolOptions } from './run-tool.js';
import { verifyJson, verifyText } from './verify.js';

interface RestoreFlags extends ToolFlags {
  readonly verify: boolean;
  readonly tempDir?: string;
}

export function restoreCommand(): Command {
  return withToolOptions(new Command('restore'))
    .description(
      'Make a data directory from a backup: an empty or new one. An interrupted restore goes on when it is run again; ' +
        'until it is finished no server starts in the directory.',
    )
    .argument('<backup>', 'a backup directory, of which the newest generation is taken, or one generation')
    .option('--no-verify', 'do not check the restored directory')
    .option('--temp-dir <dir>', "where to rebuild the stores for the check (default: the system's temporary directory)")
    .action((backup: string, flags: RestoreFlags) =>
      runTool('restore', flags, async ({ dataDir }, progress) => {
        const temp = flags.tempDir === undefined ? {} : { tempDir: flags.tempDir };
        const report = await restoreBackup({ backup, dataDir, verify: flags.verify, progress, ...temp });
        const { generation, lastSeq, files, bytes, verification } = report;
        return {
          report: {
            data_dir: dataDir,
            generation,
            last_seq: lastSeq,
            files,
            bytes,
            verification: verification === null ? null : verifyJson(verification),
          },
          text:
            `${dataDir} restored from ${generation}\nevents up to seq ${lastSeq} in ${counted(files, 'file')}, ` +
            `${mebibytes(bytes)}\n${verification === null ? '' : verifyText(verification)}`,
          failed: verification !== null && !verification.ok,
        };
      }),
    );
}
