import { Command } from 'commander';
import { archiveDirectory } from '../../shards/tools/archive.js';
import { counted, mebibytes, runTool, type ToolFlags, withToolOptions } from './run-tool.js';

export function archiveCommand(): Command {
  return withToolOptions(new Command('archive'))
    .description(
      'Compress sealed log segments that hold no undelivered message, also while the server runs. Server, observers and ' +
        'the other commands read archives as they read plain segments, and so does gunzip.',
    )
    .action((flags: ToolFlags) =>
      runTool('archive', flags, async ({ dataDir }, progress) => {
        const report = await archiveDirectory(dataDir, progress);
        const lines = report.archived.map(
          ({ shard, segment, plainBytes, archiveBytes }) =>
            `shard ${shard}, segment ${segment}: ${mebibytes(plainBytes)} -> ${mebibytes(archiveBytes)}`,
        );
        const { kept, plainBytes, archiveBytes } = report;
        const total = `${mebibytes(plainBytes)} -> ${mebibytes(archiveBytes)}`;
        lines.push(`${counted(report.archived.length, 'segment')} archived${plainBytes > 0 ? `: ${total}` : ''}`);
        if (kept.length > 0) lines.push(`${counted(kept.length, 'segment')} left plain: messages in them wait`);
        return {
          report: {
            archived: report.archived.map((each) => ({
              shard: each.shard,
              segment: each.segment,
              plain_bytes: each.plainBytes,
              archive_bytes: each.archiveBytes,
            })),
            kept,
            plain_bytes: plainBytes,
            archive_bytes: archiveBytes,
          },
          text: `${lines.join('\n')}\n`,
        };
      }),
    );
}
