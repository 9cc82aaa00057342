import { Command } from 'commander';
import { createLogger } from '../../log.js';
import { reshardDirectory } from '../../shards/tools/reshard.js';
import { counted, runTool, type ToolFlags, wholeNumber, withToolOptions } from './run-tool.js';

const MAX_SHARDS = 64;

interface ReshardFlags extends ToolFlags {
  readonly shards: number;
  readonly removeOriginal?: true;
}

export function reshardCommand(): Command {
  return withToolOptions(new Command('reshard'))
    .description(
      'Give a data directory another number of shards. The server must be stopped. Interrupted, it goes on when it is ' +
        'run again. The original is kept beside the new shards until you remove it.',
    )
    .requiredOption('--shards <n>', 'the new number of shards, 1 to 64', wholeNumber(1, MAX_SHARDS))
    .option('--remove-original', 'remove the original once the new shards are compared with it and in place')
    .action((flags: ReshardFlags) =>
      runTool('reshard', flags, async ({ dataDir, engine }, progress) => {
        const report = await reshardDirectory({
          dataDir,
          shards: flags.shards,
          removeOriginal: flags.removeOriginal === true,
          settings: engine,
          logger: createLogger('reshard', 'warn'),
          progress,
        });
        const { from, to, events, comparedRows, original, isContinued } = report;
        const kept = original === null ? 'the original was removed' : `the original is kept in ${original}`;
        return {
          report: {
            from,
            to,
            events,
            compared_rows: comparedRows,
            original,
            continued: isContinued,
          },
          text:
            `${dataDir} has ${counted(to, 'shard')} instead of ${from}: ${counted(events, 'event')}, ` +
            `${counted(comparedRows, 'row')} compared; ${kept}\n`,
        };
      }),
    );
}
